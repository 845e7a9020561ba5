"""Data frames to Plotly figures, as plain dicts; nothing here knows of Streamlit.

Backgrounds are transparent and text takes the theme's colour, so that one figure reads
well on light and on dark. Times are drawn in the viewer's zone.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from perfcore.types import TimeRange

Figure = dict[str, Any]

# Each at least 3:1 on white and on the dark background alike.
BLUE = "#3b82f6"
GREEN = "#12a06a"
VIOLET = "#9061f9"
ORANGE = "#e0742b"
AMBER = "#c98a0c"
RED = "#e5484d"
TEAL = "#0e93a8"
PINK = "#d6409f"
GREY = "#8491a5"
_GRID = "rgba(132,145,165,0.22)"
# Dots make single points visible; beyond this many the line is enough.
_FEW_POINTS = 40
# A part of a stacked bar below this has no room for its text.
_NARROW = 0.09
# A larger part of the shown time than this without data is explained.
_LONG_GAP = 0.5
_UTC = ZoneInfo("UTC")


class Marker(Protocol):
    """Something that happened, drawn as a vertical line."""

    @property
    def at(self) -> datetime: ...
    @property
    def label(self) -> str: ...
    @property
    def kind(self) -> str: ...


def latency(
    trend: pd.DataFrame,
    *,
    zone: ZoneInfo = _UTC,
    span: TimeRange | None = None,
    markers: Iterable[Marker] = (),
    compared: pd.DataFrame | None = None,
    shift: timedelta = timedelta(),
    compared_label: str = "p95 before",
    height: int = 270,
) -> Figure:
    """Return p50, p95 and p99 over time, in ms; a box drawn on it selects a time range.

    The axis covers `span`, so that charts align and what is missing is seen to be.
    `compared` is the same frame of another period, drawn dashed and moved by `shift`.
    """
    data = [
        _line(trend, "p99_ms", "p99", VIOLET, zone, width=1.2, unit="ms"),
        _line(trend, "p95_ms", "p95", GREEN, zone, width=2, unit="ms"),
        _line(trend, "p50_ms", "p50", BLUE, zone, width=1.2, unit="ms"),
    ]
    data += _overlay(compared, "p95_ms", compared_label, zone, shift, "ms")
    return _time_figure(data, markers, zone, span, height, select=True)


def statement_trend(
    trend: pd.DataFrame,
    *,
    zone: ZoneInfo = _UTC,
    span: TimeRange | None = None,
    markers: Iterable[Marker] = (),
    compared: pd.DataFrame | None = None,
    shift: timedelta = timedelta(),
    height: int = 250,
) -> Figure:
    """Return mean and p95 of one statement over time with its calls per minute as an area."""
    data = [
        *_area(trend, "calls_per_min", "calls/min", GREY, zone, "/min", axis="y2"),
        _line(trend, "p95_ms", "p95 (application)", GREEN, zone, width=1.2, unit="ms"),
        _line(trend, "mean_ms", "mean (server)", BLUE, zone, width=2, unit="ms"),
    ]
    data += _overlay(compared, "mean_ms", "mean before", zone, shift, "ms")
    figure = _time_figure(data, markers, zone, span, height, select=True)
    figure["layout"]["yaxis2"] = _right_axis("/min")
    figure["layout"]["yaxis"]["title"] = {"text": "ms", "font": {"size": 11}}
    return figure


def throughput(
    trend: pd.DataFrame,
    *,
    zone: ZoneInfo = _UTC,
    span: TimeRange | None = None,
    markers: Iterable[Marker] = (),
    compared: pd.DataFrame | None = None,
    shift: timedelta = timedelta(),
    height: int = 240,
) -> Figure:
    """Return requests per minute as an area and the share of errors on the right axis."""
    shown = trend.assign(
        error_percent=100.0 * trend["errors"] / trend["requests"].where(trend["requests"] > 0)
    )
    data = [
        *_area(shown, "requests_per_min", "requests/min", BLUE, zone, "/min"),
        _line(shown, "error_percent", "errors %", RED, zone, width=1.4, unit="%", axis="y2"),
    ]
    data += _overlay(compared, "requests_per_min", "requests before", zone, shift, "/min")
    figure = _time_figure(data, markers, zone, span, height, select=True, labels=False)
    worst = shown["error_percent"].max() if len(shown) else 0.0
    top = max(2.0, 1.3 * float(worst)) if worst == worst else 2.0
    figure["layout"]["yaxis2"] = {**_right_axis("%"), "range": [0, top]}
    return figure


def resources(
    series: Mapping[str, tuple[pd.DataFrame, str]],
    *,
    zone: ZoneInfo = _UTC,
    span: TimeRange | None = None,
    markers: Iterable[Marker] = (),
    divisor: float = 1.0,
    unit: str = "%",
    height: int = 200,
) -> Figure:
    """Return the mean of several gauges over time: name -> (frame of time, mean, max; colour)."""
    data = []
    for name, (frame, colour) in series.items():
        if frame.empty:
            continue
        scaled = frame.assign(mean=frame["mean"] / divisor)
        data.append(_line(scaled, "mean", name, colour, zone, width=1.8, unit=unit))
    figure = _time_figure(data, markers, zone, span, height, select=False, labels=False)
    figure["layout"]["yaxis"]["ticksuffix"] = f" {unit}"
    return figure


def hit_ratio(
    trend: pd.DataFrame,
    *,
    zone: ZoneInfo = _UTC,
    span: TimeRange | None = None,
    markers: Iterable[Marker] = (),
    compared: pd.DataFrame | None = None,
    shift: timedelta = timedelta(),
    height: int = 240,
) -> Figure:
    """Return the share of blocks found in shared buffers over time; wants cache_hit_ratio."""
    name, column = "found in shared buffers", "hit_percent"
    shown = trend.assign(hit_percent=100.0 * trend["cache_hit_ratio"])
    data = [_line(shown, column, name, BLUE, zone, width=2, unit="%")]
    if compared is not None:
        past = compared.assign(hit_percent=100.0 * compared["cache_hit_ratio"])
        data += _overlay(past, column, "before", zone, shift, "%")
    figure = _time_figure(data, markers, zone, span, height, select=True)
    figure["layout"]["yaxis"] |= {"rangemode": "normal", "ticksuffix": " %"}
    return figure


def cache_curve(
    curve: pd.DataFrame,
    *,
    title: str,
    chosen: float | None = None,
    ticks: Sequence[tuple[float, str]] = (),
    ink: str = GREY,
    height: int = 290,
) -> Figure:
    """Return hit rate and saved time of a cache over its TTL or its entries, on a log axis.

    Wants columns x, label, hit_rate, saved_s_per_hour, stale_share and is_allowed. Where answers
    would be staler than allowed the ground is shaded; `chosen` is marked.
    """
    x = curve["x"].tolist()
    texts = [
        f"{label}: {100 * hit:.1f} % of the reads, {saved:,.1f} s an hour, {100 * stale:.1f} % of "
        "the hits stale"
        for label, hit, saved, stale in zip(
            map(html.escape, curve["label"]),
            curve["hit_rate"],
            curve["saved_s_per_hour"],
            curve["stale_share"],
            strict=True,
        )
    ]
    layout = _layout(height)
    layout["xaxis"] = {
        **_axis(), "type": "log", "showgrid": False, "title": {"text": title}, "tickangle": 0,
        "tickvals": [value for value, _ in ticks], "ticktext": [text for _, text in ticks],
    }  # fmt: skip
    layout["yaxis"] = {**_axis(), "range": [0, 104], "ticksuffix": " %", "nticks": 6}
    layout["yaxis2"] = {**_right_axis("s/h"), "rangemode": "tozero"}
    layout["margin"]["b"] = 48
    layout["dragmode"] = False
    layout["shapes"], layout["annotations"] = _cache_marks(curve, chosen, ink)
    return {
        "data": [
            {
                **_curve(x, (100.0 * curve["hit_rate"]).tolist(), "hit rate", BLUE),
                "text": texts,
                "hovertemplate": "%{text}<extra></extra>",
            },
            {
                **_curve(x, curve["saved_s_per_hour"].tolist(), "waiting saved", GREEN),
                "yaxis": "y2",
                "hoverinfo": "skip",
                "line": {"color": GREEN, "width": 2, "dash": "dot"},
            },
        ],
        "layout": layout,
    }


def _curve(x: list[float], y: list[float], name: str, colour: str) -> dict[str, Any]:
    return {
        "type": "scatter", "mode": "lines+markers", "name": name, "x": x, "y": y,
        "line": {"color": colour, "width": 2}, "marker": {"size": 5, "color": colour},
    }  # fmt: skip


def _cache_marks(
    curve: pd.DataFrame, chosen: float | None, ink: str
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the shade over what is not allowed, and the line at what is chosen."""
    shapes: list[dict[str, Any]] = []
    notes: list[dict[str, Any]] = []
    refused = curve.loc[~curve["is_allowed"], "x"]
    span = {"type": "rect", "yref": "paper", "y0": 0, "y1": 1, "layer": "below"}
    if len(refused):
        first, last = float(refused.min()), float(curve["x"].max())
        shapes.append({**span, "x0": first, "x1": last, "fillcolor": _faded(RED, 0.1),
                       "line": {"width": 0}})  # fmt: skip
        notes.append(_mark(first, 0.97, "left", "stale too often", RED))
    if chosen is not None:
        shapes.append({"type": "line", "yref": "paper", "y0": 0, "y1": 1, "x0": chosen,
                       "x1": chosen, "line": {"color": ORANGE, "width": 2}})  # fmt: skip
        on_the_left = chosen > math.sqrt(float(curve["x"].min()) * float(curve["x"].max()))
        notes.append(_mark(chosen, 0.16, "right" if on_the_left else "left", "suggested", ink))
    return shapes, notes


