"""The reference stream, from the hooks of a real engine to the store, and what it hides."""

from __future__ import annotations

import datetime
import decimal
import json
import marshal
import sys
import uuid
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from perfcore.collect import Recorder, configure, measured, stream, unwatch, watch
from perfcore.collect.batching import Batcher, Limits
from perfcore.collect.buffer import CANCELLED, CURRENT, DONE, FAILED, Buffer, RequestContext
from perfcore.collect.stream import UNHASHABLE, encoded, stream_key, writes
from perfcore.db import connect
from perfcore.store import rollup
from perfcore.store.ingest import Batch, StreamChunk, write_batch
from perfcore.store.read_streams import ReferenceStream, unpacked
from tests.collect.conftest import Rows

READ = "SELECT %(id)s::int + 0 * length(pg_sleep(0.0002)::text)"
MS = 1_000_000
SECOND = 1_000_000_000


class Clock:
    """Both clocks of a batcher, moved by hand."""

    def __init__(self) -> None:
        self.now_ns = SECOND

    def wall_ns(self) -> int:
        return self.now_ns + 1_700_000_000 * SECOND

    def monotonic_ns(self) -> int:
        return self.now_ns


class Sender:
    """A batcher with its buffer, fed as the hooks feed it and flushed each second."""

    def __init__(self, limits: Limits | None = None, key: bytes = b"k") -> None:
        self.clock, self.buffer = Clock(), Buffer()
        self.batcher = Batcher(
            "shop", "p", limits or Limits(), self.clock.wall_ns, self.clock.monotonic_ns, key
        )

    def run(
        self, text: str, parameters: Any = (), *, ms: float = 1.0, outcome: int = DONE,
        context: RequestContext | None = None, rows: int | None = None,
    ) -> None:  # fmt: skip
        key = encoded(parameters) if text in self.buffer.hashed else None
        values = text, self.clock.now_ns, int(ms * MS), outcome, context, None, rows, key
        self.buffer.add(self.buffer.statements, values)

    def flush(self) -> dict[str, Any]:
        """Return what the chunk of this second holds, empty where there is none."""
        self.clock.now_ns += SECOND
        batch = self.batcher.take(self.buffer)
        if batch is None or not batch.streams:
            return {}
        found: dict[str, Any] = json.loads(zlib.decompress(batch.streams[0].content))
        assert batch.streams[0].references == len(found["key"])
        return found


TEXT = "SELECT a FROM t WHERE b = %s"


@pytest.fixture
def sender() -> Sender:
    made = Sender()
    made.run(TEXT, (0,))
    made.flush()  # from now on the hooks hash it
    return made


@pytest.fixture
def context(recorder: Recorder) -> RequestContext:
    return RequestContext(recorder)


# Keys

_PLAIN = st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.binary(max_size=20)
_OTHER = st.datetimes() | st.dates() | st.uuids() | st.decimals(allow_nan=False)


@given(st.dictionaries(st.text(max_size=5), _PLAIN | _OTHER, max_size=4))
def test_equal_parameters_have_one_key(parameters: dict[str, Any]) -> None:
    copy = {"".join(list(name)): value for name, value in parameters.items()}
    assert encoded(parameters) == encoded(copy) != UNHASHABLE


@given(st.lists(_PLAIN | _OTHER, max_size=3), st.lists(_PLAIN | _OTHER, max_size=3))
def test_different_parameters_have_two(one: list[Any], other: list[Any]) -> None:
    same = list(map(repr, one)) == list(map(repr, other))
    assert (encoded(tuple(one)) == encoded(tuple(other))) == same


def test_the_encoding_does_not_know_interned_texts() -> None:
    text = "".join(["wal", "nut"])
    assert encoded((text, text)) == encoded((sys.intern("walnut"), "".join(["w", "alnut"])))
    assert encoded((1,)) != encoded((True,)) != encoded((1.0,))


class Hostile:
    """An application's own value; whatever is asked of it is a bug of ours."""

    def __getattribute__(self, name: str) -> Any:
        raise AssertionError(name)

    def __hash__(self) -> int:
        raise AssertionError


@pytest.mark.parametrize(
    "parameters",
    [
        (object(),),
        [{1: object()}],
        iter([1]),
        "x" * 100_000,
        ([1] * 100_000,),
        tuple([object()] * 99),
    ],
)
def test_what_has_no_key_is_said_to_have_none(parameters: Any) -> None:
    assert encoded(parameters) == UNHASHABLE


def test_values_of_pythons_own_modules_have_keys() -> None:
    values = (
        uuid.UUID(int=1), decimal.Decimal("1.5"), datetime.date(2026, 11, 24),
        datetime.datetime(2026, 11, 24, tzinfo=datetime.UTC), datetime.timedelta(1),
    )  # fmt: skip
    assert len({encoded((value,)) for value in values}) == len(values)


