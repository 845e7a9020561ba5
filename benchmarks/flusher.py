"""What the flusher costs at a steady load: its thread's CPU, by the kernel's count.

    PYTHONPATH=. python benchmarks/flusher.py [--requests 1000] [--seconds 30]

Requests with two statements each are measured in the main thread at the given rate; the store is
a server of its own. The figure is the share of one core that the flusher's thread used.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import threading
import time
from pathlib import Path

import psutil

from benchmarks.outage import ENDPOINTS, STATEMENTS
from perfcore.collect import Recorder
from perfcore.collect.buffer import RequestContext
from perfcore.server.embedded import Cluster, wheel_binaries
from perfcore.store.migrate import migrate


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--requests", type=int, default=1_000, help="a second")
    asked.add_argument("--seconds", type=int, default=30)
    arguments = asked.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="perfcore-flusher-"))
    folder.chmod(0o755)
    try:
        with Cluster(folder / "pg", wheel_binaries(folder)) as cluster:
            migrate(cluster.dsn())
            for endpoints in (20, 200):
                run(cluster.dsn(), folder, arguments.requests, arguments.seconds, endpoints)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run(store: str, folder: Path, rate: int, seconds: int, endpoints: int) -> None:
    recorder = Recorder("shop", store, spool_folder=folder / "spool")
    load(recorder, rate, 3, endpoints)  # names, texts and the connection are known
    before = cpu_s()
    load(recorder, rate, seconds, endpoints)
    used = cpu_s() - before
    recorder.flush(10)
    seen = recorder.accounting()
    print(
        f"{rate} requests/s with 2 statements each over {endpoints} endpoints: "
        f"{100 * used / seconds:.1f} % of a core, {seen.stored:,} stored, missing {seen.missing}"
    )
    recorder.close()


def load(recorder: Recorder, rate: int, seconds: int, endpoints: int) -> None:
    slices = 50
    due = time.monotonic()
    for _ in range(seconds * slices):
        for n in range(rate // slices):
            request(recorder, ENDPOINTS[n * 7 % endpoints], n)
        due += 1 / slices
        time.sleep(max(0.0, due - time.monotonic()))


def request(recorder: Recorder, endpoint: str, n: int) -> None:
    context = RequestContext(recorder)
    context.endpoint = endpoint
    now = time.perf_counter_ns()
    for text in (STATEMENTS[n % 50], STATEMENTS[(n + 1) % 50]):
        recorder.statement(text, now, 900_000 + n * 1_000, False, context, None)
    recorder.request(endpoint, "", now - 3_000_000, now, 200, context)


def cpu_s() -> float:
    """Return the CPU time of the flusher's thread."""
    [thread] = [t for t in threading.enumerate() if t.name == "perfcore-flusher"]
    [times] = [t for t in psutil.Process().threads() if t.id == thread.native_id]
    return float(times.user_time + times.system_time)


if __name__ == "__main__":
    main()