def _mark(x: float, y: float, side: str, text: str, colour: str) -> dict[str, Any]:
    return {
        "x": math.log10(x), "y": y, "yref": "paper", "xanchor": side, "showarrow": False,
        "text": f" {text} ", "font": {"size": 12, "color": colour},
    }  # fmt: skip


def sparkline(values: Sequence[float | None], colour: str = BLUE, *, height: int = 44) -> Figure:
    """Return a line without axes that fills its box, for a tile."""
    y = np.array([math.nan if v is None else v for v in values], dtype=np.float32)
    seen = y[~np.isnan(y)]
    low, high = (float(seen.min()), float(seen.max())) if len(seen) else (0.0, 1.0)
    pad = (high - low) * 0.12 or abs(high) * 0.1 or 1.0
    axis = {"visible": False, "fixedrange": True}
    return {
        "data": [
            {
                "type": "scatter",
                "mode": "lines",
                "y": y,
                "connectgaps": True,
                "line": {"color": colour, "width": 1.5},
                "fill": "tozeroy",
                "fillcolor": _faded(colour, 0.14),
                "hoverinfo": "skip",
            }
        ],
        "layout": {
            "height": height,
            "margin": {"l": 0, "r": 0, "t": 0, "b": 0, "pad": 0},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "showlegend": False,
            "xaxis": axis,
            "yaxis": {**axis, "range": [low - pad, high + pad]},
            "dragmode": False,
        },
    }


