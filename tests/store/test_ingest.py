"""A batch is stored whole, once, and reads back as it was sent."""

from __future__ import annotations

import json
import threading
import uuid
import zlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from perfcore.db import connect
from perfcore.histogram import Histogram
from perfcore.store.ingest import (
    Batch,
    EndpointStatement,
    RawSample,
    Repetition,
    Rollup,
    SeriesKey,
    SlowQuery,
    StreamChunk,
    write_batch,
)

_AT = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def a_batch(number: int = 0) -> Batch:
    """Return a batch with one of everything and ten samples of each of twenty series."""
    names = [SeriesKey("shop", "api_endpoint", f"GET /page{n}", "ms") for n in range(20)]
    rollups = []
    for name in names:
        histogram = Histogram()
        for value in range(1, 11):
            histogram.record(value * (number + 1), is_error=value == 1)
        rollups.append(Rollup(name, _AT, histogram).packed())
    return Batch(
        str(uuid.UUID(int=number + 1)),
        "shop",
        "host:1:2",
        _AT + timedelta(seconds=number, microseconds=123),
        200,
        raw=(RawSample(names[0], _AT, 1.5), RawSample(names[1], _AT, 2.5, True, 9)),
        rollups=tuple(rollups),
        endpoint_statements=(EndpointStatement(_AT, "GET /page0", -5, 12, 3.5, 2, 1, 10),),
        slow_queries=(
            SlowQuery(str(uuid.uuid4()), _AT, "GET /page0", -5, 150.0, False, ({"type": "int"},)),
        ),
        texts=((-5, "SELECT ?"), (6, "tab\tand\nline and \\N")),
        streams=(StreamChunk(_AT, 3, b"packed by its sender"),),
        repetitions=(Repetition(_AT, "GET /page0", -5, "shop.py:7 in page", 1, 10, 60.5, 10),),
        totals={"generated": 200, "dropped": {}},
    )


def test_bytes_round_trip() -> None:
    batch = a_batch(3)
    assert Batch.from_bytes(batch.to_bytes()) == batch
    with pytest.raises(ValueError, match="not a batch"):
        Batch.from_bytes(b"something else")


@pytest.mark.fault(119)
def test_a_batch_of_an_earlier_release_has_neither_repetitions_nor_a_stream() -> None:
    document = json.loads(zlib.decompress(a_batch().to_bytes()))
    del document["repetitions"], document["streams"]
    earlier = Batch.from_bytes(zlib.compress(json.dumps(document).encode()))
    plain = replace(a_batch(), repetitions=(), streams=())
    assert earlier == replace(plain, slow_queries=earlier.slow_queries)


def test_a_batch_is_stored_once(store: str) -> None:
    batch, ids = a_batch(), dict[SeriesKey, int]()
    with connect(store, autocommit=True) as connection:
        assert write_batch(connection, batch, ids)
        assert not write_batch(connection, batch, ids)
        assert not write_batch(connection, batch)
        assert write_batch(connection, a_batch(1), ids)
        [(rows, samples, errors)] = connection.execute(
            "SELECT count(*), sum(count)::int, sum(error_count)::int FROM perfcore.metric_rollups"
        ).fetchall()
        assert (rows, samples, errors) == (40, 400, 40)
        stored = connection.execute(
            "SELECT count, sum, min, max, buckets FROM perfcore.metric_rollups "
            "JOIN perfcore.series USING (series_id) WHERE metric_name = 'GET /page7'"
        ).fetchall()
        merged = Histogram.merged(Histogram.from_bytes(row[4]) for row in stored)
        assert (merged.count, merged.max) == (20, 20.0)
        assert connection.execute(
            "SELECT sum(calls)::int, sum(requests)::int FROM perfcore.endpoint_statements"
        ).fetchall() == [(24, 4)]
        assert connection.execute(
            "SELECT location, sum(requests)::int, sum(calls)::int, sum(duration_ms) "
            "FROM perfcore.repetitions GROUP BY 1"
        ).fetchall() == [("shop.py:7 in page", 2, 20, 121.0)]
        assert connection.execute(
            "SELECT fingerprint, text FROM perfcore.statement_texts ORDER BY 1"
        ).fetchall() == list(batch.texts)
        assert connection.execute(
            "SELECT sum(weight)::int FROM perfcore.performance_metrics"
        ).fetchall() == [(20,)]


def test_a_batch_that_fails_leaves_nothing(store: str) -> None:
    ids: dict[SeriesKey, int] = {}
    broken = Batch(
        str(uuid.uuid4()), "shop", "p", _AT, 1, rollups=a_batch().rollups, texts=((1, "a\0b"),)
    )
    with connect(store, autocommit=True) as connection:
        with pytest.raises(psycopg.DataError):
            write_batch(connection, broken, ids)
        assert ids == {}
        assert connection.execute("SELECT count(*) FROM perfcore.batches").fetchone() == (0,)
        assert connection.execute("SELECT count(*) FROM perfcore.series").fetchone() == (0,)


def test_many_senders_of_the_same_series_agree(store: str) -> None:
    stored: list[bool] = []

    def send() -> None:
        with connect(store, autocommit=True) as connection:
            for number in range(5):
                stored.append(write_batch(connection, a_batch(number)))

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (stored.count(True), stored.count(False)) == (5, 15)
    with connect(store) as connection:
        assert connection.execute(
            "SELECT count(*), count(DISTINCT series_id) FROM perfcore.metric_rollups"
        ).fetchone() == (100, 20)
