"""A small shop with real rows, and a planner that really builds what it is asked about."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest
from psycopg.rows import TupleRow

from perfcore.advise.advisor import Advice, advise
from perfcore.advise.workload import Endpoints, Options
from perfcore.db import connect
from perfcore.errors import PlanningFailed
from perfcore.plan import Plan, parse_plan
from perfcore.server.embedded import Cluster
from perfcore.types import (
    Catalog,
    IndexDefinition,
    SilenceReason,
    Suggestion,
    WorkloadStatement,
)
from perfcore.whatif.catalog import read_catalog
from perfcore.whatif.size import estimate_index_bytes

SCHEMA = (Path(__file__).parent / "shop.sql").read_text(encoding="utf-8")


@dataclass
class BuildingPlanner:
    """Builds the indexes in a transaction, asks for the generic plan and rolls back."""

    connection: psycopg.Connection[TupleRow]
    catalog: Catalog
    name: str = "built"
    advisory: str = ""
    calls: int = 0
    asked: list[str] = field(default_factory=list)

    def plan(
        self,
        statement: str,
        parameters: Sequence[str | None] | None = None,
        *,
        indexes: Sequence[IndexDefinition] = (),
        hidden: Sequence[str] = (),
    ) -> Plan:
        assert parameters is None
        self.calls += 1
        self.asked.append(statement)
        try:
            with self.connection.transaction(force_rollback=True):
                for index in indexes:
                    self.connection.execute(index.ddl(concurrently=False).encode())
                for name in hidden:
                    self.connection.execute(f"DROP INDEX {name}".encode())
                row = self.connection.execute(
                    f"EXPLAIN (GENERIC_PLAN, FORMAT JSON) {statement}".encode()
                ).fetchone()
        except psycopg.Error as error:
            raise PlanningFailed(str(error)) from error
        assert row is not None
        return parse_plan(json.dumps(row[0]))

    def index_bytes(self, index: IndexDefinition) -> int:
        return estimate_index_bytes(self.catalog, index)


def statement(
    text: str, *, calls: int = 600, mean_ms: float = 40.0, rows: int | None = None, **more: int
) -> WorkloadStatement:
    """Return a statement as an hour of pg_stat_statements would show it, 10 rows a call."""
    return WorkloadStatement(
        fingerprint=hash_of(text),
        queryid=hash_of(text) >> 1,
        text=text,
        calls=calls,
        total_exec_time_ms=calls * mean_ms,
        window_s=3600.0,
        rows=calls * 10 if rows is None else rows,
        **more,
    )


def hash_of(text: str) -> int:
    """Return a number that is the same in every run, unlike hash()."""
    return int.from_bytes(text.encode()[-7:], "big")


@dataclass
class Shop:
    """The shop's catalogue and planner, with assertions that read aloud."""

    catalog: Catalog
    planner: BuildingPlanner

    def advise(
        self,
        *texts: str | WorkloadStatement,
        endpoints: Endpoints | None = None,
        **options: object,
    ) -> Advice:
        workload = [statement(t) if isinstance(t, str) else t for t in texts]
        given = Options(target_id=1, **options)  # type: ignore[arg-type]
        return advise(self.catalog, workload, self.planner, endpoints=endpoints, options=given)

    def indexes(self, *texts: str | WorkloadStatement, **options: object) -> list[str]:
        """Return the titles of the index suggestions, without the word "Index"."""
        advice = self.advise(*texts, **options)  # type: ignore[arg-type]
        return [s.title.removeprefix("Index ") for s in index_suggestions(advice)]

    def assert_suggests(self, text: str | WorkloadStatement, *wanted: str) -> Suggestion:
        """Check that the statement gets exactly these indexes; return the first suggestion."""
        found = index_suggestions(self.advise(text))
        titles = [s.title.removeprefix("Index ") for s in found]
        assert sorted(titles) == sorted(wanted), titles
        return found[0]

    def assert_no_suggestion(self, text: str | WorkloadStatement, reason: SilenceReason) -> str:
        """Check that the statement gets no index and this reason; return the detail."""
        advice = self.advise(text)
        assert not index_suggestions(advice), [s.title for s in index_suggestions(advice)]
        assert [s.reason for s in advice.silences] == [reason], advice.silences
        return advice.silences[0].detail


def index_suggestions(advice: Advice) -> list[Suggestion]:
    return [s for s in advice.suggestions if s.kind == "index"]


def kinds(advice: Advice) -> list[str]:
    return [s.finding.kind for s in advice.suggestions]


# A session that is just ending may keep VACUUM from marking pages as visible to all.
_ALL_VISIBLE = """
    SELECT bool_and(relallvisible = relpages) FROM pg_class
    WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
"""


@pytest.fixture(scope="session")
def shop_dsn(cluster18: Cluster) -> Iterator[str]:
    with connect(cluster18.dsn(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE advise_shop")
    dsn = cluster18.dsn("advise_shop")
    with connect(dsn, autocommit=True) as connection:
        connection.execute(SCHEMA.encode())
    # In a session of its own, so that the counters of the inserts have arrived before.
    with connect(dsn, autocommit=True) as connection:
        for _ in range(20):
            connection.execute("VACUUM ANALYZE")
            if connection.execute(_ALL_VISIBLE).fetchone() == (True,):
                break
            time.sleep(0.1)
    yield dsn


@pytest.fixture
def shop(shop_dsn: str) -> Iterator[Shop]:
    with connect(shop_dsn, autocommit=True) as connection:
        catalog = read_catalog(connection)
        yield Shop(catalog, BuildingPlanner(connection, catalog))
