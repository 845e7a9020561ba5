"""What the process itself costs: memory and CPU, read by the flusher once a second."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Iterator
from typing import TYPE_CHECKING

from perfcore.types import MetricType

if TYPE_CHECKING:
    import psutil

_USS_EVERY = 10  # readings; it walks the process's mappings, about 1 ms
# CPython 3.11 said 72 (many small dicts) to 97 (pandas loaded) in sys._debugmallocstats().
_MEAN_BLOCK_BYTES = 90

# (metric_type, name, unit, value)
Reading = tuple[str, str, str, float]


class ProcessSampler:
    """Reads RSS and CPU each time it is asked, USS each tenth time."""

    def __init__(self, process: psutil.Process | None = None) -> None:
        # Deferred: importing perfcore.collect stays cheap.
        import psutil

        self._errors = (psutil.Error, OSError)
        self._process = process or psutil.Process()
        self._process.cpu_percent()  # the first call only sets the starting point
        self._nth = 0

    def read(self) -> list[Reading]:
        """Return the readings of now; what the platform refuses is left out."""
        try:
            return list(self._read())
        except self._errors:
            return []

    def _read(self) -> Iterator[Reading]:
        memory = self._process.memory_info()
        yield MetricType.MEMORY, "process.memory.rss", "bytes", float(memory.rss)
        yield MetricType.MEMORY, "python.heap", "bytes", float(python_heap_bytes())
        yield MetricType.CPU, "process.cpu.utilization", "percent", self._process.cpu_percent()
        if self._nth % _USS_EVERY == 0:
            full = self._process.memory_full_info()
            yield MetricType.MEMORY, "process.memory.uss", "bytes", float(full.uss)
        self._nth += 1


def python_heap_bytes() -> int:
    """Return what Python objects occupy: exact while tracemalloc traces, else an estimate.

    The estimate is the number of blocks the small-object allocator has handed out times
    their usual size, within 25 % where it was checked. Objects over 512 bytes are not in it;
    RSS has them. What it shows well is growth, which is how a leak is found.
    """
    if tracemalloc.is_tracing():
        return tracemalloc.get_traced_memory()[0]
    return sys.getallocatedblocks() * _MEAN_BLOCK_BYTES
