"""Ask a server for the plan of a statement without running it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow

from perfcore.db import MARKER
from perfcore.errors import PlanningFailed
from perfcore.plan import Plan, parse_plan
from perfcore.typed_constants import with_casts

TIMEOUT_MS = 5_000
_PREPARED = "perfcore_whatif"


def explain(
    connection: psycopg.Connection[TupleRow],
    statement: str,
    parameters: Sequence[str | None] | None = None,
) -> Plan:
    """Return the plan: the generic one, or with parameters the one for these values.

    The connection is Perfcore's own, in autocommit. The statement goes out as one message of
    the extended protocol inside PREPARE, so it is analysed, is one statement, and works the
    same on versions 13 to 18; then only EXPLAIN EXECUTE is run, read-only and timed out, and
    rolled back. Raises PlanningFailed with PostgreSQL's words.
    """
    mode = "force_generic_plan" if parameters is None else "force_custom_plan"
    prepared = False
    try:
        with connection.transaction(force_rollback=True):
            for command in (
                "SET TRANSACTION READ ONLY",
                f"SET LOCAL statement_timeout = {TIMEOUT_MS}",
                "SET LOCAL lock_timeout = 500",
                f"SET LOCAL plan_cache_mode = {mode}",
            ):
                connection.execute(f"{command} {MARKER}".encode())
            _prepare(connection, repaired(statement))
            prepared = True
            call = _call(connection, parameters)
            row = connection.execute(
                sql.SQL("EXPLAIN (FORMAT JSON) {} EXECUTE {}").format(sql.SQL(MARKER), call)
            ).fetchone()
    except psycopg.Error as error:
        words = error.diag.message_primary or str(error)
        raise PlanningFailed(f"not planned: {words}: {_shortened(statement)}") from error
    finally:
        if prepared and not connection.broken:
            # After a rollback psycopg itself deallocates what is prepared, at times.
            with suppress(psycopg.errors.InvalidSqlStatementName):
                connection.execute(f"DEALLOCATE {_PREPARED}")
    assert row is not None
    return parse_plan(row[0])


def repaired(statement: str) -> str:
    """Return the statement with typed literals that lost their quotes written as casts.

    >>> repaired("SELECT now() - interval $1")
    'SELECT now() - $1::interval'
    """
    return with_casts(statement.strip().rstrip(";"))


def with_index_names(plan: Plan, names: Mapping[str, str]) -> Plan:
    """Return the plan with indexes renamed: those that stand for others get the others' names."""
    if not any(node.index in names for _, node in plan.root.walk()):
        return plan

    def rename(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {
                k: names.get(v, v) if k == "Index Name" else rename(v) for k, v in value.items()
            }
        return [rename(v) for v in value] if isinstance(value, list) else value

    return parse_plan(rename(plan.document))


def alike(one: Plan, other: Plan) -> bool:
    """Say whether two plans have the same shape, by whatever version each is written.

    Up to 15 an index that has no order is said to be scanned forward, since then not to move.
    """
    return _as_of_15(one).shape_hash == _as_of_15(other).shape_hash


def _as_of_15(plan: Plan) -> Plan:
    def forward(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {k: forward(v) for k, v in value.items()}
        if isinstance(value, list):
            return [forward(v) for v in value]
        return "Forward" if value == "NoMovement" else value

    return parse_plan(forward(plan.document))


def _prepare(connection: psycopg.Connection[TupleRow], statement: str) -> None:
    # A binary cursor makes psycopg use the extended protocol, which takes one statement only.
    text = f"PREPARE {_PREPARED} AS {MARKER} {statement}"
    connection.cursor(binary=True).execute(text.encode())


def _call(
    connection: psycopg.Connection[TupleRow], parameters: Sequence[str | None] | None
) -> sql.Composable:
    row = connection.execute(
        "SELECT parameter_types::text[] FROM pg_catalog.pg_prepared_statements WHERE name = %s",
        [_PREPARED],
    ).fetchone()
    types: list[str] = row[0] if row else []
    if parameters is not None and len(parameters) != len(types):
        raise PlanningFailed(
            f"the statement takes {len(types)} parameters, {len(parameters)} were given",
            hint="give one value for each of $1, $2, …",
        )
    values = [None] * len(types) if parameters is None else list(parameters)
    if not values:
        return sql.Identifier(_PREPARED)
    literals = [_literal(v, t) for v, t in zip(values, types, strict=True)]
    return sql.SQL("{}({})").format(sql.Identifier(_PREPARED), sql.SQL(", ").join(literals))


def _literal(value: str | None, type_name: str) -> sql.Composable:
    if value is None:
        return sql.SQL("NULL")
    return sql.SQL("{}::{}").format(sql.Literal(value), sql.SQL(type_name))


def _shortened(statement: str) -> str:
    text = " ".join(statement.split())
    return text if len(text) <= 200 else text[:199] + "…"
