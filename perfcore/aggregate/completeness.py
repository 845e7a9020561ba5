"""How complete the server's list of statements is, and which spans nothing is known of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy

from perfcore.aggregate.frames import Buckets
from perfcore.store.fetch import snapshot
from perfcore.store.targets import Gap
from perfcore.types import TimeRange

Span = tuple[datetime, datetime]


@dataclass(frozen=True, slots=True)
class QueryListState:
    """How complete pg_stat_statements was in a range; what is None, PostgreSQL 13 does not tell."""

    readings: int
    evictions: int | None  # times that the list was full and lost its least used entries
    entries: int  # at most, of all databases of the server
    max_entries: int  # pg_stat_statements.max
    counted_ms: float  # of the listed top-level statements
    active_ms: float | None  # of the database's sessions
    gaps: tuple[Gap, ...] = ()

    @property
    def coverage(self) -> float | None:
        """Return the share of the active time that the listed statements account for."""
        if not self.active_ms:
            return None
        return min(self.counted_ms / self.active_ms, 1.0)

    @property
    def vanished(self) -> int:
        """Return in how many readings statements were missing that may have been evicted."""
        return sum(gap.reason == "eviction or reset" for gap in self.gaps)

    @property
    def is_incomplete(self) -> bool:
        return bool(self.evictions) or self.vanished > 0

    @property
    def server_gaps(self) -> tuple[Gap, ...]:
        """Return the spans in which nothing is known of any statement, the latest first."""
        return tuple(g for g in self.gaps if g.queryids is None and g.view == "pg_stat_statements")


def query_list_state(store: sqlalchemy.Engine, r: TimeRange, target_id: int) -> QueryListState:
    """Return how complete the list of a target's statements was in a range."""
    filters = {"target_id": target_id, "start": r.start, "end": r.end}
    with snapshot(store) as seen:
        (row,) = seen.rows("statements_list_state", filters)
        gaps = seen.rows("read_gaps", filters)
    readings, evictions, entries, max_entries, counted_ms, active_ms = row
    return QueryListState(
        readings=readings,
        evictions=evictions,
        entries=entries or 0,
        max_entries=max_entries or 0,
        counted_ms=counted_ms,
        active_ms=active_ms,
        gaps=tuple(
            Gap(view, start, end, reason, None if ids is None else tuple(ids))
            for view, start, end, reason, ids in gaps
        ),
    )


def lost_minutes(buckets: Buckets, spans: Iterable[Span]) -> Mapping[datetime, float]:
    """Return how many minutes of each step lie in any of the spans; untouched ones are absent."""
    lost: dict[datetime, float] = {}
    for start, end in _union(spans):
        at = buckets.of(max(start, buckets.range.start))
        while at < min(end, buckets.until):
            inside = min(end, at + buckets.width, buckets.until) - max(start, at)
            lost[at] = lost.get(at, 0.0) + inside / timedelta(minutes=1)
            at += buckets.width
    return lost


def _union(spans: Iterable[Span]) -> list[Span]:
    joined: list[Span] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end))
        else:
            joined.append((start, end))
    return joined
