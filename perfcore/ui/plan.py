"""A plan on a page: drawn with its findings beside it, as text and JSON, and against another."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import streamlit as st

from perfcore import plan_charts
from perfcore.advise.plan_findings import MIN_PLAN_COST, MIN_PLAN_MS
from perfcore.fitting import plain
from perfcore.plan import Plan
from perfcore.plan_charts import Palette
from perfcore.plan_compare import Comparison, compare_plans
from perfcore.types import PlanFinding
from perfcore.ui import frame, parts, words

# The place of the step that the viewer looks at, in the URL.
STEP = "step"
# A browser shows this much quickly; the whole is one click away.
_SHOWN_LETTERS = 60_000
_SHOWN_LINES = 22


@dataclass(frozen=True, slots=True)
class Shown:
    """A plan as it is shown: with the text it was pasted as, where it was."""

    plan: Plan
    findings: Sequence[PlanFinding] = ()
    pasted: str = ""

    @property
    def text(self) -> str:
        is_text = self.pasted and not self.pasted.lstrip().startswith(("[", "{"))
        return self.pasted if is_text else self.plan.to_text()

    @property
    def document(self) -> str:
        return json.dumps([self.plan.document], indent=2, default=str)


def palette() -> Palette:
    """Return the colours of the viewer's theme."""
    return plan_charts.DARK if st.context.theme.type == "dark" else plan_charts.LIGHT


def tree(
    plan: Plan, alt: str, *, key: str, marks: Mapping[int, Sequence[int]] | None = None
) -> None:
    """Draw a plan as a tree that nothing happens on but hovering."""
    parts.chart(plan_charts.plan_tree(plan, palette=palette(), marks=marks), alt, key=key)


def explained(shown: Shown, note: str, *, key: str, name: str) -> None:
    """Draw a plan and beside it what it shows to be wrong; `note` is markdown, `name` a file's."""
    board = parts.Board(3, least_width_px=300)
    with board.card("Plan", note, span=2):
        _views(shown, key, name)
    how = "click one to see its step" if shown.findings else ""
    with board.card("Findings", how, help=_FINDINGS_HELP):
        _list(shown, key)


_FINDINGS_HELP = "What the plan shows to be wrong; the number stands at its step in the drawing."


def _views(shown: Shown, key: str, name: str) -> None:
    drawn, flame, text, document = st.tabs(["Tree", "Flame", "Text", "JSON"], key=f"{key}_tabs")
    with drawn:
        _selectable(shown, key)
    with flame:
        st.caption(
            "Each step below the one that asked for its rows, as wide as the "
            + ("time" if plan_charts.is_timed(shown.plan) else "cost")
            + " it takes with the steps below it. Click one to see it by itself."
        )
        figure = plan_charts.plan_icicle(shown.plan, palette=palette())
        parts.chart(figure, "The plan as a flame graph", key=f"{key}_flame")
    with text:
        _source(shown.text, f"{name}.txt", f"{key}_text", language=None)
    with document:
        _source(shown.document, f"{name}.json", f"{key}_json", language="json")


def _source(text: str, file_name: str, key: str, *, language: str | None) -> None:
    """Show a plan's source with a button that saves it."""
    st.download_button(
        f"Download {file_name}", text, file_name, icon=":material/download:", key=key,
        on_click="ignore",
    )  # fmt: skip
    if len(text) > _SHOWN_LETTERS:
        st.caption(f"The first {_SHOWN_LETTERS:,} of {len(text):,} characters; download the whole.")
    shown = text[:_SHOWN_LETTERS]
    is_long = shown.count("\n") > _SHOWN_LINES
    st.code(shown, language=language, height=460 if is_long else "content")


def _selectable(shown: Shown, key: str) -> None:
    """Draw the tree; clicking a step chooses it, clicking it again lets it go."""
    chosen = frame.number_parameter(STEP)
    figure = plan_charts.plan_tree(
        shown.plan, palette=palette(), marks=finding_marks(shown.findings), chosen=chosen
    )
    # A new key after each use: the same step can be clicked again.
    turn = st.session_state.setdefault(f"_{key}_turn", 0)
    widget = f"{key}_tree_{turn}"

    def clicked() -> None:
        points = st.session_state[widget]["selection"]["points"]
        if points:
            st.session_state[f"_{key}_turn"] = turn + 1
            choose_step(int(points[0]["point_index"]))

    st.plotly_chart(
        figure,
        config={"displayModeBar": False, "responsive": True},
        key=widget,
        alt=f"The plan as a tree of {len(figure['data'][0]['y'])} steps",
        on_select=clicked,
        selection_mode=("points",),
    )


