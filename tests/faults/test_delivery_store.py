"""What a store can answer instead of taking a batch, and what becomes of the batch."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from perfcore.collect import Recorder
from perfcore.collect.link import Delivered, words
from perfcore.collect.quiet import QuietLog
from perfcore.collect.spool import Spool, spool_path
from perfcore.db import connect
from perfcore.histogram import Histogram
from perfcore.store.ingest import Batch, EndpointStatement, RawSample, Rollup, SeriesKey, SlowQuery
from perfcore.store.poison import write_apart
from tests.collect.conftest import Rows
from tests.store.test_ingest import a_batch

_NOWHERE = "postgresql://nobody:x@127.0.0.1:1/nothing"
_STORED = "SELECT coalesce(sum(count), 0)::int FROM metric_rollups"
_AT = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def _record(recorder: Recorder, count: int) -> None:
    for number in range(count):
        recorder.metric("queue.length", number, "jobs")


def _run(store: str, text: str) -> None:
    writing = "-c default_transaction_read_only=off"
    with connect(store, autocommit=True, options=writing) as connection:
        connection.execute("SET search_path = perfcore")
        connection.execute(text.encode())


def _refuse(store: str, state: str) -> None:
    """From now on the store answers each batch with that SQLSTATE."""
    with connect(store, autocommit=True) as connection:
        connection.execute(
            f"""CREATE OR REPLACE FUNCTION perfcore.refuse() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{state}'; END $$""".encode()
        )
        connection.execute(
            "CREATE OR REPLACE TRIGGER refuse BEFORE INSERT ON perfcore.batches "
            "FOR EACH ROW EXECUTE FUNCTION perfcore.refuse()"
        )


def _accept(store: str) -> None:
    with connect(store, autocommit=True) as connection:
        connection.execute("DROP TRIGGER refuse ON perfcore.batches")


def _arrive(recorder: Recorder, rows: Rows, samples: int) -> None:
    until = time.monotonic() + 60
    while not recorder.flush(20) and time.monotonic() < until:
        pass
    accounting = recorder.accounting()
    assert (accounting.stored, accounting.missing, accounting.dropped) == (samples, 0, {})
    assert rows(_STORED) == [(samples,)]


@pytest.mark.fault(48)
@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ("53100", "disk full"),
        ("53300", "too many connections"),
        ("57P01", "shut down"),
        ("57P03", "starting up or shutting down"),
        ("40001", "a conflict with another transaction"),
        ("40P01", "a deadlock"),
        ("55P03", "locked by another transaction"),
        ("25006", "read-only: a standby, or set so"),
        ("42P01", "it is not a store, or not migrated"),
        ("42501", "permission denied"),
        ("XX000", "error XX000"),
    ],
)
def test_what_may_pass_is_tried_again_and_told_in_words(
    state: str, reason: str, make_recorder: Callable[..., Recorder], store: str, rows: Rows
) -> None:
    recorder = make_recorder()
    _record(recorder, 1)
    assert recorder.flush(20)
    began = datetime.now(UTC)
    _refuse(store, state)
    for number in (1, 2):
        _record(recorder, 10)
        assert not recorder.flush(20)
        accounting = recorder.accounting()
        assert (accounting.spooled, accounting.missing) == (10 * number, 0)
    trouble = accounting.trouble
    assert trouble is not None and trouble.reason == reason and trouble.until is None
    assert began <= trouble.since <= datetime.now(UTC)
    assert str(trouble) == f"{reason} since {trouble.since:%H:%M}"
    _accept(store)
    _arrive(recorder, rows, 21)
    _record(recorder, 1)
    _arrive(recorder, rows, 22)
    [(told,)] = rows("SELECT totals FROM batches ORDER BY sent_at DESC LIMIT 1")
    assert told["trouble"]["reason"] == reason and told["trouble"]["until"] is not None


