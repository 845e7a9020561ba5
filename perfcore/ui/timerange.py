"""The time range of the whole dashboard: presets, a period of its own, and what it is compared to.

Everything is kept in the URL: `range`, `compare` and `live` by bound widgets, `from` and
`to` (UTC) beside them when the range is a custom one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import streamlit as st

from perfcore.types import TimeRange

PRESETS: Mapping[str, timedelta] = {
    "15m": timedelta(minutes=15),
    "1h": timedelta(hours=1),
    "6h": timedelta(hours=6),
    "24h": timedelta(hours=24),
    "7d": timedelta(days=7),
    "30d": timedelta(days=30),
}
DEFAULT = "1h"
CUSTOM = "custom"
NO_COMPARISON = "not compared"
COMPARISONS = (NO_COMPARISON, "previous", "yesterday", "last week")
_COMPARISON_HELP = (
    "Draws another period dashed into the charts and adds the difference to tables and tiles: "
    "the period just before, the same hours yesterday, or the same hours a week ago."
)
LIVE_S = 10
# Reads of "now" within one step share their cached answers.
_STEP_S = 5
_SPAN_KEY = "_custom_span"


@dataclass(frozen=True, slots=True)
class View:
    """What the viewer looks at: the range, the one it is compared to, the zone of their clock."""

    range: TimeRange
    compared: TimeRange | None
    comparison: str
    preset: str
    live: bool
    zone: ZoneInfo

    @property
    def baseline(self) -> TimeRange:
        """Return the range that differences refer to: the chosen one, else the one before."""
        return self.compared or self.range.previous()

    @property
    def baseline_words(self) -> str:
        return {
            NO_COMPARISON: "the period before",
            "previous": "the period before",
            "yesterday": "the same hours yesterday",
            "last week": "the same hours last week",
        }[self.comparison]

    @property
    def shift(self) -> timedelta:
        """Return by how much the compared period is moved to lie on the range."""
        return self.range.start - self.baseline.start

    def unbound_parameters(self) -> dict[str, str]:
        """Return what links must carry; bound parameters follow by themselves."""
        if self.preset != CUSTOM:
            return {}
        return {"from": to_text(self.range.start), "to": to_text(self.range.end)}


def to_text(at: datetime) -> str:
    """Return an instant as the URL has it.

    >>> to_text(datetime(2026, 11, 23, 13, tzinfo=UTC))
    '2026-11-23T13:00:00Z'
    """
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_span(start: str | None, end: str | None) -> TimeRange | None:
    """Return the range of two texts from the URL; None if they make none.

    >>> parse_span("2026-11-23T13:00:00Z", "2026-11-23T14:00:00Z").duration_s
    3600.0
    >>> parse_span("yesterday", None) is None
    True
    """
    try:
        found = [datetime.fromisoformat(text or "") for text in (start, end)]
    except ValueError:
        return None
    first, last = (t if t.tzinfo else t.replace(tzinfo=UTC) for t in found)
    return TimeRange(first, last) if last > first else None


def compare_to(r: TimeRange, comparison: str) -> TimeRange | None:
    """Return the range that a comparison names, None for no comparison."""
    if comparison == "previous":
        return r.previous()
    days = {"yesterday": 1, "last week": 7}.get(comparison)
    return r.shifted(timedelta(days=-days)) if days else None


def viewer_zone() -> ZoneInfo:
    """Return the zone of the viewer's browser, UTC if it does not tell."""
    try:
        return ZoneInfo(st.context.timezone or "UTC")
    except (ZoneInfoNotFoundError, ValueError):
        return ZoneInfo("UTC")