# Told apart from their neighbours, each at least 3:1 on either background.
SEGMENTS = (BLUE, ORANGE, VIOLET, GREEN, "#d6409f", AMBER)
REST = "rgba(132,145,165,0.38)"
_ON_COLOUR = "#0b1020"  # at least 4.5:1 on each of them


def stacked_bar(
    labels: Sequence[str],
    values: Sequence[float],
    texts: Sequence[str],
    colours: Sequence[str],
    *,
    ink: str = GREY,
    height: int = 64,
) -> Figure:
    """Return one bar of what a whole is made of, from the left; narrow parts carry no text."""
    whole = sum(values) or 1.0
    return {
        "data": [
            {
                "type": "bar",
                "orientation": "h",
                "x": [value],
                "y": [0],
                "marker": {"color": colour, "line": {"width": 1, "color": "rgba(0,0,0,0)"}},
                "text": [html.escape(text) if value / whole >= _NARROW else ""],
                "textposition": "inside",
                "insidetextanchor": "middle",
                "textangle": 0,
                "textfont": {"size": 12, "color": ink if colour == REST else _ON_COLOUR},
                "hovertemplate": f"{_cut(html.escape(label), 200)}<br>{html.escape(text)}"
                f" · {100 * value / whole:.1f} %<extra></extra>",
                "width": 0.8,
            }
            for label, value, text, colour in zip(labels, values, texts, colours, strict=True)
        ],
        "layout": {
            "height": height,
            "barmode": "stack",
            "margin": {"l": 4, "r": 4, "t": 6, "b": 6},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "showlegend": False,
            "xaxis": {"visible": False, "fixedrange": True, "range": [0, whole]},
            "yaxis": {"visible": False, "fixedrange": True, "range": [-0.45, 0.45]},
            "hoverlabel": {"font": {"size": 12}},
            "dragmode": False,
        },
    }