@pytest.mark.parametrize("parameters", [(), {"a": "x" * 60}, ("x" * 50_000,), list(range(50))])
def test_a_key_that_waits_is_small(parameters: Any) -> None:
    assert 0 < len(encoded(parameters)) <= 64


@pytest.mark.fault(36)
def test_no_value_and_no_plain_hash_leaves_the_process(sender: Sender) -> None:
    sender.run(TEXT, ("secret-value",))
    told = json.dumps(sender.flush())
    assert "secret" not in told
    (key,) = json.loads(told)["key"]
    other = Sender(key=b"another")
    for _ in range(2):
        other.run(TEXT, ("secret-value",))
        found = other.flush()
    assert found["key"] != [key]


def test_the_hash_key_is_the_services_and_the_stores() -> None:
    keys = {stream_key(d, s) for d in ("postgresql://a", "postgresql://b") for s in ("x", "y")}
    assert len(keys) == 4
    assert stream_key("postgresql://a", "x") == stream_key("postgresql://a", "x")


# What is followed


@pytest.mark.parametrize(
    ("text", "is_write"),
    [
        ("SELECT ?", False), ("(SELECT ?)", False), ("with a as (select ?) select ?", False),
        ("SELECT a FROM t FOR UPDATE", None), ("select a from t for no key update", None),
        ("INSERT INTO t VALUES (?)", True), ("UPDATE t SET a = ?", True),
        ("DELETE FROM t", True), ("MERGE INTO t USING s ON ? WHEN MATCHED THEN DELETE", True),
        ("WITH a AS (DELETE FROM t RETURNING ?) SELECT ?", True),
        ("UPDATE t SET a = ? WHERE b IN (SELECT b FROM q FOR UPDATE SKIP LOCKED)", True),
        ("BEGIN", None), ("SET a = ?", None), ("COPY t TO STDOUT", None), ("CALL f(?)", None),
    ],
)  # fmt: skip
def test_reads_and_writes_are_told_apart(text: str, is_write: bool | None) -> None:
    assert writes(text) is is_write


def test_the_second_flush_has_the_first_keys(sender: Sender) -> None:
    for key in (1, 2, 1):
        sender.run(TEXT, (key,))
    found = sender.flush()
    assert found["count"] == [2, 1] and len(set(found["key"])) == 2
    assert found["calls"] == [3] and found["levels"] == [0]
    assert found["duration_us"] == [2000, 1000]


def test_a_text_without_parameters_needs_no_hook() -> None:
    sender = Sender()
    sender.run("SELECT count(*) FROM t")
    sender.run("SELECT count(*) FROM t")
    found = sender.flush()
    assert found["count"] == [2]
    assert not sender.buffer.hashed


def test_what_is_faster_than_a_cache_is_not_hashed() -> None:
    sender = Sender()
    for _ in range(3):
        sender.run(TEXT, (1,), ms=0.05)
        sender.flush()
    assert not sender.buffer.hashed


def test_parameters_without_a_key_are_counted_and_then_left_alone(sender: Sender) -> None:
    for _ in range(60):
        sender.run(TEXT, (object(),))
    assert sender.flush()["without_key"] == [60]
    assert not sender.buffer.hashed


@pytest.mark.parametrize("outcome", [FAILED, CANCELLED])
def test_what_did_not_succeed_is_no_reference(sender: Sender, outcome: int) -> None:
    sender.run(TEXT, (1,), outcome=outcome)
    sender.run("UPDATE t SET a = %s", (1,), outcome=outcome)
    assert sender.flush() == {}


def test_writes_are_counted_by_statement_and_second(sender: Sender) -> None:
    for _ in range(5):
        sender.run("UPDATE t SET a = %s", (1,))
    sender.run("UPDATE t SET a = %s", (), rows=100)
    found = sender.flush()
    assert [(at, count) for _, at, count in found["writes"]] == [(0, 6)]


def test_nothing_is_sent_when_it_is_off() -> None:
    sender = Sender(Limits(references_per_s=0))
    for _ in range(3):
        sender.run(TEXT, (1,))
        sender.run("UPDATE t SET a = %s")
        assert sender.flush() == {}
    assert not sender.buffer.hashed


def test_the_setting_turns_it_off(store: str) -> None:
    for value, rate in (("on", 200.0), ("off", 0.0)):
        recorder = configure(f"shop-{value}", store, environ={"PERFCORE_CACHE_STREAM": value})
        assert recorder._limits.references_per_s == rate
        recorder.close()


# Endpoints


