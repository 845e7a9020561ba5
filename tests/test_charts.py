"""Figures say what their frames say."""

from __future__ import annotations

import importlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest

from perfcore import charts
from perfcore.types import TimeRange

START = datetime(2026, 11, 23, 12, tzinfo=UTC)


@dataclass(frozen=True)
class Mark:
    at: datetime
    label: str
    kind: str = "change"


def trend(minutes: list[int]) -> pd.DataFrame:
    """A trend with a point at each of these minutes after the start."""
    n = len(minutes)
    return pd.DataFrame(
        {
            "time": pd.to_datetime([START + timedelta(minutes=m) for m in minutes], utc=True),
            "p50_ms": [10.0] * n,
            "p95_ms": [20.0 + m for m in minutes],
            "p99_ms": [40.0] * n,
            "requests": [100] * n,
            "errors": [1] * n,
            "requests_per_min": [100.0] * n,
        }
    )


def drawable(figure: charts.Figure) -> None:
    """Make Plotly check the figure: it raises for a word it does not know."""
    graph_objects: Any = importlib.import_module("plotly.graph_objects")
    json.loads(graph_objects.Figure(figure).to_json())


def test_every_figure_is_one_that_plotly_knows() -> None:
    frame = trend([0, 1, 2])
    gauge = pd.DataFrame({"time": frame["time"], "mean": [1.0, 2.0, 3.0], "max": [2.0, 3.0, 4.0]})
    statement = frame.assign(calls_per_min=1.0, mean_ms=2.0)
    rows = pd.DataFrame(
        {"label": ["a"], "before_ms": [9.0], "after_ms": [3.0], "low_ms": [2.0], "high_ms": [4.0]}
    )
    for figure in (
        charts.latency(frame, markers=[Mark(START, "x")], compared=frame),
        charts.throughput(frame),
        charts.statement_trend(statement),
        charts.resources({"RSS": (gauge, charts.BLUE)}),
        charts.sparkline([1.0, None, 3.0]),
        charts.share_bars(["SELECT 1"], [0.5], ["50 %"]),
        charts.before_after(rows),
    ):
        drawable(figure)


@pytest.mark.parametrize(
    "make", [charts.latency, charts.throughput, charts.statement_trend], ids=lambda f: f.__name__
)
def test_an_empty_frame_draws_an_empty_chart(make: Any) -> None:
    columns = [*trend([]).columns, "calls_per_min", "mean_ms"]
    empty = pd.DataFrame({c: pd.Series(dtype="float64") for c in columns})
    drawable(make(empty.assign(time=pd.to_datetime([], utc=True))))


def test_a_missing_minute_is_a_gap() -> None:
    line = charts.latency(trend([0, 1, 4]))["data"][1]
    assert line["dx"] == 60_000
    assert np.isnan(line["y"][2:4]).all()
    assert line["y"][4] == 24.0


def test_uneven_times_are_given_one_by_one() -> None:
    frame = trend([0, 1])
    frame["time"] = pd.to_datetime([START, START + timedelta(seconds=7)], utc=True)
    odd = pd.concat([frame, trend([3])])
    line = charts.latency(odd)["data"][1]
    assert len(line["x"]) == 3


def test_times_are_drawn_in_the_viewers_zone() -> None:
    zone = ZoneInfo("Europe/Berlin")
    span = TimeRange(START, START + timedelta(hours=1))
    figure = charts.latency(trend([0, 1]), zone=zone, span=span, markers=[Mark(START, "x")])
    assert figure["data"][0]["x0"] == "2026-11-23T13:00:00"
    assert figure["layout"]["xaxis"]["range"][0] == "2026-11-23T13:00:00"
    assert figure["layout"]["shapes"][0]["x0"] == "2026-11-23T13:00:00"


@pytest.mark.parametrize("minutes", [[], [59], [0, 59]])
def test_the_axis_spans_the_range_whatever_was_measured(minutes: list[int]) -> None:
    span = TimeRange(START, START + timedelta(hours=1))
    frame = trend(minutes)
    statement = frame.assign(calls_per_min=1.0, mean_ms=2.0)
    gauge = frame.assign(mean=1.0)
    for figure in (
        charts.latency(frame, span=span),
        charts.throughput(frame, span=span),
        charts.statement_trend(statement, span=span),
        charts.resources({"RSS": (gauge, charts.BLUE)}, span=span),
    ):
        assert figure["layout"]["xaxis"]["range"] == ["2026-11-23T12:00:00", "2026-11-23T13:00:00"]
        assert figure["layout"]["xaxis"]["type"] == "date"
        drawable(figure)


