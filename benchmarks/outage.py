"""An outage of ten minutes at 5,000 samples a second: what it costs, and how soon it is over.

    PYTHONPATH=. python benchmarks/outage.py [--seconds 600] [--samples 5000]

The seconds of the outage are simulated: as many samples as one holds are measured, flushed to the
spool as the flusher does it, and the next begins. The drain happens in real time, with live
traffic at the same rate beside it. A server of its own keeps the store, with fsync.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import threading
import time
from pathlib import Path

import psutil

from perfcore.collect import Recorder
from perfcore.collect.batching import Batcher, Limits
from perfcore.collect.buffer import RequestContext
from perfcore.collect.flusher import Flusher
from perfcore.collect.spool import folder_bytes
from perfcore.db import connect
from perfcore.server.embedded import Cluster, wheel_binaries
from perfcore.store.migrate import migrate

NOWHERE = "postgresql://nobody:x@127.0.0.1:1/nothing"
ENDPOINTS = [f"GET /shop/{n}/items/{{id}}" for n in range(200)]
STATEMENTS = [f"SELECT column_{n} FROM items WHERE id = $1 AND kind = $2" for n in range(200)]


class Clock:
    """A clock that is moved by hand while the outage lasts."""

    def __init__(self) -> None:
        self.ahead_ns = 0

    def monotonic_ns(self) -> int:
        return time.perf_counter_ns() + self.ahead_ns

    def wall_ns(self) -> int:
        return time.time_ns() + self.ahead_ns


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--seconds", type=int, default=600)
    asked.add_argument("--samples", type=int, default=5_000)
    arguments = asked.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="perfcore-outage-"))
    folder.chmod(0o755)
    try:
        with Cluster(folder / "pg", wheel_binaries(folder)) as cluster:
            store = cluster.dsn()
            migrate(store)
            run(store, folder / "spool", arguments.seconds, arguments.samples)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run(store: str, spool: Path, seconds: int, samples: int) -> None:
    """Go through the outage and print what it cost; AssertionError when a sample is missing."""
    clock = Clock()
    recorder = Recorder("shop", store, spool_folder=spool, sample_process=False)
    flusher = flusher_of(recorder, store, spool, clock)
    for _ in range(10):  # warm: names, texts and the connection are known
        second(recorder, flusher, clock, samples)
    base = used_bytes()
    flusher._store = NOWHERE
    flusher.link.disconnect()
    peak, disk, flushes = 0, 0, []
    for _ in range(seconds):
        flushes.append(second(recorder, flusher, clock, samples))
        peak = max(peak, used_bytes() - base)
        disk = max(disk, folder_bytes(spool))
        clock.ahead_ns += 1_000_000_000
    seen = recorder.accounting()
    print(
        f"outage of {seconds} s at {samples} samples/s: {seen.generated:,} generated, "
        f"{seen.spooled:,} spooled, dropped {seen.dropped}, missing {seen.missing}"
    )
    print(f"memory over the state before: {peak / 2**20:.1f} MB at most (limit 16)")
    print(f"disk: {disk / 2**20:.1f} MB (limit 256)")
    print(f"a flush to disk: {statistics.median(flushes):.1f} ms median, {max(flushes):.1f} max")
    flusher._store = store
    flusher.link.hurry()
    drain(recorder, flusher, clock, samples)
    print(f"memory over the state before: {(used_bytes() - base) / 2**20:.1f} MB after")
    check(recorder, store)


def drain(recorder: Recorder, flusher: Flusher, clock: Clock, samples: int) -> None:
    began = time.monotonic()
    cpu = time.thread_time()
    live = []
    while recorder.accounting().spooled:
        due = time.monotonic() + 1
        live.append(second(recorder, flusher, clock, samples))
        time.sleep(max(0.0, due - time.monotonic()))
    took, cpu = time.monotonic() - began, time.thread_time() - cpu
    print(
        f"drained in {took:.1f} s with live traffic (limit 60), {len(live)} live batches, "
        f"{100 * cpu / took:.0f} % of a core incl. making the samples"
    )


def second(recorder: Recorder, flusher: Flusher, clock: Clock, samples: int) -> float:
    """Measure for a second and flush; how long the flush took in ms."""
    now = clock.monotonic_ns()
    for n in range(samples // 2):
        context = RequestContext(recorder)
        duration = 1_000_000 + (n * 7_919_317) % 90_000_000
        recorder.statement(STATEMENTS[n % len(STATEMENTS)], now, duration // 2, 0, context, None)
        context.is_over = True
        name = ENDPOINTS[n % len(ENDPOINTS)]
        recorder.request(name, "", now - duration, now, 200, context)
    began = time.perf_counter()
    flusher._flush(is_last=False)
    return (time.perf_counter() - began) * 1e3


def flusher_of(recorder: Recorder, store: str, spool: Path, clock: Clock) -> Flusher:
    """Return the recorder's flusher, run by this thread instead of one of its own."""
    flusher = Flusher(recorder, store, "bench:1:2", spool)
    flusher.configure(1.0, Limits(), False)
    flusher._batcher = Batcher("shop", "bench:1:2", Limits(), clock.wall_ns, clock.monotonic_ns)
    flusher._thread = threading.current_thread()
    recorder._flusher = flusher
    recorder._is_started = True
    return flusher


def check(recorder: Recorder, store: str) -> None:
    """Compare what was generated with what the store holds."""
    seen = recorder.accounting()
    with connect(store) as connection:
        held = connection.execute(
            "SELECT (SELECT sum(count)::bigint FROM perfcore.metric_rollups "
            "JOIN perfcore.series USING (series_id) "
            "WHERE metric_type IN ('api_endpoint', 'database_query')), "
            "(SELECT sum(samples)::bigint FROM perfcore.batches), "
            "(SELECT count(*) FROM perfcore.batches)"
        ).fetchall()[0]
    print(
        f"generated {seen.generated:,}, stored {seen.stored:,}, in histograms of the store "
        f"{held[0]:,}, in its ledger {held[1]:,} by {held[2]} batches, missing {seen.missing}"
    )
    assert held[0] == held[1] == seen.stored == seen.generated and not seen.dropped


def used_bytes() -> int:
    return int(psutil.Process().memory_info().rss)


if __name__ == "__main__":
    main()