@pytest.mark.fault(48)
def test_pauses_differ_between_processes_and_end(
    make_recorder: Callable[..., Recorder], store: str
) -> None:
    recorders = [make_recorder(_NOWHERE) for _ in range(3)]
    pauses = set()
    for recorder in recorders:
        _record(recorder, 1)
        recorder.flush(20)
        assert recorder._flusher is not None
        link = recorder._flusher.link
        for _ in range(20):
            link._lose(OSError("away"))
            pauses.add(link._retry_at - time.monotonic())
    assert 0 < max(pauses) <= 15.0
    assert len({round(p, 3) for p in pauses if p > 8}) > 3


def test_a_refused_login_is_told_from_a_silent_server() -> None:
    assert words(psycopg.OperationalError("FATAL: sorry, too many clients already"))[1] == "53300"
    assert words(psycopg.OperationalError("session is read-only"))[1] == "25006"
    assert words(psycopg.errors.ConnectionTimeout("connection timeout expired"))[0] == "no answer"
    assert words(OSError("no route to host"))[0] == "cannot be reached"


@pytest.mark.fault(47)
def test_a_standby_is_left_for_the_server_that_writes(
    make_recorder: Callable[..., Recorder], store: str, rows: Rows
) -> None:
    recorder = make_recorder()
    _record(recorder, 1)
    assert recorder.flush(20)
    assert recorder._flusher is not None
    connection = recorder._flusher.link._connection
    assert connection is not None
    # What the sender sees when its server becomes a standby: first of the session it has ...
    connection.execute("SET default_transaction_read_only = on")
    name = rows("SELECT current_database()")[0][0]
    _run(store, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    _record(recorder, 10)
    assert not recorder.flush(20)
    # ... then of those it would open.
    assert not recorder.flush(20)
    accounting = recorder.accounting()
    assert (accounting.spooled, accounting.missing) == (10, 0)
    assert accounting.trouble is not None and accounting.trouble.reason.startswith("read-only")
    _run(store, f"ALTER DATABASE {name} RESET default_transaction_read_only")
    _arrive(recorder, rows, 11)


@pytest.mark.fault(48)
def test_a_session_that_the_server_ends_is_opened_anew(
    make_recorder: Callable[..., Recorder], rows: Rows
) -> None:
    recorder = make_recorder()
    for number in range(1, 4):
        _record(recorder, 10)
        _arrive(recorder, rows, 10 * number)
        rows(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() "
            "AND datname = current_database() AND backend_type = 'client backend'"
        )


@pytest.mark.fault(42, 44)
def test_a_store_that_was_never_there_costs_the_application_nothing(
    make_recorder: Callable[..., Recorder], store: str, rows: Rows
) -> None:
    """Nothing listens, nothing answers, and no name resolves."""
    for number, dsn in enumerate((_NOWHERE, "postgresql://x@store.invalid/x")):
        recorder = make_recorder(dsn)
        _record(recorder, 10)
        assert not recorder.flush(20)
        assert (recorder.accounting().spooled, recorder.accounting().missing) == (10, 0)
        assert recorder._flusher is not None
        recorder._flusher._store = store
        until = time.monotonic() + 60
        while not recorder.flush(20) and time.monotonic() < until:
            pass
        assert rows(_STORED) == [(10 * (number + 1),)]


@pytest.mark.fault(44)
def test_a_connection_gives_up_soon_and_leaves_no_transaction(
    make_recorder: Callable[..., Recorder], rows: Rows
) -> None:
    recorder = make_recorder()
    _record(recorder, 1)
    assert recorder.flush(20)
    assert recorder._flusher is not None
    connection = recorder._flusher.link._connection
    assert connection is not None
    parameters = connection.info.get_parameters()
    assert parameters["connect_timeout"] == "3"
    assert parameters["tcp_user_timeout"] == "5000"
    assert parameters["target_session_attrs"] == "read-write"
    for name, value in (
        ("statement_timeout", "5s"),
        ("lock_timeout", "3s"),
        ("idle_in_transaction_session_timeout", "10s"),
    ):
        assert connection.execute(f"SHOW {name}".encode()).fetchone() == (value,)


def _poisoned(part: str) -> Batch:
    batch = a_batch()
    key = SeriesKey("shop", "custom", "a", "x")
    odd = {
        "22021 raw": replace(
            batch, raw=(*batch.raw, RawSample(key._replace(unit="a\0b"), _AT, 1.0))
        ),
        "22P05 slow_query": replace(
            batch,
            slow_queries=(
                *batch.slow_queries,
                SlowQuery(str(uuid.uuid4()), _AT, "GET /", 1, 1.0, False, ("\0",)),
            ),
        ),
        "22003 endpoint_statement": replace(
            batch,
            endpoint_statements=(
                EndpointStatement(_AT, "GET /", 1, 1, 1.0, 1, 1, 2**40),
                *batch.endpoint_statements,
            ),
        ),
        "23514 raw": replace(batch, raw=(*batch.raw, RawSample(key, _AT.replace(year=2001), 1.0))),
        "surrogate text": replace(batch, texts=(*batch.texts, (9, "\ud800"))),
        "series": replace(
            batch,
            samples=201,
            rollups=(*batch.rollups, Rollup(key._replace(metric_name="\0"), _AT, _one())),
        ),
        "rollup": replace(
            batch,
            samples=201,
            rollups=(*batch.rollups, Rollup(key, datetime(1, 1, 1, tzinfo=UTC), _one())),
        ),
        "totals": replace(batch, totals={"generated": 3, "dropped": {"\0": 1}}),
    }
    return odd[part]


def _one() -> Histogram:
    histogram = Histogram()
    histogram.record(1.0)
    return histogram


@pytest.mark.fault(49)
@pytest.mark.parametrize(
    "part",
    [
        "22021 raw", "22P05 slow_query", "22003 endpoint_statement", "23514 raw",
        "surrogate text", "series", "rollup", "totals",
    ],
)  # fmt: skip
def test_a_poison_row_costs_one_row(
    part: str,
    make_recorder: Callable[..., Recorder],
    store: str,
    rows: Rows,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if part == "23514 raw":
        _run(store, "ALTER TABLE performance_metrics DETACH PARTITION performance_metrics_default")
        _run(store, "ALTER TABLE performance_metrics_default RENAME TO nobodys")
        _run(
            store,
            "CREATE TABLE later PARTITION OF performance_metrics "
            "FOR VALUES FROM ('2020-01-01') TO ('2100-01-01')",
        )
    if part == "rollup":
        _run(store, "ALTER TABLE metric_rollups ADD CHECK (bucket_start > '2000-01-01')")
    batch = _poisoned(part)
    recorder = make_recorder()
    _record(recorder, 1)
    assert recorder._flusher is not None
    batcher = recorder._flusher._batcher
    taken = iter([batch])
    monkeypatch.setattr(batcher, "take", lambda buffer: _empty(buffer, next(taken, None)))
    assert recorder.flush(20)
    lost = int(batch.samples == 201)
    accounting = recorder.accounting()
    assert accounting.stored == 200
    assert accounting.dropped == ({"refused_by_store": 1} if lost else {})
    assert accounting.quarantined == (0 if part == "totals" else 1)
    assert rows(_STORED) == rows("SELECT samples::int FROM batches") == [(200,)]
    assert rows("SELECT count(*)::int FROM performance_metrics") == [(2,)]
    assert rows("SELECT count(*)::int FROM slow_queries") == [(1,)]
    assert rows("SELECT count(*)::int FROM endpoint_statements") == [(1,)]
    assert rows("SELECT count(*)::int FROM statement_texts") == [(2,)]
    kept = rows("SELECT kind, reason, samples::int FROM quarantine")
    if part != "totals":
        [(kind, reason, samples)] = kept
        assert kind in part and samples == lost
        # psycopg refuses NUL and lone surrogates before the server sees them.
        assert reason.startswith((part[:5], "DataError", "UnicodeEncodeError", "23514"))


def _empty(buffer: object, batch: Batch | None) -> Batch | None:
    buffer.metrics.clear()  # type: ignore[attr-defined]
    return batch


@pytest.mark.fault(49)
def test_many_bad_rows_end_the_search(store: str) -> None:
    batch = replace(
        a_batch(),
        raw=tuple(RawSample(SeriesKey("a", "b", "\0", "d"), _AT, 1.0) for _ in range(900)),
    )
    with connect(store, autocommit=True) as connection:
        samples, rejected = write_apart(connection, batch, {})
        assert (samples, len(rejected)) == (200, 900)
        assert write_apart(connection, batch, {}) == (200, [])


@pytest.mark.fault(49)
def test_a_batch_that_always_fails_holds_up_nobody(
    make_recorder: Callable[..., Recorder], store: str, rows: Rows, tmp_path: Path
) -> None:
    """It fails for a reason that says nothing about its rows, while all others arrive."""
    recorder = make_recorder(_NOWHERE)
    _record(recorder, 10)
    recorder.flush(20)
    _run(
        store,
        "CREATE FUNCTION odd() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "IF NEW.samples = 10 THEN RAISE EXCEPTION 'odd' USING ERRCODE = '57014'; END IF; "
        "RETURN NEW; END $$",
    )
    _run(store, "CREATE TRIGGER odd BEFORE INSERT ON batches FOR EACH ROW EXECUTE FUNCTION odd()")
    assert recorder._flusher is not None
    recorder._flusher._store = store
    for _ in range(20):
        _record(recorder, 1)
        recorder.flush(20)
        assert recorder.accounting().missing == 0
    assert recorder.flush(20)
    accounting = recorder.accounting()
    assert accounting.dropped == {"refused_by_store": 10}
    assert accounting.stored == 20 and rows(_STORED) == [(20,)]


@pytest.mark.fault(57)
def test_live_batches_overtake_what_waits(
    make_recorder: Callable[..., Recorder], store: str, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = make_recorder(_NOWHERE)
    for _ in range(30):
        _record(recorder, 10)
        recorder.flush(20)
    flusher = recorder._flusher
    assert flusher is not None
    monkeypatch.setattr("perfcore.collect.flusher._MOST_ALLOWED_S", 0.0)
    flusher._store = store
    _record(recorder, 7)
    flusher.cycle(0.0)  # a flush that asks for no patience
    until = time.monotonic() + 60
    while recorder.accounting().stored < 7 and time.monotonic() < until:
        flusher.cycle(0.01)
    [(first,)] = rows("SELECT samples::int FROM batches ORDER BY received_at LIMIT 1")
    assert first == 7
    assert recorder.flush(30)
    order = rows("SELECT sent_at FROM batches WHERE was_spooled ORDER BY received_at, sent_at")
    assert order == sorted(order) and len(order) == 30
    _arrive(recorder, rows, 307)


@pytest.mark.fault(57)
def test_draining_takes_a_quarter_of_the_time(
    make_recorder: Callable[..., Recorder], monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = make_recorder(_NOWHERE)
    _record(recorder, 10)
    recorder.flush(20)
    recorder.close()
    flusher = recorder._flusher
    assert flusher is not None
    now = [1000.0]
    spent = []

    def deliver(batches: object) -> list[Delivered]:
        now[0] += 0.1
        spent.append(0.1)
        return []

    monkeypatch.setattr("perfcore.collect.flusher.time.monotonic", lambda: now[0])
    monkeypatch.setattr(type(flusher.backlog), "samples", 10)
    monkeypatch.setattr(flusher, "_may_send", lambda: True)
    monkeypatch.setattr(flusher, "_deliver", deliver)
    monkeypatch.setattr(flusher, "_send_waiting", lambda: flusher._deliver_waiting([]) == [])
    monkeypatch.setattr(flusher, "_adopt", lambda: None)
    flusher._patient_until, flusher._drained_at = 0.0, now[0]
    began = now[0]
    while now[0] < began + 60:
        flusher._drain()
        now[0] += 0.05
    assert 0.15 < sum(spent) / (now[0] - began) <= 0.26


@pytest.mark.fault(124)
def test_a_store_restored_from_a_backup_gets_what_waits_once(
    make_recorder: Callable[..., Recorder], store: str, rows: Rows
) -> None:
    """What was confirmed after the backup is gone, and the accounting shows how much."""
    recorder = make_recorder()
    _record(recorder, 10)
    assert recorder.flush(20)
    backup = {table: rows(f"SELECT * FROM {table}") for table in ("series", "batches")}
    assert [len(v) for v in backup.values()] == [1, 1]
    recorder.metric("new.series", 1.0, "x")
    _record(recorder, 5)
    assert recorder.flush(20)
    # Restored: rows and series since the backup are gone, sessions were ended.
    first = str(backup["batches"][0][0])
    _run(store, "DELETE FROM metric_rollups WHERE count < 10")
    _run(store, f"DELETE FROM batches WHERE batch_id <> '{first}'")
    _run(store, "DELETE FROM series WHERE metric_name = 'new.series'")
    rows(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() "
        "AND datname = current_database() AND backend_type = 'client backend'"
    )
    recorder.metric("new.series", 1.0, "x")
    _record(recorder, 3)
    until = time.monotonic() + 60
    while not recorder.flush(20) and time.monotonic() < until:
        pass
    assert rows(_STORED) == [(14,)]
    named = rows(
        "SELECT metric_name, sum(count)::int FROM metric_rollups JOIN series USING (series_id) "
        "GROUP BY 1 ORDER BY 1"
    )
    assert named == [("new.series", 1), ("queue.length", 13)]
    accounting = recorder.accounting()
    assert (accounting.generated, accounting.stored, accounting.missing) == (20, 20, 0)


@pytest.mark.fault(128)
def test_a_component_logs_one_line_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    import logging

    now = [0.0]
    quiet = QuietLog(logging.getLogger("perfcore.test"), clock=lambda: now[0])
    for second in range(1, 601):
        now[0] = float(second)
        quiet.warning(f"line {second}")
    lines = [record.getMessage() for record in caplog.records]
    assert 9 <= len(lines) <= 11
    assert lines[0] == "perfcore: line 1"
    assert lines[1] == "perfcore: line 61 (59 more since the last line)"


@pytest.mark.fault(128)
def test_an_outage_is_a_few_lines_however_long(
    make_recorder: Callable[..., Recorder], caplog: pytest.LogCaptureFixture
) -> None:
    recorder = make_recorder(_NOWHERE)
    for _ in range(50):
        _record(recorder, 1)
        recorder.flush(20)
    lines = [r for r in caplog.records if r.name.startswith("perfcore")]
    assert 1 <= len(lines) <= 4


@pytest.mark.fault(54)
def test_a_batch_stored_but_not_removed_is_sent_again_and_counts_once(
    make_recorder: Callable[..., Recorder], store: str, rows: Rows, tmp_path: Path
) -> None:
    """As when the process is killed between the answer of the store and the spool's removal."""
    batch = replace(a_batch(), was_spooled=True)
    with connect(store, autocommit=True) as connection:
        assert write_apart(connection, batch, {}) == (200, [])
    spool = Spool(spool_path(tmp_path, "shop-dead:1:2"))
    spool.put(batch)
    spool.close()
    recorder = make_recorder()
    _record(recorder, 1)
    assert recorder.flush(20)
    assert rows(_STORED) == [(201,)]
    assert not list(tmp_path.glob("*dead*"))
