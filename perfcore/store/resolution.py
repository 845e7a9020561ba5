"""Which rollups answer a range: coarse ones inside, finer at its edges and where not rolled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from perfcore.types import TimeRange

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
UNITS = {"minute": MINUTE, "hour": HOUR, "day": DAY}
FINER = {"day": "hour", "hour": "minute"}
# Older edges may have lost their fine rows to retention (14 and 180 days, with an hour to spare).
FINE_ROWS_KEPT = {"minute": timedelta(days=14) - HOUR, "hour": timedelta(days=180) - HOUR}
# What ran is kept as it came for so long (a verdict on a change looks two hours back), then by
# WORK_STEP, and past WORK_KEPT_FINE by the hour and by the day.
WORK_AS_IT_CAME = 2 * HOUR + 15 * MINUTE
WORK_STEP = 10 * MINUTE
WORK_KEPT_FINE = DAY + 2 * HOUR
WORK_HOURS_KEPT = timedelta(days=14) - HOUR
MINUTES_UP_TO = timedelta(hours=6)
HOURS_UP_TO = timedelta(days=14)
MAX_POINTS = 240
_WIDTHS = tuple(
    timedelta(minutes=m)
    for m in (1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720, 1440, 2880, 7 * 1440, 30 * 1440)
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a range, [start, end), to be read from the rollups of one resolution."""

    resolution: str
    start: datetime
    end: datetime


def floor(at: datetime, width: timedelta) -> datetime:
    """Return the latest multiple of the width, counted from 1970 in UTC, that is not after `at`.

    >>> floor(datetime(2026, 1, 1, 10, 59, 30, tzinfo=UTC), HOUR).isoformat()
    '2026-01-01T10:00:00+00:00'
    """
    return at.astimezone(UTC) - (at - _EPOCH) % width


def ceil(at: datetime, width: timedelta) -> datetime:
    """Return the earliest multiple of the width that is not before `at`.

    >>> ceil(datetime(2026, 1, 1, 10, 0, 1, tzinfo=UTC), HOUR).isoformat()
    '2026-01-01T11:00:00+00:00'
    """
    below = floor(at, width)
    return below if below == at else below + width


def resolution_for(r: TimeRange) -> str:
    """Return the coarsest resolution that a range of this length is read at."""
    length = r.end - r.start
    if length <= MINUTES_UP_TO + MINUTE:
        return "minute"
    return "hour" if length <= HOURS_UP_TO + HOUR else "day"


def bucket_width(r: TimeRange, *, at_least: timedelta = MINUTE) -> timedelta:
    """Return the width that divides a range into at most 240 buckets.

    >>> start = datetime(2026, 1, 1, tzinfo=UTC)
    >>> bucket_width(TimeRange(start, start + timedelta(hours=1)))
    datetime.timedelta(seconds=60)
    >>> bucket_width(TimeRange(start, start + timedelta(hours=24)))
    datetime.timedelta(seconds=600)
    """
    wanted = (r.end - r.start) / (MAX_POINTS - 1)
    widest = timedelta(days=30)
    for width in _WIDTHS:
        if width >= wanted and width >= at_least:
            return width
    return widest * -(-wanted // widest)


def aligned(r: TimeRange, width: timedelta) -> TimeRange:
    """Return the range with its start moved back to a bucket's, so that no first bucket is cut."""
    return TimeRange(floor(r.start, width), r.end)


def whole_days(r: TimeRange, now: datetime) -> tuple[datetime, datetime]:
    """Return where the whole days of a range begin and end; both at its end when it has none.

    A first day that was cut is whole when its hours are no longer kept.
    """
    widened = r.start < now - WORK_HOURS_KEPT
    first = floor(r.start, DAY) if widened else ceil(r.start, DAY)
    last = floor(r.end, DAY)
    return (first, last) if first < last else (r.end, r.end)


def segments(
    r: TimeRange, resolution: str, rolled_until: Mapping[str, datetime], now: datetime
) -> list[Segment]:
    """Return the parts that cover the range exactly once, in order of time.

    Hours and days are used only before `rolled_until` of their resolution. The edges that
    do not fill an hour or a day are read from finer rows as long as those are kept; older
    edges are widened to the whole unit.
    """
    start = floor(r.start, MINUTE)
    return [s for s in _split(start, r.end, resolution, rolled_until, now) if s.start < s.end]


def _split(
    start: datetime,
    end: datetime,
    resolution: str,
    rolled_until: Mapping[str, datetime],
    now: datetime,
) -> list[Segment]:
    if start >= end:
        return []
    if resolution == "minute":
        return [Segment("minute", start, end)]
    unit, finer = UNITS[resolution], FINER[resolution]
    kept_from = now - FINE_ROWS_KEPT[finer]
    inner_start = ceil(start, unit) if start >= kept_from else floor(start, unit)
    inner_end = floor(end, unit) if end >= kept_from else ceil(end, unit)
    inner_end = min(inner_end, rolled_until.get(resolution, inner_start))
    if inner_end <= inner_start:
        return _split(start, end, finer, rolled_until, now)
    return [
        *_split(start, inner_start, finer, rolled_until, now),
        Segment(resolution, inner_start, inner_end),
        *_split(inner_end, end, finer, rolled_until, now),
    ]
