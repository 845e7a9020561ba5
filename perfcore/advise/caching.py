"""What an application's cache would save: the reference stream replayed through TTL and LRU.

Hit rates over the number of entries follow from reuse distances (Mattson et al., "Evaluation
techniques for storage hierarchies", IBM Systems Journal 1970): a read hits in every LRU cache that
has more entries than other keys were read since its own last read. Of a sampled stream each key
stands for as many as were left out, and misses count against all reads (Waldspurger et al.,
"Efficient MRC Construction with SHARDS", FAST 2015). A TTL counts from the miss that filled the
entry. The cache starts empty.

Writes to a statement's tables make its answers stale; each is taken to change all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from perfcore.advise.statement import StatementShape, plannable
from perfcore.advise.workload import Writes
from perfcore.store.read_streams import Floats, Ints, References
from perfcore.types import WorkloadStatement

TTLS_S = (1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0)
ENTRIES = tuple(round(10 ** (n / 4)) for n in range(25))  # 1 ... 1,000,000
MAX_STALE_SHARE = 0.05
_ENOUGH = 0.9  # of what the best TTL saves: beyond it answers only get older
_ENOUGH_ENTRIES = 0.95  # of the hits of a cache without a limit
_LONGEST_SHARE = 0.25  # of the stream's length: of a longer TTL too little was seen
_BLOCK = 64
_LATE_S = 10.0
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class CachePoint:
    """What a cache of one TTL and one size does to the reads it stands before."""

    ttl_s: float
    entries: int | None  # None: no limit
    hit_rate: float  # of all reads
    saved_ms_per_hour: float  # of the time that the application waits for the database
    stale_share: float = 0.0  # of the hits: served although a later write had changed the answer
    stale_age_s: float = 0.0  # of these hits: since the first write that they did not show
    is_allowed: bool = True  # no result changes faster than the TTL


@dataclass(frozen=True, slots=True)
class CacheShare:
    """What one cache does to one of the statements before it."""

    fingerprint: int
    reads: float  # executions
    hit_rate: float  # of its own reads; 0 where its answers are not kept
    saved_ms_per_hour: float
    is_kept: bool  # its results change no more often than once a TTL


@dataclass(frozen=True, slots=True)
class CacheCurves:
    """What a cache would do to the reads of a statement or an endpoint."""

    reads: int  # executions that the stream stands for
    references: int  # rows that were replayed
    sampled: float  # the share of keys that was replayed
    keys: int  # different ones, those left out included
    span_s: float
    total_ms_per_hour: float
    changes_per_hour: float  # writes to the tables that could change an answer
    by_ttl: tuple[CachePoint, ...] = ()  # entries without a limit
    by_entries: tuple[CachePoint, ...] = ()  # at the suggested TTL, or at the longest
    best: CachePoint | None = None
    per_process_hit_rate: float = 0.0  # of the best, were it in each process's own memory
    longest_ttl_s: float | None = None  # of which enough was seen
    most_repeated: float = 0.0  # the hit rate of that TTL, had nothing been written
    shares: tuple[CacheShare, ...] = ()  # of the best, or of the shortest TTL


@dataclass(frozen=True, slots=True)
class _Groups:
    """References by key and then time, so that what follows a read is where it lies."""

    order: Ints  # into the references
    start: Bools  # the first of its key
    end: Ints  # where the key's references end
    at_s: Floats
    axis: Floats  # all keys on one axis of time, far apart
    far: float

    @classmethod
    def of(cls, key: Ints, at_s: Floats, longest_s: float) -> _Groups:
        order = np.lexsort((at_s, key))
        codes, since = key[order], at_s[order]
        start = np.ones(len(order), dtype=np.bool_)
        start[1:] = codes[1:] != codes[:-1]
        number = np.cumsum(start) - 1
        firsts = np.flatnonzero(start)
        ends = np.append(firsts[1:], len(order))
        origin = float(at_s.min()) if len(at_s) else 0.0
        span = float(at_s.max()) - origin if len(at_s) else 0.0
        far = 2 * (span + longest_s) + 1.0
        return cls(order, start, ends[number], since, number * far + (since - origin), far)


def misses(
    groups: _Groups,
    ttl_s: float,
    forced: Bools | None = None,
) -> Bools:
    """Return which of the grouped references fill the entry: no other fill is younger than the TTL.

    `forced` are those that find their entry evicted.
    """
    count = len(groups.order)
    following = np.searchsorted(groups.axis, groups.axis + ttl_s, side="left")
    following = np.minimum(following, groups.end)
    if forced is not None:
        places = np.where(forced, np.arange(count), count)
        nearest = np.append(np.minimum.accumulate(places[::-1])[::-1], count)[1:]
        following = np.minimum(following, nearest)
    filled = groups.start.copy()
    current = np.flatnonzero(groups.start)
    while len(current):
        after = following[current]
        current = after[after < groups.end[current]]
        filled[current] = True
    return filled


def reuse_distances(key: Ints, weight: Floats) -> Floats:
    """Return how many other keys were read since each read's own last one, infinite for the first.

    That is the weight of the reads before it whose own last read lies before its own, less that
    of all up to its own last read: each other key counts once, by its first read in between.
    """
    last = _last_read(key)
    before = np.concatenate(([0.0], np.cumsum(weight)))
    found = _weight_of_smaller_before(last, weight) - before[last + 1]
    return np.where(last < 0, np.inf, found)


def _last_read(key: Ints) -> Ints:
    order = np.argsort(key, kind="stable")
    last = np.full(len(key), -1, dtype=np.int64)
    same = key[order][1:] == key[order][:-1]
    last[order[1:][same]] = order[:-1][same]
    return last


def _weight_of_smaller_before(values: Ints, weight: Floats) -> Floats:
    """Return for each place the weight of those before it that hold a smaller value."""
    if len(values) <= _BLOCK:
        smaller = np.tril(values[None, :] < values[:, None], -1)
        found: Floats = (smaller * weight).sum(axis=1)
        return found
    middle = len(values) // 2
    left, right = values[:middle], values[middle:]
    order = np.argsort(left, kind="stable")
    sums = np.concatenate(([0.0], np.cumsum(weight[:middle][order])))
    across = sums[np.searchsorted(left[order], right, side="left")]
    return np.concatenate(
        (
            _weight_of_smaller_before(left, weight[:middle]),
            _weight_of_smaller_before(right, weight[middle:]) + across,
        )
    )


@dataclass(frozen=True)
class Replay:
    """The reads of a statement or an endpoint before caches of every kind.

    `reads` counts the executions of each statement, `changes` when its results may have changed,
    in s since the epoch. An endpoint keeps only the statements whose results change slower than
    the TTL; the reads of the others are misses.
    """

    references: References
    reads: Mapping[int, float]
    changes: Mapping[int, Floats]
    span_s: float
    is_endpoint: bool = False
    never: frozenset[int] = frozenset()  # statements whose answers must not be kept

    def curves(self) -> CacheCurves:
        """Return hit rates and saved time over TTL and over entries, with the point to choose."""
        refs = self.references
        longest_s = max((t for t in TTLS_S if t <= self.span_s * _LONGEST_SHARE), default=None)
        groups = _Groups.of(refs.key, refs.at_s, TTLS_S[-1])
        by_ttl = tuple(self.point(groups, ttl) for ttl in TTLS_S)
        chosen = _smallest_ttl(by_ttl, longest_s)
        distances = reuse_distances(refs.key, refs.weight)[groups.order]
        ttl_s = chosen.ttl_s if chosen else longest_s or TTLS_S[0]
        keys = float(refs.weight[groups.order][groups.start].sum())
        by_entries = tuple(
            self.point(groups, ttl_s, entries, distances) for entries in _sizes(keys)
        )
        best = _smallest_cache(chosen, by_entries)
        shown = best or by_ttl[0]
        return CacheCurves(
            reads=round(sum(self.reads.values())),
            references=len(refs),
            sampled=float((1 / refs.weight).mean()) if len(refs) else 1.0,
            keys=round(keys),
            span_s=self.span_s,
            total_ms_per_hour=self._total_ms_per_hour(),
            changes_per_hour=len(self._every_change()) * self._per_hour,
            by_ttl=by_ttl,
            by_entries=by_entries,
            best=best,
            per_process_hit_rate=self._per_process(chosen),
            longest_ttl_s=longest_s,
            most_repeated=self._repeated(groups, longest_s),
            shares=tuple(
                found.share for found in self._each(groups, shown.ttl_s, shown.entries, distances)
            ),
        )

    def point(
        self,
        groups: _Groups,
        ttl_s: float,
        entries: int | None = None,
        distances: Floats | None = None,
    ) -> CachePoint:
        """Return what one cache does; `distances` are of the grouped references."""
        found = self._each(groups, ttl_s, entries, distances)
        sampled = sum(f.sampled_hits for f in found)
        stale = sum(f.stale_hits for f in found)
        stale_share = stale / sampled if sampled else 0.0
        reads = sum(f.share.reads for f in found)
        return CachePoint(
            ttl_s,
            entries,
            sum(f.hits for f in found) / reads if reads else 0.0,
            sum(f.share.saved_ms_per_hour for f in found),
            stale_share,
            sum(f.stale_age for f in found) / stale if stale else 0.0,
            stale_share <= MAX_STALE_SHARE
            and (self.is_endpoint or all(self._is_slower(fp, ttl_s) for fp in self.reads)),
        )

    def _each(
        self, groups: _Groups, ttl_s: float, entries: int | None, distances: Floats | None
    ) -> list[_Found]:
        """Return what one cache does to each statement.

        Misses are counted against all reads: a key that is read very often and was left out, or
        kept by chance, then bends nothing (the correction of SHARDS).
        """
        forced = None if entries is None or distances is None else distances >= entries
        filled = misses(groups, ttl_s, forced)
        refs, order = self.references, groups.order
        fill_at = groups.at_s[np.maximum.accumulate(np.where(filled, np.arange(len(order)), 0))]
        weight, calls = refs.weight[order], refs.calls[order]
        hits = weight * (calls - filled)
        spent_ms = refs.duration_ms[order] / calls
        found = []
        for fp, reads in self.reads.items():
            mine = refs.fingerprint[order] == fp
            if not mine.any() or (self.is_endpoint and not self._is_slower(fp, ttl_s)):
                found.append(_Found(CacheShare(fp, reads, 0.0, 0.0, is_kept=False)))
                continue
            sampled = float(hits[mine].sum())
            missed = float(weight[mine & filled].sum())
            every = min(max(reads - missed, 0.0), reads) if sampled else 0.0
            saved_ms = every * float(hits[mine] @ spent_ms[mine]) / sampled if sampled else 0.0
            stale_s = _stale(self.changes.get(fp), groups.at_s[mine], fill_at[mine], filled[mine])
            share = CacheShare(
                fp, reads, every / reads if reads else 0.0, saved_ms * self._per_hour, is_kept=True
            )
            found.append(
                _Found(
                    share,
                    hits=every,
                    sampled_hits=sampled,
                    stale_hits=float(hits[mine][stale_s > 0].sum()),
                    stale_age=float(hits[mine] @ stale_s),
                )
            )
        return found

    def _repeated(self, groups: _Groups, ttl_s: float | None) -> float:
        """Return the hit rate of a cache that never has to forget for a write."""
        if ttl_s is None:
            return 0.0
        return replace(self, changes={}).point(groups, ttl_s).hit_rate

    def _every_change(self) -> Floats:
        """Return the changes of all statements, a write that changes several as one."""
        return change_instants(list(self.changes.values()), -np.inf, np.inf)

    def _is_slower(self, fp: int, ttl_s: float) -> bool:
        """Say whether the statement's results change no more often than once a TTL."""
        changes = self.changes.get(fp)
        if fp in self.never:
            return False
        return changes is None or len(changes) * ttl_s <= self.span_s

    def _per_process(self, chosen: CachePoint | None) -> float:
        if chosen is None:
            return 0.0
        refs = self.references
        key = np.unique(np.stack((refs.process, refs.key)), axis=1, return_inverse=True)[1]
        groups = _Groups.of(key.reshape(-1), refs.at_s, TTLS_S[-1])
        return self.point(groups, chosen.ttl_s).hit_rate

    def _total_ms_per_hour(self) -> float:
        refs, total = self.references, 0.0
        for fp, reads in self.reads.items():
            mine = refs.fingerprint == fp
            if calls := int(refs.calls[mine].sum()):
                total += reads * float(refs.duration_ms[mine].sum()) / calls
        return total * self._per_hour

    @property
    def _per_hour(self) -> float:
        return 3600.0 / self.span_s if self.span_s > 0 else 0.0