def test_a_reference_waits_for_the_end_of_its_request(
    sender: Sender, context: RequestContext
) -> None:
    sender.run(TEXT, (1,), context=context)
    assert sender.flush() == {}
    now_ns = sender.clock.now_ns
    sender.buffer.add(sender.buffer.requests, ("GET /a", "GET", 0, now_ns, 200, context))
    found = sender.flush()
    assert found["endpoints"] == ["GET /a"] and found["count"] == [1]


def test_one_whose_request_never_ends_is_sent_after_a_minute(
    sender: Sender, context: RequestContext
) -> None:
    sender.run(TEXT, (1,), context=context)
    found = []
    for _ in range(62):
        sender.run("SELECT 1")
        found.append(sender.flush())
    named = [f["endpoints"] for f in found if TEXT_FP in f["fingerprints"]]
    assert named == [["(unattributed)"]]


TEXT_FP = Sender().batcher._identify(TEXT)


@pytest.mark.fault(129)
def test_those_that_wait_are_bounded_and_counted(
    sender: Sender, context: RequestContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "_MAX_PENDING", 10)
    for key in range(15):
        sender.run(TEXT, (key,), context=context)
    assert sender.flush()["late"] == 5


# Bounds


@pytest.mark.fault(129)
def test_rows_stay_within_what_time_has_earned(sender: Sender) -> None:
    """Ten times as many keys as may be sent: halved until they fit, and the hot ones all there."""
    rows = []
    for second in range(20):
        for number in range(2_000):
            sender.run(TEXT, (second * 2_000 + number,))
            if number % 100 == 0:
                sender.run(TEXT, ("hot",))
        rows.append(sender.flush())
    assert sum(len(r["key"]) for r in rows) <= 200 * 21
    last = rows[-1]
    assert last["calls"] == [2_020] and last["levels"][0] >= 4
    hot = set(last["hot"])
    assert len(hot) == 1
    assert all(hot <= set(r["key"]) for r in rows)
    assert all(k in hot or k >> (64 - last["levels"][0]) == 0 for k in last["key"])


def test_few_keys_are_never_left_out() -> None:
    sender = Sender(Limits(references_per_s=1))
    for _ in range(5):
        for key in range(8):
            sender.run(TEXT, (key,))
        found = sender.flush()
    assert len(found["key"]) == 8 and found["levels"] == [0]


def test_the_rate_rises_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "_RELAX_AFTER", 3)
    sender = Sender(Limits(references_per_s=20))
    for second in range(10):
        for key in range(500 if second < 4 else 4):
            sender.run(TEXT, (key,))
        sender.run("SELECT 1")
        found = sender.flush()
    high = max(sender.batcher._stream._levels.values(), default=0)
    for _ in range(30):
        sender.run(TEXT, (1,))
        found = sender.flush()
    assert max(sender.batcher._stream._levels.values(), default=0) < high
    assert found


@pytest.mark.fault(129)
def test_texts_that_never_come_again_leave_room_for_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stream, "_MAX_TEXTS", 10)
    sender = Sender()
    for number in range(20):
        sender.run(f"SELECT a FROM t WHERE b = {number}")
    sender.flush()
    for _ in range(2):
        sender.run(TEXT, (1,))
        found = sender.flush()
    assert sender.buffer.hashed == {TEXT}
    assert found["count"] == [1]


# From an application to the store


@pytest.fixture
def engine(dsn: str, recorder: Recorder) -> Iterator[sa.Engine]:
    engine = sa.create_engine(dsn.replace("postgresql:", "postgresql+psycopg:"))
    watch(engine, recorder)
    yield engine
    unwatch(engine)
    engine.dispose()


def stored(rows: Rows) -> ReferenceStream:
    return unpacked(rows("SELECT started_at, service, process, content FROM reference_streams"))


SLOW_READ = "SELECT a FROM t WHERE a = :a AND pg_sleep(0.001) IS NOT NULL"


def _ask(engine: sa.Engine, *values: Any) -> None:
    with engine.connect() as connection:
        for value in values:
            connection.execute(sa.text(SLOW_READ), {"a": value})


def test_an_engines_reads_and_writes_arrive(
    engine: sa.Engine, recorder: Recorder, rows: Rows
) -> None:
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE t (a int)"))
        connection.execute(sa.text("INSERT INTO t VALUES (1)"))
    _ask(engine, 1)
    assert recorder.flush(20)
    context = RequestContext(recorder)
    token = CURRENT.set(context)
    _ask(engine, 1, 2, 1)
    CURRENT.reset(token)
    recorder.request("GET /a", "", 0, 5 * MS, 200, context)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE t SET a = :a"), {"a": 3})
    assert recorder.flush(20)
    found = stored(rows)
    assert (recorder.accounting().missing, recorder.accounting().self_errors) == (0, 0)
    mine = found.references.where(
        found.references.endpoint == found.endpoints.index(("shop", "GET /a"))
    )
    assert int(mine.calls.sum()) == 3 == found.calls[int(mine.fingerprint[0])]
    assert len(set(mine.key.tolist())) == 2
    assert len(found.writes) == 2
    assert mine.duration_ms.min() >= 1


