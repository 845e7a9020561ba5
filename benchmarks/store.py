"""How fast the store takes, keeps, sums up and answers; run it from the repository's root.

    python benchmarks/store.py                   # everything, about ten minutes
    python benchmarks/store.py --only raw rollup # some of it
    python benchmarks/store.py --requests 100000 # a small overview

It starts a PostgreSQL of its own with the settings of the embedded store, prints what it measured
beside the versions, and removes the server when it ends.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import shutil
import statistics
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
from psycopg.rows import TupleRow

from perfcore.db import connect, engine, query
from perfcore.histogram import GAMMA, UNITS_BITS, Histogram
from perfcore.server.embedded import STORE_SETTINGS, Cluster, wheel_binaries
from perfcore.store import rollup
from perfcore.store.ingest import Batch, RawSample, Rollup, SeriesKey, write_batch
from perfcore.store.migrate import migrate
from perfcore.store.resolution import WORK_AS_IT_CAME, WORK_KEPT_FINE
from perfcore.store.vectors import SHIFT, Ints, SummedRow, Sums, encode

Connection = psycopg.Connection[TupleRow]
# A fixed instant, so that two runs read the same edges of the same days.
NOW = datetime(2026, 11, 24, 10, 41, 20, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
ENDPOINTS = 200
STATEMENTS_AN_ENDPOINT = 3
DAYS = 30


def main() -> None:
    options = _options()
    folder = Path(tempfile.mkdtemp(prefix="perfcore-bench-"))
    folder.chmod(0o755)
    try:
        settings = {**STORE_SETTINGS, "pg_stat_statements.track": "all"}
        with Cluster(folder / "pg", wheel_binaries(folder), settings) as cluster:
            _versions(cluster)
            for name in options.only:
                print()
                with _store(cluster, name) as dsn:
                    PARTS[name](dsn, cluster, options)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure the store.")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--raw-rows", type=int, default=200_000, help="raw rows a pass")
    parser.add_argument("--passes", type=int, default=5, help="passes of each writer")
    parser.add_argument(
        "--requests", type=int, nargs="+", default=[100_000, 1_000_000, 10_000_000],
        help="sizes of the store that the overview reads",
    )  # fmt: skip
    parser.add_argument("--series", type=int, default=1_000, help="series that are rolled up")
    parser.add_argument("--hours", type=int, default=24, help="hours that are rolled up")
    return parser.parse_args()


def _versions(cluster: Cluster) -> None:
    with connect(cluster.dsn()) as connection:
        row = connection.execute("SHOW server_version").fetchone()
    print(
        f"PostgreSQL {row[0] if row else '?'}, Python {platform.python_version()}, "
        f"psycopg {psycopg.__version__} ({psycopg.pq.__impl__}), numpy {np.__version__}, "
        f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}"
    )


@contextmanager
def _store(cluster: Cluster, name: str) -> Iterator[str]:
    with connect(cluster.dsn(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE bench_{name}")
    dsn = cluster.dsn(f"bench_{name}")
    migrate(dsn)
    with connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION pg_stat_statements")
        rollup.roll(connection, NOW)
    yield dsn
    with connect(cluster.dsn(), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE bench_{name} WITH (FORCE)")


def _timed(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _quartiles(values: Sequence[float]) -> str:
    low, middle, high = statistics.quantiles(values, n=4) if len(values) > 1 else values * 3
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


# Raw samples ------------------------------------------------------------------------------------


def raw(dsn: str, cluster: Cluster, options: argparse.Namespace) -> None:
    """Compare write_batch with psql's copy of the same rows into the same table, in turns."""
    chance = random.Random(1)
    series = [SeriesKey("shop", "api_endpoint", f"GET /page{n}", "ms") for n in range(20)]
    samples = [
        RawSample(
            chance.choice(series), NOW - timedelta(seconds=chance.uniform(0, 3600)),
            chance.lognormvariate(3, 1),
        )
        for _ in range(options.raw_rows)
    ]  # fmt: skip
    size = 5_000  # ten seconds of the most that one process sends
    parts = [tuple(samples[n : n + size]) for n in range(0, len(samples), size)]
    path = _psql_file(samples)
    ours, theirs, batches, copies = [], [], [], []
    with connect(dsn, autocommit=True) as connection:
        for _ in range(options.passes):
            made = [
                Batch(str(uuid.uuid4()), "shop", "bench:1:1", NOW, len(p), raw=p) for p in parts
            ]
            connection.execute("TRUNCATE perfcore.performance_metrics")
            batches.append(_timed(lambda m=made: [write_batch(connection, b) for b in m]))
            ours.append(len(samples) / batches[-1])
            connection.execute("TRUNCATE perfcore.performance_metrics")
            copies.append(_timed(lambda: _psql(dsn, cluster, path)))
            theirs.append(len(samples) / copies[-1])
    path.unlink()
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    print(f"raw samples, {len(samples):,} rows a pass, {options.passes} passes in turns")
    print(f"  write_batch ({size:,} rows a batch)  {statistics.median(ours):>10,.0f} rows/s")
    print(f"  psql \\copy (one transaction)        {statistics.median(theirs):>10,.0f} rows/s")
    print(f"  write_batch / psql                  {_quartiles(ratios)}")