@dataclass(frozen=True, slots=True)
class _Found:
    """A statement's share with the sums that a point is made of."""

    share: CacheShare
    hits: float = 0.0  # of all reads
    sampled_hits: float = 0.0  # of those that were replayed
    stale_hits: float = 0.0
    stale_age: float = 0.0  # s, of all stale hits together


def _stale(changes: Floats | None, at_s: Floats, fill_at: Floats, filled: Bools) -> Floats:
    """Return since when each hit's answer was out of date, in s; 0 where it was not."""
    if changes is None or not len(changes):
        return np.zeros(len(at_s))
    after = np.append(changes, np.inf)[np.searchsorted(changes, fill_at, side="right")]
    is_stale = ~filled & (after <= at_s)
    return np.where(is_stale, np.maximum(at_s - np.where(is_stale, after, at_s), 1e-9), 0.0)


def _smallest_ttl(by_ttl: Sequence[CachePoint], longest_s: float | None) -> CachePoint | None:
    """Return the shortest TTL that saves nearly as much as the best that is allowed."""
    able = [p for p in by_ttl if p.is_allowed and longest_s is not None and p.ttl_s <= longest_s]
    most = max((p.saved_ms_per_hour for p in able), default=0.0)
    return next((p for p in able if most > 0 and p.saved_ms_per_hour >= _ENOUGH * most), None)


