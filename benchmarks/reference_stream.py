"""What the reference stream adds to a read: on the path of the application, and in the thread.

    python benchmarks/reference_stream.py

Both sides of each comparison take turns in one process, thirty rounds. On the path the driver's
call does nothing, so that what is around it is all there is; in the thread a second's thousand
reads with mostly different parameters become a batch.
"""

from __future__ import annotations

import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from measuring import quartiles, table, versions

from perfcore.collect.batching import Batcher, Limits
from perfcore.collect.buffer import DONE, Buffer
from perfcore.collect.recorder import Recorder
from perfcore.collect.sql_hooks import Hook, measuring
from perfcore.collect.stream import encoded

ROUNDS = 30
CALLS = 20_000
READS = 1_000
TEXT = "SELECT item.name FROM item WHERE item.id = %(id)s::INTEGER"


def main() -> None:
    print(versions())
    without, with_key = _on_the_path()
    alone, with_stream = _in_the_thread()
    table(
        ["us a read", "median", "quartiles", "ratio"],
        [
            ["on the path, not followed", *_cells(without), "1.0"],
            ["on the path, parameters encoded", *_cells(with_key), _ratio(with_key, without)],
            ["in the thread, stream off", *_cells(alone), "1.0"],
            ["in the thread, stream on", *_cells(with_stream), _ratio(with_stream, alone)],
        ],
    )


def _on_the_path() -> tuple[list[float], list[float]]:
    recorder = Recorder("bench", "postgresql://nowhere/store")
    recorder._is_started = True  # nothing is sent
    recorder.buffer.limit = 10**9
    execute = measuring(lambda *_: None, Hook(recorder, lambda parameters, context: parameters))
    parameters = {"id": 17}

    def call() -> None:
        for _ in range(CALLS):
            execute(None, TEXT, parameters, None)

    found: tuple[list[float], list[float]] = [], []
    for _ in range(ROUNDS):
        for hashed, times in zip((frozenset[str](), frozenset({TEXT})), found, strict=True):
            recorder.buffer.hashed = hashed
            times.append(_spent_us(call) / CALLS)
            recorder.buffer.statements.clear()
    return found


def _in_the_thread() -> tuple[list[float], list[float]]:
    chance = random.Random(20261124)
    texts = [TEXT.replace("name", f"name{n}") for n in range(40)]
    sides = [(_Second(rate), list[float]()) for rate in (0.0, 200.0)]
    for _ in range(ROUNDS + 5):
        reads = [(chance.choice(texts), int(chance.paretovariate(0.5))) for _ in range(READS)]
        for second, times in sides:
            second.fill(reads)
            times.append(_spent_us(second.take) / READS)
    return sides[0][1][5:], sides[1][1][5:]


class _Second:
    """A batcher that is fed and flushed once a second of a clock moved by hand."""

    def __init__(self, references_per_s: float) -> None:
        self._now_ns = 1_000_000_000
        self._buffer = Buffer()
        limits = Limits(references_per_s=references_per_s)
        self._batcher = Batcher("bench", "p", limits, self._clock_ns, self._clock_ns, b"key")

    def _clock_ns(self) -> int:
        return self._now_ns

    def fill(self, reads: list[tuple[str, int]]) -> None:
        for text, number in reads:
            key = encoded({"id": number}) if text in self._buffer.hashed else None
            values = text, self._now_ns, 500_000, DONE, None, None, None, key
            self._buffer.add(self._buffer.statements, values)
        self._now_ns += 1_000_000_000

    def take(self) -> Any:
        return self._batcher.take(self._buffer)


def _spent_us(work: Callable[[], Any]) -> float:
    started_ns = time.thread_time_ns()
    work()
    return (time.thread_time_ns() - started_ns) / 1000


def _cells(times: list[float]) -> list[str]:
    low, middle, high = quartiles(times)
    return [f"{middle:.2f}", f"{low:.2f} - {high:.2f}"]


def _ratio(these: list[float], those: list[float]) -> str:
    return f"{statistics.median(a / b for a, b in zip(these, those, strict=True)):.2f}"


if __name__ == "__main__":
    main()
