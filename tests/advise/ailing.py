"""Read a real database as the advisor does, and run what it proposes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from perfcore.advise.health import health
from perfcore.advise.migration_text import statements_of
from perfcore.advise.server_state import Observed, ServerState, read_server_state
from perfcore.advise.statement import read_statement
from perfcore.advise.store import read_foreign_keys
from perfcore.advise.workload import Options, Writes
from perfcore.db import connect
from perfcore.plan import Plan, parse_plan
from perfcore.types import Catalog, Suggestion, WorkloadStatement
from perfcore.whatif.catalog import read_catalog

MAJORS = pytest.mark.parametrize("major", [18, 15])


def dsn_of(request: pytest.FixtureRequest, major: int) -> str:
    dsn: str = request.getfixturevalue("dsn" if major == 18 else f"dsn{major}")
    return dsn


def run(dsn: str, *statements: str) -> None:
    """Run each statement by itself, in a session whose counters have arrived when it returns."""
    with connect(dsn, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())
            # Else what an INSERT counted arrives after the ANALYZE that should have reset it.
            connection.execute("SELECT pg_stat_force_next_flush()")


def follow(dsn: str, suggestion: Suggestion) -> None:
    """Do what the suggestion says, step by step."""
    run(dsn, *statements_of(suggestion.ddl))


def take_back(dsn: str, suggestion: Suggestion) -> None:
    run(dsn, *statements_of(suggestion.undo))


def read(
    dsn: str, *, memory_bytes: int | None = None, observed: Observed | None = None
) -> tuple[Catalog, ServerState]:
    with connect(dsn, autocommit=True) as connection:
        catalog = read_catalog(connection)
        state = read_server_state(connection, memory_bytes=memory_bytes, observed=observed)
    return catalog, state


def advice(
    dsn: str,
    *,
    writes: Writes | None = None,
    memory_bytes: int | None = None,
    observed: Observed | None = None,
    later: timedelta | None = None,
    is_far: bool = False,
    statements: Sequence[WorkloadStatement] = (),
) -> list[Suggestion]:
    """Return what health says of the database, `later` than it is by that much.

    From a host that `is_far` nobody tells the memory.
    """
    catalog, state = read(dsn, memory_bytes=memory_bytes, observed=observed)
    if is_far:
        state = replace(state, memory_bytes=None)
    if later is not None:
        state = replace(
            state, counters=replace(state.counters, read_at=state.counters.read_at + later)
        )
        catalog = replace(catalog, read_at=catalog.read_at + later)
    with connect(dsn, autocommit=True) as connection:
        foreign_keys = read_foreign_keys(connection)

        def plans(text: str) -> Plan | None:
            return generic_plan(dsn, text)

        return health(
            catalog,
            writes or Writes({}),
            Options(target_id=1),
            foreign_keys=foreign_keys,
            server=state,
            statements=[(s, read_statement(s.text, catalog)) for s in statements],
            plans=plans,
        )


def generic_plan(dsn: str, text: str) -> Plan:
    """Return the plan of a statement with parameters, as things are."""
    with connect(dsn) as connection:
        connection.execute("SET plan_cache_mode = force_generic_plan")
        connection.execute(f"PREPARE asked AS {text}".encode())
        row = connection.execute(
            "SELECT coalesce(cardinality(parameter_types), 0) FROM pg_prepared_statements "
            "WHERE name = 'asked'"
        ).fetchone()
        assert row is not None
        given = f"({', '.join(['NULL'] * row[0])})" if row[0] else ""
        answer = connection.execute(f"EXPLAIN (FORMAT JSON) EXECUTE asked{given}".encode())
        found = answer.fetchone()
        assert found is not None
        return parse_plan(found[0])


def executed_plan(dsn: str, text: str, *settings: str) -> Plan:
    with connect(dsn) as connection:
        for setting in settings:
            connection.execute(f"SET {setting}".encode())
        row = connection.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {text}".encode()).fetchone()
        assert row is not None
        return parse_plan(row[0])


# The test servers are not set for production; a test of something else need not hear of it.
_OF_TEST_SERVERS = {"autovacuum_off", "random_page_cost", "effective_cache_size", "io_not_timed"}


def kinds(found: Sequence[Suggestion], *, but: set[str] = _OF_TEST_SERVERS) -> list[str]:
    return sorted(s.finding.kind for s in found if s.finding.kind not in but)


def the(kind: str, found: Sequence[Suggestion]) -> Suggestion:
    """Return the only suggestion of that kind, which says all that one must."""
    matching = [s for s in found if s.finding.kind == kind]
    assert len(matching) == 1, [(s.finding.kind, s.title) for s in found]
    suggestion = matching[0]
    assert suggestion.present and suggestion.proposed and suggestion.verify, suggestion
    assert suggestion.reason and suggestion.finding.summary
    return suggestion