def controls(now: datetime | None = None) -> View:
    """Draw the time control in the current container and return what it says."""
    zone = viewer_zone()
    span = _span()
    options = [*PRESETS, CUSTOM]
    preset = st.segmented_control(
        "Time range",
        options,
        default=DEFAULT,
        required=True,
        key="range",
        bind="query-params",
        label_visibility="collapsed",
    )
    if preset == CUSTOM:
        _custom_popover(span, zone, now)
    comparison = st.selectbox(
        "Compare with",
        COMPARISONS,
        key="compare",
        bind="query-params",
        label_visibility="collapsed",
        icon=":material/compare_arrows:",
        help=_COMPARISON_HELP,
        width=165,
    )
    live = st.toggle(
        "Live",
        value=True,
        key="live",
        bind="query-params",
        disabled=preset == CUSTOM,
        help=f"Reads everything anew each {LIVE_S} s while the range ends now.",
    )
    st.button("", icon=":material/refresh:", key="refresh", help="Read everything anew.")
    current = preset or DEFAULT
    r = _span() if current == CUSTOM else None
    if r is None:
        current = DEFAULT if current == CUSTOM else current
        r = TimeRange.last(PRESETS[current], _stepped(now))
    _write_span(r if current == CUSTOM else None)
    return View(
        r,
        compare_to(r, comparison or NO_COMPARISON),
        comparison or NO_COMPARISON,
        current,
        bool(live) and current != CUSTOM,
        zone,
    )


def select_from_chart(key: str) -> None:
    """Take the box that was drawn on a chart as the time range (a chart's callback)."""
    boxes = st.session_state.get(key, {}).get("selection", {}).get("box", ())
    if not boxes:
        return
    zone = viewer_zone()
    try:
        edges = sorted(_local(str(edge), zone) for edge in boxes[0]["x"])
    except (ValueError, KeyError):
        return
    if edges[-1] - edges[0] >= timedelta(seconds=10):
        set_range(TimeRange(edges[0], edges[-1]))


def set_range(r: TimeRange) -> None:
    """Make the range a custom one; only in callbacks, before the control is drawn."""
    st.session_state[_SPAN_KEY] = (to_text(r.start), to_text(r.end))
    st.session_state["range"] = CUSTOM


def _local(text: str, zone: ZoneInfo) -> datetime:
    """Return the instant of a chart's local time, whose fraction may have any length."""
    stem, _, fraction = text.partition(".")
    at = datetime.fromisoformat(stem) + timedelta(seconds=float(f"0.{fraction or 0}"))
    return at.replace(tzinfo=zone).astimezone(UTC)


def _span() -> TimeRange | None:
    """Return the custom range: what was just set, else what the URL says."""
    held = st.session_state.get(_SPAN_KEY)
    if held:
        return parse_span(*held)
    return parse_span(st.query_params.get("from"), st.query_params.get("to"))


def _write_span(r: TimeRange | None) -> None:
    wanted = {"from": to_text(r.start), "to": to_text(r.end)} if r else {}
    for name in ("from", "to"):
        if name in wanted and st.query_params.get(name) != wanted[name]:
            st.query_params[name] = wanted[name]
        if name not in wanted and name in st.query_params:
            del st.query_params[name]
    st.session_state[_SPAN_KEY] = (wanted["from"], wanted["to"]) if wanted else None


def _custom_popover(span: TimeRange | None, zone: ZoneInfo, now: datetime | None) -> None:
    span = span or TimeRange.last(PRESETS[DEFAULT], _stepped(now))
    first, last = (t.astimezone(zone).replace(tzinfo=None) for t in (span.start, span.end))
    with st.popover(f"{first:%d %b %H:%M} – {last:%d %b %H:%M}", icon=":material/calendar_month:"):
        step = timedelta(minutes=1)
        # A new pair of inputs for each range, for their value follows the range.
        st.datetime_input("From", first, step=step, key=f"_from_{first}")
        st.datetime_input("To", last, step=step, key=f"_to_{last}")
        st.caption(f"In your zone, {zone.key}. The range can also be drawn on a chart.")
        st.button("Show", on_click=_take_custom, args=(f"_from_{first}", f"_to_{last}", zone.key))


def _take_custom(from_key: str, to_key: str, zone_name: str) -> None:
    zone = ZoneInfo(zone_name)
    first, last = st.session_state.get(from_key), st.session_state.get(to_key)
    if first and last and last > first:
        set_range(TimeRange(*(t.replace(tzinfo=zone).astimezone(UTC) for t in (first, last))))


def _stepped(now: datetime | None) -> datetime:
    at = now or datetime.now(UTC)
    return datetime.fromtimestamp(at.timestamp() // _STEP_S * _STEP_S, UTC)
