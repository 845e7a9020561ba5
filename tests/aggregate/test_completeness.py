"""How complete the list of statements is, and what trends make of spans that were not counted."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy

from perfcore.aggregate import statements
from perfcore.aggregate.completeness import lost_minutes, query_list_state
from perfcore.aggregate.frames import Buckets
from perfcore.aggregate.trends import database_trend
from perfcore.db import connect, engine
from perfcore.server_times import ServerTimes
from perfcore.types import TimeRange
from tests.seeding import STATEMENTS, Seeded, insert, seed_store

NOW = datetime(2026, 11, 23, 12, 30, 50, tzinfo=UTC)
LAST_HOUR = TimeRange(NOW - timedelta(hours=1), NOW)
MINUTE = timedelta(minutes=1)
NOON = NOW.replace(hour=12, minute=0, second=0)


@pytest.fixture
def seeded(store: str) -> Seeded:
    return seed_store(store, now=NOW)


@pytest.fixture
def reader(store: str) -> Iterator[sqlalchemy.Engine]:
    made = engine(store)
    yield made
    made.dispose()


def gap(start: datetime, end: datetime, **rest: Any) -> dict[str, Any]:
    return {
        "target_id": 1, "view": "pg_stat_statements", "gap_start": start, "gap_end": end,
        "reason": "restart", "queryids": None, **rest,
    }  # fmt: skip


def interval(end: datetime, **rest: Any) -> dict[str, Any]:
    return {
        "target_id": 1, "interval_start": end - MINUTE, "interval_end": end, "entries": 4800,
        "max_entries": 5000, "evictions": 2, "counted_ms": 300.0, "active_ms": 400.0, **rest,
    }  # fmt: skip


def write(store: str, table: str, *rows: dict[str, Any]) -> None:
    with connect(store) as connection:
        insert(connection, table, list(rows))


def forget(store: str, start: datetime, end: datetime) -> None:
    """Take away what was counted in readings that ended in a span."""
    with connect(store) as connection:
        for table in ("statement_deltas", "database_deltas"):
            connection.execute(
                f"DELETE FROM perfcore.{table} WHERE interval_end > %s AND interval_end <= %s",
                (start, end),
            )


def test_the_state_adds_up_the_readings_of_the_range(
    store: str, reader: sqlalchemy.Engine, seeded: Seeded
) -> None:
    write(
        store, "statement_intervals", interval(NOON), interval(NOON + MINUTE, evictions=0),
        interval(NOW - timedelta(hours=3), evictions=100),
    )  # fmt: skip
    write(store, "collection_gaps", gap(NOON, NOON + MINUTE), gap(NOON - 5 * MINUTE, NOON))
    state = query_list_state(reader, LAST_HOUR, 1)
    assert (state.readings, state.evictions, state.entries, state.max_entries) == (2, 2, 4800, 5000)
    assert state.is_incomplete and state.coverage == 0.75
    assert [g.start for g in state.server_gaps] == [NOON, NOON - 5 * MINUTE]
    other = query_list_state(reader, LAST_HOUR, 2)
    assert (other.readings, other.evictions, other.is_incomplete) == (0, None, False)


def test_what_13_does_not_tell_is_unknown(
    store: str, reader: sqlalchemy.Engine, seeded: Seeded
) -> None:
    write(store, "statement_intervals", interval(NOON, evictions=None, active_ms=None))
    state = query_list_state(reader, LAST_HOUR, 1)
    assert state.evictions is None and state.coverage is None and not state.is_incomplete
    write(
        store, "collection_gaps",
        gap(NOON, NOON + MINUTE, reason="eviction or reset", queryids=[7001]),
    )  # fmt: skip
    state = query_list_state(reader, LAST_HOUR, 1)
    assert state.is_incomplete and state.vanished == 1 and state.server_gaps == ()


def test_a_gap_is_missing_in_the_trend_and_not_zero(
    store: str, reader: sqlalchemy.Engine, seeded: Seeded
) -> None:
    forget(store, NOON, NOON + 2 * MINUTE)
    trend = statements.statement_trend(reader, LAST_HOUR, 1, STATEMENTS[0].fingerprint, now=NOW)
    at_noon = trend.set_index("time")["calls_per_min"].loc[NOON : NOON + MINUTE]
    assert at_noon.tolist() == [0, 0], "without a gap it did not run"
    write(store, "collection_gaps", gap(NOON, NOON + 2 * MINUTE))
    trend = statements.statement_trend(reader, LAST_HOUR, 1, STATEMENTS[0].fingerprint, now=NOW)
    calls = trend.set_index("time")["calls_per_min"]
    assert calls.loc[NOON : NOON + MINUTE].isna().all()
    assert calls.drop(calls.loc[NOON : NOON + MINUTE].index).notna().all()


def test_a_gap_of_one_statement_is_not_one_of_others(
    store: str, reader: sqlalchemy.Engine, seeded: Seeded
) -> None:
    forget(store, NOON, NOON + MINUTE)
    lost = gap(NOON, NOON + MINUTE, reason="eviction", queryids=[STATEMENTS[0].queryid])
    write(store, "collection_gaps", lost)
    for number, is_missing in ((0, True), (1, False)):
        of = STATEMENTS[number].fingerprint
        trend = statements.statement_trend(reader, LAST_HOUR, 1, of, now=NOW).set_index("time")
        assert bool(trend["calls_per_min"].isna()[NOON]) == is_missing


def test_a_rate_is_taken_over_the_time_that_is_known(
    store: str, reader: sqlalchemy.Engine, seeded: Seeded
) -> None:
    write(store, "collection_gaps", gap(NOON, NOON + MINUTE / 4))
    trend = statements.statement_trend(reader, LAST_HOUR, 1, STATEMENTS[0].fingerprint, now=NOW)
    assert trend.set_index("time")["calls_per_min"][NOON] == pytest.approx(24 / 0.75)


def test_what_was_not_read_yet_is_missing(
    store: str, reader: sqlalchemy.Engine, seeded: Seeded
) -> None:
    forget(store, NOON, NOW)
    write(
        store, "collector_snapshots",
        {"target_id": 1, "view": "pg_stat_statements", "taken_at": NOON, "epoch": "{}",
         "snapshot": "{}"},
    )  # fmt: skip
    trend = statements.statement_trend(reader, LAST_HOUR, 1, STATEMENTS[0].fingerprint, now=NOW)
    calls = trend.set_index("time")["calls_per_min"]
    assert calls[calls.index < NOON].notna().all() and calls[calls.index >= NOON].isna().all()


def test_a_reading_after_an_outage_is_no_peak(
    store: str, reader: sqlalchemy.Engine, seeded: Seeded
) -> None:
    forget(store, NOON, NOON + 10 * MINUTE)
    delta = {
        "target_id": 1, "queryid": STATEMENTS[0].queryid, "interval_start": NOON,
        "interval_end": NOON + 10 * MINUTE, "calls": 240, "total_exec_time_ms": 2400.0, "rows": 0,
        "shared_blks_hit": 0, "shared_blks_read": 0, "temp_blks_read": 0, "temp_blks_written": 0,
    }  # fmt: skip
    write(store, "statement_deltas", delta)
    trend = statements.statement_trend(reader, LAST_HOUR, 1, STATEMENTS[0].fingerprint, now=NOW)
    calls = trend.set_index("time")["calls_per_min"].loc[NOON : NOON + 9 * MINUTE]
    assert len(calls) == 10 and calls.sub(24).abs().max() < 1e-9


def test_a_database_gap_is_a_step_without_a_value(
    store: str, reader: sqlalchemy.Engine, seeded: Seeded
) -> None:
    forget(store, NOON, NOON + MINUTE)
    write(store, "collection_gaps", gap(NOON, NOON + MINUTE, view="pg_stat_database"))
    trend = database_trend(reader, LAST_HOUR).set_index("time")["cache_hit_ratio"]
    assert list(trend.index[trend.isna()]) == [NOON]


def test_lost_minutes_of_spans_that_overlap_count_once() -> None:
    buckets = Buckets(TimeRange(NOON, NOON + 10 * MINUTE), 2 * MINUTE, NOW)
    spans = [(NOON + MINUTE, NOON + 3 * MINUTE), (NOON + 2 * MINUTE, NOON + 3 * MINUTE),
             (NOON + 9 * MINUTE, NOON + 99 * MINUTE)]  # fmt: skip
    assert lost_minutes(buckets, spans) == {
        NOON: 1.0, NOON + 2 * MINUTE: 1.0, NOON + 8 * MINUTE: 1.0,
    }  # fmt: skip


def test_the_servers_times_are_those_of_all_queryids(
    store: str, reader: sqlalchemy.Engine, seeded: Seeded
) -> None:
    detail = statements.statement(reader, 7001)
    assert detail is not None and detail.server is None
    with connect(store) as connection:
        connection.execute(
            "UPDATE perfcore.statements SET server_calls = 3, min_exec_time_ms = 2,"
            " mean_exec_time_ms = 6, max_exec_time_ms = 9, stddev_exec_time_ms = 0"
            " WHERE queryid = 7001"
        )
        connection.execute(
            "INSERT INTO perfcore.statements (target_id, queryid, fingerprint, text, server_calls,"
            " min_exec_time_ms, mean_exec_time_ms, max_exec_time_ms, stddev_exec_time_ms)"
            " SELECT target_id, 8001, fingerprint, text, 1, 2, 2, 2, 0 FROM perfcore.statements"
            " WHERE queryid = 7001"
        )
    detail = statements.statement(reader, 7001)
    assert detail is not None and detail.server is not None
    assert replace(detail.server, stddev_ms=0) == ServerTimes(4, 2.0, 5.0, 9.0, 0, None)
    assert detail.server.stddev_ms == pytest.approx(math.sqrt(3))
