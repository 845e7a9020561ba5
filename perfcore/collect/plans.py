"""Plans, out of band: what the planner does with a statement, in general and for real values.

The generic plan is the one that can be compared over time. On every version the statement is
prepared with a forced generic plan and `EXPLAIN EXECUTE`d: the NULLs given for the parameters
are not looked at. EXPLAIN (GENERIC_PLAN) needs 16 and the simple protocol, which would run
whatever follows a semicolon; PREPARE takes one statement in the extended protocol.

Where the application's slow execution left its values in the store, the plan for these is asked
for too. Nothing is executed: a plan is made in a READ ONLY transaction with time limits, and
rolled back. The planner itself calls functions that the statement declares IMMUTABLE or STABLE
on constant arguments, as it does for the application; what they do is rolled back too.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import errors, sql

from perfcore.collect.target import Connection, read
from perfcore.db import MARKER
from perfcore.errors import PlanningFailed, StatementRefused
from perfcore.plan import Plan, parse_plan
from perfcore.store.targets import PlanCandidate
from perfcore.typed_constants import with_casts

EXPLAIN_AGAIN_S = 600.0
PASS_LIMIT_S = 4.0
_TIMEOUT_MS = 2000
_COMMENT = r"(?:\s|--[^\n]*(?:\n|$)|/\*.*?\*/)*"
_EXPLAINABLE = re.compile(
    rf"{_COMMENT}(?:SELECT|INSERT|UPDATE|DELETE|WITH|MERGE)\b", re.IGNORECASE | re.DOTALL
)
# What the hooks keep: a list this long, or a value this long, may have been cut.
_MAX_PARAMETERS = 50
_MAX_VALUE = 200
# Lists are collapsed to one placeholder, so how many values they had is not known.
_COLLAPSED = re.compile(r"\b(?:IN|VALUES) ?\(\?\)|\bARRAY ?\[\?\]", re.IGNORECASE)


@dataclass
class Agenda:
    """When each statement was last explained, so that none is asked for too often."""

    clock: Callable[[], float] = time.monotonic
    asked: dict[int, float] = field(default_factory=dict)

    def due(self, candidates: Collection[PlanCandidate]) -> list[PlanCandidate]:
        """Return the candidates that were not explained for ten minutes, or never."""
        now = self.clock()
        return [
            c
            for c in candidates
            if c.queryid not in self.asked or now - self.asked[c.queryid] >= EXPLAIN_AGAIN_S
        ]

    def note(self, queryid: int) -> None:
        self.asked[queryid] = self.clock()

    def forget(self) -> None:
        """Make every statement due again: the indexes changed."""
        self.asked.clear()


def values_of(candidate: PlanCandidate) -> tuple[str | None, ...] | None:
    """Return the values that stand for `$1, $2, …`, None where that is not certain.

    They belong to the application's text, in which literals may stand beside parameters; in the
    server's text both are `$n`. So they are taken only where every placeholder of the
    normalised text is a parameter: as many as there are values, and no list among them whose
    length normalisation hid. (A literal, or a named parameter used twice, makes more
    placeholders than values.) `explain` checks that the server's text has as many.

    >>> text = "SELECT * FROM t WHERE a = ? AND b = ?"
    >>> values_of(PlanCandidate(1, 2, "", text, (7, "x")))
    ('7', 'x')
    >>> values_of(PlanCandidate(1, 2, "", text, (7,))) is None
    True
    """
    text, given = candidate.application_text, candidate.parameters
    if not given or len(given) >= _MAX_PARAMETERS or _COLLAPSED.search(text):
        return None
    if text.count("?") != len(given):
        return None
    if any(isinstance(v, dict | list) for v in given):
        return None  # by policy, or by its type, only its shape was kept
    values = tuple(_as_text(v) for v in given)
    return None if any(v and len(v) >= _MAX_VALUE for v in values) else values


def _as_text(value: Any) -> str | None:
    if value is None:
        return None
    return str(value).lower() if isinstance(value, bool) else str(value)


def explain_generic(connection: Connection, text: str) -> Plan:
    """Return the generic plan of a statement with `$n` parameters; nothing is executed.

    Raises StatementRefused for what is not one SELECT, INSERT, UPDATE, DELETE, MERGE or WITH,
    and PlanningFailed with the server's reason and, as a hint, what to do about it.
    """
    return _planned(connection, text, None)


def explain_with(connection: Connection, text: str, values: Sequence[str | None]) -> Plan:
    """Return the plan for these values of `$1, $2, …`; nothing is executed.

    The server reads each as the text of a value of the parameter's type. Raises as
    `explain_generic` does, and PlanningFailed where the statement takes another number of them.
    """
    return _planned(connection, text, values)


def _planned(connection: Connection, text: str, values: Sequence[str | None] | None) -> Plan:
    if "\x00" in text or not _EXPLAINABLE.match(text):
        raise StatementRefused(
            "no plan: a utility statement; only SELECT, INSERT, UPDATE, DELETE, MERGE and WITH "
            "have one"
        )
    try:
        with connection.transaction(force_rollback=True):
            return _explain(connection, with_casts(text), values)
    except psycopg.Error as error:
        if connection.closed:
            raise
        raise _refusal(error, connection.info.user) from error
    finally:
        # A prepared statement outlives the transaction that made it, and so does an advisory
        # lock, which a function called while planning may have taken.
        if not connection.closed:
            connection.execute(
                f"DEALLOCATE ALL {MARKER}; "
                f"SELECT pg_catalog.pg_advisory_unlock_all() {MARKER}".encode()
            )


def _explain(connection: Connection, text: str, values: Sequence[str | None] | None) -> Plan:
    mode = "force_generic_plan" if values is None else "force_custom_plan"
    for command in (
        "SET TRANSACTION READ ONLY",
        f"SET LOCAL statement_timeout = {_TIMEOUT_MS}",
        f"SET LOCAL plan_cache_mode = {mode}",
    ):
        connection.execute(f"{command} {MARKER}".encode())
    read(connection, "target_use_search_path", {"is_local": True})
    connection.execute(f"PREPARE perfcore_plan AS {MARKER} {text}".encode(), binary=True)
    call = sql.SQL("EXPLAIN (FORMAT JSON) {} EXECUTE perfcore_plan{}").format(
        sql.SQL(MARKER), _arguments(connection, values)
    )
    answer: Any = connection.execute(call, binary=True).fetchone()
    return parse_plan(answer[0] if answer else None)


def _arguments(connection: Connection, values: Sequence[str | None] | None) -> sql.Composable:
    row: Any = connection.execute(
        "SELECT parameter_types::pg_catalog.text[] FROM pg_catalog.pg_prepared_statements "
        f"WHERE name OPERATOR(pg_catalog.=) 'perfcore_plan' {MARKER}".encode()
    ).fetchone()
    types: list[str] = row[0] if row else []
    if values is not None and len(values) != len(types):
        raise PlanningFailed(
            f"no plan: the statement takes {len(types)} parameters, {len(values)} were captured"
        )
    if values is not None and "bytea" in types:
        raise PlanningFailed("no plan: a captured value of bytea is not what was sent")
    if not types:
        return sql.SQL("")
    if values is None:
        given = [sql.SQL("NULL")] * len(types)
    else:
        given = _settings(connection, values, types)
    return sql.SQL("({})").format(sql.SQL(", ").join(given))


def _settings(
    connection: Connection, values: Sequence[str | None], types: Sequence[str]
) -> list[sql.SQL]:
    """Return expressions for the values, which lie in settings of this transaction.

    Written into the EXPLAIN they would stand in pg_stat_statements, before 16 with an entry for
    each new value.
    """
    given = {f"perfcore.value_{n}": v for n, v in enumerate(values) if v is not None}
    read(connection, "target_set_values", {"names": list(given), "values": list(given.values())})
    return [
        sql.SQL("NULL")
        if value is None
        # The type's name is PostgreSQL's own, quoted where it must be.
        else sql.SQL(f"pg_catalog.current_setting('perfcore.value_{n}')::{_unlimited(type_)}")
        for n, (value, type_) in enumerate(zip(values, types, strict=True))
    ]


def _unlimited(type_name: str) -> str:
    """Return the type without the length of one that a cast to char would mean."""
    return "pg_catalog.bpchar" if type_name == "character" else type_name


def _refusal(error: psycopg.Error, role: str) -> PlanningFailed:
    words = (error.diag.message_primary or str(error)).strip()
    for kind, reason, hint in _REASONS:
        if isinstance(error, kind):
            return PlanningFailed(f"no plan: {reason}{words}", hint=hint or _grant(words, role))
    return PlanningFailed(f"no plan: {words}")


# The server's words follow the reason; the right that is missing is made out of them.
_REASONS: tuple[tuple[type[psycopg.Error], str, str], ...] = (
    (errors.InsufficientPrivilege, "", ""),
    (
        errors.UndefinedTable,
        "",
        "it is a temporary table, was dropped, or lies in a schema that is not in the "
        "search_path of the role that collects",
    ),
    (
        errors.UndefinedFunction,
        "",
        "its schema may not be in the search_path of the role that collects",
    ),
    (
        errors.LockNotAvailable,
        "a table is locked: ",
        "it is asked for again in ten minutes",
    ),
    (
        errors.QueryCanceled,
        f"planning took over {_TIMEOUT_MS / 1000:.0f} s: ",
        "it is asked for again in ten minutes",
    ),
    (
        errors.SyntaxError,
        "",
        "pg_stat_statements cut the text, or put $n where SQL takes only a literal",
    ),
    (
        errors.IndeterminateDatatype,
        "",
        "cast the parameter in the statement: its type is lost in pg_stat_statements",
    ),
)


def _grant(words: str, role: str) -> str:
    """Return the GRANT that a refusal asks for, in the names that the server told."""
    found = re.search(r"permission denied for (?:(schema)|\w+(?: \w+)?) \"?(.+?)\"?$", words)
    if not found:
        return "grant SELECT on the tables to the role that collects"
    name, to = (sql.Identifier(n).as_string(None) for n in (found[2], role))
    if found[1]:
        return f"GRANT USAGE ON SCHEMA {name} TO {to};"
    return f"GRANT SELECT ON {name} TO {to}; (a writing statement needs its own right too)"
