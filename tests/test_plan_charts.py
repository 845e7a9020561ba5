"""A drawn plan says what the plan says, at every size, and nothing of it is markup."""

from __future__ import annotations

import importlib
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from perfcore import plan_charts
from perfcore.fitting import fit, width
from perfcore.plan import Plan, parse_plan
from perfcore.plan_charts import DARK, LIGHT, NARROWEST_PX, PlanUse
from perfcore.plan_shares import shares
from perfcore.types import TimeRange
from tests import plan_samples

EXAMPLES = Path(plan_charts.__file__).parent / "ui" / "plan_examples"


def node(kind: str, cost: float, *children: dict[str, Any], **properties: Any) -> dict[str, Any]:
    raw = {"Node Type": kind, "Total Cost": cost, "Plan Rows": 5, **properties}
    return raw | ({"Plans": list(children)} if children else {})


def plan(root: dict[str, Any], **document: Any) -> Plan:
    return parse_plan([{"Plan": root, **document}])


def ran(ms: float, rows: float = 5, loops: int = 1) -> dict[str, Any]:
    return {"Actual Total Time": ms, "Actual Rows": rows, "Actual Loops": loops}


def example(name: str) -> Plan:
    return parse_plan((EXAMPLES / f"{name}.json").read_text())


def chain(length: int, name: str = "orders") -> Plan:
    """A left-deep tree of joins, as deep as it is long."""
    root = node("Seq Scan", 10, **{"Relation Name": name}, **ran(1.0))
    for n in range(length):
        inner = node(
            "Index Scan", 8, **{"Relation Name": name, "Index Name": f"{name}_{n}_idx"},
            **{"Index Cond": f"({name}.id = {name}.id)"}, **ran(0.01, loops=50),
        )  # fmt: skip
        root = node("Nested Loop", 20 + 20 * n, root, inner, **ran(3.0 + 2 * n))
    return plan(root)


def drawable(figure: plan_charts.Figure) -> None:
    """Make Plotly check the figure: it raises for a word it does not know."""
    graph_objects: Any = importlib.import_module("plotly.graph_objects")
    json.loads(graph_objects.Figure(figure).to_json())


def texts(figure: plan_charts.Figure) -> list[str]:
    """Return the texts that stand in a tree, without their markup."""
    return [re.sub(r"<[^>]*>", "", n["text"]) for n in figure["layout"]["annotations"]]


def said(figure: plan_charts.Figure) -> str:
    return "\n".join(texts(figure))


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
def test_plotly_knows_every_figure(palette: plan_charts.Palette) -> None:
    for shown in (example("hash_spill"), chain(20), plan(node("Result", 0.01))):
        drawable(plan_charts.plan_tree(shown, palette=palette, marks={0: [1, 2]}, chosen=0))
        drawable(plan_charts.plan_icicle(shown, palette=palette))


@pytest.mark.parametrize("name", plan_samples.SAMPLES)
def test_each_plan_of_a_real_server_is_drawn_whole(
    name: str, shop18: str, request: pytest.FixtureRequest
) -> None:
    for dsn in (shop18, request.getfixturevalue("shop15")):
        for options in (plan_samples.ANALYZED, "FORMAT JSON"):
            shown = parse_plan(plan_samples.explain(dsn, name, options))
            figure = plan_charts.plan_tree(shown)
            drawable(figure)
            drawable(plan_charts.plan_icicle(shown))
            nodes = [n for _, n in shown.root.walk()]
            assert len(figure["data"][0]["y"]) == len(nodes)
            for each in nodes:
                assert each.relation in said(figure)
            parts = [s.part for s in shares(shown)]
            assert sum(parts) == pytest.approx(1.0)


@pytest.fixture(scope="module")
def shop18(cluster18: Any) -> Any:
    yield from _shop(cluster18)


@pytest.fixture(scope="module")
def shop15(cluster15: Any) -> Any:
    yield from _shop(cluster15)


def _shop(cluster: Any) -> Any:
    with plan_samples.database(cluster, "plan_shop") as dsn:
        plan_samples.make_shop(dsn)
        yield dsn


def test_it_says_what_spilled_and_what_was_misjudged() -> None:
    words = said(plan_charts.plan_tree(example("hash_spill")))
    assert re.search(r"[\d.]+ MiB sorted on disk", words)
    assert re.search(r"16 batches, [\d.]+ MiB on disk", words)
    assert re.search(r"\d+ → 59,700 rows ▲ (199|20\d)×", words)


