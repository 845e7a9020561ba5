"""One watched database: its connection, who it is, and reading its catalogues safely."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow, dict_row

from perfcore.db import MARKER, query
from perfcore.target import ROLE_WAIT_S, connect_target

Connection = psycopg.Connection[TupleRow]

CATALOGUE_TIMEOUT_MS = 1000
TEXTS_TIMEOUT_MS = 5000
LOCK_TIMEOUT_MS = 100
ANSWER_TIMEOUT_S = 6.0


@dataclass(frozen=True, slots=True)
class Identity:
    """Which server answered; counters of equal epochs (`same_epoch`) can be subtracted."""

    system_identifier: str
    timeline: int
    started_at: datetime
    launched_at: datetime | None  # the last crash or start; None without pg_read_all_stats
    is_standby: bool
    server_version: int
    database: str
    database_oid: int
    stats_reset: datetime | None
    active_ms: float | None  # of the database's sessions since the reset; None up to 13
    now: datetime  # by the target's own clock

    @property
    def server(self) -> dict[str, str]:
        """Return what a restart, a failover or another server behind the DSN changes."""
        return {
            "system_identifier": self.system_identifier,
            "database_oid": str(self.database_oid),
            "timeline": str(self.timeline),
            "started_at": self.started_at.isoformat(),
            "launched_at": self.launched_at.isoformat() if self.launched_at else "",
        }

    def epoch(self, stats_reset: datetime | None) -> str:
        """Return the epoch of counters that were last reset at that instant."""
        reset = stats_reset.isoformat() if stats_reset else ""
        return json.dumps({**self.server, "stats_reset": reset}, sort_keys=True)


# What an epoch's parts say when they change, the most telling first.
_CHANGES = {
    "system_identifier": "another server answers",
    "database_oid": "another database answers",
    "timeline": "failover",
    "started_at": "restart",
    "launched_at": "crash",
}


def changed_server(before: str, now: str) -> str:
    """Return what happened to the server between two epochs, in a marker's words; "" if nothing.

    >>> changed_server('{"timeline": "1"}', '{"timeline": "2"}')
    'failover'
    """
    then, here = json.loads(before), json.loads(now)
    return next((w for name, w in _CHANGES.items() if _differ(name, then, here)), "")


def same_epoch(before: str, now: str) -> bool:
    """Say whether counters of the first epoch can be subtracted from those of the second."""
    then, here = json.loads(before), json.loads(now)
    reset = then.get("stats_reset", "") != here.get("stats_reset", "")
    return not reset and not changed_server(before, now)


def _differ(name: str, then: Mapping[str, str], here: Mapping[str, str]) -> bool:
    # What a role may not see, or an older Perfcore did not look at, is no change.
    known = then.get(name) and here.get(name)
    return bool(known) and then[name] != here[name]


def open_target(
    dsn: str,
    *,
    connect_timeout_s: int = 5,
    patience_s: float = ROLE_WAIT_S,
    answer_timeout_s: float = ANSWER_TIMEOUT_S,
) -> Connection:
    """Connect to a target with an empty search path and limits on every statement.

    The server keeps these limits; a server that falls silent is given up after six seconds.
    """
    connection = connect_target(
        dsn,
        connect_timeout_s=connect_timeout_s,
        patience_s=patience_s,
        answer_timeout_s=answer_timeout_s,
    )
    try:
        for name, value in (
            ("search_path", "''"),
            ("statement_timeout", str(CATALOGUE_TIMEOUT_MS)),
            ("lock_timeout", str(LOCK_TIMEOUT_MS)),
            ("idle_in_transaction_session_timeout", "'10s'"),
        ):
            connection.execute(f"SET {name} = {value} {MARKER}".encode())
    except BaseException:
        connection.close()
        raise
    return connection


def read(
    connection: Connection,
    name: str,
    parameters: Mapping[str, Any] | None = None,
    *,
    extension_schema: str = "",
    version: int = 0,
) -> list[dict[str, Any]]:
    """Run one of the SQL files in the text that the server's version wants, or another one's."""
    text = query(name, version or connection.info.server_version)
    statement: sql.SQL | sql.Composed | bytes = text.encode()
    if extension_schema:
        # The files are ours; only the schema's name comes from the target.
        quoted = sql.Identifier(extension_schema).as_string(connection)
        statement = text.replace("{schema}", quoted.replace("%", "%%")).encode()
    with connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute(statement, dict(parameters or {}))
        return cursor.fetchall() if cursor.description else []


def identify(connection: Connection) -> Identity:
    """Return who answers."""
    return Identity(**read(connection, "target_identity")[0])
