"""Where the Python heap grows, asked for and over by itself: tracing costs too much to leave on."""

from __future__ import annotations

import threading
import time
import tracemalloc
from dataclasses import dataclass

MAX_SECONDS = 60.0
_ONE_AT_A_TIME = threading.Lock()


@dataclass(frozen=True, slots=True)
class HeapLine:
    """A line of code and what it allocated during the trace that is still there."""

    file: str
    line: int
    bytes: int
    blocks: int


def trace_heap(seconds: float = 10.0, top: int = 20) -> tuple[HeapLine, ...]:
    """Trace allocations for that long, at most a minute, and return the lines that hold most.

    It blocks its caller and slows the whole process down meanwhile, so it belongs in a thread
    and in nobody's request. RuntimeError while another trace is under way, ours or not.
    """
    if not 0 < seconds <= MAX_SECONDS:
        raise ValueError(f"trace_heap({seconds}): between 0 and {MAX_SECONDS:g} seconds")
    if not _ONE_AT_A_TIME.acquire(blocking=False):
        raise RuntimeError("the heap is being traced already: wait for that trace to end")
    try:
        return _trace(seconds, top)
    finally:
        _ONE_AT_A_TIME.release()


def _trace(seconds: float, top: int) -> tuple[HeapLine, ...]:
    if tracemalloc.is_tracing():
        raise RuntimeError("tracemalloc is on already: the trace is not ours to end")
    tracemalloc.start(1)
    try:
        time.sleep(seconds)
        snapshot = tracemalloc.take_snapshot()
    finally:
        tracemalloc.stop()
    own = tracemalloc.Filter(False, tracemalloc.__file__)
    lines = snapshot.filter_traces([own]).statistics("lineno")[:top]
    return tuple(
        HeapLine(s.traceback[0].filename, s.traceback[0].lineno, s.size, s.count) for s in lines
    )