def _smallest_cache(
    chosen: CachePoint | None, by_entries: Sequence[CachePoint]
) -> CachePoint | None:
    if chosen is None:
        return None
    enough = _ENOUGH_ENTRIES * chosen.saved_ms_per_hour
    return next((p for p in by_entries if p.saved_ms_per_hour >= enough), chosen)


def _sizes(keys: float) -> list[int]:
    """Return the sizes up to the first that holds all keys."""
    below = [n for n in ENTRIES if n < keys]
    return [*below, *ENTRIES[len(below) : len(below) + 1]]


def unseen_instants(
    seen: Sequence[Floats], intervals: Sequence[tuple[float, float, float]]
) -> Floats:
    """Return instants for rows that were written in intervals in which no write was seen.

    An interval is its start, its end and the rows, at most one a second of which count. The
    server's counters come late, so a write seen shortly before an interval explains its rows.
    """
    known = np.sort(np.concatenate([*seen, np.zeros(0)]))
    made = []
    for start, end, rows in intervals:
        first = np.searchsorted(known, start - max(_LATE_S, end - start))
        if np.searchsorted(known, end, side="right") > first:
            continue
        count = max(1, int(min(rows, end - start)))
        made.append(start + (np.arange(count) + 0.5) * (end - start) / count)
    return np.concatenate([*made, np.zeros(0)])


