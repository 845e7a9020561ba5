"""Reading the rollups: each sample of a range once, from the cheapest rows that hold it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy

from perfcore.store.fetch import Snapshot, snapshot
from perfcore.store.resolution import Segment, resolution_for, segments
from perfcore.types import TimeRange


@dataclass(frozen=True, slots=True)
class RollupRow:
    """A histogram of a series; several rows may share series and bucket, and add up."""

    service: str
    metric_name: str
    unit: str
    resolution: str
    bucket_start: datetime
    count: int
    error_count: int
    sum: float
    min: float
    max: float
    buckets: bytes


@dataclass(frozen=True, slots=True)
class SeriesSum:
    """How many samples a series had, and their sum; several may share a series, and add up."""

    service: str
    metric_name: str
    unit: str
    count: int
    sum: float


def series_rollups(
    store: sqlalchemy.Engine,
    r: TimeRange,
    metric_type: str,
    *,
    service: str | None = None,
    names: Sequence[str] | None = None,
    resolution: str | None = None,
    now: datetime | None = None,
) -> list[RollupRow]:
    """Return the rollups that cover the range, its start moved back to a whole minute.

    Without a resolution: minutes up to six hours, hours up to fourteen days, days beyond.
    What the roller has not reached yet comes from finer rows.
    """
    with snapshot(store) as seen:
        return rollups(seen, r, metric_type, service, names, resolution, now)


def service_rollups(
    store: sqlalchemy.Engine,
    r: TimeRange,
    metric_type: str,
    *,
    service: str | None = None,
    resolution: str | None = None,
    now: datetime | None = None,
) -> list[RollupRow]:
    """Return the same samples as series_rollups, not told apart by name: far fewer rows.

    For requests and statements the roller keeps a total for each service.
    """
    with snapshot(store) as seen:
        return totals(seen, r, metric_type, service, resolution, now)


def totals(
    seen: Snapshot,
    r: TimeRange,
    metric_type: str,
    service: str | None = None,
    resolution: str | None = None,
    now: datetime | None = None,
) -> list[RollupRow]:
    """Return the same as service_rollups, within a snapshot that other questions share."""
    found: list[RollupRow] = []
    for part in _parts(seen, r, resolution, now):
        span = {"resolution": part.resolution, "start": part.start, "end": part.end}
        complete_from, stale = seen.rows("read_totals_state", span)[0]
        middle = min(max(complete_from, part.start), part.end)
        filters = {"metric_type": metric_type, "service": service, "names": None}
        if part.start < middle:
            rows = seen.many_rows("read_rollups", span | {"end": middle} | filters)
            found += [RollupRow(a, "", c, part.resolution, *rest) for a, _, c, *rest in rows]
        if middle < part.end:
            rows = seen.many_rows("read_totals", span | {"start": middle, "stale": stale} | filters)
            found += [RollupRow(a, "", c, part.resolution, *rest) for a, c, *rest in rows]
    return found


def _parts(
    seen: Snapshot, r: TimeRange, resolution: str | None, now: datetime | None
) -> list[Segment]:
    rolled_until: dict[str, datetime] = dict(seen.rows("read_rollup_progress"))
    return segments(r, resolution or resolution_for(r), rolled_until, now or datetime.now(UTC))


def rollups(
    seen: Snapshot,
    r: TimeRange,
    metric_type: str,
    service: str | None = None,
    names: Sequence[str] | None = None,
    resolution: str | None = None,
    now: datetime | None = None,
) -> list[RollupRow]:
    """Return the same as series_rollups, within a snapshot that other questions share."""
    found: list[RollupRow] = []
    for part in _parts(seen, r, resolution, now):
        filters = _filters(part, metric_type, service, names)
        rows = seen.many_rows("read_rollups", filters)
        found += [RollupRow(a, b, c, part.resolution, *rest) for a, b, c, *rest in rows]
    return found


def sums(
    seen: Snapshot,
    r: TimeRange,
    metric_type: str,
    service: str | None = None,
    names: Sequence[str] | None = None,
    now: datetime | None = None,
) -> list[SeriesSum]:
    """Return counts and sums of the same samples as series_rollups: no histogram is read."""
    return [
        SeriesSum(*row)
        for part in _parts(seen, r, None, now)
        for row in seen.rows("read_sums", _filters(part, metric_type, service, names))
    ]


def _filters(
    part: Segment, metric_type: str, service: str | None, names: Sequence[str] | None
) -> dict[str, Any]:
    return {
        "resolution": part.resolution,
        "start": part.start,
        "end": part.end,
        "metric_type": metric_type,
        "service": service,
        "names": None if names is None else list(names),
    }