def share_bars(
    labels: Sequence[str],
    shares: Sequence[float],
    texts: Sequence[str],
    *,
    colour: str | Sequence[str] = BLUE,
    ink: str = GREY,
    row_height: int = 34,
) -> Figure:
    """Return one horizontal bar per label, in their order from the top, with its text beside it."""
    order = list(range(len(labels)))[::-1]
    colours = [colour if isinstance(colour, str) else colour[i] for i in order]
    names = [html.escape(labels[i]) for i in order]
    return {
        "data": [
            {
                "type": "bar",
                "orientation": "h",
                "y": list(range(len(order))),
                "x": [100.0 * shares[i] for i in order],
                "marker": {"color": colours, "cornerradius": 3},
                "text": [html.escape(texts[i]) for i in order],
                "textposition": "outside",
                "cliponaxis": False,
                "constraintext": "none",
                "customdata": names,
                "hovertemplate": "%{customdata}<br>%{x:.1f} %<extra></extra>",
                "width": 0.34,
                "offset": -0.42,
            }
        ],
        "layout": {
            "height": 24 + row_height * len(order),
            "margin": {"l": 4, "r": 90, "t": 8, "b": 4},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "showlegend": False,
            "bargap": 0,
            "xaxis": {"visible": False, "fixedrange": True, "rangemode": "tozero"},
            "yaxis": {"visible": False, "fixedrange": True, "range": [-0.5, len(order) - 0.4]},
            "annotations": [
                {
                    "x": 0,
                    "xref": "paper",
                    "xanchor": "left",
                    "y": y + 0.22,
                    "yref": "y",
                    "showarrow": False,
                    "align": "left",
                    "text": _cut(name, 110),
                    "font": {"size": 12, "color": ink},
                }
                for y, name in enumerate(names)
            ],
            "dragmode": False,
        },
    }


