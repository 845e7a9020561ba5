"""A process that is killed, a thread that dies or hangs, and what a process says of itself."""

from __future__ import annotations

import gc
import os
import random
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from perfcore.collect import Recorder, trace_heap
from perfcore.collect import flusher as flusher_module
from perfcore.collect.batching import Batcher
from perfcore.collect.process import GcPauses, ProcessSampler
from perfcore.collect.spool import Spool
from tests.collect.conftest import Rows
from tests.faults.proxy import Proxy

_NOWHERE = "postgresql://nobody:x@127.0.0.1:1/nothing"
_STORED = "SELECT coalesce(sum(count), 0)::int FROM metric_rollups"
_KILLS = 12


def _record(recorder: Recorder, count: int) -> None:
    for number in range(count):
        recorder.metric("queue.length", number, "jobs")


def _wait(condition: Callable[[], bool], seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not come about"
        time.sleep(0.02)


def _child(store: str, folder: Path) -> subprocess.Popen[str]:
    """A process that says, again and again, what it generated and what is out of its hands."""
    code = f"""
import sys, time
from pathlib import Path
from perfcore.collect import Recorder
r = Recorder("shop", {store!r}, spool_folder=Path({str(folder)!r}), interval_s=0.05,
             sample_process=False)
while True:
    seen = r.accounting()
    print(seen.generated, seen.stored + seen.spooled, seen.missing, flush=True)
    for n in range(20):
        r.metric("m", n, "x")
    time.sleep(0.002)
"""
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


@pytest.mark.fault(50)
def test_a_killed_process_loses_only_what_was_not_flushed(
    make_recorder: Callable[..., Recorder], store: str, rows: Rows, tmp_path: Path
) -> None:
    chance = random.Random(7)
    with Proxy(store) as proxy:
        proxy.is_silent = True
        for number in range(_KILLS):
            dsn = (store, _NOWHERE, proxy.dsn)[number % 3]
            child = _child(dsn, tmp_path)
            assert child.stdout is not None
            lines = []
            for line in child.stdout:
                lines.append(line.split())
                # Not before something is out of its hands; then at any moment.
                if int(lines[-1][1]) and len(lines) > 20 and chance.random() < 0.02:
                    break
            child.send_signal(signal.SIGKILL)
            lines += [line.split() for line in child.stdout if len(line.split()) == 3]
            child.stdout.close()
            child.wait()
            assert {missing for _, _, missing in lines} == {"0"}
            generated, delivered = int(lines[-1][0]) + 20, int(lines[-1][1])
            recorder = make_recorder()
            before = rows(_STORED)[0][0]
            recorder.metric("adopting", 1.0, "x")
            _wait(lambda: recorder.flush(20) and not list(tmp_path.glob("*.spool")))  # noqa: B023
            recorder.close()
            [(found,)] = rows(
                "SELECT coalesce(sum(samples), 0)::int FROM batches "
                f"WHERE process LIKE '%:{child.pid}:%'"
            )
            assert delivered <= found <= generated, (dsn, before)
            assert rows(_STORED) == rows("SELECT sum(samples)::int FROM batches")


@pytest.mark.fault(25)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_dead_flusher_is_replaced_by_the_next_measurement(
    make_recorder: Callable[..., Recorder], rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = make_recorder(interval_s=0.05)
    _record(recorder, 3)
    assert recorder.flush(20)
    flusher = recorder._flusher
    assert flusher is not None
    first = flusher._thread
    assert first is not None
    real = flusher._batcher.take

    def die(buffer: object) -> None:
        monkeypatch.setattr(flusher._batcher, "take", real)
        raise SystemExit

    monkeypatch.setattr(flusher._batcher, "take", die)
    _record(recorder, 4)
    _wait(lambda: not first.is_alive())
    assert not recorder._is_started
    _record(recorder, 5)
    assert recorder.flush(20)
    assert flusher._thread is not first
    assert (recorder.accounting().stored, recorder.accounting().missing) == (12, 0)
    assert rows(_STORED) == [(12,)]


@pytest.mark.fault(25)
@pytest.mark.parametrize("place", ["store", "batch", "disk", "connect"])
def test_a_hanging_flusher_is_replaced_and_nothing_is_lost(
    place: str,
    make_recorder: Callable[..., Recorder],
    store: str,
    rows: Rows,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    others = set(threading.enumerate())

    def flushers() -> list[threading.Thread]:
        return [t for t in set(threading.enumerate()) - others if t.name == "perfcore-flusher"]

    monkeypatch.setattr(flusher_module, "_HUNG_AFTER_NS", 300_000_000)
    monkeypatch.setattr(flusher_module, "_SURE_AFTER_NS", 100_000_000)
    hang, is_hanging = threading.Event(), threading.Event()

    def hanging(real: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **options: object) -> object:
            # The flusher of an earlier test may still be at its end.
            if threading.current_thread() not in others and not is_hanging.is_set():
                is_hanging.set()
                hang.wait(120)
            return real(*args, **options)

        return call

    recorder = make_recorder(_NOWHERE if place == "disk" else store, interval_s=0.05)
    if place != "connect":
        _record(recorder, 2)
        recorder.flush(20)
    owner, name = {
        "store": ("perfcore.collect.link", "write_batches"),
        "batch": (Batcher, "take"),
        "disk": (Spool, "put"),
        "connect": ("perfcore.collect.link", "connect_to_store"),
    }[place]
    module = sys.modules[owner] if isinstance(owner, str) else owner
    monkeypatch.setattr(module, name, hanging(getattr(module, name)))
    generated = 2 if place != "connect" else 0
    until = time.monotonic() + 60
    threads_seen = 0
    while time.monotonic() < until:
        _record(recorder, 1)
        generated += 1
        time.sleep(0.01)
        threads_seen = max(threads_seen, len(flushers()))
        kept = recorder.accounting().spooled if place in ("store", "connect") else 0
        if is_hanging.is_set() and (kept > 20 or (kept == 0 and threads_seen > 1)):
            break
    assert is_hanging.is_set()
    assert threads_seen == (1 if place == "connect" else 2)
    recorder._flusher._store = store  # type: ignore[union-attr]
    hang.set()
    _record(recorder, 10)
    generated += 10
    _wait(lambda: len(flushers()) == 1)
    _wait(lambda: recorder.flush(20))
    accounting = recorder.accounting()
    assert (accounting.generated, accounting.dropped) == (generated, {})
    assert (accounting.stored, accounting.missing) == (generated, 0)
    assert rows(_STORED) == [(generated,)]


@pytest.mark.fault(22, 25)
def test_a_suspended_process_keeps_its_flusher(make_recorder: Callable[..., Recorder]) -> None:
    recorder = make_recorder(interval_s=0.05)
    _record(recorder, 1)
    assert recorder.flush(20)
    flusher = recorder._flusher
    assert flusher is not None
    thread = flusher._thread
    flusher._overdue_ns = 0  # as after an hour of sleep, in the middle of a flush
    recorder._is_started = False
    _record(recorder, 1)
    assert recorder.flush(20)
    assert flusher._thread is thread


@pytest.mark.fault(42)
def test_the_first_measurement_does_not_wait_for_the_store(tmp_path: Path) -> None:
    """Everything that could wait is done by other threads than the caller's."""
    with Proxy("postgresql://x:y@127.0.0.1:1/z") as proxy:
        proxy.is_silent = True
        recorder = Recorder("shop", proxy.dsn, spool_folder=tmp_path, sample_process=False)
        _record(recorder, 10)
        names = {t.name for t in threading.enumerate()}
        assert "perfcore-flusher" in names
        _wait(lambda: recorder.accounting().spooled == 10)
        recorder.close(0.1)


@pytest.mark.fault(129)
def test_each_queue_has_a_cap_and_says_what_it_dropped(
    make_recorder: Callable[..., Recorder],
) -> None:
    recorder = make_recorder(_NOWHERE)
    recorder.buffer.limit = 1000
    recorder._is_started = True  # nobody empties it
    _record(recorder, 5000)
    accounting = recorder.accounting()
    assert (accounting.buffered, accounting.missing) == (1000, 0)
    assert accounting.dropped == {"buffer_full": 4000}


def test_pauses_of_the_collector_are_measured_and_nothing_stays_behind() -> None:
    before = list(gc.callbacks)
    pauses = GcPauses()
    pauses.watch()
    gc.disable()  # no collection but those asked for
    try:
        began = time.perf_counter_ns()
        gc.collect()
        gc.collect(0)
        ended = time.perf_counter_ns()
    finally:
        gc.enable()
    readings = list(pauses.read())
    names = [name for _, name, _, _, _ in readings]
    assert "cpython.gc.duration.generation2" in names
    assert "cpython.gc.duration.generation0" in names
    assert all(began <= at <= ended for _, _, _, at, _ in readings)
    assert 0 < sum(value for *_, value in readings) <= (ended - began) / 1e6
    pauses.unwatch()
    pauses.unwatch()
    assert gc.callbacks == before


@pytest.mark.fault(129)
def test_pauses_are_kept_up_to_a_cap() -> None:
    pauses = GcPauses()
    for _ in range(20_000):
        pauses._on_collection("start", {"generation": 0})
        pauses._on_collection("stop", {"generation": 0})
    assert len(list(pauses.read())) == 10_000


def test_pauses_reach_the_store_and_end_with_the_recorder(
    make_recorder: Callable[..., Recorder], rows: Rows
) -> None:
    before = list(gc.callbacks)
    recorder = make_recorder(sample_process=True)
    _record(recorder, 1)
    assert recorder.flush(20)
    gc.collect()
    assert recorder.flush(20)
    [(metric_type, unit, count)] = rows(
        "SELECT metric_type, unit, sum(count)::int FROM metric_rollups JOIN series "
        "USING (series_id) WHERE metric_name = 'cpython.gc.duration.generation2' GROUP BY 1, 2"
    )
    assert (metric_type, unit) == ("runtime", "ms") and count >= 1
    recorder.close(20)
    assert gc.callbacks == before


def test_a_forked_child_watches_its_own_collector() -> None:
    code = """
import gc, os
from pathlib import Path
from perfcore.collect import Recorder
import tempfile
r = Recorder("shop", "postgresql://nobody:x@127.0.0.1:1/n", spool_folder=Path(tempfile.mkdtemp()))
r.metric("a", 1, "x")
r.flush(20)
assert len(gc.callbacks) == 1
child = os.fork()
if child == 0:
    ok = len(gc.callbacks) == 0
    r.metric("a", 1, "x")
    r.flush(20)
    os._exit(0 if ok and len(gc.callbacks) == 1 else 1)
assert os.waitpid(child, 0)[1] == 0
r.close(20)
assert len(gc.callbacks) == 0
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_readings_of_a_process_are_plausible() -> None:
    sampler = ProcessSampler()
    descriptors = [os.open("/dev/null", os.O_RDONLY) for _ in range(20)]
    try:
        values = {name: value for _, name, _, _, value in sampler.read()}
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
        sampler.close()
    assert values["process.unix.file_descriptor.count"] >= 20
    assert values["process.thread.count"] >= 1
    assert 0 < values["python.heap"] < values["process.memory.rss"]


def test_the_heap_is_traced_on_demand_and_the_trace_ends() -> None:
    kept: list[bytes] = []
    done = threading.Event()

    def allocate() -> None:
        while not done.wait(0.005):
            kept.append(bytes(10_000))

    thread = threading.Thread(target=allocate)
    thread.start()
    try:
        lines = trace_heap(0.3, top=3)
        assert not tracemalloc.is_tracing()
    finally:
        done.set()
        thread.join()
    assert 1 <= len(lines) <= 3
    assert any(line.file == __file__ and line.bytes >= 10_000 for line in lines)
    with pytest.raises(ValueError, match="60 seconds"):
        trace_heap(3600)
    tracemalloc.start()
    try:
        with pytest.raises(RuntimeError, match="on already"):
            trace_heap(0.01)
        assert tracemalloc.is_tracing()
    finally:
        tracemalloc.stop()
