"""Delivery: through outages, restarts, forks and broken disks, and the sum is always exact."""

from __future__ import annotations

import math
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest

from perfcore.collect import Recorder, configure, record
from perfcore.collect import flusher as flusher_module
from perfcore.collect import link as link_module
from perfcore.collect.batching import Batcher, Limits
from perfcore.collect.buffer import Buffer
from perfcore.collect.spool import Spool, folder_bytes, orphans, spool_path
from perfcore.db import ImpatientConnection, connect
from perfcore.store.ingest import Batch, write_batches
from tests.collect.conftest import Rows
from tests.store.test_ingest import a_batch

_NOWHERE = "postgresql://nobody:x@127.0.0.1:1/nothing"
_STORED = "SELECT coalesce(sum(count), 0)::int FROM metric_rollups"


def _record(recorder: Recorder, count: int, name: str = "queue.length") -> None:
    for number in range(count):
        recorder.metric(name, number, "jobs")


@pytest.mark.fault(23)
def test_custom_metrics_arrive_and_nonsense_is_refused(recorder: Recorder, rows: Rows) -> None:
    _record(recorder, 5)
    values: list[Any] = [
        math.nan, math.inf, -math.inf, True, "7", b"7", None, 1j, Decimal("NaN"), Decimal("1e999"),
        10**400, 1e301,
    ]  # fmt: skip
    for value in values:
        with pytest.raises(ValueError, match=r"queue\.length.*must be a finite number"):
            recorder.metric("queue.length", value, "jobs")
    assert recorder.accounting().refused == len(values)
    assert recorder.flush(20)
    assert rows("SELECT metric_type, metric_name, unit, count(*)::int, max(value) "
                "FROM performance_metrics GROUP BY 1, 2, 3") == [
        ("custom", "queue.length", "jobs", 5, 4.0)
    ]  # fmt: skip


def test_record_needs_no_recorder_to_refuse_nonsense() -> None:
    with pytest.raises(ValueError, match="nan"):
        record("queue.length", math.nan)


def test_middlewares_of_one_service_share_a_recorder() -> None:
    environ = {"PERFCORE_STORE": _NOWHERE}
    first = configure("shop", environ=environ)
    assert configure("shop", environ=environ) is first
    assert configure("other", environ=environ) is not first
    assert first.accounting().missing == 0


def test_nothing_is_lost_or_doubled_through_an_outage(
    make_recorder: Callable[..., Recorder], store: str, rows: Rows, tmp_path: Path
) -> None:
    recorder = make_recorder(_NOWHERE)
    for number in range(5):
        _record(recorder, 100)
        assert not recorder.flush(20)
        accounting = recorder.accounting()
        assert (accounting.spooled, accounting.missing) == (100 * (number + 1), 0)
    assert folder_bytes(tmp_path) > 0
    assert recorder._flusher is not None
    recorder._flusher._store = store  # the store is back
    _record(recorder, 7)
    assert recorder.flush(20)
    accounting = recorder.accounting()
    assert (accounting.generated, accounting.stored, accounting.missing) == (507, 507, 0)
    assert rows(_STORED) == [(507,)]
    assert rows("SELECT samples::int, was_spooled FROM batches ORDER BY samples") == [
        (7, False), *[(100, True)] * 5
    ]  # fmt: skip
    recorder.close()
    assert list(tmp_path.iterdir()) == []