def before_after(frame: pd.DataFrame, *, ink: str = GREY, row_height: int = 66) -> Figure:
    """Return before and after per row with the interval of the after value, in ms.

    Wants columns label, before_ms, after_ms and, where known, low_ms and high_ms.
    """
    shown = frame.iloc[::-1].reset_index(drop=True)
    labels = [html.escape(_cut(str(v), 70)) for v in shown["label"]]
    places = list(range(len(labels)))
    after = shown["after_ms"].to_numpy(dtype=float)
    data: list[dict[str, Any]] = [
        {
            "type": "bar",
            "orientation": "h",
            "name": "after",
            "y": places,
            "x": after,
            "marker": {"color": GREEN, "cornerradius": 3},
            "hovertemplate": "after %{x:.3~g} ms<extra></extra>",
        },
        {
            "type": "bar",
            "orientation": "h",
            "name": "before",
            "y": places,
            "x": shown["before_ms"].to_numpy(dtype=float),
            "marker": {"color": GREY, "cornerradius": 3},
            "hovertemplate": "before %{x:.3~g} ms<extra></extra>",
        },
    ]
    if {"low_ms", "high_ms"} <= set(shown.columns):
        data[0]["error_x"] = {
            "type": "data",
            "symmetric": False,
            "array": (shown["high_ms"].to_numpy(dtype=float) - after).clip(min=0),
            "arrayminus": (after - shown["low_ms"].to_numpy(dtype=float)).clip(min=0),
            "thickness": 1.5,
            "width": 4,
            "color": GREY,
        }
    for bars, offset in zip(data, (-0.4, -0.08), strict=True):
        bars |= {"width": 0.3, "offset": offset}
    layout = _layout(70 + row_height * len(labels))
    layout["margin"]["l"] = 22  # half of the first tick's label
    layout["xaxis"] = {
        **_axis(),
        "rangemode": "tozero",
        "ticksuffix": " ms",
        "showgrid": True,
        "tickangle": 0,
        "nticks": 6,
    }
    layout["yaxis"] = {"visible": False, "fixedrange": True, "range": [-0.5, len(labels) - 0.4]}
    layout["annotations"] = [
        {
            "x": 0,
            "xref": "paper",
            "xanchor": "left",
            "y": y + 0.24,
            "yref": "y",
            "yanchor": "bottom",
            "showarrow": False,
            "text": label,
            "font": {"size": 12, "color": ink},
        }
        for y, label in enumerate(labels)
    ]
    layout["legend"]["traceorder"] = "reversed"
    return {"data": data, "layout": layout}


def promised_delivered(frame: pd.DataFrame, *, height: int = 320) -> Figure:
    """Return a point per observation: promised share of time saved against the delivered one.

    Wants columns promised, delivered, low, high (shares, 1 is all of the time), kind, evidence,
    label and place, which a point that is clicked gives back as the last of its data. Kinds
    take colours in their order, the evidence a shape; on the dotted line a promise was kept.
    What takes half as long again or longer lies on the lower edge. The legend gets its room
    beside `height`.
    """
    kinds = sorted(set(frame["kind"]))
    data = [
        _observed(points, str(kind), str(evidence), _kind_colour(kinds.index(kind)))
        for (kind, evidence), points in frame.groupby(["kind", "evidence"])
    ]
    data += [_key(kind, "square", _kind_colour(n)) for n, kind in enumerate(kinds)]
    evidences = sorted(set(frame["evidence"]))
    layout = _layout(height + 25 * math.ceil((len(kinds) + len(evidences) + 1) / 2))
    least = min(0.0, float(frame[["low", "delivered"]].min().min()))
    lowest = max(_FLOOR, least) * 100 - 5
    layout["xaxis"] = {**_share_axis("promised by the planner"), "range": [-3, 106]}
    layout["yaxis"] = {**_share_axis("delivered"), "range": [lowest, 106]}
    data += [_key(e, _SHAPES.get(e, "square"), GREY) for e in evidences]
    return {"data": [*data, _KEPT], "layout": layout}


# What lost more is drawn there; the hover tells how much.
_FLOOR = -0.5
_KIND_COLOURS = (BLUE, GREEN, VIOLET, ORANGE, TEAL, PINK, AMBER)
_KEPT = {
    "type": "scatter", "mode": "lines", "name": "promise kept", "x": [0, 100], "y": [0, 100],
    "hoverinfo": "skip", "line": {"color": GREY, "width": 1.5, "dash": "dot"},
}  # fmt: skip
_SHAPES = {"measured": "circle-open", "proven": "diamond"}


def _kind_colour(place: int) -> str:
    return _KIND_COLOURS[place] if place < len(_KIND_COLOURS) else GREY