def test_a_late_start_is_said_in_the_gap() -> None:
    span = TimeRange(START, START + timedelta(hours=1))

    def notes(minutes: list[int]) -> list[str]:
        found = charts.latency(trend(minutes), span=span)["layout"]["annotations"]
        return [n["text"] for n in found]

    assert notes([31, 32]) == ["collected since 12:31"]
    assert notes([30, 31]) == []
    assert notes([]) == ["nothing measured in this range"]


def test_the_compared_period_lies_on_the_shown_one() -> None:
    figure = charts.latency(trend([60]), compared=trend([0]), shift=timedelta(hours=1))
    assert figure["data"][3]["x"] == figure["data"][1]["x"]
    assert figure["data"][3]["line"]["dash"] == "dot"


def test_crowded_markers_keep_their_lines_and_drop_labels() -> None:
    marks = [Mark(START + timedelta(seconds=s), f"plan {s}") for s in range(20)]
    figure = charts.latency(trend(list(range(60))), markers=marks)
    assert len(figure["layout"]["shapes"]) == 20
    assert [n["text"] for n in figure["layout"]["annotations"]] == ["plan 19"]


def test_labels_of_markers_and_bars_stand_clear_of_what_is_drawn() -> None:
    layout = charts.latency(trend([0, 1]), markers=[Mark(START, "x")])["layout"]
    assert (layout["annotations"][0]["y"], layout["annotations"][0]["yanchor"]) == (1, "bottom")
    assert layout["legend"]["y"] > 1.05
    frame = pd.DataFrame({"label": ["a", "<b>"], "before_ms": [9.0, 1.0], "after_ms": [3.0, 1.0]})
    figure = charts.before_after(frame)
    notes = figure["layout"]["annotations"]
    assert [n["text"] for n in notes] == ["&lt;b&gt;", "a"]
    tops = [b["offset"] + b["width"] for b in figure["data"]]
    assert all(note["y"] >= y + max(tops) for y, note in enumerate(notes))


def test_labels_are_text_not_markup() -> None:
    noted = charts.latency(trend([0]), markers=[Mark(START, "<a href='x'>")])["layout"]
    assert "<a" not in json.dumps(noted["annotations"])


def test_the_interval_reaches_from_low_to_high() -> None:
    frame = pd.DataFrame(
        {"label": ["a"], "before_ms": [9.0], "after_ms": [3.0], "low_ms": [2.5], "high_ms": [4.0]}
    )
    bars = charts.before_after(frame)["data"][0]["error_x"]
    assert (bars["arrayminus"][0], bars["array"][0]) == (0.5, 1.0)


def test_a_stacked_bar_holds_every_part_and_writes_into_the_wide_ones() -> None:
    values = [0.6, 0.02, 0.38]
    colours = [charts.SEGMENTS[0], charts.SEGMENTS[1], charts.REST]
    texts = ["9.7 ms", "0.3 ms", "6 ms"]
    figure = charts.stacked_bar(["<b>a</b>", "b", "rest"], values, texts, colours, ink="#111111")
    drawable(figure)
    assert [bar["x"] for bar in figure["data"]] == [[0.6], [0.02], [0.38]]
    assert [bar["text"] for bar in figure["data"]] == [["9.7 ms"], [""], ["6 ms"]]
    assert "&lt;b&gt;a" in figure["data"][0]["hovertemplate"]
    assert "60.0 %" in figure["data"][0]["hovertemplate"]
    assert figure["data"][2]["textfont"]["color"] == "#111111"
    assert figure["layout"]["xaxis"]["range"] == [0, 1.0]
    drawable(charts.stacked_bar([], [], [], []))


def test_shares_have_one_colour_or_one_each() -> None:
    figure = charts.share_bars(["a", "b"], [0.7, 0.3], ["70 %", "30 %"], colour=["#111", "#222"])
    assert figure["data"][0]["x"] == [30.0, 70.0]  # the first is drawn at the top
    assert figure["data"][0]["marker"]["color"] == ["#222", "#111"]
    assert set(charts.share_bars(["a"], [1.0], [""])["data"][0]["marker"]["color"]) == {charts.BLUE}


