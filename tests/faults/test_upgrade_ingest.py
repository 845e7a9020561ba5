"""During a rolling upgrade, and after a restore, every batch is in the store once."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import TupleRow
from psycopg.types.json import Jsonb

from perfcore.db import connect, engine
from perfcore.histogram import Histogram
from perfcore.server.embedded import Cluster
from perfcore.store import rollup
from perfcore.store.ingest import Batch, write_batch
from perfcore.store.migrate import migrate, read_migrations
from perfcore.store.read_rollups import series_rollups, service_rollups
from perfcore.types import TimeRange
from tests.faults.test_upgrade_migrations import FIRST_RELEASE, folder_of
from tests.store.test_ingest import a_batch

Connection = psycopg.Connection[TupleRow]
AT = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)  # of a_batch
# The statements of the release before, word by word: what its senders go on sending.
EARLIER = Path(__file__).parent / "n_minus_1"
# And its bytes: a histogram of ten samples, 1 to 10, of them one error.
EARLIER_HISTOGRAM = bytes.fromhex(
    "02789c63600082066f070630f8600fa1551c181918b8181855184518f919b91939193918d9195919d9180165750329"
)


@pytest.fixture
def old_store(dsn: str, tmp_path: Path) -> str:
    """A store as the first release left it."""
    old = [m for m in read_migrations() if m.version <= FIRST_RELEASE]
    migrate(dsn, folder_of(old, tmp_path / "old"))
    return dsn


def send_as_the_earlier_release(connection: Connection, batch: Batch) -> bool:
    """Store a batch as the release before does."""

    def statement(name: str) -> bytes:
        return (EARLIER / f"ingest_{name}.sql").read_bytes()

    def copy(name: str, rows: list[tuple[Any, ...]]) -> None:
        with connection.cursor() as cursor, cursor.copy(statement(name)) as stream:
            for row in rows:
                stream.write_row(row)

    with connection.transaction():
        claim = connection.execute(
            statement("batch"),
            {
                "batch_id": batch.batch_id, "service": batch.service, "process": batch.process,
                "sent_at": batch.sent_at, "samples": batch.samples,
                "raw_samples": len(batch.raw), "was_spooled": False,
                "totals": Jsonb(batch.totals),
            },
        )  # fmt: skip
        if claim.fetchone() is None:
            return False
        keys = sorted({r.series for r in batch.rollups})
        names = dict(
            zip(
                ("services", "types", "names", "units"),
                map(list, zip(*keys, strict=True)),
                strict=True,
            )
        )
        connection.execute(statement("series"), names)
        ids = {tuple(k): i for *k, i in connection.execute(statement("series_ids"), names)}
        fingerprints, texts = (list(column) for column in zip(*batch.texts, strict=True))
        connection.execute(statement("texts"), {"fingerprints": fingerprints, "texts": texts})
        copy("rollups", [
            ("minute", r.bucket_start, ids[tuple(r.series)], 10, 1, 55.0, 1.0, 10.0,
             EARLIER_HISTOGRAM)
            for r in batch.rollups
        ])  # fmt: skip
        copy("raw", [
            (s.series.metric_type, s.series.metric_name, s.value, s.at, s.series.service,
             s.series.unit, s.is_error, s.weight)
            for s in batch.raw
        ])  # fmt: skip
        copy("endpoint_statements", [
            (e.bucket_start, batch.service, e.endpoint, e.fingerprint, e.calls, e.duration_ms,
             e.requests, e.repeated_requests, e.max_calls)
            for e in batch.endpoint_statements
        ])  # fmt: skip
        copy("slow_queries", [
            (str(uuid.uuid4()), q.occurred_at, batch.service, q.endpoint, q.fingerprint,
             q.duration_ms, q.is_error, json.dumps(q.parameters))
            for q in batch.slow_queries
        ])  # fmt: skip
    return True


def counted(dsn: str, resolution: str) -> tuple[int, int]:
    """Return samples and errors of the whole hour, read by series and read by service."""
    store = engine(dsn)
    r = TimeRange(AT - timedelta(hours=12), AT + timedelta(hours=12))
    found = []
    for read in (series_rollups, service_rollups):
        rows = read(store, r, "api_endpoint", resolution=resolution, now=AT + timedelta(days=2))
        whole = Histogram.merged(Histogram.from_bytes(row.buckets) for row in rows)
        found.append((whole.count, whole.error_count))
    store.dispose()
    assert found[0] == found[1]
    return found[0]


def stored(connection: Connection, asked: str = "endpoint_statements") -> tuple[int, ...]:
    row = connection.execute(
        "SELECT (SELECT count(*) FROM perfcore.batches),"
        " (SELECT sum(weight) FROM perfcore.performance_metrics),"
        f" (SELECT sum(calls) FROM perfcore.{asked}),"
        " (SELECT count(*) FROM perfcore.slow_queries)"
    ).fetchone()
    assert row is not None
    return tuple(int(n) for n in row)


@pytest.mark.fault(119)
def test_a_new_sender_and_an_old_schema_lose_nothing(old_store: str) -> None:
    with connect(old_store, autocommit=True) as connection:
        for number in range(3):
            assert write_batch(connection, a_batch(number))
            assert not write_batch(connection, a_batch(number))
        assert stored(connection) == (3, 30, 36, 3)
        migrate(old_store)
        assert write_batch(connection, a_batch(3))
        assert stored(connection) == (4, 40, 48, 4)
        # Only these are left out by a store that has no table for them yet.
        repeated = connection.execute("SELECT sum(requests) FROM perfcore.repetitions").fetchone()
        assert repeated == (1,)
        streamed = connection.execute(
            'SELECT sum("references") FROM perfcore.reference_streams'
        ).fetchone()
        assert streamed == (3,)
        assert counted(old_store, "minute") == (800, 80)
        rollup.roll(connection, AT + timedelta(hours=30))
    for resolution in ("minute", "hour", "day"):
        assert counted(old_store, resolution) == (800, 80)


@pytest.mark.fault(119)
def test_an_old_sender_and_a_new_schema_lose_nothing(store: str) -> None:
    with connect(store, autocommit=True) as connection:
        for number in range(3):
            assert send_as_the_earlier_release(connection, a_batch(number))
            assert not send_as_the_earlier_release(connection, a_batch(number))
            assert not write_batch(connection, a_batch(number))
        assert write_batch(connection, a_batch(3))
        assert stored(connection) == (4, 40, 48, 4)
        assert counted(store, "minute") == (800, 80)
        rollup.roll(connection, AT + timedelta(hours=30))
    for resolution in ("minute", "hour", "day"):
        assert counted(store, resolution) == (800, 80)


@pytest.fixture
def restored(cluster18: Cluster) -> Iterator[str]:
    name = f"restored_{uuid.uuid4().hex[:8]}"
    yield name
    with connect(cluster18.dsn(), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@pytest.mark.fault(124)
@pytest.mark.parametrize("rolled", [False, True])
def test_after_a_restore_all_is_sent_again_and_nothing_twice(
    store: str, cluster18: Cluster, restored: str, rolled: bool
) -> None:
    """The store goes back to a backup; senders repeat what they still hold, in any order."""
    known: dict[Any, int] = {}
    with connect(store, autocommit=True) as connection:
        for number in range(3):
            assert write_batch(connection, a_batch(number), known)
        if rolled:
            rollup.roll(connection, AT + timedelta(hours=30))
    source = store.rsplit("/", 1)[1]
    with connect(cluster18.dsn(), autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {restored} TEMPLATE {source}")
    with connect(store, autocommit=True) as connection:
        assert write_batch(connection, a_batch(3), known)
    back = cluster18.dsn(restored)
    assert migrate(back) == []
    with connect(back, autocommit=True) as connection:
        accepted = [n for n in (4, 3, 2, 1, 0, 3) if write_batch(connection, a_batch(n))]
        assert accepted == [4, 3]
        assert stored(connection, "endpoint_work") == (5, 50, 60, 5)
        rollup.roll(connection, AT + timedelta(hours=31))
        assert stored(connection, "endpoint_work") == (5, 50, 60, 5)
    for resolution in ("minute", "hour", "day"):
        assert counted(back, resolution) == (1000, 100)