def _psql_file(samples: Iterable[RawSample]) -> Path:
    handle, name = tempfile.mkstemp(suffix=".tsv")
    with os.fdopen(handle, "w") as file:
        for s in samples:
            key = s.series
            file.write(
                f"{key.metric_type}\t{key.metric_name}\t{s.value!r}\t{s.at.isoformat()}\t"
                f"{key.service}\t{key.unit}\tf\t{s.weight}\n"
            )
    return Path(name)


def _psql(dsn: str, cluster: Cluster, path: Path) -> None:
    psql = cluster.binaries.folder / "psql"
    columns = "metric_type, metric_name, value, timestamp, service, unit, is_error, weight"
    subprocess.run(
        [
            str(psql) if psql.exists() else "psql", "-qX", dsn,
            "-c", f"\\copy perfcore.performance_metrics ({columns}) FROM '{path}'",
        ],
        check=True,
    )  # fmt: skip


# Histograms -------------------------------------------------------------------------------------


def histograms(dsn: str, cluster: Cluster, options: argparse.Namespace) -> None:
    """Store minutes of 200 series with 694 samples each: a million a day and series."""
    chance = random.Random(2)
    each, series = 694, 200
    kinds = []
    for _ in range(300):
        h = Histogram()
        h.record_all([chance.lognormvariate(3, 0.7) for _ in range(each)])
        kinds.append(h)
    batches = []
    for number in range(101):
        rollups = []
        for n in range(series):
            h = chance.choice(kinds)
            key = SeriesKey("shop", "api_endpoint", f"GET /page{n}", "ms")
            rollups.append(Rollup(key, NOW - number % 60 * MINUTE, h))
        batches.append(
            Batch(str(uuid.uuid4()), "shop", "b:1:1", NOW, each * series, rollups=tuple(rollups))
        )
    ids: dict[SeriesKey, int] = {}
    with connect(dsn, autocommit=True) as connection:
        write_batch(connection, batches.pop(), ids)
        rates, worked = [], time.process_time()
        for n in range(0, len(batches) - 9, 10):
            part = batches[n : n + 10]
            took = _timed(lambda p=part: [write_batch(connection, b, ids) for b in p])
            rates.append(len(part) * each * series / took)
        worked = time.process_time() - worked
    print(f"histograms of {each} samples, {series} a batch, a transaction a batch")
    print(
        f"  write_batch  {statistics.median(rates) / 1e6:.1f} million samples/s, "
        f"{len(batches) * each * series / worked / 1e6:.1f} million a second of the sender's CPU"
    )


# The overview -----------------------------------------------------------------------------------


