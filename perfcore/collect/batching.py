"""Turn what the queues hold into a batch: histograms, attribution, thinned raw samples, texts."""

from __future__ import annotations

import logging
import math
import random
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import repeat
from operator import sub, truediv
from typing import Any

from perfcore.collect.buffer import (
    CANCELLED,
    DONE,
    FAILED,
    HOOKS,
    LARGE_CHARACTERS,
    REQUEST_WIDTH,
    STATEMENT_WIDTH,
    UNATTRIBUTED,
    Buffer,
    Ending,
    MetricItem,
    OpenCount,
    RequestContext,
    SlowStatement,
    drain,
)
from perfcore.collect.busy import BusyTime
from perfcore.collect.places import Places
from perfcore.collect.routes import UNMATCHED, endpoint_of
from perfcore.collect.stream import Stream
from perfcore.histogram import Histogram
from perfcore.metric_type import MetricType
from perfcore.normalise import fingerprint_hex, identity, storable
from perfcore.store.ingest import (
    Batch,
    EndpointStatement,
    RawSample,
    Repetition,
    Rollup,
    SeriesKey,
    SlowQuery,
    StreamChunk,
    fit_for_store,
)

log = logging.getLogger("perfcore.collect")

OTHER = "(other)"
REPEATED_CALLS = 5
_MAX_TEXT = 65_536
_MAX_KNOWN_CHARACTERS = 4_000_000
_MAX_NAME = 500
_MAX_ROUTES = 10_000
_FIRST_REQUESTS = 1_000
_NS_PER_MS = 1e6
_PIECE = 4_000
# The thread slept so much longer than asked: the process as a whole stood still.
_STALLED_NS = 5_000_000_000
_LONGEST_BUDGET_S = 10.0
_API_ENDPOINT = MetricType.API_ENDPOINT.value
_API_OUTCOME = MetricType.API_OUTCOME.value
_API_FIRST_BYTE = MetricType.API_FIRST_BYTE.value
_API_STREAM = MetricType.API_STREAM.value
_CONNECTION = MetricType.CONNECTION.value
_DATABASE_QUERY = MetricType.DATABASE_QUERY.value
_DATABASE_BATCH = MetricType.DATABASE_BATCH.value
_DATABASE_CANCELLED = MetricType.DATABASE_CANCELLED.value
_DATABASE_TIME = MetricType.DATABASE_TIME.value


@dataclass(frozen=True, slots=True)
class Limits:
    """What bounds the memory of the host and the growth of the store, and from where on N+1 is."""

    endpoints: int = 2_000
    statements: int = 5_000
    metrics: int = 1_000
    raw_per_s: float = 500.0
    slow_per_s: float = 20.0
    references_per_s: float = 200.0  # rows of the reference stream; 0: there is none
    # N+1 is a request that runs one statement at least so often and so long.
    n_plus_one_calls: int = 5
    n_plus_one_ms: float = 50.0


# What the queue holds of a request: route or name, method, start, end, status or Ending, context.
_Request = tuple[Any, ...]
# Ends by the clock, and durations in ms.
_Times = tuple[list[int], list[float]]
# A text as it was sent; a long one is known by its beginning and its length.
_TextKey = str | tuple[str, int]


