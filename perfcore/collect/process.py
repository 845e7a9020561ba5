"""What the process itself costs: memory, CPU, threads, descriptors, pauses of the collector.

The flusher reads it once a second. Names follow OpenTelemetry's conventions where there is one
(`process.*`, `cpython.gc.*`); RSS, USS and the Python heap keep names of their own.
"""

from __future__ import annotations

import contextlib
import gc
import sys
import tracemalloc
from collections import deque
from collections.abc import Iterator
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

from perfcore.metric_type import MetricType

if TYPE_CHECKING:
    import psutil

_RARELY = 10  # readings; USS walks the process's mappings, about 1 ms
# CPython 3.11 said 72 (many small dicts) to 97 (pandas loaded) in sys._debugmallocstats().
_MEAN_BLOCK_BYTES = 90
_MOST_PAUSES = 10_000  # between two readings

# (metric_type, name, unit, perf_counter_ns, value)
Reading = tuple[str, str, str, int, float]


class ProcessSampler:
    """Reads RSS, heap and CPU each time it is asked, what costs more each tenth time."""

    def __init__(self, process: psutil.Process | None = None) -> None:
        # Deferred: importing perfcore.collect stays cheap.
        import psutil

        self._errors = (psutil.Error, OSError)
        self._process = process or psutil.Process()
        self._process.cpu_percent()  # the first call only sets the starting point
        self._nth = 0
        self._pauses = GcPauses()
        self._pauses.watch()

    def read(self) -> list[Reading]:
        """Return the readings of now; what the platform refuses is left out."""
        readings = list(self._pauses.read())
        now = perf_counter_ns()
        with contextlib.suppress(*self._errors):
            for metric_type, name, unit, value in self._read():
                readings.append((metric_type, name, unit, now, value))
        return readings

    def _read(self) -> Iterator[tuple[str, str, str, float]]:
        memory = self._process.memory_info()
        yield MetricType.MEMORY, "process.memory.rss", "bytes", float(memory.rss)
        yield MetricType.MEMORY, "python.heap", "bytes", float(python_heap_bytes())
        yield MetricType.CPU, "process.cpu.utilization", "percent", self._process.cpu_percent()
        is_rare = self._nth % _RARELY == 0
        self._nth += 1
        if is_rare:
            yield from self._read_rarely()

    def _read_rarely(self) -> Iterator[tuple[str, str, str, float]]:
        yield MetricType.RUNTIME, "process.thread.count", "threads", self._process.num_threads()
        full = self._process.memory_full_info()
        yield MetricType.MEMORY, "process.memory.uss", "bytes", float(full.uss)
        if hasattr(self._process, "num_fds"):
            descriptors = self._process.num_fds()
            yield MetricType.RUNTIME, "process.unix.file_descriptor.count", "files", descriptors

    def close(self) -> None:
        """Leave nothing behind in the interpreter."""
        self._pauses.unwatch()


class GcPauses:
    """How long each garbage collection stopped the program, by generation.

    The callback runs in whichever thread allocates, with any lock held: it appends, no more.
    """

    def __init__(self) -> None:
        self._pauses: deque[tuple[int, int, int]] = deque(maxlen=_MOST_PAUSES)
        self._started_ns = 0

    def watch(self) -> None:
        gc.callbacks.append(self._on_collection)

    def unwatch(self) -> None:
        with contextlib.suppress(ValueError):
            gc.callbacks.remove(self._on_collection)

    def _on_collection(self, phase: str, info: dict[str, Any]) -> None:
        now = perf_counter_ns()
        if phase == "start":
            self._started_ns = now
        elif self._started_ns:
            self._pauses.append((now, now - self._started_ns, info["generation"]))
            self._started_ns = 0

    def read(self) -> Iterator[Reading]:
        """Yield the pauses since the last reading, each as one sample."""
        for _ in range(len(self._pauses)):
            at_ns, pause_ns, generation = self._pauses.popleft()
            name = f"cpython.gc.duration.generation{generation}"
            yield MetricType.RUNTIME, name, "ms", at_ns, pause_ns / 1e6


def python_heap_bytes() -> int:
    """Return what Python objects occupy: exact while tracemalloc traces, else an estimate.

    The estimate is the number of blocks the small-object allocator has handed out times
    their usual size, within 25 % where it was checked. Objects over 512 bytes are not in it;
    RSS has them. What it shows well is growth, which is how a leak is found.
    """
    if tracemalloc.is_tracing():
        return tracemalloc.get_traced_memory()[0]
    return sys.getallocatedblocks() * _MEAN_BLOCK_BYTES