def change_instants(writes: Sequence[Floats], start_s: float, end_s: float) -> Floats:
    """Return the writes between two instants in order, those of one second as one change."""
    every = np.concatenate([*writes, np.zeros(0)])
    every = np.sort(every[(every >= start_s) & (every <= end_s)])
    if not len(every):
        return every
    return every[np.unique(np.floor(every), return_index=True)[1]]


# A guess, for where no stream is.

MIN_CALLS_PER_HOUR = 600.0
MIN_MS_PER_HOUR = 5_000.0
MIN_MEAN_MS = 1.0
TTL_S = 60.0
_READS_PER_WRITE = 20.0


@dataclass(frozen=True, slots=True)
class Cacheable:
    """A read to keep for `ttl_s`: how often it would still run, how often its tables change."""

    statement: WorkloadStatement
    ttl_s: float
    runs_per_hour: float
    writes_per_hour: float

    @property
    def hit_rate(self) -> float:
        return max(0.0, 1.0 - self.runs_per_hour / self.statement.calls_per_hour)

    @property
    def saved_ms_per_hour(self) -> float:
        return self.hit_rate * self.statement.total_exec_time_ms * _per_hour(self.statement)


def cacheable(
    statement: WorkloadStatement, shape: StatementShape, writes: Writes
) -> Cacheable | None:
    """Return the read with what a cache of a minute would save, None where none would serve.

    Only a statement without parameters is known to give everybody the same answer. Its
    tables may be written, as long as the columns it reads are hardly ever.
    """
    if shape.command != "select" or not shape.uses or shape.unknown_relations:
        return None
    if "$1" in plannable(statement.text, limit_rows=1):
        return None
    total = statement.total_exec_time_ms * _per_hour(statement)
    if statement.calls_per_hour < MIN_CALLS_PER_HOUR or total < MIN_MS_PER_HOUR:
        return None
    if statement.mean_exec_time_ms < MIN_MEAN_MS:
        return None
    changes = sum(_changes(shape, u, writes) for u in {u.qualified_name for u in shape.uses})
    if changes * _READS_PER_WRITE > statement.calls_per_hour:
        return None
    return Cacheable(statement, TTL_S, 3600.0 / TTL_S, changes)


def _changes(shape: StatementShape, name: str, writes: Writes) -> float:
    rate = writes.rate(name)
    uses = shape.uses_of(name)
    everything = any(u.reads_all_columns for u in uses)
    read = {c for u in uses for c in u.columns}
    updated = writes.updated_columns.get(name)
    relevant = rate.updates
    if updated is not None and not everything:
        relevant = sum(rows for column, rows in updated.items() if column in read)
    return rate.inserts + rate.deletes + relevant


def _per_hour(statement: WorkloadStatement) -> float:
    return 3600.0 / statement.window_s if statement.window_s > 0 else 0.0