def test_psycopg_plain_and_async_hash_alike(dsn: str, recorder: Recorder, rows: Rows) -> None:
    import asyncio

    async def asynchronously() -> None:
        cursor_class = measured(psycopg.AsyncCursor, recorder)
        async with await psycopg.AsyncConnection.connect(dsn) as connection:
            await cursor_class(connection).execute(READ, {"id": 7})

    with psycopg.connect(dsn) as connection:
        watch(connection, recorder)
        for _ in range(2):
            connection.execute(READ, {"id": 7})
            recorder.flush(20)
    asyncio.run(asynchronously())
    recorder.flush(20)
    found = stored(rows)
    assert recorder.accounting().self_errors == 0
    assert int(found.references.calls.sum()) == 2
    assert len(set(found.references.key.tolist())) == 1


def test_a_slow_execution_is_in_the_stream_too(
    dsn: str, make_recorder: Callable[..., Recorder], rows: Rows
) -> None:
    recorder = make_recorder(slow_query_ms=0)
    with psycopg.connect(dsn) as connection:
        watch(connection, recorder)
        for _ in range(2):
            connection.execute(READ, {"id": 7})
            recorder.flush(20)
    assert int(stored(rows).references.calls.sum()) == 1
    assert rows("SELECT count(*) FROM slow_queries") == [(2,)]


@pytest.mark.fault(1)
def test_a_fault_on_the_path_costs_the_application_nothing(
    dsn: str, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with psycopg.connect(dsn) as connection:
        watch(connection, recorder)
        connection.execute(READ, {"id": 7})
        recorder.flush(20)
        monkeypatch.setattr(stream, "dumps", _broken)
        assert connection.execute(READ, {"id": 7}).fetchone() == (7,)
    assert recorder.accounting().self_errors == 1


@pytest.mark.fault(1)
def test_a_fault_in_the_thread_ends_the_stream_and_nothing_else(
    sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    sender.run(TEXT, (1,))
    with monkeypatch.context() as patched:
        patched.setattr(stream, "_packed", _broken)
        sender.clock.now_ns += SECOND
        batch = sender.batcher.take(sender.buffer)
    assert batch is not None and batch.samples == 1
    assert not sender.buffer.hashed
    sender.run(TEXT, (1,))
    assert sender.flush() == {}


def _broken(*_: Any, **__: Any) -> Any:
    raise RuntimeError("ours")


# Its place in a batch and in the store


def _chunk() -> StreamChunk:
    sender = Sender()
    sender.run("SELECT 1")
    sender.clock.now_ns += SECOND
    batch = sender.batcher.take(sender.buffer)
    assert batch is not None
    return batch.streams[0]


def _batch(number: int, *chunks: StreamChunk) -> Batch:
    at = datetime.datetime(2026, 11, 24, 12, tzinfo=datetime.UTC)
    return Batch(str(uuid.UUID(int=number)), "shop", "p", at, 0, streams=chunks)


def test_a_batch_carries_it_through_a_spool() -> None:
    batch = _batch(1, _chunk())
    assert Batch.from_bytes(batch.to_bytes()) == batch
    document = json.loads(zlib.decompress(batch.to_bytes()))
    del document["streams"]
    earlier = Batch.from_bytes(zlib.compress(json.dumps(document).encode()))
    assert earlier == replace(batch, streams=())


def test_it_is_kept_for_a_day(store: str, rows: Rows) -> None:
    chunk = _chunk()
    now = datetime.datetime.now(datetime.UTC)
    with connect(store, autocommit=True) as connection:
        for hours in (0, 23, 25):
            at = now - datetime.timedelta(hours=hours)
            write_batch(connection, _batch(hours + 1, replace(chunk, started_at=at)))
        rollup.roll(connection, now)
    assert rows("SELECT count(*) FROM reference_streams") == [(2,)]


def test_pieces_that_cannot_be_read_are_counted() -> None:
    chunk = _chunk()
    at = chunk.started_at
    later = zlib.compress(json.dumps({"version": 99}).encode())
    found = unpacked([(at, "s", "p", c) for c in (chunk.content, b"x", later)])
    assert found.unreadable == 2 and len(found.references) == 1
    assert len(unpacked([]).references) == 0


def test_marshals_second_format_is_what_this_counts_on() -> None:
    assert marshal.dumps(("a",), 2) == b"(\x01\x00\x00\x00u\x01\x00\x00\x00a"
