"""The connection to a watched database: direct, encrypted, marked as Perfcore's, timed out.

psycopg's errors pass through, as from `db.connect`; the two below are some of them.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
import ssl
import struct
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import TupleRow

from perfcore import db
from perfcore.db import MARKER, ImpatientConnection, connect, libpq_dsn, redact
from perfcore.errors import TargetUnavailable

Connection = psycopg.Connection[TupleRow]

STATEMENT_TIMEOUT_MS = 30_000
LOCK_TIMEOUT_MS = 1_000
IDLE_TIMEOUT_MS = 60_000
ROLE_WAIT_S = 10.0
# What prepares a server to be watched, and the role that it makes; psql runs it.
SETUP = Path(__file__).parent / "setup.sql"
READER_ROLE = "perfcore_reader"
_SSL_REQUEST = struct.pack("!ii", 8, 80877103)


class NeedsDirectConnection(psycopg.OperationalError):
    """A pooler answers where the server should."""


class CertificateRefused(psycopg.OperationalError):
    """The server's certificate does not prove that it is the server, or there is none."""


class MarkedCursor(psycopg.Cursor[Any]):
    """A cursor whose statements all carry the marker.

    At their end: from 18 on pg_stat_statements drops what precedes the first word. BEGIN,
    COMMIT and ROLLBACK are psycopg's own and carry none: from 16 on one entry counts
    everybody's, and a mark would hide the application's.
    """

    def execute(self, query: Any, *arguments: Any, **options: Any) -> Any:
        return super().execute(self._marked(query), *arguments, **options)

    def executemany(self, query: Any, *arguments: Any, **options: Any) -> None:
        super().executemany(self._marked(query), *arguments, **options)

    def stream(self, query: Any, *arguments: Any, **options: Any) -> Any:
        return super().stream(self._marked(query), *arguments, **options)

    def copy(self, statement: Any, *arguments: Any, **options: Any) -> Any:
        return super().copy(self._marked(statement), *arguments, **options)

    def _marked(self, statement: Any) -> bytes:
        if isinstance(statement, sql.Composable):
            return marked(statement.as_bytes(self.connection))
        return marked(statement.encode() if isinstance(statement, str) else bytes(statement))


def marked(statement: bytes) -> bytes:
    """Return the statement with Perfcore's marker as its end, unless it carries one.

    >>> marked(b"SELECT 1;")
    b'SELECT 1 /* perfcore */'
    """
    if MARKER.encode() in statement:
        return statement
    return statement.rstrip(b"; \t\r\n") + b" " + MARKER.encode()