def _observed(points: pd.DataFrame, kind: str, evidence: str, colour: str) -> dict[str, Any]:
    values = {c: 100 * points[c].to_numpy(dtype=float) for c in ("delivered", "low", "high")}
    shown = values["delivered"].clip(min=100 * _FLOOR)
    return {
        "type": "scatter",
        "mode": "markers",
        "name": html.escape(kind),
        "legendgroup": kind,
        "showlegend": False,
        "x": 100 * points["promised"].to_numpy(dtype=float),
        "y": shown,
        "marker": {
            "color": colour,
            "symbol": _SHAPES.get(evidence, "square"),
            "size": 11 if evidence == "proven" else 9,
            "line": {"color": colour, "width": 2},
        },
        "error_y": {
            "type": "data",
            "symmetric": False,
            "array": (values["high"] - shown).clip(min=0),
            "arrayminus": (shown - values["low"]).clip(min=0),
            "thickness": 1,
            "width": 3,
            "color": _faded(colour, 0.55),
        },
        "customdata": [
            [html.escape(_cut(str(label), 80)), delivered, low, high, place]
            for label, delivered, low, high, place in zip(
                points["label"],
                *(values[c].tolist() for c in ("delivered", "low", "high")),
                points["place"].tolist(),
                strict=True,
            )
        ],
        "hovertemplate": (
            f"%{{customdata[0]}}<br>{html.escape(kind)}, {html.escape(evidence)}<br>"
            "promised %{x:.0f} % less time, delivered %{customdata[1]:.0f} % "
            "(%{customdata[2]:.0f} to %{customdata[3]:.0f} %)<extra></extra>"
        ),
    }


def _key(name: str, symbol: str, colour: str) -> dict[str, Any]:
    """Return an entry of the legend with no point of its own."""
    return {
        "type": "scatter", "mode": "markers", "name": html.escape(name), "legendgroup": name,
        "x": [None], "y": [None], "hoverinfo": "skip",
        "marker": {
            "color": colour, "symbol": symbol, "size": 9, "line": {"color": colour, "width": 2}
        },
    }  # fmt: skip


def _share_axis(title: str) -> dict[str, Any]:
    return {
        **_axis(), "title": {"text": f"{title}: time saved", "font": {"size": 11}},
        "ticksuffix": " %", "nticks": 6, "zeroline": True, "zerolinecolor": _GRID,
    }  # fmt: skip


def _time_figure(
    data: list[dict[str, Any]],
    markers: Iterable[Marker],
    zone: ZoneInfo,
    span: TimeRange | None,
    height: int,
    *,
    select: bool,
    labels: bool = True,
) -> Figure:
    layout = _layout(height)
    layout["xaxis"] = {
        **_axis(), "type": "date", "showgrid": False, "automargin": False, "tickangle": 0,
        "nticks": 8 if labels else 4,
    }  # fmt: skip
    layout["yaxis"] = {**_axis(), "rangemode": "tozero", "nticks": 6}
    layout["hovermode"] = "x unified"
    layout["dragmode"] = "select" if select else False
    layout["selectdirection"] = "h"
    ends = _ends(data)
    if span is not None:
        ends = _local(span.start, zone), _local(span.end, zone)
        layout["xaxis"]["range"] = [at.isoformat() for at in ends]
    layout["shapes"], notes = _marker_lines(markers, zone, ends)
    layout["annotations"] = notes if labels else []
    if layout["annotations"]:  # they stand between plot and legend, clear of the lines
        layout["legend"]["y"] = 1.1
        layout["margin"]["t"] = 46
    if span is not None and ends is not None:
        layout["annotations"] += _coverage(data, ends)
    return {"data": data, "layout": layout}


def _coverage(
    data: Sequence[Mapping[str, Any]], span: tuple[datetime, datetime]
) -> list[dict[str, Any]]:
    """Say since when there is data where more than half of the span has none, in its gap."""
    first = min((at for at in map(_first_seen, data) if at is not None), default=None)
    start, end = span
    if first is None:
        return [_quiet_note("nothing measured in this range", 0.5)]
    gap = (first - start) / (end - start)
    if gap <= _LONG_GAP:
        return []
    form = "%H:%M" if end - start <= timedelta(days=1) else "%d %b %H:%M"
    return [_quiet_note(f"collected since {first:{form}}", min(gap, 1.0) / 2)]


