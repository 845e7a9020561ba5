"""Plans, out of band: what the planner does with a statement whose parameters it does not know.

On every version the statement is prepared with a forced generic plan and `EXPLAIN EXECUTE`d:
the NULLs given for the parameters are not looked at. EXPLAIN (GENERIC_PLAN) needs 16 and the
simple protocol, which would run whatever follows a semicolon; PREPARE takes one statement in the
extended protocol.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

import psycopg

from perfcore.collect.target import Connection, read
from perfcore.db import MARKER
from perfcore.errors import PlanningFailed, StatementRefused
from perfcore.plan import Plan, parse_plan

EXPLAIN_AGAIN_S = 600.0
PASS_LIMIT_S = 4.0
_TIMEOUT_MS = 2000
_COMMENT = r"(?:\s|--[^\n]*(?:\n|$)|/\*.*?\*/)*"
_EXPLAINABLE = re.compile(rf"{_COMMENT}(?:SELECT|INSERT|UPDATE|DELETE|WITH)\b", re.I | re.S)


@dataclass
class Agenda:
    """When each statement was last explained, so that none is asked for too often."""

    clock: Callable[[], float] = time.monotonic
    asked: dict[int, float] = field(default_factory=dict)

    def due(self, candidates: Collection[tuple[int, int, str]]) -> list[tuple[int, int, str]]:
        """Return the candidates that were not explained for ten minutes, or never."""
        now = self.clock()
        return [
            c
            for c in candidates
            if c[0] not in self.asked or now - self.asked[c[0]] >= EXPLAIN_AGAIN_S
        ]

    def note(self, queryid: int) -> None:
        self.asked[queryid] = self.clock()

    def forget(self) -> None:
        """Make every statement due again: the indexes changed."""
        self.asked.clear()


def explain_generic(connection: Connection, text: str) -> Plan:
    """Return the generic plan of a statement with `$n` parameters; nothing is executed.

    Raises StatementRefused for what is not one SELECT, INSERT, UPDATE, DELETE or WITH, and
    PlanningFailed with the server's reason.
    """
    if "\x00" in text or not _EXPLAINABLE.match(text):
        raise StatementRefused(
            "no plan: only SELECT, INSERT, UPDATE, DELETE and WITH statements are explained"
        )
    try:
        with connection.transaction(force_rollback=True):
            return _explain(connection, text)
    except psycopg.Error as error:
        if connection.closed:
            raise
        raise PlanningFailed(f"no plan: {error}", hint=_hint(error)) from error
    finally:
        # A prepared statement outlives the transaction that made it.
        if not connection.closed:
            connection.execute(f"DEALLOCATE ALL {MARKER}".encode())


def _explain(connection: Connection, text: str) -> Plan:
    for command in (
        "SET TRANSACTION READ ONLY",
        f"SET LOCAL statement_timeout = {_TIMEOUT_MS}",
        "SET LOCAL plan_cache_mode = force_generic_plan",
    ):
        connection.execute(f"{command} {MARKER}".encode())
    read(connection, "target_use_search_path", {"is_local": True})
    connection.execute(f"PREPARE perfcore_plan AS {MARKER} {text}".encode(), binary=True)
    row = connection.execute(
        "SELECT pg_catalog.cardinality(parameter_types) FROM pg_catalog.pg_prepared_statements "
        f"WHERE name = 'perfcore_plan' {MARKER}".encode()
    ).fetchone()
    count = int(row[0]) if row else 0
    nulls = f"({', '.join(['NULL'] * count)})" if count else ""
    answer: Any = connection.execute(
        f"EXPLAIN (FORMAT JSON) {MARKER} EXECUTE perfcore_plan{nulls}".encode(), binary=True
    ).fetchone()
    return parse_plan(answer[0] if answer else None)


def _hint(error: psycopg.Error) -> str:
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        return "grant SELECT on the tables to the role that collects"
    return ""