def test_a_filter_is_drawn_as_what_it_kept_and_what_it_threw_away() -> None:
    figure = plan_charts.plan_tree(example("seq_scan_sort"))
    assert "keeps 0.5 %, 59,700 removed by filter" in said(figure)
    boxes = [s for s in figure["layout"]["shapes"] if s.get("fillcolor") == LIGHT.kept]
    thrown = [s for s in figure["layout"]["shapes"] if s.get("fillcolor") == LIGHT.line]
    assert len(boxes) == len(thrown) == 1
    assert boxes[0]["x1"] == thrown[0]["x0"]
    assert boxes[0]["x1"] - boxes[0]["x0"] < thrown[0]["x1"] - thrown[0]["x0"]


def test_what_a_limit_leaves_unread_is_no_misestimate() -> None:
    scan = node("Seq Scan", 90, **{"Relation Name": "t", "Plan Rows": 900}, **ran(1, 5))
    words = said(plan_charts.plan_tree(plan(node("Limit", 10, scan, **ran(1, 5)))))
    assert "900 → 5 rows" in words
    assert "▼" not in words
    alone = said(plan_charts.plan_tree(plan(scan)))
    assert "900 → 5 rows ▼ 180×" in alone


def test_bars_are_as_long_as_the_share_and_as_hot() -> None:
    shown = plan(node("Sort", 100, node("Seq Scan", 90, **ran(6)), **ran(10)))
    figure = plan_charts.plan_tree(shown)
    whole = 138
    bars = [s for s in figure["layout"]["shapes"] if s.get("fillcolor") == LIGHT.heats[0]
            and s["xanchor"] == 1]  # fmt: skip
    assert [round(100 * (b["x1"] + whole) / whole) for b in bars] == [40, 60]
    assert "40 % · 4.0 ms" in said(figure)


def test_the_icicle_is_as_wide_as_the_time_with_what_lies_below() -> None:
    shown = plan(node("Sort", 100, node("Seq Scan", 90, **ran(6)), **ran(10)))
    trace = plan_charts.plan_icicle(shown)["data"][0]
    assert trace["branchvalues"] == "remainder"
    assert trace["values"] == pytest.approx([4.0, 6.0])
    assert trace["parents"] == ["", "0"]


def test_costs_are_shared_out_as_the_planner_adds_them_up() -> None:
    inner = node("Index Scan", 9.0)
    outer = node("Seq Scan", 100.0, **{"Plan Rows": 100})
    loop = plan(node("Nested Loop", 1010.0, outer, inner))
    assert [round(s.own) for s in shares(loop)] == [10, 100, 900]
    limit = plan(node("Limit", 10.0, node("Seq Scan", 1000.0)))
    assert [s.own for s in shares(limit)] == [0.0, 10.0]
    free = plan(node("Result", 0.0, node("Seq Scan", 0.0)))
    assert [s.part for s in shares(free)] == [0.0, 0.0]


def test_a_step_that_never_ran_has_no_share() -> None:
    shown = plan(node("Nested Loop", 9, node("Seq Scan", 1, **ran(1, 0)),
                      node("Seq Scan", 8, **ran(0, 0, 0)), **ran(1, 0)))  # fmt: skip
    words = texts(plan_charts.plan_tree(shown))
    assert words.count("never executed") == 1
    assert "never executed" in plan_charts.plan_tree(shown)["data"][0]["hovertext"][2]


def test_marks_stand_at_their_node_and_the_chosen_one_is_lit() -> None:
    shown = example("hash_spill")
    figure = plan_charts.plan_tree(shown, marks={3: [1, 2]}, chosen=3)
    notes = figure["layout"]["annotations"]
    title = next(n for n in notes if "order_items" in n["text"])
    marks = [n for n in notes if n["text"] in ("1", "2")]
    assert {m["y"] for m in marks} == {title["y"]}
    assert all(m["xshift"] < title["xshift"] for m in marks)
    bands = [s for s in figure["layout"]["shapes"] if s.get("fillcolor") == LIGHT.band]
    assert len(bands) == 1
    assert bands[0]["y1"] < title["y"] < bands[0]["y0"]


