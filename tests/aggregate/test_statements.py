"""Statements: the server's counts joined with the application's histograms."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest
import sqlalchemy

from perfcore.aggregate import statements
from perfcore.aggregate.compare import compare
from perfcore.db import connect, engine
from perfcore.types import TimeRange
from tests.seeding import ENDPOINTS, STATEMENTS, Seeded, insert, seed_store

NOW = datetime(2026, 11, 23, 12, 30, 50, tzinfo=UTC)
LAST_HOUR = TimeRange(NOW - timedelta(hours=1), NOW)


@pytest.fixture
def seeded(store: str) -> Seeded:
    return seed_store(store, now=NOW)


@pytest.fixture
def reader(store: str) -> Iterator[sqlalchemy.Engine]:
    made = engine(store)
    yield made
    made.dispose()


def test_the_table_joins_server_and_application(reader: sqlalchemy.Engine, seeded: Seeded) -> None:
    table = statements.statement_table(reader, LAST_HOUR, seeded.target_id, now=NOW)
    assert len(table) == len(STATEMENTS)
    assert math.isclose(table["share_of_db_time"].sum(), 1.0)
    first = table.iloc[0]
    assert first["queryid"] == 7001 and first["calls"] == 60 * 24
    assert first["endpoints"] == 1 and first["slow_count"] > 50
    assert 200 < first["p95_ms"] < 400 and math.isclose(first["hit_ratio"], 0.62, rel_tol=1e-3)
    assert statements.statement_table(reader, LAST_HOUR, 999, now=NOW).empty


def test_queryids_of_one_fingerprint_are_one_row(
    store: str, reader: sqlalchemy.Engine, seeded: Seeded
) -> None:
    before = statements.statement_table(reader, LAST_HOUR, now=NOW)
    with connect(store) as connection:
        connection.execute(
            "INSERT INTO perfcore.statements (target_id, queryid, fingerprint, text)"
            " SELECT target_id, 8001, fingerprint, text FROM perfcore.statements"
            " WHERE queryid = 7001"
        )
        delta = {
            "target_id": seeded.target_id, "queryid": 8001,
            "interval_start": NOW - timedelta(seconds=10), "interval_end": NOW, "calls": 7,
            "total_exec_time_ms": 70.0, "rows": 7, "shared_blks_hit": 0, "shared_blks_read": 0,
            "temp_blks_read": 0, "temp_blks_written": 0,
        }  # fmt: skip
        insert(connection, "statement_deltas", [delta])
    after = statements.statement_table(reader, LAST_HOUR, now=NOW)
    assert len(after) == len(before)
    assert after.iloc[0]["queryid"] == 7001
    assert after.iloc[0]["calls"] == before.iloc[0]["calls"] + 7
    detail = statements.statement(reader, 8001)
    assert detail is not None and set(detail.queryids) == {7001, 8001}


def test_a_statement_no_hook_saw_has_no_percentile(
    store: str, reader: sqlalchemy.Engine, seeded: Seeded
) -> None:
    with connect(store) as connection:
        connection.execute("DELETE FROM perfcore.series WHERE metric_type = 'database_query'")
    table = statements.statement_table(reader, LAST_HOUR, now=NOW)
    assert table["p95_ms"].isna().all() and table["calls"].gt(0).all()


def test_the_trend_of_a_statement(reader: sqlalchemy.Engine, seeded: Seeded) -> None:
    of = STATEMENTS[0].fingerprint
    trend = statements.statement_trend(reader, LAST_HOUR, seeded.target_id, of, now=NOW)
    assert len(trend) == 60 and trend["partial"].tolist() == [False] * 59 + [True]
    assert trend["calls_per_min"].iloc[:-1].eq(24.0).all()
    assert trend["mean_ms"].between(120, 160).all() and trend["p95_ms"].gt(150).all()


@pytest.mark.parametrize(("hours", "minutes"), [(2, 1), (6, 10), (36, 60)])
def test_a_trend_has_no_finer_steps_than_the_readings_that_are_kept(
    hours: int, minutes: int, reader: sqlalchemy.Engine, seeded: Seeded
) -> None:
    r = TimeRange(NOW - timedelta(hours=hours), NOW)
    trend = statements.statement_trend(
        reader, r, seeded.target_id, STATEMENTS[0].fingerprint, now=NOW
    )
    steps = trend["time"].diff().dropna().unique()
    assert list(steps) == [pd.Timedelta(minutes=minutes)]


def test_who_runs_a_statement(reader: sqlalchemy.Engine, seeded: Seeded) -> None:
    found = statements.statement_endpoints(reader, LAST_HOUR, STATEMENTS[1].fingerprint)
    assert set(found["endpoint"]) == {
        e.name for e in ENDPOINTS if any(n == 1 for n, _ in e.statements)
    }
    assert found["total_ms"].is_monotonic_decreasing


def test_slow_queries_come_with_parameters_as_stored_and_their_plan(
    reader: sqlalchemy.Engine, seeded: Seeded
) -> None:
    of = STATEMENTS[0].fingerprint
    found = statements.slow_queries(reader, LAST_HOUR, fingerprint=of, limit=10)
    assert len(found) == 10 and found["occurred_at"].is_monotonic_decreasing
    assert found["parameters"].tolist() == [[{"type": "int"}]] * 10
    assert found["plan_id"].eq(seeded.plan_id).all() and found["queryid"].eq(7001).all()
    elsewhere = statements.slow_queries(reader, LAST_HOUR, endpoint="GET /search")
    assert set(elsewhere["queryid"]) == {7006} and elsewhere["plan_id"].isna().all()


def test_plans_and_tables(reader: sqlalchemy.Engine, seeded: Seeded) -> None:
    [plan] = statements.plans(reader, STATEMENTS[0].fingerprint)
    assert plan.plan_id == seeded.plan_id and plan.plan.root.node_type == "Limit"
    found = statements.tables(reader, LAST_HOUR, seeded.target_id)
    assert found["table"].tolist() == ["orders", "products"]
    assert found["hit_ratio"].iloc[0] < 0.8 < 0.99 < found["hit_ratio"].iloc[1]


def test_an_empty_store_gives_empty_tables_of_the_same_types(
    store: str, reader: sqlalchemy.Engine
) -> None:
    def tables() -> list[pd.DataFrame]:
        of = STATEMENTS[0].fingerprint
        return [
            statements.statement_table(reader, LAST_HOUR, now=NOW),
            statements.statement_trend(reader, LAST_HOUR, 1, of, now=NOW),
            statements.statement_endpoints(reader, LAST_HOUR, of),
            statements.slow_queries(reader, LAST_HOUR),
            statements.tables(reader, LAST_HOUR, 1),
        ]

    empty = tables()
    assert all(t.empty for t in empty)
    assert statements.statement(reader, 7001) is None and statements.plans(reader, 1) == []
    seed_store(store, now=NOW)
    for before, after in zip(empty, tables(), strict=True):
        assert len(after) and before.dtypes.to_dict() == after.dtypes.to_dict()


def test_comparing_empty_and_full(reader: sqlalchemy.Engine, seeded: Seeded) -> None:
    now = statements.statement_table(reader, LAST_HOUR, now=NOW)
    none = now.head(0)
    key = ["target_id", "queryid"]
    assert compare(none, now, key, "mean_ms")["change_ratio"].isna().all()
    assert compare(now, none, key, "mean_ms").empty
    same = compare(now, now, key, "mean_ms")
    assert same["change"].eq(0).all() and same["text"].tolist() == now["text"].tolist()