def _first_seen(line: Mapping[str, Any]) -> datetime | None:
    """Return the first local time at which a line has a value."""
    seen = np.flatnonzero(~np.isnan(line["y"]))
    if len(seen) == 0:
        return None
    if "x0" in line:
        step = timedelta(milliseconds=line["dx"] * int(seen[0]))
        return datetime.fromisoformat(line["x0"]) + step
    return datetime.fromisoformat(line["x"][int(seen[0])])


def _quiet_note(text: str, x: float) -> dict[str, Any]:
    return {
        "x": x, "xref": "paper", "xanchor": "center", "y": 0.5, "yref": "paper",
        "yanchor": "middle", "showarrow": False, "text": text,
        "font": {"size": 11, "color": GREY},
    }  # fmt: skip


def _layout(height: int) -> dict[str, Any]:
    return {
        "height": height,
        "margin": {"l": 8, "r": 8, "t": 28, "b": 40},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "showlegend": True,
        "legend": {
            "orientation": "h", "x": 0, "y": 1.02, "xanchor": "left", "yanchor": "bottom",
            "font": {"size": 12}, "title": {"text": ""}, "itemwidth": 30,
        },
        "hoverlabel": {"font": {"size": 12}},
    }  # fmt: skip


def _axis() -> dict[str, Any]:
    return {
        "gridcolor": _GRID,
        "zeroline": False,
        "showline": False,
        "automargin": True,
        "fixedrange": True,
        "tickfont": {"size": 11},
    }


def _right_axis(unit: str) -> dict[str, Any]:
    return {
        **_axis(),
        "overlaying": "y",
        "side": "right",
        "showgrid": False,
        "rangemode": "tozero",
        "ticksuffix": f" {unit}",
        "tickmode": "auto",
        "nticks": 4,
    }


def _line(
    frame: pd.DataFrame,
    column: str,
    name: str,
    colour: str,
    zone: ZoneInfo,
    *,
    width: float,
    unit: str,
    axis: str = "y",
) -> dict[str, Any]:
    place, y = _points(frame, column, zone)
    return {
        "type": "scatter",
        "mode": "lines+markers" if len(frame) <= _FEW_POINTS else "lines",
        "name": name,
        **place,
        "y": y,
        "yaxis": axis,
        "line": {"color": colour, "width": width},
        "marker": {"size": 4, "color": colour},
        "hovertemplate": f"%{{y:,.3~g}} {unit}",
        # Selecting a range must not fade what lies outside it.
        "unselected": {"marker": {"opacity": 1}},
    }


def _area(
    frame: pd.DataFrame,
    column: str,
    name: str,
    colour: str,
    zone: ZoneInfo,
    unit: str,
    *,
    axis: str = "y",
) -> list[dict[str, Any]]:
    """Return a line and the area below it; where there is a gap, neither has anything."""
    line = _line(frame, column, name, colour, zone, width=1.4, unit=unit, axis=axis)
    fill = {"fill": "tozeroy", "fillcolor": _faded(colour, 0.12)}
    if not np.isnan(line["y"]).any():
        return [{**line, **fill}]
    # Plotly breaks a line at a gap, but not the area below it.
    area = {
        **line, **fill, "y": np.nan_to_num(line["y"]), "mode": "lines", "line": {"width": 0},
        "hoverinfo": "skip", "showlegend": False,
    }  # fmt: skip
    del area["hovertemplate"]
    return [line, area]


def _overlay(
    compared: pd.DataFrame | None,
    column: str,
    name: str,
    zone: ZoneInfo,
    shift: timedelta,
    unit: str,
) -> list[dict[str, Any]]:
    if compared is None or compared.empty:
        return []
    moved = compared.assign(time=compared["time"] + shift)
    line = _line(moved, column, name, GREY, zone, width=1.4, unit=unit)
    return [{**line, "mode": "lines", "line": {"color": GREY, "width": 1.4, "dash": "dot"}}]


