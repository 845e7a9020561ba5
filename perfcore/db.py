"""Connections and the SQL files: the only place that opens a connection to a store or a target."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.abc import RV, PQGen
from psycopg.rows import TupleRow

if TYPE_CHECKING:
    import sqlalchemy

QUERIES = Path(__file__).parent / "queries"
MARKER = "/* perfcore */"
APPLICATION_NAME = "perfcore"


@cache
def query(name: str, server_version: int = 999999) -> str:
    """Return the SQL of `queries/<name>.sql`, marked as Perfcore's own.

    Where a server needs another text, `<name>.<major>.sql` holds it for that major and
    those below, and the nearest one at or above the server's is chosen.
    """
    major = server_version // 10000
    variants = {
        int(m.group(1)): p
        for p in QUERIES.glob(f"{name}.*.sql")
        if (m := re.fullmatch(rf"{re.escape(name)}\.(\d+)\.sql", p.name))
    }
    fitting = [m for m in variants if m >= major]
    path = variants[min(fitting)] if fitting else QUERIES / f"{name}.sql"
    text = path.read_text(encoding="utf-8").strip()
    # At both ends: from 18 on pg_stat_statements drops what precedes the first word.
    return f"{MARKER} {text}\n{MARKER}"


class ImpatientConnection(psycopg.Connection[TupleRow]):
    """A connection that gives up, and closes, when the server is silent for six seconds.

    statement_timeout is kept by the server; one that is stopped, or behind a network that
    swallows packets, keeps nothing. A server that answers a byte a second is never silent:
    `deadline` (of `time.monotonic`) bounds everything until it is moved. Ten times a second
    while it waits it calls `while_waiting`.
    """

    answer_timeout_s = 6.0
    deadline = math.inf
    while_waiting: Callable[[], None] | None = None

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        limit_s = min(timeout or self.answer_timeout_s, self.deadline - time.monotonic())
        try:
            return super().wait(self._watched(gen), interval, max(limit_s, 0.01))
        except psycopg.errors._WaitTimeout:
            self.close()
            raise psycopg.OperationalError(
                f"the server did not answer within {max(limit_s, 0):.3g} s"
            ) from None

    def _watched(self, gen: PQGen[RV]) -> PQGen[RV]:
        """Pass the generator through, and see when it is told that nothing came."""
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if not ready and self.while_waiting is not None:
                    self.while_waiting()
                wanted = gen.send(ready)
        except StopIteration as end:
            result: RV = end.value
            return result


def connect(
    dsn: str,
    *,
    autocommit: bool = False,
    factory: type[psycopg.Connection[TupleRow]] = psycopg.Connection,
    **options: Any,
) -> psycopg.Connection[TupleRow]:
    """Open a connection that names itself, keeps UTC and gives up connecting after five seconds.

    The caller closes it (`with connect(...) as connection:`). psycopg's own errors pass
    through: only the caller knows whether it spoke to a store or to a target.
    """
    options.setdefault("application_name", APPLICATION_NAME)
    options.setdefault("connect_timeout", 5)
    options.setdefault("options", "-c timezone=UTC")
    return factory.connect(libpq_dsn(dsn), autocommit=autocommit, **options)


def libpq_dsn(dsn: str) -> str:
    """Return the DSN as libpq wants it, without SQLAlchemy's driver word.

    >>> libpq_dsn("postgresql+psycopg://h/d")
    'postgresql://h/d'
    """
    return re.sub(r"^postgres(ql)?(\+\w+)?://", "postgresql://", dsn)


def engine(dsn: str, *, pool_size: int = 5) -> sqlalchemy.Engine:
    """Return a pooled SQLAlchemy engine on the store, for the readers behind pages and API."""
    url = re.sub(r"^postgres(ql)?(\+\w+)?://", "postgresql+psycopg://", dsn)
    # Deferred: 10 MB that the flusher of an application has no use for.
    import sqlalchemy

    return sqlalchemy.create_engine(
        url,
        pool_size=pool_size,
        max_overflow=5,
        pool_pre_ping=True,
        connect_args={
            "application_name": APPLICATION_NAME,
            "connect_timeout": 5,
            "options": "-c timezone=UTC -c statement_timeout=15s",
        },
    )


def redact(dsn: str) -> str:
    """Return the DSN with its password replaced, fit for logs and pages.

    >>> redact("postgresql://u:secret@h:5432/d")
    'postgresql://u:***@h:5432/d'
    """
    dsn = re.sub(r"(://[^:/@\s]*:)[^@\s]*@", r"\1***@", dsn)
    return re.sub(r"(password=)('[^']*'|\S+)", r"\1***", dsn)
