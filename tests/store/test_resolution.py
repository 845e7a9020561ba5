"""A range is covered once, whatever is rolled and whatever is kept."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perfcore.store.resolution import (
    DAY,
    HOUR,
    MAX_POINTS,
    MINUTE,
    UNITS,
    Segment,
    aligned,
    bucket_width,
    floor,
    resolution_for,
    segments,
)
from perfcore.types import TimeRange

NOW = datetime(2026, 11, 23, 12, 34, 56, tzinfo=UTC)
SPANS = st.integers(1, 400 * 86400).map(lambda s: timedelta(seconds=s))


@settings(max_examples=300, deadline=None)
@given(
    st.timedeltas(timedelta(0), timedelta(days=400)),
    SPANS,
    st.sampled_from(sorted(UNITS)),
    st.one_of(st.none(), st.integers(0, 500)),
    st.one_of(st.none(), st.integers(0, 30)),
)
def test_the_parts_touch_and_never_overlap(
    ago: timedelta, span: timedelta, resolution: str, hours: int | None, days: int | None
) -> None:
    r = TimeRange(NOW - ago - span, NOW - ago)
    rolled = {}
    if hours is not None:
        rolled["hour"] = floor(NOW, HOUR) - hours * HOUR
    if days is not None:
        rolled["day"] = min(floor(NOW, DAY) - days * DAY, rolled.get("hour", NOW))
        rolled["day"] = floor(rolled["day"], DAY)
    parts = segments(r, resolution, rolled, NOW)
    assert parts[0].start <= r.start and parts[-1].end >= r.end
    assert r.start - parts[0].start < DAY and parts[-1].end - r.end < DAY
    for earlier, later in zip(parts, parts[1:], strict=False):
        assert earlier.end == later.start
    for part in parts:
        unit = UNITS[part.resolution]
        if part.resolution != "minute":
            assert part.end <= rolled[part.resolution]
            assert floor(part.start, unit) == part.start and floor(part.end, unit) == part.end
        else:
            assert floor(part.start, MINUTE) == part.start


def test_recent_edges_are_exact_and_old_ones_whole() -> None:
    rolled = {"hour": floor(NOW, HOUR), "day": floor(NOW, DAY)}
    recent = segments(TimeRange(NOW - 8 * HOUR, NOW), "hour", rolled, NOW)
    assert [(p.resolution, p.start.isoformat()[11:16]) for p in recent] == [
        ("minute", "04:34"), ("hour", "05:00"), ("minute", "12:00"),
    ]  # fmt: skip
    old = TimeRange(NOW - 200 * DAY, NOW - 190 * DAY)
    start, end = floor(old.start, DAY), floor(old.end, DAY) + DAY
    assert segments(old, "day", rolled, NOW) == [Segment("day", start, end)]


def test_what_is_not_rolled_comes_from_minutes() -> None:
    r = TimeRange(NOW - 8 * HOUR, NOW)
    assert [p.resolution for p in segments(r, "day", {}, NOW)] == ["minute"]
    rolled = {"hour": floor(NOW, HOUR) - 3 * HOUR}
    parts = segments(r, "hour", rolled, NOW)
    assert [p.resolution for p in parts] == ["minute", "hour", "minute"]
    assert parts[-1].start == rolled["hour"]


@pytest.mark.parametrize(
    "span, resolution",
    [(HOUR, "minute"), (6 * HOUR, "minute"), (7 * HOUR, "hour"), (14 * DAY, "hour"),
     (15 * DAY, "day")],
)  # fmt: skip
def test_the_resolution_follows_from_the_length(span: timedelta, resolution: str) -> None:
    assert resolution_for(TimeRange(NOW - span, NOW)) == resolution


@settings(deadline=None)
@given(st.timedeltas(timedelta(seconds=1), timedelta(days=80_000)))
def test_a_trend_never_has_more_than_240_points(span: timedelta) -> None:
    end = datetime(2199, 1, 1, 0, 0, 1, tzinfo=UTC)
    r = TimeRange(end - span, end)
    width = bucket_width(r)
    assert (r.end - aligned(r, width).start) / width <= MAX_POINTS
