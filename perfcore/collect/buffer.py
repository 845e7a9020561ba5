"""Where measurements wait for the flusher: queues that need no lock, with exact counts.

The request path appends and nothing else. Extending a list and taking from its front are
atomic in CPython, so requests never wait for the flusher and none is counted twice or not at all.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple

from perfcore.normalise import OVERSIZED

if TYPE_CHECKING:
    from perfcore.collect.busy import BusyTime
    from perfcore.collect.recorder import Recorder

UNATTRIBUTED = "(unattributed)"
LARGE_CHARACTERS = 16_384  # a text from here on is known by its beginning and its length
_MAX_LARGE_CHARACTERS = 4_000_000

# Six values a request, one after the other in one list: its route, or its name where that is known
# already; its method; start and end by perf_counter_ns; its status, or an Ending; its context, if
# it has one. A tuple each would be one more object for the host's garbage collector to visit.
REQUEST_WIDTH = 6
# How an execution ended; the cancelled one has a time that says nothing about the statement.
DONE, FAILED, CANCELLED = 0, 1, 2
# Eight values an execution, likewise: its text as it was sent; its end and duration; its outcome;
# its request's context or None; described parameters of a slow one; the rows of an executemany,
# -1 when they are not known, None for a single execution; and its parameters, encoded, where its
# text is one of those that are `hashed`.
STATEMENT_WIDTH = 8
# (metric_type, name, unit, end, value)
MetricItem = tuple[str, str, str, int, float]


class Ending(NamedTuple):
    """How a request ended that did not just answer: it stands in the place of the status."""

    outcome: str  # "client_gone", "raised ValueError", "" for a stream that was sent to its end
    is_error: bool
    first_byte_ns: int = 0  # when a streamed answer began, by perf_counter_ns
    is_endless: bool = False  # its length is no latency: a stream of events, or one cut off


class SlowStatement(NamedTuple):
    """A slow execution that waits for the end of its request, and so for its endpoint's name."""

    fp: int
    end_ns: int
    duration_ns: int
    outcome: int
    parameters: tuple[Any, ...]


class RequestContext:
    """A request under way. The flusher alone writes `statements`, `busy` and `slow`.

    What is as here stays with the class: the requests that execute nothing pay for no more.
    """

    endpoint: Any = UNATTRIBUTED  # the name, or a route that with the method has one
    method = ""
    is_used = False  # a statement has asked for it
    is_counted = False  # the flusher has taken that sample, or has no need of it
    statements: dict[int, list[int]] | None = None  # fingerprint -> [calls, ns]
    busy: BusyTime  # the statements' time on the wall clock; there with the first of them
    slow: list[SlowStatement]

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder


CURRENT: ContextVar[RequestContext | None] = ContextVar("perfcore_request", default=None)


class Hooks:
    """Whether anything may ask for CURRENT; if nothing does, no request pays for a context.

    The first requests have one in any case: often it is they who make what is then watched.
    """

    __slots__ = ("_are_there", "exist")

    def __init__(self) -> None:
        self.exist = True
        self._are_there = False

    def add(self) -> None:
        self.exist = self._are_there = True

    def settle(self) -> None:
        """The first requests are over."""
        self.exist = self._are_there


HOOKS = Hooks()


class Counter:
    """A count that threads raise without a lock, by `add()` or by `next(counter.numbers)`.

    >>> c = Counter()
    >>> c.add(); c.add(); c.value
    2
    """

    __slots__ = ("numbers",)

    def __init__(self) -> None:
        self.numbers = itertools.count()

    def add(self) -> None:
        next(self.numbers)

    @property
    def value(self) -> int:
        # itertools.count tells its next value in its repr only, without advancing.
        return int(repr(self.numbers)[6:-1])


class OpenCount:
    """How many of something are open now."""

    __slots__ = ("closed", "opened")

    def __init__(self) -> None:
        self.opened = Counter()
        self.closed = Counter()

    @property
    def value(self) -> int:
        return self.opened.value - self.closed.value


class Buffer:
    """The three queues of a recorder, bounded; what does not fit is dropped and counted.

    Each sample draws a number from `generated`, and numbers below `room` fit. The flusher
    raises `room` when it has emptied the queues, so the bound costs a sample one comparison.
    """

    __slots__ = (
        "_limit", "dropped", "generated", "hashed", "large_characters", "metrics", "requests",
        "room", "sightings", "statements", "streams", "wanted", "websockets",
    )  # fmt: skip

    def __init__(self, limit: int = 50_000) -> None:
        self.requests: list[Any] = []
        self.statements: list[Any] = []
        self.metrics: list[MetricItem] = []
        self.generated = Counter()
        self.dropped = Counter()
        self.streams = OpenCount()
        self.websockets = OpenCount()
        # Texts of which the flusher wants to know who sends them, and how often still; and
        # what was seen: the request's context, the text, the place in the application's code.
        self.wanted: dict[str, int] = {}
        self.sightings: list[tuple[RequestContext, str, str]] = []
        self.hashed: frozenset[str] = frozenset()  # texts whose parameters the stream wants
        self.large_characters = 0  # of long texts that wait; about, as threads share it
        self.limit = limit

    @property
    def limit(self) -> int:
        """How many samples wait at most."""
        return self._limit

    @limit.setter
    def limit(self, limit: int) -> None:
        self._limit = limit
        self.make_room()

    def make_room(self) -> None:
        """Let in as many samples as are missing to the limit."""
        self.room = self.generated.value + self._limit - len(self)

    def add(self, queue: list[Any], values: Iterable[Any]) -> None:
        """Queue a sample's values, or count it as dropped when the flusher is too far behind."""
        if next(self.generated.numbers) < self.room:
            queue.extend(values)
        else:
            self.dropped.add()

    def admit(self, text: str) -> str:
        """Return a long text, or what stands for it when those that wait take too much memory."""
        self.large_characters += len(text)
        return text if self.large_characters <= _MAX_LARGE_CHARACTERS else OVERSIZED

    def __len__(self) -> int:
        requests = len(self.requests) // REQUEST_WIDTH
        return requests + len(self.statements) // STATEMENT_WIDTH + len(self.metrics)


def drain(queue: list[Any]) -> list[Any]:
    """Take out what is in the queue now; what arrives meanwhile stays for the next time."""
    taken = queue[:]
    del queue[: len(taken)]
    return taken