class Batcher:
    """Knows the names and texts of one process; used by the flusher thread alone."""

    def __init__(
        self,
        service: str,
        process: str,
        limits: Limits,
        wall_ns: Callable[[], int] = time.time_ns,
        clock_ns: Callable[[], int] = time.perf_counter_ns,
        stream_key: bytes = b"",
    ) -> None:
        self._service = service
        self._process = process
        self._limits = limits
        self._n_plus_one_ns = limits.n_plus_one_ms * _NS_PER_MS
        self._wall_ns, self._clock_ns = wall_ns, clock_ns
        self._last_ns = clock_ns()
        self._random = random.Random()
        self._raw_rows = _Allowance(limits.raw_per_s)
        self._slow_rows = _Allowance(limits.slow_per_s)
        self._names: dict[str, dict[str, str]] = {}  # kind -> name as given -> name as stored
        self._fingerprints: dict[_TextKey, int] = {}  # by the text as it was sent
        self._fingerprint_characters = 0
        self._texts: dict[int, str] = {}
        self._text_characters = 0
        self._hex: dict[int, str] = {}
        self._sent_texts: set[int] = set()
        # By id(route) and method; each holds its route, so that the id means no other.
        self._route_names: dict[tuple[int, str], tuple[str, Any]] = {}
        self._first_requests = _FIRST_REQUESTS
        self._stalls: list[tuple[int, int]] = []
        self._open: dict[str, int] = {}  # as last told
        self._places = Places()
        self._stream = Stream(stream_key, limits.references_per_s)

    def slept(self, since_ns: int, asked_s: float) -> None:
        """Learn how long the thread slept: much longer than asked means a suspended process."""
        asked_until_ns, now_ns = since_ns + int(asked_s * 1e9), self._clock_ns()
        if now_ns - asked_until_ns > _STALLED_NS:
            self._stalls = [*self._stalls[-9:], (asked_until_ns, now_ns)]

    def take(self, buffer: Buffer) -> Batch | None:
        """Drain the buffer into a batch, None when it was empty."""
        now_ns = self._clock_ns()
        for rows in (self._raw_rows, self._slow_rows):
            rows.earn((now_ns - self._last_ns) / 1e9)
        self._last_ns = now_ns
        # Requests first: whatever a finished request executed is then among the statements.
        requests, statements = drain(buffer.requests), drain(buffer.statements)
        buffer.large_characters = 0
        metrics = drain(buffer.metrics)
        buffer.make_room()
        count = len(requests) // REQUEST_WIDTH + len(statements) // STATEMENT_WIDTH
        count += len(metrics)
        draft = _Draft(self._service, self._wall_ns() - now_ns)
        for piece in _pieces(statements, STATEMENT_WIDTH):
            self._add_statements(draft, piece)
        for piece in _pieces(requests, REQUEST_WIDTH):
            self._add_requests(draft, piece)
        self._settle(len(requests) // REQUEST_WIDTH)
        for metric in metrics:
            self._add_metric(draft, metric)
        self._places.learn(drain(buffer.sightings), self._fingerprints)
        buffer.wanted = self._places.ask(self._fingerprints)
        chunk = self._chunk(now_ns)
        buffer.hashed = self._stream.hashed
        self._add_open(draft, "streams.open", buffer.streams, now_ns)
        self._add_open(draft, "websockets.open", buffer.websockets, now_ns)
        if not draft.samples:
            return None
        texts = tuple((fp, self._texts[fp]) for fp in draft.fingerprints - self._sent_texts)
        self._sent_texts |= draft.fingerprints
        raw = tuple(self._thin(draft, self._raw_rows.now))
        slow = tuple(draft.slow[: math.ceil(self._slow_rows.now)])
        self._raw_rows.spend(len(raw))
        self._slow_rows.spend(len(slow))
        return Batch(
            str(uuid.uuid4()),
            self._service,
            self._process,
            datetime.fromtimestamp(self._wall_ns() / 1e9, UTC),
            count,
            raw=raw,
            rollups=draft.rollups(),
            endpoint_statements=draft.endpoint_statements(),
            slow_queries=slow,
            texts=texts,
            repetitions=draft.repetitions(self._places),
            streams=(chunk,) if chunk is not None else (),
        )

    def _chunk(self, now_ns: int) -> StreamChunk | None:
        """Return what there is of the reference stream; a fault in it must cost no sample."""
        try:
            return self._stream.chunk(now_ns, self._wall_ns(), self._endpoint_of)
        except Exception:
            log.exception("perfcore: the reference stream ends, measuring goes on")
            self._stream = Stream(b"", 0.0)
            return None

    def forget(self, batch: Batch) -> None:
        """Send the texts of a lost batch once more, with the next one that needs them."""
        self._sent_texts -= {fp for fp, _ in batch.texts}

    def forget_all(self) -> None:
        """Send every text once more: nobody knows which ones a lost batch held."""
        self._sent_texts = set()

    def _add_statements(self, draft: _Draft, flat: list[Any]) -> None:
        """Add executions, eight values each, those of one text and one outcome at a time."""
        groups: defaultdict[tuple[str, int, str, int], _Times] = defaultdict(lambda: ([], []))
        known, follow = self._fingerprints, self._stream.follow
        for item in zip(*[iter(flat)] * STATEMENT_WIDTH, strict=True):
            text, end_ns, duration_ns, outcome, context, parameters, rows, key = item
            fp = known.get(text)
            if fp is None:
                fp = self._identify(text)
                follow = self._stream.follow
            followed = follow.get(text)
            if followed is not None and outcome == DONE:
                self._stream.take(followed, key, end_ns, duration_ns, context)
            kind = _DATABASE_QUERY
            if outcome == CANCELLED:
                kind = _DATABASE_CANCELLED
            elif rows is not None:
                kind = _DATABASE_BATCH
                if rows >= 0:
                    draft.add(kind, self._hex[fp], "rows", end_ns, rows, False)
            ends, durations_ms = groups[kind, fp, "ms", outcome]
            ends.append(end_ns)
            durations_ms.append(duration_ns / _NS_PER_MS)
            slow = None
            if parameters is not None:
                slow = SlowStatement(fp, end_ns, duration_ns, outcome, parameters)
            if context is None or context.is_counted:
                self._attribute_late(draft, context, fp, end_ns, duration_ns, slow)
            else:
                self._attribute_soon(context, fp, end_ns, duration_ns, slow)
        for (kind, fp, unit, outcome), (ends, durations_ms) in groups.items():
            draft.fingerprints.add(fp)
            draft.add_all((kind, self._hex[fp], unit), ends, durations_ms, outcome == FAILED)

    def _attribute_late(
        self,
        draft: _Draft,
        context: RequestContext | None,
        fp: int,
        end_ns: int,
        duration_ns: int,
        slow: SlowStatement | None,
    ) -> None:
        """Add an execution outside of any request, or of one that was added already."""
        endpoint = UNATTRIBUTED if context is None else self._endpoint_of(context)
        draft.attribute(endpoint, end_ns, fp, 1, duration_ns, 0, 0)
        if slow is not None:
            draft.add_slow(slow, endpoint)

    def _attribute_soon(
        self,
        context: RequestContext,
        fp: int,
        end_ns: int,
        duration_ns: int,
        slow: SlowStatement | None,
    ) -> None:
        """Keep an execution until its request is over and has a name."""
        if context.statements is None:
            context.statements, context.slow, context.busy = {}, [], BusyTime()
        entry = context.statements.get(fp)
        if entry is None:
            context.statements[fp] = [1, duration_ns]
        else:
            entry[0] += 1
            entry[1] += duration_ns
        context.busy.add(end_ns - duration_ns, end_ns)
        if slow is not None and len(context.slow) < self._limits.slow_per_s:
            context.slow.append(slow)

    def _add_requests(self, draft: _Draft, flat: list[Any]) -> None:
        """Add requests, six values each, those of one route and one status at a time."""
        routes, methods, starts, ends, statuses, contexts = (
            flat[nth::REQUEST_WIDTH] for nth in range(REQUEST_WIDTH)
        )
        # An Ending stands for itself alone; of other things that are no int nothing is known.
        kinds = statuses
        if set(map(type, statuses)) - {int}:
            kinds = [status if type(status) is int else None for status in statuses]
        groups: defaultdict[tuple[int, str, int | None], list[int]] = defaultdict(list)
        for index, key in enumerate(zip(map(id, routes), methods, kinds, strict=True)):
            groups[key].append(index)
        for (_, method, status), indexes in groups.items():
            endpoint = self._endpoint(self._request_name(routes[indexes[0]], method))
            chosen = [list(map(c.__getitem__, indexes)) for c in (starts, ends, contexts)]
            if status is not None and 100 <= status < 600:
                self._add_answers(draft, endpoint, *chosen, is_error=status >= 500)
            else:
                endings = map(statuses.__getitem__, indexes)
                for item in zip(*chosen, endings, strict=True):
                    self._add_unusual(draft, endpoint, *item)

    def _settle(self, requests: int) -> None:
        if self._first_requests > 0:
            self._first_requests -= requests
            if self._first_requests <= 0:
                HOOKS.settle()

    def _add_answers(
        self,
        draft: _Draft,
        endpoint: str,
        starts: list[int],
        ends: list[int],
        contexts: list[RequestContext | None],
        *,
        is_error: bool,
    ) -> None:
        durations_ms = list(map(truediv, map(sub, ends, starts), repeat(_NS_PER_MS)))
        draft.add_all((_API_ENDPOINT, endpoint, "ms"), ends, durations_ms, is_error)
        if any(contexts):
            for started_ns, ended_ns, context in zip(starts, ends, contexts, strict=True):
                if context is not None:
                    self._attribute(draft, endpoint, context, started_ns, ended_ns, is_error)
        for since_ns, until_ns in self._stalls:
            for started_ns, ended_ns in zip(starts, ends, strict=True):
                if started_ns <= since_ns and until_ns <= ended_ns + _STALLED_NS:
                    self._add_outcome(draft, endpoint, "stalled", started_ns, ended_ns, is_error)

    def _add_unusual(
        self,
        draft: _Draft,
        endpoint: str,
        started_ns: int,
        ended_ns: int,
        context: RequestContext | None,
        ending: Any,
    ) -> None:
        """Add a request that was streamed, did not end by its answer, or had no valid status."""
        if type(ending) is not Ending:
            ending = Ending("invalid_status", True)
        taken_ns = ended_ns
        if ending.first_byte_ns:
            first_ms = (ending.first_byte_ns - started_ns) / _NS_PER_MS
            draft.add(_API_FIRST_BYTE, endpoint, "ms", ended_ns, first_ms, ending.is_error)
        if ending.is_endless:
            open_ms = (ended_ns - started_ns) / _NS_PER_MS
            draft.add(_API_STREAM, endpoint, "ms", ended_ns, open_ms, ending.is_error)
            taken_ns = ending.first_byte_ns
        taken_ms = (taken_ns - started_ns) / _NS_PER_MS
        draft.add(_API_ENDPOINT, endpoint, "ms", ended_ns, taken_ms, ending.is_error)
        if ending.outcome:
            outcome = ending.outcome
            self._add_outcome(draft, endpoint, outcome, started_ns, ended_ns, ending.is_error)
        if context is not None:
            self._attribute(draft, endpoint, context, started_ns, ended_ns, ending.is_error)

    def _add_outcome(
        self,
        draft: _Draft,
        endpoint: str,
        outcome: str,
        started_ns: int,
        ended_ns: int,
        is_error: bool,
    ) -> None:
        name = self._bounded(_API_OUTCOME, f"{endpoint} {outcome}", self._limits.endpoints)
        taken_ms = (ended_ns - started_ns) / _NS_PER_MS
        draft.add(_API_OUTCOME, name, "ms", ended_ns, taken_ms, is_error)

    def _request_name(self, route: Any, method: str) -> str:
        """Return the endpoint of what the middleware queued: a route, or the name itself."""
        if type(route) is str:
            return route
        known = self._route_names.get((id(route), method))
        if known is not None:
            return known[0]
        try:
            name = endpoint_of({"method": method, "route": route})
        except Exception:  # a route of a kind that nobody knows: its own code runs here
            name = f"{method} {UNMATCHED}"
        if len(self._route_names) >= _MAX_ROUTES:
            self._route_names.clear()
        self._route_names[id(route), method] = name, route
        return name

    def _attribute(
        self,
        draft: _Draft,
        endpoint: str,
        context: RequestContext,
        started_ns: int,
        ended_ns: int,
        is_error: bool,
    ) -> None:
        """Add what a finished request executed."""
        context.endpoint = endpoint
        context.is_counted = True
        if context.statements is None:
            return
        for fp, (calls, ns) in context.statements.items():
            draft.fingerprints.add(fp)
            draft.attribute(endpoint, ended_ns, fp, calls, ns, 1, calls)
            if calls >= self._limits.n_plus_one_calls and ns >= self._n_plus_one_ns and calls > 1:
                draft.repeat(endpoint, ended_ns, fp, calls, ns)
                self._places.want(endpoint, fp)
        busy_ms = context.busy.total_ns(started_ns, ended_ns) / _NS_PER_MS
        draft.add(_DATABASE_TIME, endpoint, "ms", ended_ns, busy_ms, is_error)
        for slow in context.slow:
            draft.add_slow(slow, endpoint)
        context.statements = None
        del context.slow, context.busy

    def _add_metric(self, draft: _Draft, item: MetricItem) -> None:
        metric_type, name, unit, at_ns, value = item
        name = self._bounded(metric_type, name, self._limits.metrics)
        draft.add(metric_type, name, fit_for_store(unit)[:40], at_ns, value, False)

    def _add_open(self, draft: _Draft, name: str, count: OpenCount, at_ns: int) -> None:
        """Add how many are open, and once that none is any more."""
        value = count.value
        if value or self._open.get(name):
            draft.add(_CONNECTION, name, "connections", at_ns, value, False)
            self._open[name] = value

    def _endpoint(self, name: str) -> str:
        return self._bounded(_API_ENDPOINT, name, self._limits.endpoints)

    def _endpoint_of(self, context: RequestContext) -> str:
        """Return the endpoint of a request that was counted."""
        return self._endpoint(self._request_name(context.endpoint, context.method))

    def _bounded(self, kind: str, name: str, limit: int) -> str:
        """Return the name, or "(other)" once the process has shown its number of names."""
        names = self._names.setdefault(kind, {})
        known = names.get(name)
        if known is None:
            if len(names) >= limit:
                return OTHER
            known = names[name] = fit_for_store(name)[:_MAX_NAME]
        return known

    def _identify(self, text: str) -> int:
        """Return a text's fingerprint; each distinct text is normalised once."""
        key: _TextKey = text
        if len(text) > LARGE_CHARACTERS:
            key = text[:LARGE_CHARACTERS], len(text)
        found = self._fingerprints.get(key)
        if found is not None:
            return found
        self._fingerprint_characters += len(text[:LARGE_CHARACTERS])
        if self._fingerprint_characters > _MAX_KNOWN_CHARACTERS:
            self._fingerprints.clear()  # an application that writes values into its texts
            self._fingerprint_characters = 0
            self._stream.forget_texts()
        normalised = storable(text)
        fp = self._fingerprints[key] = self._name(normalised)
        if fp == identity(normalised):  # and not of the many that are "(other)"
            self._stream.learn(text, fp, normalised)
        return fp

    def _name(self, normalised: str) -> int:
        """Return the fingerprint of a text, whose hex and text are known from now on."""
        fp = identity(normalised)
        if fp not in self._hex:
            is_full = self._text_characters > _MAX_KNOWN_CHARACTERS
            if is_full or len(self._hex) >= self._limits.statements:
                normalised, fp = OTHER, identity(OTHER)
            self._text_characters += len(normalised[:_MAX_TEXT])
            self._texts[fp] = fit_for_store(normalised)[:_MAX_TEXT]
            self._hex[fp] = fingerprint_hex(fp)
        return fp

    def _thin(self, draft: _Draft, budget: float) -> Iterable[RawSample]:
        """Yield at most about `budget` samples, each with the number of samples it stands for."""
        stride = max(1, math.ceil(draft.samples / max(budget, 1.0)))
        for series, is_error, ends, values in draft.raw():
            for start in range(0, len(values), stride):
                weight = min(stride, len(values) - start)
                chosen = start if stride == 1 else start + self._random.randrange(weight)
                at = draft.instant(ends[chosen])
                yield RawSample(series, at, values[chosen], is_error, weight)


class _Allowance:
    """How many rows may be sent now: what time has earned, and at most a second's worth saved.

    A suspended process comes back with the earnings of seconds, not of hours.
    """

    def __init__(self, per_s: float) -> None:
        self._per_s = per_s
        self.now = per_s

    def earn(self, elapsed_s: float) -> None:
        saved = min(self.now, self._per_s)
        self.now = min(saved + elapsed_s * self._per_s, _LONGEST_BUDGET_S * self._per_s)

    def spend(self, rows: int) -> None:
        self.now = max(self.now - rows, 0.0)


class _Cell:
    """A series in a minute: when its samples ended (clock ns), and their values."""

    __slots__ = ("error_ends", "errors", "success_ends", "successes")

    def __init__(self) -> None:
        self.success_ends: list[int] = []
        self.successes: list[float] = []
        self.error_ends: list[int] = []
        self.errors: list[float] = []

    def add(self, ends: Iterable[int], values: Iterable[float], is_error: bool) -> None:
        (self.error_ends if is_error else self.success_ends).extend(ends)
        (self.errors if is_error else self.successes).extend(values)

    def histogram(self) -> Histogram:
        histogram = Histogram()
        histogram.record_all(self.successes)
        histogram.record_all(self.errors, errors=len(self.errors))
        return histogram


class _Draft:
    """The sums of one drain."""

    def __init__(self, service: str, offset_ns: int) -> None:
        self._service = service
        self._offset_ns = offset_ns  # wall clock minus monotonic clock
        self._cells: defaultdict[tuple[str, str, str, int], _Cell] = defaultdict(_Cell)
        self._attributed: dict[tuple[str, int, int], list[int]] = {}
        self._repeated: dict[tuple[str, int, int], list[int]] = {}
        self.samples = 0
        self.slow: list[SlowQuery] = []
        self.fingerprints: set[int] = set()

    def instant(self, clock_ns: int) -> datetime:
        return datetime.fromtimestamp((clock_ns + self._offset_ns) / 1e9, UTC)

    def _minute(self, clock_ns: int) -> int:
        return (clock_ns + self._offset_ns) // 60_000_000_000

    def add(
        self, metric_type: str, name: str, unit: str, at_ns: int, value: float, is_error: bool
    ) -> None:
        cell = self._cells[metric_type, name, unit, self._minute(at_ns)]
        cell.add((at_ns,), (value,), is_error)
        self.samples += 1

    def add_all(
        self,
        series: tuple[str, str, str],
        ends: Sequence[int],
        values: Sequence[float],
        is_error: bool,
    ) -> None:
        """Add many samples of a series at once, as long as all are of one minute."""
        minute = self._minute(min(ends))
        if minute == self._minute(max(ends)):
            self._cells[*series, minute].add(ends, values, is_error)
            self.samples += len(ends)
        else:
            for at_ns, value in zip(ends, values, strict=True):
                self.add(*series, at_ns, value, is_error)

    def raw(self) -> Iterator[tuple[SeriesKey, bool, list[int], list[float]]]:
        for (*name, _), cell in self._cells.items():
            series = SeriesKey(self._service, *name)
            yield series, False, cell.success_ends, cell.successes
            yield series, True, cell.error_ends, cell.errors

    def attribute(
        self, endpoint: str, at_ns: int, fp: int, calls: int, ns: int, requests: int, most: int
    ) -> None:
        where = (endpoint, self._minute(at_ns), fp)
        sums = self._attributed.setdefault(where, [0, 0, 0, 0, 0])
        sums[0] += calls
        sums[1] += ns
        sums[2] += requests
        sums[3] += most >= REPEATED_CALLS
        sums[4] = max(sums[4], most)

    def repeat(self, endpoint: str, at_ns: int, fp: int, calls: int, ns: int) -> None:
        """Add a request that ran a statement again and again."""
        sums = self._repeated.setdefault((endpoint, self._minute(at_ns), fp), [0, 0, 0, 0])
        sums[0] += 1
        sums[1] += calls
        sums[2] += ns
        sums[3] = max(sums[3], calls)

    def add_slow(self, slow: SlowStatement, endpoint: str) -> None:
        started = self.instant(slow.end_ns - slow.duration_ns)
        self.fingerprints.add(slow.fp)
        self.slow.append(
            SlowQuery(
                str(uuid.uuid4()), started, endpoint, slow.fp,
                slow.duration_ns / _NS_PER_MS, slow.outcome != DONE, slow.parameters,
            )
        )  # fmt: skip

    def rollups(self) -> tuple[Rollup, ...]:
        return tuple(
            Rollup(SeriesKey(self._service, *name), _at_minute(minute), cell.histogram())
            for (*name, minute), cell in self._cells.items()
        )

    def endpoint_statements(self) -> tuple[EndpointStatement, ...]:
        return tuple(
            EndpointStatement(_at_minute(minute), endpoint, fp, calls, ns / _NS_PER_MS, *rest)
            for (endpoint, minute, fp), (calls, ns, *rest) in self._attributed.items()
        )

    def repetitions(self, places: Places) -> tuple[Repetition, ...]:
        return tuple(
            Repetition(
                _at_minute(minute), endpoint, fp, fit_for_store(places.of(endpoint, fp)),
                requests, calls, ns / _NS_PER_MS, most,
            )
            for (endpoint, minute, fp), (requests, calls, ns, most) in self._repeated.items()
        )  # fmt: skip


def _at_minute(minute: int) -> datetime:
    return datetime.fromtimestamp(minute * 60, UTC)


def _pieces(flat: list[Any], width: int) -> Iterator[list[Any]]:
    """Yield a queue's values some thousand samples at a time: what a piece needs is then freed."""
    step = width * _PIECE
    for start in range(0, len(flat), step):
        yield flat[start : start + step]
