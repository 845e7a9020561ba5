"""The roller: totals of the parts are the totals of the whole, whatever happens in between."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import random
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
import sqlalchemy
from psycopg.rows import TupleRow

from perfcore.aggregate.statements import statement_table
from perfcore.db import connect, engine
from perfcore.histogram import Histogram
from perfcore.store import rollup, targets
from perfcore.store.fetch import fetch
from perfcore.store.ingest import write_batch
from perfcore.store.read_rollups import RollupRow, series_rollups, service_rollups
from perfcore.store.resolution import whole_days
from perfcore.store.vectors import add_up_rows
from perfcore.types import TimeRange
from tests.store.test_ingest import a_batch

Connection = psycopg.Connection[TupleRow]
START = datetime(2026, 11, 20, 22, 0, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


@pytest.fixture
def connection(store: str) -> Iterator[Connection]:
    with connect(store, autocommit=True) as connection:
        yield connection


def add(connection: Connection, series: int, at: datetime, values: list[float]) -> None:
    h = Histogram()
    for value in values:
        h.record(value, is_error=value > 90)
    connection.execute(
        "INSERT INTO perfcore.metric_rollups (resolution, bucket_start, series_id, count, "
        "error_count, sum, min, max, buckets) VALUES ('minute', %s, %s, %s, %s, %s, %s, %s, %s)",
        (at, series, h.count, h.error_count, h.sum, h.min, h.max, h.to_bytes()),
    )


def totals(connection: Connection, resolution: str) -> dict[tuple[int, datetime], Histogram]:
    found: dict[tuple[int, datetime], Histogram] = defaultdict(Histogram)
    for series, at, count, error_count, buckets in connection.execute(
        "SELECT series_id, bucket_start, count, error_count, buckets "
        "FROM perfcore.metric_rollups WHERE resolution = %s",
        (resolution,),
    ):
        h = Histogram.from_bytes(buckets)
        assert (h.count, h.error_count) == (count, error_count)
        found[series, at].merge(h)
    return found


def floor(at: datetime, resolution: str) -> datetime:
    at = at.replace(minute=0) if resolution != "minute" else at
    return at.replace(hour=0) if resolution == "day" else at


def expected(
    samples: list[tuple[int, datetime, float]], resolution: str
) -> dict[tuple[int, datetime], Histogram]:
    whole: dict[tuple[int, datetime], Histogram] = defaultdict(Histogram)
    for series, at, value in samples:
        whole[series, floor(at, resolution)].record(value, is_error=value > 90)
    return whole


class Killed(Exception):
    """Stands for the end of the process between two statements."""


@pytest.mark.parametrize("seed", range(4))
def test_totals_of_the_parts_are_those_of_the_whole_when_rows_are_late_and_rounds_are_killed(
    connection: Connection, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(seed)
    samples: list[tuple[int, datetime, float]] = []

    for name in ("run", "fetch", "fetch_each"):
        monkeypatch.setattr(rollup, name, functools.partial(_fragile, rng, getattr(rollup, name)))
    end = START + timedelta(hours=28)
    now = START
    while now < end:
        for _ in range(rng.randrange(1, 6)):
            late = timedelta(hours=rng.choice([0, 0, 0, 1, 3, 26]))
            at = max(START, now - late).replace(second=0)
            values = [rng.lognormvariate(2, 1) for _ in range(rng.randrange(1, 4))]
            series = rng.randrange(2)
            add(connection, series, at, values)
            samples += [(series, at, value) for value in values]
        with contextlib.suppress(Killed):
            rollup.roll(connection, now)
        now += rng.choice([MINUTE, 20 * MINUTE, HOUR])
    monkeypatch.undo()
    now = floor(end, "day") + DAY + 10 * MINUTE
    for _ in range(2):
        rollup.roll(connection, now)
        for resolution in ("minute", "hour", "day"):
            assert totals(connection, resolution) == expected(samples, resolution)
    unmerged = connection.execute("SELECT count(*) FROM perfcore.metric_rollups WHERE NOT merged")
    assert unmerged.fetchone() == (0,)
    progress = connection.execute("SELECT resolution, rolled_until FROM perfcore.rollup_progress")
    reached: dict[str, datetime] = dict(progress.fetchall())
    assert (reached["hour"], reached["day"]) == (floor(now, "hour"), floor(now, "day"))


def test_any_split_of_a_range_reads_the_same_as_the_whole(
    store: str, connection: Connection
) -> None:
    rng = random.Random(11)
    connection.execute(
        "INSERT INTO perfcore.series (service, metric_type, metric_name, unit) "
        "SELECT 'a', 'api_endpoint', name, 'ms' FROM unnest(ARRAY['GET /', 'GET /x']) AS name"
    )
    end = START + 50 * HOUR
    samples = [
        (START + rng.randrange(50 * 60) * MINUTE, rng.lognormvariate(2, 1)) for _ in range(400)
    ]
    for at, value in samples:
        add(connection, rng.choice([1, 2]), at, [value])
    now = end - 40 * MINUTE  # the last hour is open, its last minutes are not merged
    rollup.roll(connection, now)
    reader = engine(store)
    for nth in range(20):
        cuts = sorted({rng.randrange(1, 50 * 60) for _ in range(rng.randrange(5))})
        marks = [START, *(START + n * MINUTE for n in cuts), end]
        wanted = rng.choice([None, "minute", "hour", "day"])
        read = rng.choice([series_rollups, service_rollups])
        parts = [
            row
            for r in map(TimeRange, marks, marks[1:])
            for row in read(reader, r, "api_endpoint", resolution=wanted, now=now)
        ]
        whole = Histogram.merged(Histogram.from_bytes(row.buckets) for row in parts)
        truth = Histogram()
        for _, value in samples:
            truth.record(value, is_error=value > 90)
        assert whole == truth, (nth, wanted, marks)
    reader.dispose()


def roll_like_an_earlier_version(connection: Connection, resolution: str) -> None:
    """Merge the rows of every bucket as a roller does that knows of no totals."""
    buckets = connection.execute(
        "SELECT DISTINCT bucket_start FROM perfcore.metric_rollups "
        "WHERE resolution = %s AND NOT merged",
        (resolution,),
    ).fetchall()
    for (bucket,) in buckets:
        rows = rollup.fetch(
            connection, "rollup_take_bucket", resolution=resolution, bucket_start=bucket
        )
        merged = add_up_rows((series, data) for series, data, _ in rows)
        rollup._write(connection, resolution, bucket, merged, merged=True)


@pytest.mark.fault(119)
@pytest.mark.parametrize("seed", range(3))
def test_the_total_of_a_service_is_always_the_sum_of_its_series(
    store: str, connection: Connection, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(seed)
    [(ids,)] = connection.execute(
        "WITH made AS (INSERT INTO perfcore.series (service, metric_type, metric_name, unit) "
        "SELECT service, 'api_endpoint', name, 'ms' FROM unnest(%s::text[]) AS service, "
        "unnest(%s::text[]) AS name RETURNING series_id) SELECT array_agg(series_id) FROM made",
        (["a", "b"], ["GET /", "GET /x"]),
    ).fetchall()
    if seed % 2:  # a store whose rows were merged before there were totals
        for n in range(5):
            add(connection, ids[0], START + n * HOUR, [1.0 + n])
        roll_like_an_earlier_version(connection, "minute")
        connection.execute("DELETE FROM perfcore.stale_totals")
        connection.execute(
            "UPDATE perfcore.rollup_progress SET rolled_until = %s "
            "WHERE resolution = 'totals of minute'",
            (START + 5 * HOUR,),
        )

    for name in ("run", "fetch", "fetch_each"):
        monkeypatch.setattr(rollup, name, functools.partial(_fragile, rng, getattr(rollup, name)))
    reader = engine(store)
    now = START
    for _ in range(25):
        for _ in range(rng.randrange(1, 6)):
            at = max(START, now - rng.choice([0, 0, 1, 3, 26]) * HOUR).replace(second=0)
            add(connection, rng.choice(ids), at, [rng.lognormvariate(2, 1)])
        try:
            if rng.random() < 0.2:
                roll_like_an_earlier_version(connection, rng.choice(["minute", "hour"]))
            else:
                rollup.roll(connection, now)
        except Killed:
            pass
        for resolution in ("minute", "hour", "day"):
            same_read_by_total_and_by_name(reader, now, resolution)
        now += rng.choice([MINUTE, 20 * MINUTE, HOUR, 4 * HOUR])
    monkeypatch.undo()
    rollup.roll(connection, now)
    assert connection.execute("SELECT count(*) FROM perfcore.stale_totals").fetchone() == (0,)
    [(minutes, totals_made)] = connection.execute(
        "SELECT (SELECT count(DISTINCT (bucket_start, service)) FROM perfcore.metric_rollups "
        "JOIN perfcore.series USING (series_id) WHERE resolution = 'minute' AND merged), "
        "(SELECT count(*) FROM perfcore.metric_totals WHERE resolution = 'minute')"
    ).fetchall()
    assert minutes == totals_made
    reader.dispose()


def same_read_by_total_and_by_name(
    reader: sqlalchemy.Engine, now: datetime, resolution: str
) -> None:
    r = TimeRange(START - HOUR, now + HOUR)
    how: dict[str, Any] = {"resolution": resolution, "now": now}
    by_name = series_rollups(reader, r, "api_endpoint", **how)
    by_total = service_rollups(reader, r, "api_endpoint", **how)
    assert added_up(by_total) == added_up(by_name)


def added_up(rows: list[RollupRow]) -> dict[tuple[str, datetime], Histogram]:
    found: dict[tuple[str, datetime], Histogram] = defaultdict(Histogram)
    for row in rows:
        found[row.service, row.bucket_start].merge(Histogram.from_bytes(row.buckets))
    return found


@pytest.mark.parametrize("seed", range(3))
def test_what_ran_is_counted_once_while_it_moves_into_hours_and_days(
    store: str, connection: Connection, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(seed)
    connection.execute("INSERT INTO perfcore.targets (name) VALUES ('t')")
    connection.execute(
        "INSERT INTO perfcore.statements (target_id, queryid, fingerprint, text) "
        "SELECT 1, n, n, 'x' FROM generate_series(1, 3) AS n"
    )
    readings: list[tuple[datetime, int, int]] = []  # interval_end, queryid, calls
    asked: list[tuple[datetime, int]] = []  # bucket_start, ms
    monkeypatch.setattr(rollup, "run", functools.partial(_fragile, rng, targets.run))
    monkeypatch.setattr(rollup, "_HOURS_MOVED_A_PASS", 7)
    reader, now = engine(store), START
    for _ in range(30):
        for _ in range(rng.randrange(1, 8)):
            at = now - timedelta(seconds=rng.choice([0, 0, 10, 600, 3600]) + rng.randrange(50))
            readings.append((at, rng.randrange(1, 4), rng.randrange(1, 100)))
            late = now - rng.choice([0, 0, 1, 30, 60]) * HOUR
            asked.append((late.replace(second=0), rng.randrange(1, 100)))
            _add_work(connection, readings[-1], asked[-1])
        with contextlib.suppress(Killed):
            rollup.roll(connection, now)
        end = floor(now, "hour") - rng.randrange(30) * HOUR
        r = TimeRange(end - rng.randrange(1, 100) * HOUR, end)
        table = statement_table(reader, r, now=now)
        truth: dict[int, int] = defaultdict(int)
        for at, queryid, calls in readings:
            truth[queryid] += calls if r.start < at <= r.end else 0
        assert dict(zip(table["queryid"], table["calls"], strict=True)) == {
            queryid: calls for queryid, calls in truth.items() if calls
        }
        assert _asked_ms(reader, r, now) == sum(ms for at, ms in asked if r.start <= at < r.end)
        now += rng.choice([10 * MINUTE, HOUR, 5 * HOUR, 26 * HOUR])
    monkeypatch.undo()
    reader.dispose()
    for _ in range(5):
        rollup.roll(connection, now + 3 * DAY)
    left = connection.execute(
        "SELECT (SELECT count(*) FROM perfcore.endpoint_statements), "
        "(SELECT count(*) FROM perfcore.statement_deltas)"
    )
    assert left.fetchone() == (0, 0)


def _fragile(
    rng: random.Random, real: Any, c: Connection, file: str, /, *more: Any, **parameters: Any
) -> Any:
    if "unlock" not in file and rng.random() < 0.01:
        raise Killed
    return real(c, file, *more, **parameters)


def _add_work(
    connection: Connection, reading: tuple[datetime, int, int], asked: tuple[datetime, int]
) -> None:
    at, queryid, calls = reading
    connection.execute(
        "INSERT INTO perfcore.statement_deltas VALUES (1, %s, %s, %s, %s, 1, 1, 1, 1, 1, 1)",
        (queryid, at - timedelta(seconds=10), at, calls),
    )
    bucket, ms = asked
    connection.execute(
        "INSERT INTO perfcore.endpoint_statements VALUES (%s, 's', 'GET /', 7, 1, %s, 1, 0, 1)",
        (bucket, ms),
    )


def _asked_ms(reader: sqlalchemy.Engine, r: TimeRange, now: datetime) -> float:
    first_day, last_day = whole_days(r, now)
    filters = {
        "start": r.start, "end": r.end, "service": None, "first_day": first_day,
        "last_day": last_day,
    }  # fmt: skip
    return fetch(reader, "endpoints_database_time", filters)[0][0] or 0.0


def test_closed_minutes_become_one_row_and_the_open_one_is_left_alone(
    connection: Connection,
) -> None:
    for second in range(5):
        add(connection, 1, START, [float(second)])
        add(connection, 1, START + 3 * MINUTE, [float(second)])
    rollup.roll(connection, START + 4 * MINUTE)
    counts = connection.execute(
        "SELECT bucket_start, count(*), sum(count) FROM perfcore.metric_rollups "
        "GROUP BY 1 ORDER BY 1"
    ).fetchall()
    assert counts == [(START, 1, 5), (START + 3 * MINUTE, 5, 5)]


def test_one_roller_works_at_a_time(store: str, connection: Connection) -> None:
    with connect(store, autocommit=True) as other:
        other.execute("SELECT pg_advisory_lock(%s)", (rollup._LOCK_KEY,))
        assert rollup.roll(connection, START) == rollup.RollReport(ran=False)
        # Closing alone is not enough: the server frees the lock a moment after the client is gone.
        other.execute("SELECT pg_advisory_unlock(%s)", (rollup._LOCK_KEY,))
    assert rollup.roll(connection, START).ran


def sample(connection: Connection, at: datetime) -> None:
    connection.execute(
        "INSERT INTO perfcore.performance_metrics (metric_type, metric_name, value, timestamp) "
        "VALUES ('cpu', 'x', 1, %s)",
        (at,),
    )


@pytest.mark.fault(123)
def test_days_are_made_ahead_strayed_rows_move_and_old_days_go(connection: Connection) -> None:
    for days in (-30, -1, 0, 0):
        sample(connection, START + days * DAY)
    report = rollup.roll(connection, START)
    assert report.partitions_made == 9  # yesterday, where a row was waiting, today and a week
    rest = connection.execute("SELECT count(*) FROM perfcore.performance_metrics_default")
    assert rest.fetchone() == (0,)
    kept = connection.execute("SELECT count(*) FROM perfcore.performance_metrics").fetchone()
    assert kept == (3,)
    sample(connection, START + DAY)
    again = rollup.roll(connection, START)
    assert (again.partitions_made, again.partitions_dropped) == (0, 0)
    later = rollup.roll(connection, START + 3 * DAY)
    assert (later.partitions_made, later.partitions_dropped) == (3, 2)
    kept = connection.execute("SELECT count(*) FROM perfcore.performance_metrics").fetchone()
    assert kept == (1,)


@pytest.mark.fault(123)
def test_a_reader_of_an_old_day_holds_up_its_dropping_and_no_sender(
    store: str, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample(connection, START)
    rollup.roll(connection, START)
    old, now = "performance_metrics_20261120", START + 5 * DAY
    monkeypatch.setattr(rollup, "LOCK_WAIT_MS", 60_000)  # as long as the test needs

    def drop() -> None:
        with connect(store, autocommit=True) as other:
            rollup.roll(other, now)

    with connect(store) as reader:
        reader.execute(f"SELECT count(*) FROM perfcore.{old}")
        roller = threading.Thread(target=drop)
        roller.start()
        waits = (
            "SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock' "
            "AND relation = to_regclass(%s)"
        )
        while connection.execute(waits, (f"perfcore.{old}",)).fetchone() != (1,):
            assert roller.is_alive()
            time.sleep(0.01)
        connection.execute("SET lock_timeout = '20s'")
        for number in range(5):
            batch = a_batch(number)
            fresh = [dataclasses.replace(s, at=now) for s in batch.raw]
            assert write_batch(connection, dataclasses.replace(batch, raw=tuple(fresh)))
        assert roller.is_alive()
        reader.rollback()
    roller.join(60)
    gone = connection.execute("SELECT to_regclass(%s)", (f"perfcore.{old}",)).fetchone()
    kept = connection.execute("SELECT count(*) FROM perfcore.performance_metrics").fetchone()
    assert (gone, kept) == ((None,), (10,))


@pytest.mark.fault(123)
def test_a_day_that_cannot_be_dropped_now_is_dropped_in_a_later_round(
    store: str, connection: Connection
) -> None:
    sample(connection, START)
    rollup.roll(connection, START)
    with connect(store) as reader:
        reader.execute("SELECT count(*) FROM perfcore.performance_metrics_20261120")
        assert rollup.roll(connection, START + 3 * DAY).partitions_dropped == 0
    assert rollup.roll(connection, START + 3 * DAY).partitions_dropped == 1


def test_totals_of_earlier_rows_are_made_some_at_a_time(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollup, "_TOTALS_A_PASS", 2)
    connection.execute(
        "INSERT INTO perfcore.series (service, metric_type, metric_name, unit) "
        "VALUES ('a', 'api_endpoint', 'GET /', 'ms')"
    )
    for n in range(5):
        add(connection, 1, START + n * MINUTE, [1.0 + n])
    connection.execute("UPDATE perfcore.metric_rollups SET merged = true")
    connection.execute("DELETE FROM perfcore.stale_totals")
    connection.execute(
        "UPDATE perfcore.rollup_progress SET rolled_until = %s "
        "WHERE resolution = 'totals of minute'",
        (START + DAY,),
    )
    made = []
    for _ in range(4):
        rollup.roll(connection, START + 10 * MINUTE)
        row = connection.execute(
            "SELECT count(*) FROM perfcore.metric_totals WHERE resolution = 'minute'"
        ).fetchone()
        made += [row[0] if row else None]
    assert made == [2, 4, 5, 5]


@pytest.mark.fault(123)
def test_a_busy_table_postpones_a_day_and_breaks_nothing(
    store: str, connection: Connection
) -> None:
    with connect(store) as writer:
        sample(writer, START)
        assert rollup._make_partition(connection, START.date()) is False
    assert rollup._make_partition(connection, START.date()) is True
    rows = connection.execute("SELECT count(*) FROM perfcore.performance_metrics_20261120")
    assert rows.fetchone() == (1,)


def test_minutes_expire_only_into_their_hours(connection: Connection) -> None:
    add(connection, 1, START, [5.0])
    rollup.roll(connection, START + 20 * DAY)
    assert totals(connection, "minute") == {}
    assert [h.count for h in totals(connection, "hour").values()] == [1]
    add(connection, 1, START, [6.0, 7.0])
    rollup.roll(connection, START + 20 * DAY)
    assert [h.count for h in totals(connection, "hour").values()] == [3]
    assert [h.count for h in totals(connection, "day").values()] == [3]


def test_what_endpoints_asked_is_added_up_per_minute(connection: Connection) -> None:
    for calls in (1, 2, 3):
        connection.execute(
            "INSERT INTO perfcore.endpoint_statements "
            "VALUES (%s, 's', 'GET /', 7, %s, 1.5, 1, 0, %s)",
            (START, calls, calls),
        )
    for _ in range(2):
        rollup.roll(connection, START + 5 * MINUTE)
        rows = connection.execute(
            "SELECT calls, duration_ms, requests, max_calls FROM perfcore.endpoint_statements"
        ).fetchall()
        assert rows == [(6, 4.5, 3, 3)]


def test_repetitions_are_added_up_per_minute_and_after_a_day_per_hour(
    connection: Connection,
) -> None:
    for minute in (0, 0, 1, 61):
        for place in ("a.py:1 in f", ""):
            connection.execute(
                "INSERT INTO perfcore.repetitions VALUES (%s, 's', 'GET /', 7, %s, 1, 6, 60, %s)",
                (START + minute * MINUTE, place, 6 + minute),
            )

    def kept() -> list[tuple[object, ...]]:
        return connection.execute(
            "SELECT (extract(epoch FROM bucket_start - %s) / 60)::int, requests, calls, "
            "duration_ms, max_calls FROM perfcore.repetitions WHERE location <> '' ORDER BY 1",
            (START,),
        ).fetchall()

    for _ in range(2):
        rollup.roll(connection, START + 63 * MINUTE)
        assert kept() == [(0, 2, 12, 120.0, 6), (1, 1, 6, 60.0, 7), (61, 1, 6, 60.0, 67)]
    for _ in range(2):
        rollup.roll(connection, START + 30 * 60 * MINUTE)
        assert kept() == [(0, 3, 18, 180.0, 7), (61, 1, 6, 60.0, 67)]  # alone in its hour
    rollup.roll(connection, START + 181 * DAY)
    assert kept() == []