def test_an_answer_lost_after_commit_does_not_store_twice(
    recorder: Recorder, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = write_batches, []

    def commit_then_lose(connection: object, batches: object, ids: object) -> list[int]:
        done = real(connection, batches, ids)  # type: ignore[arg-type]
        calls.append(done)
        if len(calls) == 1:
            raise OSError("connection lost during COMMIT")
        return done

    monkeypatch.setattr(link_module, "write_batches", commit_then_lose)
    _record(recorder, 50)
    assert not recorder.flush(20)
    assert recorder.accounting().spooled == 50
    assert recorder.flush(20)
    assert calls == [[50], [50]]
    assert rows(_STORED) == [(50,)]
    assert (recorder.accounting().stored, recorder.accounting().missing) == (50, 0)


def test_a_silent_server_is_given_up(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with connect(store, autocommit=True, factory=ImpatientConnection) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
        monkeypatch.setattr(ImpatientConnection, "answer_timeout_s", 0.2)
        with (
            pytest.raises(psycopg.OperationalError, match="did not answer"),
            connection.transaction(),
        ):
            connection.execute("SELECT pg_sleep(60)")
        assert connection.closed


def test_a_locked_store_is_an_outage(
    make_recorder: Callable[..., Recorder], store: str, rows: Rows
) -> None:
    recorder = make_recorder()
    with connect(store) as blocker:
        blocker.execute("LOCK TABLE perfcore.batches")
        _record(recorder, 5)
        assert not recorder.flush(20)
        assert (recorder.accounting().spooled, recorder.accounting().missing) == (5, 0)
    assert recorder.flush(20)
    assert rows(_STORED) == [(5,)]


def test_a_dead_process_leaves_its_spool_to_the_next(
    make_recorder: Callable[..., Recorder], rows: Rows, tmp_path: Path
) -> None:
    """The child is ended without a farewell while the store is away."""
    code = f"""
import os
from pathlib import Path
from perfcore.collect import Recorder, configure, record
r = Recorder("shop", {_NOWHERE!r}, spool_folder=Path({str(tmp_path)!r}), interval_s=60,
             sample_process=False)
for n in range(30):
    r.metric("m", n, "x")
r.flush()
os._exit(9)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 9, done.stderr
    recorder = make_recorder()
    _record(recorder, 3)
    assert recorder.flush(20)
    assert rows(_STORED) == [(33,)]
    assert (recorder.accounting().stored, recorder.accounting().missing) == (3, 0)
    assert list(tmp_path.iterdir()) == []


def test_without_a_disk_batches_wait_in_memory(
    make_recorder: Callable[..., Recorder], store: str, rows: Rows, tmp_path: Path
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    recorder = make_recorder(_NOWHERE, spool_folder=blocked)
    _record(recorder, 40)
    assert not recorder.flush(20)
    assert (recorder.accounting().spooled, recorder.accounting().missing) == (40, 0)
    assert recorder._flusher is not None
    recorder._flusher._store = store
    assert recorder.flush(20)
    assert rows(_STORED) == [(40,)]


@pytest.mark.fault(52)
def test_a_deleted_spool_goes_on_in_memory(
    make_recorder: Callable[..., Recorder], store: str, rows: Rows, tmp_path: Path
) -> None:
    recorder = make_recorder(_NOWHERE)
    _record(recorder, 10)
    recorder.flush(20)
    for path in tmp_path.iterdir():
        path.unlink()
    _record(recorder, 4)
    recorder.flush(20)
    accounting = recorder.accounting()
    assert (accounting.spooled, accounting.missing, accounting.dropped) == (14, 0, {})
    assert recorder._flusher is not None
    recorder._flusher._store = store
    assert recorder.flush(20)
    assert rows(_STORED) == [(14,)]


def test_a_full_disk_keeps_what_it_holds_and_memory_takes_the_rest(
    make_recorder: Callable[..., Recorder],
    store: str,
    rows: Rows,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    def full(spool: Spool, batch: Batch) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    recorder = make_recorder(_NOWHERE)
    _record(recorder, 10)
    recorder.flush(20)
    monkeypatch.setattr(Spool, "put", full)
    _record(recorder, 4)
    recorder.flush(20)
    assert (recorder.accounting().spooled, recorder.accounting().missing) == (14, 0)
    assert recorder._flusher is not None
    recorder._flusher._store = store
    assert recorder.flush(20)
    assert recorder.accounting().stored == 14
    assert rows(_STORED) == [(14,)]
    assert list(tmp_path.iterdir()) == []


def test_a_full_buffer_drops_and_counts(recorder: Recorder, rows: Rows) -> None:
    recorder.buffer.limit = 10
    recorder._is_started = True  # no thread yet
    _record(recorder, 25)
    assert recorder.accounting().dropped == {"buffer_full": 15}
    recorder._is_started = False
    _record(recorder, 1)
    assert recorder.flush(20)
    accounting = recorder.accounting()
    assert (accounting.generated, accounting.missing) == (26, 0)
    assert rows(_STORED)[0][0] == accounting.stored


def test_threads_lose_nothing(make_recorder: Callable[..., Recorder], rows: Rows) -> None:
    recorder = make_recorder(interval_s=0.05)
    threads = [threading.Thread(target=_record, args=(recorder, 2_000)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert recorder.flush(10)
    accounting = recorder.accounting()
    assert (accounting.generated, accounting.stored, accounting.missing) == (16_000, 16_000, 0)
    assert rows(_STORED) == [(16_000,)]


def test_raw_rows_are_thinned_and_weighted_while_histograms_stay_whole(
    make_recorder: Callable[..., Recorder], rows: Rows
) -> None:
    recorder = make_recorder(limits=Limits(raw_per_s=1))
    _record(recorder, 3_000, "a")
    _record(recorder, 10, "b")
    assert recorder.flush(20)
    count, weight = rows("SELECT count(*)::int, sum(weight)::int FROM performance_metrics")[0]
    assert weight == 3_010 and count < 1_000
    assert rows("SELECT sum(weight)::int FROM performance_metrics WHERE metric_name = 'b'") == [
        (10,)
    ]
    assert rows(_STORED) == [(3_010,)]


def test_what_comes_in_fast_does_not_wait_for_the_intervals_end(
    make_recorder: Callable[..., Recorder], rows: Rows
) -> None:
    recorder = make_recorder(interval_s=3_600)
    _record(recorder, 10_500)
    for _ in range(200):
        if rows(_STORED) == [(10_500,)]:
            break
        time.sleep(0.1)
    accounting = recorder.accounting()
    assert (accounting.stored, accounting.missing, len(recorder.buffer)) == (10_500, 0, 0)


def test_flushing_more_often_sends_no_more_raw_rows() -> None:
    now_ns = 0
    batcher = Batcher("shop", "p", Limits(raw_per_s=100), lambda: now_ns, lambda: now_ns)
    buffer, raw_rows = Buffer(), 0
    for _ in range(100):
        now_ns += 100_000_000
        for _ in range(50):
            buffer.add(buffer.requests, ("GET /x", "", now_ns - 1_000, now_ns, 200, None))
        batch = batcher.take(buffer)
        assert batch is not None
        raw_rows += len(batch.raw)
        assert sum(sample.weight for sample in batch.raw) == 50
    assert 100 <= raw_rows <= 1_300  # ten seconds' worth, a second's saved, and the rounding


def test_a_forked_child_reports_its_own_and_not_its_parents(recorder: Recorder, rows: Rows) -> None:
    _record(recorder, 5)
    assert recorder.flush(20)
    _record(recorder, 3)  # in the parent's buffer while it forks
    child = os.fork()
    if child == 0:
        try:
            _record(recorder, 11)
            fine = recorder.flush(10) and recorder.accounting().generated == 11
        finally:
            os._exit(0 if fine else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert recorder.flush(20)
    assert rows(_STORED) == [(19,)]
    assert rows("SELECT count(DISTINCT process)::int FROM batches") == [(2,)]


def test_forks_under_load_neither_hang_nor_double(tmp_path: Path) -> None:
    code = f"""
import os, threading, time
from pathlib import Path
from perfcore.collect import Recorder
r = Recorder("shop", {_NOWHERE!r}, spool_folder=Path({str(tmp_path)!r}), interval_s=0.01)
over = threading.Event()
def load():
    while not over.wait(0.0005):
        r.metric("a", 1, "x")
thread = threading.Thread(target=load)
thread.start()
for _ in range(30):
    child = os.fork()
    if child == 0:
        r.metric("b", 1, "x")
        r.flush(20)
        os._exit(r.accounting().missing or len(r.accounting().dropped))
    assert os.waitpid(child, 0)[1] == 0
over.set()
thread.join()
r.flush(20)
assert r.accounting().missing == 0 and r.accounting().dropped == {{}}, r.accounting()
os._exit(0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_the_exit_of_a_process_delivers_what_is_left(
    store: str, make_recorder: Callable[..., Recorder], rows: Rows, tmp_path: Path
) -> None:
    code = f"""
from pathlib import Path
from perfcore.collect import Recorder, configure, record
r = Recorder("shop", {store!r}, spool_folder=Path({str(tmp_path)!r}), interval_s=60,
             sample_process=False)
for n in range(12):
    r.metric("m", n, "x")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    # On a busy machine two seconds may not suffice; then it waits for the next process.
    recorder = make_recorder()
    _record(recorder, 1)
    assert recorder.flush(10)
    assert rows(_STORED) == [(13,)]


def test_closing_with_the_store_away_is_quick_and_keeps_everything(
    make_recorder: Callable[..., Recorder], tmp_path: Path
) -> None:
    recorder = make_recorder(_NOWHERE)
    _record(recorder, 6)
    recorder.close(10)
    accounting = recorder.accounting()
    assert (accounting.spooled, accounting.missing) == (6, 0)
    [spool] = list(orphans(tmp_path, tmp_path))
    row = spool.first()
    spool.close()
    assert row is not None and row.batch().samples == 6


def test_the_process_measures_itself(make_recorder: Callable[..., Recorder], rows: Rows) -> None:
    recorder = make_recorder(sample_process=True)
    _record(recorder, 1)
    assert recorder.flush(10)
    values: dict[str, float] = dict(rows(
        "SELECT metric_name, max(max) FROM metric_rollups JOIN series USING (series_id) "
        "WHERE metric_name LIKE 'p%' GROUP BY 1"))  # fmt: skip
    assert set(values) == {
        "process.memory.rss", "process.memory.uss", "python.heap", "process.cpu.utilization",
        "process.thread.count", "process.unix.file_descriptor.count",
    }  # fmt: skip
    assert values["process.thread.count"] >= 2
    assert 0 < values["process.memory.uss"] <= values["process.memory.rss"]


def test_spools_of_different_stores_stay_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERFCORE_DATA_DIR", "/proc/no/such/place")
    folders = {
        flusher_module.default_spool_folder(f"postgresql://{user}@h/{database}").name
        for user in ("a:old", "a:new")
        for database in ("one", "two")
    }
    assert len(folders) == 2


def test_a_spool_keeps_its_order_and_its_limit(tmp_path: Path) -> None:
    path = spool_path(tmp_path, "shop-host:1:2")
    spool = Spool(path, limit_bytes=400_000)
    batches = [a_batch(n) for n in range(3)]
    for batch in batches:
        spool.put(batch)
    with pytest.raises(OSError, match="another process"):
        Spool(path)
    spool.close()
    again = Spool(path, limit_bytes=400_000)
    for batch in batches:
        row = again.first()
        assert row is not None and row.batch() == batch
        again.remove([row])
    assert again.first() is None
    again.close(keep=False)
    assert list(tmp_path.iterdir()) == []


def test_a_full_spool_refuses_with_a_count(
    make_recorder: Callable[..., Recorder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Spool.__init__, "__kwdefaults__", {"limit_bytes": 10, "create": True})
    recorder = make_recorder(_NOWHERE)
    _record(recorder, 9)
    recorder.flush(20)
    assert recorder.accounting().dropped == {"spool_full": 9}
    assert recorder.accounting().missing == 0


def test_importing_it_is_cheap() -> None:
    code = (
        "import sys, perfcore.collect; heavy = {'pandas', 'streamlit', 'plotly', 'sqlglot', "
        "'numpy', 'sqlalchemy'} & set(sys.modules); assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_flush_goes_on_by_itself(make_recorder: Callable[..., Recorder], rows: Rows) -> None:
    recorder = make_recorder(interval_s=0.05)
    _record(recorder, 2)
    until = time.monotonic() + 20
    while rows(_STORED) != [(2,)] and time.monotonic() < until:
        time.sleep(0.02)
    assert rows(_STORED) == [(2,)]
