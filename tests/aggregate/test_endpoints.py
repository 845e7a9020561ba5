"""Endpoint tables and trends: nothing missed, nothing counted twice, nothing drawn as a drop."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy

from perfcore.aggregate import endpoints
from perfcore.db import connect, engine
from perfcore.store.resolution import floor
from perfcore.store.rollup import roll
from perfcore.types import TimeRange
from tests.seeding import ENDPOINTS, PLACE, add_series, insert, rollup_row, seed_store

NOW = datetime(2026, 11, 23, 12, 30, 20, tzinfo=UTC)
HOUR = timedelta(hours=1)
LAST_HOUR = TimeRange(NOW - HOUR, NOW)


@pytest.fixture
def reader(store: str) -> Iterator[sqlalchemy.Engine]:
    made = engine(store)
    yield made
    made.dispose()


def write_minutes(store: str, start: datetime, values: list[list[float]]) -> None:
    """Write one row a minute from `start`, an empty list being a minute without requests."""
    with connect(store) as connection:
        series_id = add_series(connection, "api_endpoint", "GET /", "ms")
        rows = [
            rollup_row(series_id, start + timedelta(minutes=n), v)
            for n, v in enumerate(values)
            if v
        ]
        insert(connection, "metric_rollups", rows)


def test_the_table_counts_every_request(store: str, reader: sqlalchemy.Engine) -> None:
    seeded = seed_store(store, now=NOW)
    table = endpoints.endpoint_table(reader, LAST_HOUR, now=NOW)
    assert dict(zip(table["endpoint"], table["requests"], strict=True)) == seeded.requests
    assert table["total_ms"].is_monotonic_decreasing
    assert (table["p50_ms"] <= table["p95_ms"]).all() and (table["p99_ms"] <= table["max_ms"]).all()
    quickest = table[table["endpoint"] == "GET /products/{id}"]
    assert quickest["requests_per_min"].between(59, 61).all() and len(quickest) == 1
    assert endpoints.endpoint_table(reader, LAST_HOUR, "other", now=NOW).empty


def test_partial_rows_of_one_minute_add_up(store: str, reader: sqlalchemy.Engine) -> None:
    at = floor(NOW, timedelta(minutes=1))
    write_minutes(store, at, [[1.0] * 98])
    write_minutes(store, at, [[500.0] * 2])
    [row] = endpoints.endpoint_table(reader, LAST_HOUR, now=NOW).to_dict("records")
    assert row["requests"] == 100 and row["max_ms"] == 500.0
    assert math.isclose(row["p95_ms"], 1.0, rel_tol=0.01)
    assert math.isclose(row["p99_ms"], 500.0, rel_tol=0.01)


@pytest.mark.parametrize(
    "span, every",
    [(timedelta(hours=3), 1), (timedelta(hours=30), 7), (timedelta(days=20), 211)],
)
def test_rolling_changes_no_number(
    store: str, reader: sqlalchemy.Engine, span: timedelta, every: int
) -> None:
    start = floor(NOW, timedelta(minutes=1)) - span
    minutes = range(int(span.total_seconds()) // 60)
    write_minutes(store, start, [[] if n % every else [n % 97 + 1.0] for n in minutes])
    r = TimeRange(start, NOW)
    before = endpoints.endpoint_table(reader, r, now=NOW)
    times = endpoints.request_times(reader, r, now=NOW)
    assert [t.requests for t in times.values()] == before["requests"].tolist()
    assert [t.total_ms for t in times.values()] == pytest.approx(before["total_ms"].tolist())
    with connect(store, autocommit=True) as connection:
        while roll(connection, NOW).merged_buckets:
            pass
        rolled = connection.execute("SELECT resolution FROM perfcore.rollup_progress").fetchall()
    assert ("hour",) in rolled and (("day",) in rolled) == (span > timedelta(days=1))
    after = endpoints.endpoint_table(reader, r, now=NOW)
    assert {k: t.requests for k, t in times.items()} == {
        k: t.requests for k, t in endpoints.request_times(reader, r, now=NOW).items()
    }
    assert before["requests"].tolist() == [len(minutes[::every])]
    for name in ("requests", "total_ms", "p50_ms", "p95_ms", "p99_ms", "max_ms"):
        assert after[name].tolist() == before[name].tolist(), name


def test_a_step_not_over_is_marked_and_its_rate_is_not_a_drop(
    store: str, reader: sqlalchemy.Engine
) -> None:
    write_minutes(store, NOW.replace(minute=0, second=0), [[5.0] * 60] * 30 + [[5.0] * 20])
    trend = endpoints.latency_trend(reader, LAST_HOUR, now=NOW)
    assert trend["partial"].tolist() == [False] * 30 + [True]
    assert trend["requests_per_min"].round(6).eq(60.0).all()


def test_a_trend_begins_with_a_whole_step(store: str, reader: sqlalchemy.Engine) -> None:
    start = NOW.replace(hour=0, minute=0, second=0)
    write_minutes(store, start, [[5.0] * 10] * 750)
    r = TimeRange(NOW - 12 * HOUR + timedelta(minutes=3, seconds=30), NOW)
    trend = endpoints.latency_trend(reader, r, now=NOW)
    assert trend["requests_per_min"].iloc[0] == 10.0 and len(trend) <= 240
    assert trend["time"].iloc[0] <= r.start


def test_minutes_without_requests_are_gaps(store: str, reader: sqlalchemy.Engine) -> None:
    write_minutes(store, NOW.replace(minute=10, second=0), [[5.0], [], [], [5.0]])
    trend = endpoints.latency_trend(reader, LAST_HOUR, now=NOW)
    assert trend["requests"].tolist()[:4] == [1, 0, 0, 1]
    assert trend["p95_ms"].isna().tolist()[:4] == [False, True, True, False]


def test_the_summary_of_a_seeded_hour(store: str, reader: sqlalchemy.Engine) -> None:
    seed_store(store, now=NOW)
    found = endpoints.summary(reader, LAST_HOUR, now=NOW)
    assert found.p95_ms is not None and 150 < found.p95_ms < 300
    assert found.requests_per_min is not None and math.isclose(
        found.requests_per_min, sum(e.requests_per_min for e in ENDPOINTS), rel_tol=0.02
    )
    assert found.error_rate is not None and 0 < found.error_rate < 0.05
    assert found.db_ms_per_request is not None and 20 < found.db_ms_per_request < 80
    assert found.cache_hit_ratio is not None and math.isclose(
        found.cache_hit_ratio, 17000 / 20010, rel_tol=1e-6
    )
    assert found.memory_rss_bytes is not None and 140e6 < found.memory_rss_bytes < 160e6


def test_an_empty_store_has_nothing_to_say(reader: sqlalchemy.Engine) -> None:
    found = endpoints.summary(reader, LAST_HOUR)
    assert {getattr(found, name) for name in found.__slots__} == {None}
    for table in (
        endpoints.endpoint_table(reader, LAST_HOUR),
        endpoints.latency_trend(reader, LAST_HOUR),
        endpoints.endpoint_statements(reader, LAST_HOUR, "shop", "GET /"),
        endpoints.process_trend(reader, LAST_HOUR, "memory", "process.memory.rss"),
    ):
        assert table.empty and len(table.columns) > 2


def test_empty_and_full_tables_have_the_same_types(store: str, reader: sqlalchemy.Engine) -> None:
    def tables() -> list[dict[object, str]]:
        return [
            {name: str(kind) for name, kind in table.dtypes.items()}
            for table in (
                endpoints.endpoint_table(reader, LAST_HOUR, now=NOW),
                endpoints.latency_trend(reader, LAST_HOUR, now=NOW),
                endpoints.endpoint_statements(reader, LAST_HOUR, "shop", "GET /orders/{id}"),
                endpoints.process_trend(reader, LAST_HOUR, "memory", "process.memory.rss"),
            )
        ]

    empty = tables()
    seed_store(store, now=NOW)
    assert tables() == empty


def test_an_endpoint_shows_its_repeated_statement(store: str, reader: sqlalchemy.Engine) -> None:
    seed_store(store, now=NOW)
    ran = endpoints.endpoint_statements(reader, LAST_HOUR, "shop", "GET /orders/{id}")
    repeated = next(r for r in ran.to_dict("records") if r["queryid"] == 7002)
    assert repeated["calls_per_request"] == 8.0 and repeated["max_calls"] == 8
    assert repeated["requests"] == 1200 and repeated["n_plus_one_requests"] == 600
    assert repeated["n_plus_one_share"] == 0.5 and repeated["n_plus_one_calls"] == 8
    assert math.isclose(repeated["n_plus_one_ms"], 8 * repeated["mean_ms"], rel_tol=1e-6)
    assert repeated["location"] == PLACE
    assert 0.5 < ran["share_of_endpoint"].sum() < 1.0


def test_shares_are_of_the_endpoints_time_and_calls_of_those_that_called(
    store: str, reader: sqlalchemy.Engine
) -> None:
    at = NOW.replace(minute=20, second=0)
    write_minutes(store, at, [[100.0] * 10])
    often = {
        "bucket_start": at, "service": "shop", "endpoint": "GET /", "fingerprint": 1, "calls": 10,
        "duration_ms": 400.0, "requests": 10, "repeated_requests": 0, "max_calls": 1,
    }  # fmt: skip
    rare = {
        **often, "fingerprint": 2, "calls": 50, "duration_ms": 100.0, "requests": 5,
        "repeated_requests": 5, "max_calls": 10,
    }  # fmt: skip
    elsewhere = {**often, "endpoint": "GET /other", "duration_ms": 9000.0}
    with connect(store) as connection:
        insert(connection, "endpoint_statements", [often, rare, rare, elsewhere])
    found = endpoints.endpoint_statements(reader, LAST_HOUR, "shop", "GET /")
    found = found.set_index("fingerprint")
    assert found["share_of_endpoint"].to_dict() == {1: 0.4, 2: 0.2}
    assert found["calls_per_request"].to_dict() == {1: 1.0, 2: 10.0}
    assert found.loc[2, "max_calls"] == 10 and found.loc[2, "n_plus_one_requests"] == 0
    assert found["queryid"].isna().all()


@pytest.mark.fault(39)
@pytest.mark.parametrize(
    ("waited_ms", "statements_ms", "shares"),
    [
        (80.0, [60.0, 20.0], [0.6, 0.2]),  # one after the other
        (80.0, [240.0, 80.0], [0.6, 0.2]),  # at the same time: parts of the wait
        (math.nan, [60.0, 20.0], [0.6, 0.2]),  # measured before the wait was
        (math.nan, [300.0, 100.0], [0.75, 0.25]),
        (100.0, [0.0], [0.0]),
        (120.0, [500.0], [1.0]),
    ],
)
def test_shares_of_statements_that_overlap_never_exceed_one(
    waited_ms: float, statements_ms: list[float], shares: list[float]
) -> None:
    times = endpoints.RequestTimes(1, 100.0, waited_ms)
    found = [times.share(ms, sum(statements_ms)) for ms in statements_ms]
    assert found == pytest.approx(shares)
    assert math.isnan(endpoints.RequestTimes().share(5.0, 5.0))


def test_the_place_seen_most_often_is_shown_and_an_unknown_one_is_none(
    store: str, reader: sqlalchemy.Engine
) -> None:
    at = NOW.replace(minute=20, second=0)
    write_minutes(store, at, [[100.0] * 10])
    ran = {
        "bucket_start": at, "service": "shop", "endpoint": "GET /", "fingerprint": 1, "calls": 60,
        "duration_ms": 600.0, "requests": 10, "repeated_requests": 6, "max_calls": 10,
    }  # fmt: skip
    repeated = {
        "bucket_start": at, "service": "shop", "endpoint": "GET /", "fingerprint": 1,
        "calls": 30, "duration_ms": 300.0, "max_calls": 10,
    }  # fmt: skip
    places = {"": 3, "a.py:1 in f": 1, "b.py:2 in g": 2}
    with connect(store) as connection:
        insert(connection, "endpoint_statements", [ran, {**ran, "fingerprint": 2}])
        rows = [{**repeated, "location": p, "requests": n} for p, n in places.items()]
        insert(connection, "repetitions", [*rows, {**rows[0], "fingerprint": 2}])
        insert(connection, "repetitions", [{**rows[1], "endpoint": "GET /other"}])
    found = endpoints.endpoint_statements(reader, LAST_HOUR, "shop", "GET /")
    found = found.set_index("fingerprint")
    assert found["location"].to_dict() == {1: "b.py:2 in g", 2: ""}
    assert found["n_plus_one_requests"].to_dict() == {1: 6, 2: 3}
    assert found["n_plus_one_share"].to_dict() == {1: 0.6, 2: 0.3}
    assert found.loc[1, "n_plus_one_calls"] == 15 and found.loc[1, "n_plus_one_ms"] == 150