def connect_target(
    dsn: str,
    *,
    autocommit: bool = True,
    statement_timeout_ms: int = STATEMENT_TIMEOUT_MS,
    lock_timeout_ms: int = LOCK_TIMEOUT_MS,
    idle_timeout_ms: int = IDLE_TIMEOUT_MS,
    connect_timeout_s: int = 5,
    patience_s: float = ROLE_WAIT_S,
    answer_timeout_s: float | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Connection:
    """Connect to a watched database; every statement is marked and has a timeout.

    A remote host must prove who it is (`sslmode=verify-full`) unless the DSN says otherwise.
    Where the role's connections are all in use, it waits `patience_s` for one. With
    `answer_timeout_s` a server that falls silent is given up, which no timeout of its own
    does. Raises NeedsDirectConnection behind a pooler, CertificateRefused with what is wrong.
    """
    options = {
        "factory": psycopg.Connection if answer_timeout_s is None else ImpatientConnection,
        "autocommit": True,
        "prepare_threshold": None,
        # Without it a database in SQL_ASCII would answer in bytes.
        "client_encoding": "UTF8",
        "cursor_factory": MarkedCursor,
        "connect_timeout": connect_timeout_s,
        "options": _startup_options(dsn, statement_timeout_ms, lock_timeout_ms, idle_timeout_ms),
    }
    connection = _patiently(secured(dsn), options, clock() + patience_s, clock)
    try:
        if isinstance(connection, ImpatientConnection):
            connection.answer_timeout_s = answer_timeout_s or connection.answer_timeout_s
        _check_direct(connection)
        connection.autocommit = autocommit
    except BaseException:
        connection.close()
        raise
    return connection


def _startup_options(dsn: str, statement_ms: int, lock_ms: int, idle_ms: int) -> str:
    own = str(conninfo_to_dict(libpq_dsn(dsn)).get("options") or "")
    return (
        f"{own} -c timezone=UTC -c statement_timeout={statement_ms} -c lock_timeout={lock_ms} "
        f"-c idle_in_transaction_session_timeout={idle_ms}"
    ).strip()


def _patiently(
    dsn: str, options: Mapping[str, Any], until: float, clock: Callable[[], float]
) -> Connection:
    while True:
        try:
            return connect(dsn, **options)
        except psycopg.OperationalError as error:
            words = str(error)
            if "too many connections for role" in words and clock() < until:
                time.sleep(0.25)
                continue
            if "unsupported startup parameter" in words:
                raise _no_pooler(dsn) from error
            if re.search(r"SSL|certificate|root\.crt", words):
                raise CertificateRefused(certificate_problem(dsn, words)) from error
            raise


def dangerous_rights(connection: Connection) -> tuple[str, ...]:
    """Return what the role may that watching does not need: EXPLAIN runs code of others as it."""
    row = connection.execute(db.query("target_dangerous_rights")).fetchone()
    return tuple(row[0]) if row else ()


def refuse_dangerous_role(dsn: str) -> None:
    """Raise TargetUnavailable where the DSN's role is too mighty to EXPLAIN with.

    Planning evaluates functions that the statement's author wrote. Raises it, too, where the
    target cannot be reached.
    """
    try:
        with connect_target(dsn) as connection:
            connection.execute("SET search_path = ''")
            rights = dangerous_rights(connection)
    except psycopg.Error as error:
        raise TargetUnavailable(f"{redact(dsn)} cannot be reached: {error}") from error
    if rights:
        what = "superuser" if "superuser" in rights else f"a member of {', '.join(rights)}"
        raise TargetUnavailable(
            f"refusing to EXPLAIN as {what}: create the role from setup.sql "
            "(perfcore doctor --setup-sql) and name it in PERFCORE_TARGETS"
        )


def use_default_search_path(connection: Connection) -> None:
    """Let names be looked up where a statement of the application finds them."""
    connection.execute(db.query("target_use_search_path"), {"is_local": False})


def _check_direct(connection: Connection) -> None:
    """Raise NeedsDirectConnection where another process answers than was connected to."""
    row = connection.execute("SELECT pg_catalog.pg_backend_pid()").fetchone()
    if row is None or row[0] != connection.info.backend_pid:
        raise _no_pooler(connection.info.dsn)


def _no_pooler(dsn: str) -> NeedsDirectConnection:
    host, port = _address(dsn)
    return NeedsDirectConnection(
        f"needs a direct connection: a pooler such as PgBouncer answers at {host}:{port}; "
        "give the server's own host and port"
    )


def secured(dsn: str, environ: Mapping[str, str] | None = None) -> str:
    """Return the DSN as libpq's text, with `verify-full` for a remote host that names no mode.

    >>> secured("postgresql://u@127.0.0.1/d", {})
    'user=u dbname=d host=127.0.0.1'
    >>> "sslmode=verify-full" in secured("postgresql://u@db.example.org/d", {})
    True
    """
    environ = os.environ if environ is None else environ
    found = conninfo_to_dict(libpq_dsn(dsn))
    if not ({"sslmode", "service"} & found.keys()) and "PGSSLMODE" not in environ:
        host = str(found.get("host") or found.get("hostaddr") or environ.get("PGHOST", ""))
        if any(is_remote(each) for each in host.split(",")):
            found["sslmode"] = "verify-full"
    verifies = str(found.get("sslmode", "")).startswith("verify-")
    if verifies and not found.get("sslrootcert") and "PGSSLROOTCERT" not in environ:
        if not (Path.home() / ".postgresql" / "root.crt").exists():
            # libpq by itself looks at no certificates of the system.
            found["sslrootcert"] = ssl.get_default_verify_paths().cafile or "system"
    return make_conninfo("", **found)


def is_remote(host: str) -> bool:
    """Say whether a host is another machine: no socket and no loopback address.

    >>> [is_remote(h) for h in ("", "/run/postgresql", "localhost", "::1", "10.0.0.7", "db")]
    [False, False, False, False, True, True]
    """
    if not host or host[0] in "/@" or host.lower() == "localhost":
        return False
    try:
        return not ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return True


def certificate_problem(dsn: str, words: str) -> str:
    """Return what is wrong with the certificate at the DSN, and what to do."""
    found = conninfo_to_dict(dsn)
    host, port = _address(dsn)
    where = f"{host}:{port}"
    if "does not support SSL" in words:
        return (
            f"{where} offers no TLS, and nothing is sent to a remote host in plain text: set "
            "ssl = on there, or ?sslmode=disable in the DSN if the network can be trusted"
        )
    reason = _verify_message(found, host, port) or " ".join(words.split())
    return (
        f"{where}: its certificate is refused: {reason}; renew it, or name the certificate "
        "that signed it in the DSN: ?sslmode=verify-full&sslrootcert=/path/to/ca.crt"
    )


def _verify_message(found: Mapping[str, Any], host: str, port: int) -> str:
    """Shake hands once more, only to learn the reason that libpq does not pass on."""
    root = str(found.get("sslrootcert") or "")
    try:
        context = ssl.create_default_context(cafile=root if root not in ("", "system") else None)
        address = (str(found.get("hostaddr") or host), port)
        with socket.create_connection(address, timeout=5) as plain:
            plain.sendall(_SSL_REQUEST)
            if plain.recv(1) != b"S":
                return ""
            context.wrap_socket(plain, server_hostname=host).close()
    except ssl.SSLCertVerificationError as error:
        return str(error.verify_message)
    except OSError:
        return ""
    return ""


def _address(dsn: str) -> tuple[str, int]:
    found = conninfo_to_dict(libpq_dsn(dsn))
    host = str(found.get("host") or found.get("hostaddr") or "localhost").split(",")[0]
    return host, int(str(found.get("port") or 5432).split(",")[0])


def shown(dsn: str) -> str:
    """Return where a DSN leads, fit for people: `user@host:port/database`."""
    found = conninfo_to_dict(libpq_dsn(dsn))
    host, port = _address(dsn)
    return redact(f"{found.get('user') or ''}@{host}:{port}/{found.get('dbname') or ''}")