def choose_step(place: int) -> None:
    """Highlight a step, or no step where it was highlighted already."""
    if frame.number_parameter(STEP) == place:
        del st.query_params[STEP]
    else:
        st.query_params[STEP] = str(place)


def finding_marks(findings: Sequence[PlanFinding]) -> dict[int, list[int]]:
    """Return the numbers of the findings, from 1, by the place of their node."""
    marks: dict[int, list[int]] = defaultdict(list)
    for number, finding in enumerate(findings, 1):
        marks[finding.node].append(number)
    return dict(marks)


def _list(shown: Shown, key: str) -> None:
    chosen = frame.number_parameter(STEP)
    if not shown.findings:
        st.markdown(f":material/check: {_why_none(shown.plan)}")
        if not shown.plan.is_executed:
            st.caption(
                "It was not executed, so real rows, spills and what filters removed are not "
                "known. EXPLAIN (ANALYZE, BUFFERS) tells them; open its answer in the plan viewer."
            )
    for number, finding in enumerate(shown.findings, 1):
        with st.container(horizontal=True, wrap=False, gap="small"):
            st.button(
                str(number),
                key=f"{key}_finding_{number}",
                type="primary" if finding.node == chosen else "secondary",
                help="Show its step in the drawing.",
                on_click=choose_step,
                args=(finding.node,),
            )
            numbers = " · ".join(
                f"{words.plain(label)} **{words.plain(value)}**" for label, value in finding.numbers
            )
            st.markdown(
                words.plain(plain(finding.summary))
                + (f"  \n:small[:gray[{numbers}]]" if numbers else "")
                + f"  \n:small[{words.plain(plain(finding.consequence))}]",
                width="stretch",
            )


def side_by_side(before: Plan, after: Plan, titles: tuple[str, str], *, key: str) -> None:
    """Draw two plans and what differs between them, numbered in both."""
    found = compare_plans(before, after)
    with parts.card("What differs", words.plain(_gist(found))):
        _differences(found)
    board = parts.Board(2, least_width_px=380)
    for side, (plan, title) in enumerate(zip((before, after), titles, strict=True)):
        with board.card(("Before", "After")[side], title):
            tree(plan, f"The plan {('before', 'after')[side]}", key=f"{key}_{side}",
                 marks=_difference_marks(found, side))  # fmt: skip


def _gist(found: Comparison) -> str:
    """Return in a line how the two compare.

    >>> _gist(Comparison((), (), 12345.0, 12.0, None, None))
    'cost 12,345 → 12'
    """
    words_ = f"cost {found.cost_before:,.0f} → {found.cost_after:,.0f}"
    if found.ms_before is not None and found.ms_after is not None:
        words_ += f", {words.ms(found.ms_before)} → {words.ms(found.ms_after)}"
    return words_


def _differences(found: Comparison) -> None:
    if not found.differences:
        st.markdown("Nothing: both do the same steps and expect about the same rows.")
        return
    if found.is_same_shape:
        st.markdown("Both do the same steps; only what the planner expected of them differs.")
    lines = []
    for number, difference in enumerate(found.differences, 1):
        summary = plain(difference.summary)
        sentence = words.plain(summary[:1].upper() + summary[1:])
        lines.append(f":orange-badge[{number}] {sentence}")
    st.markdown("  \n".join(lines))


def _why_none(plan: Plan) -> str:
    took_ms = plan.execution_ms if plan.execution_ms is not None else plan.root.total_ms
    if took_ms is not None:
        if took_ms < MIN_PLAN_MS:
            return f"None: it took less than {MIN_PLAN_MS:.0f} ms."
    elif plan.total_cost < MIN_PLAN_COST:
        return f"None: its cost is below {MIN_PLAN_COST:,.0f}, a few milliseconds."
    return "None: no step of it shows a known fault."


def _difference_marks(found: Comparison, side: int) -> dict[int, list[int]]:
    marks: dict[int, list[int]] = defaultdict(list)
    for number, difference in enumerate(found.differences, 1):
        place = (difference.before, difference.after)[side]
        if place is not None:
            marks[place].append(number)
    return dict(marks)
