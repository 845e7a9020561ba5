"""Where measurements wait for the flusher: queues that need no lock, with exact counts.

The request path appends one tuple a sample and nothing else. A deque's append and popleft are
atomic in CPython, so requests never wait for the flusher and none is counted twice or not at all.
"""

from __future__ import annotations

import itertools
from collections import deque
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar

from perfcore.normalise import OVERSIZED

if TYPE_CHECKING:
    from perfcore.collect.busy import BusyTime
    from perfcore.collect.recorder import Recorder

UNATTRIBUTED = "(unattributed)"
LARGE_CHARACTERS = 16_384  # a text from here on is known by its beginning and its length
_MAX_LARGE_CHARACTERS = 4_000_000
_Item = TypeVar("_Item")

# (context, end, duration, is_error); clocks are perf_counter_ns
RequestItem = tuple["RequestContext", int, int, bool]
# How an execution ended; the cancelled one has a time that says nothing about the statement.
DONE, FAILED, CANCELLED = 0, 1, 2
# (text as sent, end, duration, outcome, context, described parameters of a slow execution, rows
# of an executemany: None for a single execution, -1 when unknown)
StatementItem = tuple[
    str, int, int, int, "RequestContext | None", "tuple[Any, ...] | None", "int | None"
]
# (metric_type, name, unit, end, value)
MetricItem = tuple[str, str, str, int, float]


class RequestContext:
    """A request under way. The flusher alone writes `statements`, `busy` and `slow`."""

    __slots__ = ("busy", "endpoint", "is_counted", "is_over", "recorder", "slow", "statements")

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.endpoint = UNATTRIBUTED
        self.is_over = False  # its sample is in the queue
        self.is_counted = False  # the flusher has taken that sample
        self.statements: dict[int, list[int]] = {}  # fingerprint -> [calls, ns]
        self.busy: BusyTime | None = None  # the statements' time on the wall clock
        self.slow: list[tuple[StatementItem, int]] = []


CURRENT: ContextVar[RequestContext | None] = ContextVar("perfcore_request", default=None)


class Counter:
    """A count that threads raise without a lock.

    >>> c = Counter()
    >>> c.add(); c.add(); c.value
    2
    """

    __slots__ = ("_count",)

    def __init__(self) -> None:
        self._count = itertools.count()

    def add(self) -> None:
        next(self._count)

    @property
    def value(self) -> int:
        # itertools.count tells its next value in its repr only, without advancing.
        return int(repr(self._count)[6:-1])


class Buffer:
    """The three queues of a recorder, bounded; what does not fit is dropped and counted."""

    __slots__ = (
        "dropped", "generated", "large_characters", "limit", "metrics", "requests", "statements",
    )  # fmt: skip

    def __init__(self, limit: int = 50_000) -> None:
        self.limit = limit
        self.requests: deque[RequestItem] = deque()
        self.statements: deque[StatementItem] = deque()
        self.metrics: deque[MetricItem] = deque()
        self.generated = Counter()
        self.dropped = Counter()
        self.large_characters = 0  # of long texts that wait; about, as threads share it

    def add(self, queue: deque[_Item], item: _Item) -> None:
        """Queue a sample, or count it as dropped when the flusher is too far behind."""
        self.generated.add()
        if len(queue) < self.limit:
            queue.append(item)
        else:
            self.dropped.add()

    def admit(self, text: str) -> str:
        """Return a long text, or what stands for it when those that wait take too much memory."""
        self.large_characters += len(text)
        return text if self.large_characters <= _MAX_LARGE_CHARACTERS else OVERSIZED

    def __len__(self) -> int:
        return len(self.requests) + len(self.statements) + len(self.metrics)


def drain(queue: deque[_Item]) -> list[_Item]:
    """Take out what is in the queue now; what arrives meanwhile stays for the next time."""
    return [queue.popleft() for _ in range(len(queue))]