def _points(
    frame: pd.DataFrame, column: str, zone: ZoneInfo
) -> tuple[dict[str, Any], np.ndarray[Any, np.dtype[np.float32]]]:
    """Return x as start and step, with a gap wherever a bucket is missing, and y."""
    if frame.empty:
        return {"x": []}, np.array([], dtype=np.float32)
    times = pd.DatetimeIndex(frame["time"])
    times = (times.tz_localize("UTC") if times.tz is None else times).tz_convert(zone)
    local = times.tz_localize(None)
    values = pd.Series(frame[column].to_numpy(dtype=np.float32), index=local)
    values = values[~values.index.duplicated()].sort_index()
    steps = np.diff(values.index.to_numpy()).astype("timedelta64[ms]").astype(np.int64)
    if len(steps) == 0:
        return {"x": [local[0].isoformat()]}, values.to_numpy()
    step = int(steps.min())
    if np.any(steps % step) or steps.sum() // step > 5000:
        return {"x": [t.isoformat() for t in values.index]}, values.to_numpy()
    grid = pd.date_range(values.index[0], values.index[-1], freq=timedelta(milliseconds=step))
    return {"x0": values.index[0].isoformat(), "dx": step}, values.reindex(grid).to_numpy()


def _local(at: datetime, zone: ZoneInfo) -> datetime:
    return at.astimezone(zone).replace(tzinfo=None)


def _ends(data: Sequence[Mapping[str, Any]]) -> tuple[datetime, datetime] | None:
    """Return the first and the last local time that any line is drawn at."""
    edges = []
    for line in data:
        if "x0" in line:
            first = datetime.fromisoformat(line["x0"])
            edges += [first, first + timedelta(milliseconds=line["dx"] * (len(line["y"]) - 1))]
        elif line["x"]:
            edges += [datetime.fromisoformat(line["x"][0]), datetime.fromisoformat(line["x"][-1])]
    return (min(edges), max(edges)) if edges else None


def _marker_lines(
    markers: Iterable[Marker], zone: ZoneInfo, ends: tuple[datetime, datetime] | None
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return a line per marker, and labels for as many, the latest first, as do not overlap."""
    shapes: list[dict[str, Any]] = []
    notes: list[dict[str, Any]] = []
    room = (ends[1] - ends[0]) * _LABEL_SHARE if ends else timedelta()
    free_until = datetime.max
    for marker in sorted(markers, key=lambda m: m.at, reverse=True):
        at = _local(marker.at, zone)
        shapes.append(_marker_line(at))
        is_right = ends is not None and at + room > ends[1]
        start, end = (at - room, at) if is_right else (at, at + room)
        if end <= free_until:
            notes.append(_marker_note(at, marker, "right" if is_right else "left"))
            free_until = start
    return shapes, notes


# The share of a chart's width that a marker's label takes.
_LABEL_SHARE = 0.26


def _marker_line(at: datetime) -> dict[str, Any]:
    return {
        "type": "line", "xref": "x", "yref": "paper", "x0": at.isoformat(), "x1": at.isoformat(),
        "y0": 0, "y1": 1, "line": {"color": ORANGE, "width": 1.2, "dash": "dash"},
    }  # fmt: skip


def _marker_note(at: datetime, marker: Marker, side: str) -> dict[str, Any]:
    return {
        "x": at.isoformat(), "xref": "x", "y": 1, "yref": "paper", "yanchor": "bottom",
        "xanchor": side, "showarrow": False, "xshift": -3 if side == "right" else 3,
        "text": html.escape(_cut(marker.label, 28)),
        "hovertext": html.escape(f"{marker.kind}: {marker.label}"),
        "font": {"size": 10.5, "color": ORANGE},
    }  # fmt: skip


def _faded(colour: str, alpha: float) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha})"


def _cut(text: str, width: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= width else text[: width - 1].rstrip() + "…"