@dataclass
class _Writer:
    """Writes made-up requests as the roller leaves them: days, hours, and the last minutes."""

    connection: Connection
    series: dict[tuple[str, str], int]

    def rollups(
        self, resolution: str, metric_type: str, names: Sequence[str], at: Ints, of: Ints, ms: Any
    ) -> None:
        """Write a row for each (bucket, name); `at` is in seconds, `of` numbers the names."""
        width = {"minute": 60, "hour": 3600, "day": 86400}[resolution]
        keys, group = np.unique(at // width * len(names) + of, return_inverse=True)
        rows = summed(group, ms, len(keys))
        with self.connection.cursor().copy(query("rollup_write").encode()) as copy:
            copy.set_types(rollup.WRITTEN)
            for key, row in zip(keys.tolist(), rows, strict=True):
                bucket, number = divmod(key, len(names))
                start = datetime.fromtimestamp(bucket * width, UTC)
                series_id = self.series[metric_type, names[number]]
                copy.write_row((resolution, start, series_id, *row[1:], True))


def summed(group: Ints, values: Any, groups: int) -> list[SummedRow]:
    """Return the histogram of each group's values."""
    orders = np.ceil(np.log(values) / np.log(GAMMA)).astype(np.int64) + SHIFT
    cells, times = np.unique(group * (4 * SHIFT) + orders, return_counts=True)
    of_cell = cells // (4 * SHIFT)
    total = np.bincount(group, weights=values, minlength=groups)
    least, most = np.full(groups, np.inf), np.full(groups, -np.inf)
    np.minimum.at(least, group, values)
    np.maximum.at(most, group, values)
    counts = np.bincount(group, minlength=groups)
    sums = Sums(
        counts, np.zeros(groups, np.int64), [int(t * 2.0**UNITS_BITS) for t in total],
        least, most, cells % (4 * SHIFT), times,
        np.searchsorted(of_cell, np.arange(groups + 1)),
    )  # fmt: skip
    return [
        (0, *row)
        for row in zip(
            counts.tolist(), sums.error_counts.tolist(), total.tolist(), least.tolist(),
            most.tolist(), encode(sums), strict=True,
        )
    ]  # fmt: skip


def fill(connection: Connection, requests: int) -> None:
    """Write thirty days of requests to 200 endpoints, each with a statement of three."""
    chance = np.random.default_rng(3)
    endpoints = [f"GET /resource{n}/{{id}}" for n in range(ENDPOINTS)]
    statements = [f"{n:016x}" for n in range(1, ENDPOINTS * STATEMENTS_AN_ENDPOINT + 1)]
    names = {"api_endpoint": endpoints, "database_query": statements}
    gauges = [("memory", "process.memory.rss"), ("memory", "process.memory.uss"),
              ("memory", "python.heap"), ("cpu", "process.cpu.utilization"),
              ("cpu", "system.cpu.utilization")]  # fmt: skip
    keys = [(kind, name) for kind, found in names.items() for name in found] + gauges
    connection.execute(
        "INSERT INTO perfcore.series (service, metric_type, metric_name, unit) "
        "SELECT 'shop', kind, name, 'ms' FROM unnest(%s::text[], %s::text[]) AS n (kind, name)",
        ([k for k, _ in keys], [n for _, n in keys]),
    )
    rows = connection.execute("SELECT metric_type, metric_name, series_id FROM perfcore.series")
    writer = _Writer(connection, {(k, n): i for k, n, i in rows})
    connection.execute("INSERT INTO perfcore.targets (name) VALUES ('shop')")
    connection.execute(
        "INSERT INTO perfcore.statements (target_id, queryid, fingerprint, text) "
        "SELECT 1, n, n, 'SELECT ' || n FROM generate_series(1, %s) AS n",
        (len(statements),),
    )
    end = int(NOW.timestamp())
    start = (end // 86400 - DAYS) * 86400
    for day in range(DAYS + 1):
        first, last = start + day * 86400, min(start + (day + 1) * 86400, end)
        count = round(requests / DAYS * (last - first) / 86400)
        at = chance.integers(first, last, count)
        of = chance.integers(0, ENDPOINTS, count)
        of_statement = of * STATEMENTS_AN_ENDPOINT + chance.integers(0, 3, count)
        ms = chance.lognormal(3, 0.8, count)
        for kind, numbers, values in (
            ("api_endpoint", of, ms), ("database_query", of_statement, ms * 0.6),
        ):  # fmt: skip
            for resolution, until in (("day", end // 86400 * 86400), ("hour", end // 3600 * 3600)):
                rolled = at < until
                writer.rollups(
                    resolution, kind, names[kind], at[rolled], numbers[rolled], values[rolled]
                )
            recent = at >= end - 2 * 86400
            writer.rollups("minute", kind, names[kind], at[recent], numbers[recent], values[recent])
        _fill_gauges(writer, gauges, chance, first, last, end)
        _fill_work(connection, at, of_statement, end)
    for resolution, until in (("day", end // 86400 * 86400), ("hour", end // 3600 * 3600)):
        connection.execute(
            "INSERT INTO perfcore.rollup_progress VALUES (%s, to_timestamp(%s)) ON CONFLICT "
            "(resolution) DO UPDATE SET rolled_until = excluded.rolled_until",
            (resolution, until),
        )
    stale = "SELECT FROM perfcore.stale_totals LIMIT 1"
    while connection.execute(stale).fetchone() is not None:
        rollup._fill_totals(connection)
    moved = "SELECT min(bucket_start) > %s - interval '28 hours' FROM perfcore.endpoint_statements"
    while connection.execute(moved, (NOW,)).fetchone() == (False,):
        rollup._thin_work(connection, NOW)
    connection.execute(
        "INSERT INTO perfcore.database_deltas SELECT 1, t - interval '10 min', t, 1000, 10, 5, 0, "
        "0, 0, 3, 1 FROM generate_series(%s::timestamptz - interval '14 days', %s, '10 min') AS t",
        (NOW, NOW),
    )
    connection.execute("VACUUM ANALYZE")


def _fill_gauges(
    writer: _Writer, gauges: Any, chance: Any, first: int, last: int, end: int
) -> None:
    at = np.arange(first, last, 5)
    for kind, name in gauges:
        values = chance.lognormal(10, 0.05, len(at))
        none = np.zeros(len(at), np.int64)
        for resolution, low, high in (
            ("day", 0, end // 86400 * 86400), ("hour", 0, end // 3600 * 3600),
            ("minute", end - 2 * 86400, end),
        ):  # fmt: skip
            some = (at >= low) & (at < high)
            writer.rollups(resolution, kind, [name], at[some], none[some], values[some])


def _fill_work(connection: Connection, at: Ints, statement: Ints, end: int) -> None:
    """Write who ran what, and the server's view of it, as finely as the roller leaves it."""
    move = end // 3600 * 3600 - round(WORK_KEPT_FINE.total_seconds())
    thin = end // 600 * 600 - round(WORK_AS_IT_CAME.total_seconds()) // 600 * 600
    for low, high, asked_s, read_s in (
        (end - 14 * 86400, move, 3600, 3600), (move, thin, 600, 600), (thin, end, 60, 10),
    ):  # fmt: skip
        some = (at >= low) & (at < high)
        _write_asked(connection, at[some] // asked_s, statement[some], asked_s)
        _write_read(connection, at[some] // read_s, statement[some], read_s)


def _write_asked(connection: Connection, slot: Ints, statement: Ints, width_s: int) -> None:
    total = ENDPOINTS * STATEMENTS_AN_ENDPOINT
    keys, calls = np.unique(slot * total + statement, return_counts=True)
    with connection.cursor().copy("COPY perfcore.endpoint_statements FROM STDIN") as copy:
        for key, n in zip(keys.tolist(), calls.tolist(), strict=True):
            at, fp = divmod(key, total)
            endpoint = f"GET /resource{fp // STATEMENTS_AN_ENDPOINT}/{{id}}"
            start = datetime.fromtimestamp(at * width_s, UTC)
            copy.write_row((start, "shop", endpoint, fp + 1, n, 16.0 * n, n, 0, 1))


def _write_read(connection: Connection, slot: Ints, statement: Ints, width_s: int) -> None:
    total = ENDPOINTS * STATEMENTS_AN_ENDPOINT
    keys, calls = np.unique(slot * total + statement, return_counts=True)
    with connection.cursor().copy("COPY perfcore.statement_deltas FROM STDIN") as copy:
        for key, n in zip(keys.tolist(), calls.tolist(), strict=True):
            at, fp = divmod(key, total)
            start = datetime.fromtimestamp(at * width_s, UTC)
            ended = start + timedelta(seconds=width_s)
            copy.write_row((1, fp + 1, start, ended, n, 16.0 * n, n, 9 * n, n, 0, 0, 0))


def overview(dsn: str, cluster: Cluster, options: argparse.Namespace) -> None:
    """Read what the first page reads, for thirty days against the thirty before."""
    print(f"overview, {ENDPOINTS} endpoints over {DAYS} days; server time from pg_stat_statements")
    for requests in options.requests:
        with _store(cluster, f"of_{requests}") as filled:
            with connect(filled, autocommit=True) as connection:
                took = _timed(lambda c=connection, n=requests: fill(c, n))
            _read_overview(filled, requests, took)


def _read_overview(dsn: str, requests: int, took: float) -> None:
    from benchmarks.overview_reads import reads  # pandas: only where it is needed

    store = engine(dsn)
    named = reads(store, NOW)
    rounds: list[tuple[float, dict[str, float], dict[str, float]]] = []
    with connect(dsn, autocommit=True) as connection:
        for nth in range(6):
            connection.execute("SELECT pg_stat_statements_reset()")
            spent = {name: _timed(work) for name, work in named.items()}
            server: dict[str, float] = dict(
                connection.execute(
                    "SELECT query, total_exec_time FROM pg_stat_statements JOIN pg_database d "
                    "ON d.oid = dbid WHERE datname = current_database() "
                    "AND query LIKE '%%/* perfcore */'"
                ).fetchall()
            )
            if nth:  # the first fills the caches
                rounds.append((sum(server.values()), server, spent))
    store.dispose()
    rounds.sort(key=lambda r: r[0])
    least, (median, server, spent) = rounds[0][0], rounds[len(rounds) // 2]
    print(
        f"  {requests:>10,} requests (made in {took:.0f} s): server {median:.0f} ms "
        f"(least {least:.0f}), with Python {sum(spent.values()) * 1e3:.0f} ms"
    )
    for name, seconds in sorted(spent.items(), key=lambda item: -item[1])[:4]:
        print(f"      {name:<60} {seconds * 1e3:>6.1f} ms with Python")
    for text, ms in sorted(server.items(), key=lambda item: -item[1])[:4]:
        print(f"      {_first_line(text):<60} {ms:>6.1f} ms in the server")


def _first_line(text: str) -> str:
    return " ".join(text.replace("/* perfcore */", "").split())[:60]


# Rolling up -------------------------------------------------------------------------------------


def rolling(dsn: str, cluster: Cluster, options: argparse.Namespace) -> None:
    """Make hours of minutes and days of hours, once each."""
    chance = np.random.default_rng(4)
    kinds, each = 500, 60
    pool = summed(np.repeat(np.arange(kinds), each), chance.lognormal(3, 0.8, kinds * each), kinds)
    start = datetime(2026, 11, 22, tzinfo=UTC)
    minutes = options.hours * 60
    with connect(dsn, autocommit=True) as connection:
        with connection.cursor().copy(query("rollup_write").encode()) as copy:
            copy.set_types(rollup.WRITTEN)
            for minute in range(minutes):
                at = start + minute * MINUTE
                for n in range(options.series):
                    copy.write_row(("minute", at, n, *pool[(n * 7 + minute) % kinds][1:], True))
        connection.execute("TRUNCATE perfcore.stale_totals")
        connection.execute("VACUUM ANALYZE perfcore.metric_rollups")
        end = start + minutes * MINUTE + 3 * MINUTE
        worked = time.process_time()
        took = _timed(lambda: rollup.roll(connection, end))
        worked = time.process_time() - worked
        again = _timed(lambda: rollup.roll(connection, end))
        [(hours, days)] = connection.execute(
            "SELECT count(*) FILTER (WHERE resolution = 'hour'), "
            "count(*) FILTER (WHERE resolution = 'day') FROM perfcore.metric_rollups"
        ).fetchall()
    rows = options.series * minutes
    print(f"rolling up {rows:,} minutes of {each} samples ({options.series:,} series)")
    print(
        f"  {hours:,} hours and {days:,} days  {took:.2f} s, of it {worked:.2f} s CPU of the roller"
    )
    print(f"  a round without work {again:.3f} s")


# Bytes ------------------------------------------------------------------------------------------


def size(dsn: str, cluster: Cluster, options: argparse.Namespace) -> None:
    """Say what a million requests to 200 endpoints take, with a statement of three each."""
    requests = 1_000_000
    tables = (
        "performance_metrics", "metric_rollups_minute", "metric_rollups_hour",
        "metric_rollups_day", "metric_totals", "endpoint_statements",
    )  # fmt: skip
    print("bytes of a million requests, each with a statement: heap + indexes, MB")
    print(f"  {'':<24}" + "".join(f"{f'over {hours} h':>18}" for hours in (1, 24)))
    columns = []
    for hours in (1, 24):
        with _store(cluster, f"size_{hours}") as filled:
            with connect(filled, autocommit=True) as connection:
                _million(connection, requests, hours)
                columns.append([_bytes(connection, table) for table in tables])
    for table, *sizes in zip(tables, *columns, strict=True):
        cells = [f"{heap / 1e6:.1f} + {index / 1e6:.1f}" for heap, index in sizes]
        print(f"  {table:<24}" + "".join(f"{cell:>18}" for cell in cells))


def _million(connection: Connection, requests: int, hours: int) -> None:
    chance = np.random.default_rng(5)
    endpoints = [f"GET /resource{n}/{{id}}" for n in range(ENDPOINTS)]
    statements = [f"{n:016x}" for n in range(1, ENDPOINTS * STATEMENTS_AN_ENDPOINT + 1)]
    names = {"api_endpoint": endpoints, "database_query": statements}
    keys = [(kind, name) for kind, found in names.items() for name in found]
    connection.execute(
        "INSERT INTO perfcore.series (service, metric_type, metric_name, unit) "
        "SELECT 'shop', kind, name, 'ms' FROM unnest(%s::text[], %s::text[]) AS n (kind, name)",
        ([k for k, _ in keys], [n for _, n in keys]),
    )
    rows = connection.execute("SELECT metric_type, metric_name, series_id FROM perfcore.series")
    writer = _Writer(connection, {(k, n): i for k, n, i in rows})
    end = int(NOW.timestamp()) // 86400 * 86400
    at = chance.integers(end - hours * 3600, end, requests)
    of = chance.integers(0, ENDPOINTS, requests)
    of_statement = of * STATEMENTS_AN_ENDPOINT + chance.integers(0, 3, requests)
    ms = chance.lognormal(3, 0.8, requests)
    for kind, numbers, values in (
        ("api_endpoint", of, ms), ("database_query", of_statement, ms * 0.6),
    ):  # fmt: skip
        for resolution in ("minute", "hour", "day"):
            writer.rollups(resolution, kind, names[kind], at, numbers, values)
        kept = min(1.0, 500 * hours * 3600 / requests / 2)  # of a process's 500 rows a second
        with connection.cursor().copy(query("ingest_raw").encode()) as copy:
            for second, n, value in zip(
                at.tolist(), numbers.tolist(), values.tolist(), strict=True
            ):
                if chance.random() < kept:
                    when = datetime.fromtimestamp(second, UTC)
                    copy.write_row((kind, names[kind][n], value, when, "shop", "ms", False, 1))
    _write_asked(connection, at // 60, of_statement, 60)
    stale = "SELECT FROM perfcore.stale_totals LIMIT 1"
    while connection.execute(stale).fetchone() is not None:
        rollup._fill_totals(connection)
    connection.execute("VACUUM FULL perfcore.metric_totals")


def _bytes(connection: Connection, table: str) -> tuple[int, int]:
    row = connection.execute(
        "SELECT sum(pg_table_size(c.oid))::bigint, sum(pg_indexes_size(c.oid))::bigint "
        "FROM pg_class c WHERE c.oid = %(table)s::regclass "
        "OR c.oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = %(table)s::regclass)",
        {"table": f"perfcore.{table}"},
    ).fetchone()
    return (int(row[0] or 0), int(row[1] or 0)) if row else (0, 0)


# Letting go -------------------------------------------------------------------------------------


def expiry(dsn: str, cluster: Cluster, options: argparse.Namespace) -> None:
    """Delete a day of minutes, as the roller does, and take batches meanwhile."""
    series, minutes = options.series, 24 * 60
    with connect(dsn, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO perfcore.metric_rollups (resolution, bucket_start, series_id, count, "
            "sum, min, max, buckets, merged) "
            "SELECT 'minute', %s::timestamptz - m * interval '1 minute', n, 60, 1, 1, 1, "
            "decode(repeat('03', 80), 'hex'), true "
            "FROM generate_series(1, %s) AS m, generate_series(1, %s) AS n",
            (NOW - 20 * DAY, minutes, series),
        )
        connection.execute("VACUUM ANALYZE perfcore.metric_rollups")
        oldest = NOW - 20 * DAY - minutes * MINUTE
        took = [
            _timed(
                lambda n=n: connection.execute(
                    query("rollup_expire_rollups").encode(),
                    {"resolution": "minute", "before": oldest + (n + 1) * 60 * MINUTE},
                )
            )
            for n in range(24)
        ]
    rows = series * minutes
    print(f"letting go of {rows:,} minutes of a day by DELETE, an hour at a time")
    print(f"  {sum(took):.1f} s in all = {sum(took) / 864:.3f} % of a processor's day")


PARTS: dict[str, Callable[[str, Cluster, argparse.Namespace], None]] = {
    "raw": raw,
    "histograms": histograms,
    "overview": overview,
    "rollup": rolling,
    "bytes": size,
    "expiry": expiry,
}

if __name__ == "__main__":
    main()
