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


@dataclass(frozen=True, slots=True)
class Identity:
    """Which server answered; equal `epoch`s mean that its counters can be subtracted."""

    system_identifier: str
    timeline: int
    started_at: datetime
    server_version: int
    database: str
    stats_reset: datetime | None
    now: datetime  # by the target's own clock

    @property
    def server(self) -> dict[str, str]:
        """Return what a restart, a failover or another server behind the DSN changes."""
        return {
            "system_identifier": self.system_identifier,
            "timeline": str(self.timeline),
            "started_at": self.started_at.isoformat(),
        }

    def epoch(self, stats_reset: datetime | None) -> str:
        """Return the epoch of counters that were last reset at that instant."""
        reset = stats_reset.isoformat() if stats_reset else ""
        return json.dumps({**self.server, "stats_reset": reset}, sort_keys=True)


def open_target(
    dsn: str,
    *,
    connect_timeout_s: int = 5,
    patience_s: float = ROLE_WAIT_S,
    answer_timeout_s: float | None = None,
) -> Connection:
    """Connect to a target with an empty search path and limits on every statement."""
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
) -> list[dict[str, Any]]:
    """Run one of the SQL files in the text that the server's version wants."""
    text = query(name, connection.info.server_version)
    statement: sql.SQL | sql.Composed | bytes = text.encode()
    if extension_schema:
        # The files are ours; only the schema's name comes from the target.
        quoted = sql.Identifier(extension_schema).as_string(connection)
        statement = text.replace("{schema}", quoted.replace("%", "%%")).encode()
    with connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute(statement, dict(parameters or {}))
        return cursor.fetchall()


def identify(connection: Connection) -> Identity:
    """Return who answers."""
    return Identity(**read(connection, "target_identity")[0])


def changed_server(before: str, now: Identity) -> str:
    """Return what happened to the server since that epoch, in a marker's words; "" if nothing."""
    then = json.loads(before)
    if then["system_identifier"] != now.system_identifier:
        return "another server answers"
    if then["timeline"] != str(now.timeline):
        return "failover"
    if then["started_at"] != now.server["started_at"]:
        return "restart"
    return ""