@pytest.mark.parametrize(
    "shown",
    [plan(node("Result", 1)), example("hash_spill"), chain(20), chain(30), chain(20, "n" * 63)],
    ids=["1", "6", "deep", "61", "names"],
)
def test_nothing_overlaps_in_the_narrowest_place(shown: Plan) -> None:
    figure = plan_charts.plan_tree(shown)
    height = figure["layout"]["height"]
    notes = figure["layout"]["annotations"]
    lines: dict[float, list[tuple[float, float]]] = {}
    for note, text in zip(notes, texts(figure), strict=True):
        assert note["font"]["size"] >= 11
        assert -height <= note["y"] <= 0
        size = width(text.replace("&#x27;", "'").replace("&gt;", ">"), note["font"]["size"])
        left = (
            NARROWEST_PX + note["xshift"] - size if note["xanchor"] == "right" else note["xshift"]
        )
        left -= size / 2 if note["xanchor"] == "center" else 0
        assert left >= 0, text
        assert left + size <= NARROWEST_PX + 1, text
        lines.setdefault(note["y"], []).append((left, left + size))
    for spans in lines.values():
        spans.sort()
        assert all(a[1] <= b[0] for a, b in zip(spans, spans[1:], strict=False)), spans
    tops = sorted(lines)
    assert all(b - a >= 5 for a, b in zip(tops, tops[1:], strict=False))


def test_sixty_steps_show_the_costly_ones_at_length() -> None:
    scans = [
        node("Seq Scan", 1, **{"Relation Name": f"part_{n:02d}", "Filter": "(a = 1)"},
             **ran(100.0 if n == 7 else 0.01))
        for n in range(57)
    ]  # fmt: skip
    figure = plan_charts.plan_tree(plan(node("Append", 60, *scans, **ran(101))))
    assert texts(figure).count("Filter: a = 1") == 1
    assert figure["layout"]["height"] < 57 * 24
    assert "part_56" in said(figure)


HOSTILE = '<b>bold</b><a href="javascript:alert(1)">x</a><br>$1$ %{x} &lt;i&gt;'


def test_no_name_and_no_condition_is_markup() -> None:
    keys = ("Relation Name", "Alias", "Index Name", "Filter", "Index Cond", "Join Type",
            "Node Type", "Subplan Name", "Extra", "Strategy", "Partial Mode")  # fmt: skip
    shown = plan({"Total Cost": 9.0, "Plan Rows": 1, **dict.fromkeys(keys, HOSTILE)})
    for figure in (plan_charts.plan_tree(shown), plan_charts.plan_icicle(shown)):
        drawable(figure)
        text = json.dumps(figure)
        assert "<a" not in text
        assert "bold</b>" not in text
        assert "&amp;lt;i&amp;gt;" in text
        assert "template" not in text


def test_control_characters_are_shown_as_dots() -> None:
    assert fit("a\x00b\u202ec\nd", 200, 12) == "a·b·c d"


def test_the_hover_defines_each_number() -> None:
    hover = plan_charts.plan_tree(example("seq_scan_sort"))["data"][0]["hovertext"][2]
    for words in ("in this step itself, over all loops", "in shared buffers",
                  "removed by the filter", "expected, 300 came"):  # fmt: skip
        assert words in hover


def test_the_timeline_draws_each_use_in_the_range_of_the_page() -> None:
    start = datetime(2026, 11, 23, 12, tzinfo=UTC)
    span = TimeRange(start, start + timedelta(hours=1))
    early = start - timedelta(hours=5)
    uses = [
        PlanUse(1, "A  <b>Seq Scan", early, start + timedelta(minutes=20), 10, 140.0),
        PlanUse(2, "B", start + timedelta(minutes=20), start + timedelta(minutes=20), 0, 0.0),
        PlanUse(1, "A  <b>Seq Scan", start + timedelta(minutes=40), span.end, 30, 100.0),
    ]
    figure = plan_charts.plan_timeline(uses, zone=ZoneInfo("Europe/Berlin"), span=span, chosen=1)
    drawable(figure)
    bars = figure["data"][0]
    assert bars["base"][0] == "2026-11-23T13:00:00"
    assert bars["x"][0] == 20 * 60_000
    assert bars["x"][1] > 0
    assert bars["y"][0] == bars["y"][2] != bars["y"][1]
    assert "110 ms mean of 40 calls" in said(figure)
    assert "no call counted" in said(figure)
    assert "&lt;b&gt;" in bars["hovertext"][0]


def test_a_plan_that_ran_without_timing_does_not_say_that_it_did_not_run() -> None:
    untimed = {"Actual Rows": 5, "Actual Loops": 1}
    assert "executed, its steps not timed" in said(
        plan_charts.plan_tree(plan(node("Result", 1, **untimed)))
    )
    assert "not executed" in said(plan_charts.plan_tree(plan(node("Result", 1))))