def test_an_area_has_nothing_where_nothing_was_counted() -> None:
    times = pd.date_range("2026-01-01", periods=5, freq="min", tz="UTC")
    calls = [4.0, 6.0, float("nan"), float("nan"), 8.0]
    trend = pd.DataFrame({"time": times, "calls_per_min": calls, "p95_ms": 1.0, "mean_ms": 1.0})
    line, area = charts.statement_trend(trend)["data"][:2]
    assert "fill" not in line and np.isnan(line["y"][2:4]).all()
    assert area["fill"] == "tozeroy" and list(area["y"]) == [4, 6, 0, 0, 8]
    assert area["showlegend"] is False


def test_promises_lie_below_the_line_as_far_as_they_were_broken() -> None:
    rows = pd.DataFrame(
        [
            {"promised": p, "delivered": d, "low": d - 0.05, "high": d + 0.05, "kind": k,
             "evidence": e, "label": "SELECT <b>", "place": int(10 * p)}
            for p, d, k, e in (
                (0.9, 0.5, "Seq Scan → Index Scan", "measured"),
                (0.8, 0.8, "Seq Scan → Index Scan", "proven"),
                (0.7, -3.0, "Sort → ordered index", "measured"),
            )
        ]
    )  # fmt: skip
    figure = charts.promised_delivered(rows)
    drawable(figure)
    points, keys, line = figure["data"][:3], figure["data"][3:-1], figure["data"][-1]
    assert [list(t["x"]) for t in points] == [[90.0], [80.0], [70.0]]
    assert [t["y"][0] for t in points] == pytest.approx([50.0, 80.0, -50.0])
    assert points[2]["customdata"][0][1] == pytest.approx(-300.0)
    assert points[2]["customdata"][0][-1] == 7
    assert points[0]["marker"]["color"] == points[1]["marker"]["color"]
    assert points[0]["marker"]["symbol"] != points[1]["marker"]["symbol"]
    assert points[2]["marker"]["color"] != points[0]["marker"]["color"]
    assert [k["name"] for k in keys] == [
        "Seq Scan → Index Scan", "Sort → ordered index", "measured", "proven",
    ]  # fmt: skip
    assert [k["marker"]["color"] for k in keys[:2]] == [
        points[0]["marker"]["color"], points[2]["marker"]["color"],
    ]  # fmt: skip
    assert "<b>" not in points[0]["customdata"][0][0]
    assert line["x"] == line["y"] == [0, 100]
    assert figure["layout"]["yaxis"]["range"][0] == -55


def _curve(allowed: list[bool]) -> pd.DataFrame:
    count = len(allowed)
    return pd.DataFrame(
        {
            "x": [10.0**n for n in range(count)],
            "label": [f"<b>{n}</b>" for n in range(count)],
            "hit_rate": [n / count for n in range(count)],
            "saved_s_per_hour": [float(n) for n in range(count)],
            "stale_share": [0.0] * count,
            "is_allowed": allowed,
        }
    )


def test_a_caches_curve_marks_what_is_suggested_and_shades_what_is_refused() -> None:
    figure = charts.cache_curve(_curve([True, True, False, False]), title="TTL", chosen=10.0)
    drawable(figure)
    shade, line = figure["layout"]["shapes"]
    assert (shade["x0"], shade["x1"]) == (100.0, 1000.0)
    assert line["x0"] == line["x1"] == 10.0
    assert figure["data"][0]["y"] == [0.0, 25.0, 50.0, 75.0]
    assert "<b>" not in "".join(figure["data"][0]["text"])
    # Annotations on a log axis stand at the logarithm.
    assert [note["x"] for note in figure["layout"]["annotations"]] == [2.0, 1.0]


def test_a_caches_curve_without_a_suggestion_has_no_marks() -> None:
    figure = charts.cache_curve(_curve([True, True]), title="entries")
    drawable(figure)
    assert figure["layout"]["shapes"] == figure["layout"]["annotations"] == []


def test_the_hit_ratio_is_drawn_in_percent() -> None:
    frame = trend([0, 1, 2]).assign(cache_hit_ratio=[0.9, 0.95, 1.0])
    figure = charts.hit_ratio(frame, compared=frame)
    drawable(figure)
    assert [round(float(y)) for y in figure["data"][0]["y"]] == [90, 95, 100]
