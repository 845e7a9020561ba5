"""The plans of a query's page: which was used when, one of them drawn, and what differs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd
import streamlit as st

from perfcore import plan_words
from perfcore.advise.plan_findings import plan_findings
from perfcore.plan_charts import PlanUse, plan_timeline
from perfcore.store import read
from perfcore.store.read import Marker, PlanRefusal, StatementDetail, StoredPlan
from perfcore.ui import frame, parts, words
from perfcore.ui import plan as drawing
from perfcore.ui.timerange import View

PLAN, COMPARE = "plan", "compare_plan"


def plans(
    stored: Sequence[StoredPlan], history: pd.DataFrame, refusal: PlanRefusal | None, view: View
) -> None:
    """Draw the statement's plans, or why there is none."""
    if not stored:
        with parts.card("Plan"):
            st.markdown(missing(refusal, view))
            frame.link("plan", "Open a plan of your own", icon=":material/account_tree:")
        return
    names = letters(stored)
    latest = stored[0]
    tables = frame.read(read.tables, latest.target_id)
    chosen = _named(PLAN, stored) or latest
    other = _named(COMPARE, stored)
    if len(stored) > 1:
        with parts.card("Plans", "which was used when", help=_HISTORY_HELP):
            _timeline(stored, history, names, chosen, view)
            _pickers(stored, names, chosen, other)
    if other is not None and other is not chosen:
        before, after = sorted((chosen, other), key=lambda p: p.first_seen)
        titles = tuple(_words(p, names, view) for p in (before, after))
        drawing.side_by_side(
            before.plan, after.plan, (titles[0], titles[1]), key=f"both_{before.plan_id}"
        )
        return
    drawing.explained(
        drawing.Shown(chosen.plan, plan_findings(chosen.plan, tables)),
        _words(chosen, names, view),
        key="query",
        name=f"plan_{chosen.shape_hash[:8]}",
    )


_HISTORY_HELP = (
    "A plan's shape is what it does, whatever the constants and estimates. A bar is a time in "
    "which the shape was in use, with the server's mean execution time meanwhile."
)


def letters(stored: Sequence[StoredPlan]) -> dict[int, str]:
    """Return A, B, C … for the plans by their id, in the order in which they were first seen."""
    ordered = sorted(stored, key=lambda p: (p.first_seen, p.plan_id))
    return {p.plan_id: _letter(n) for n, p in enumerate(ordered)}


def _letter(n: int) -> str:
    """Return a name for the n-th plan.

    >>> _letter(0), _letter(25), _letter(26)
    ('A', 'Z', 'A2')
    """
    return chr(ord("A") + n % 26) + (str(n // 26 + 1) if n >= 26 else "")


def _named(parameter: str, stored: Sequence[StoredPlan]) -> StoredPlan | None:
    wanted = frame.number_parameter(parameter)
    return next((p for p in stored if p.plan_id == wanted), None)


def _timeline(
    stored: Sequence[StoredPlan],
    history: pd.DataFrame,
    names: dict[int, str],
    chosen: StoredPlan,
    view: View,
) -> None:
    uses = [
        PlanUse(
            plan_id=plan.plan_id,
            label=f"{names[plan.plan_id]}  {gist(plan)}",
            seen_from=span["seen_from"].to_pydatetime(),
            seen_to=span["seen_to"].to_pydatetime(),
            calls=int(span["calls"]),
            mean_ms=float(span["mean_ms"]),
        )
        for plan in sorted(stored, key=lambda p: names[p.plan_id])
        for span in history[history["plan_id"] == plan.plan_id].to_dict("records")
    ]
    if not uses:
        st.caption("No plan of it was in use in this range.")
        return
    turn = st.session_state.setdefault("_timeline_turn", 0)
    widget = f"plan_timeline_{turn}"

    def clicked() -> None:
        points = st.session_state[widget]["selection"]["points"]
        if points:
            st.session_state["_timeline_turn"] = turn + 1
            choose(uses[int(points[0]["point_index"])].plan_id)

    st.plotly_chart(
        plan_timeline(
            uses, zone=view.zone, span=view.range, chosen=chosen.plan_id, palette=drawing.palette()
        ),
        config={"displayModeBar": False, "responsive": True},
        key=widget,
        alt="Which plan was used when",
        on_select=clicked,
        selection_mode=("points",),
    )


def choose(plan_id: int) -> None:
    """Show that plan by itself."""
    st.query_params[PLAN] = str(plan_id)
    for parameter in (COMPARE, drawing.STEP):
        st.query_params.pop(parameter, None)


def _pickers(
    stored: Sequence[StoredPlan],
    names: dict[int, str],
    chosen: StoredPlan,
    other: StoredPlan | None,
) -> None:
    ordered = sorted(stored, key=lambda p: names[p.plan_id])
    ids = [p.plan_id for p in ordered]
    label = {p.plan_id: f"{names[p.plan_id]} · {gist(p)}" for p in ordered}
    # What the URL says wins over what the widget remembers.
    st.session_state["query_plan"] = chosen.plan_id
    st.session_state["query_compare"] = other.plan_id if other and other is not chosen else None
    with st.container(horizontal=True):
        st.selectbox(
            "Plan", ids, format_func=label.__getitem__, key="query_plan", on_change=_picked
        )
        st.selectbox(
            "Compare this plan with",
            [i for i in ids if i != chosen.plan_id],
            format_func=label.__getitem__,
            key="query_compare",
            on_change=_compared,
            placeholder="no other plan",
        )


def _picked() -> None:
    choose(int(st.session_state["query_plan"]))


def _compared() -> None:
    other = st.session_state["query_compare"]
    if other is None:
        st.query_params.pop(COMPARE, None)
    else:
        st.query_params[COMPARE] = str(other)
    st.query_params.pop(drawing.STEP, None)


def gist(stored: StoredPlan) -> str:
    """Return a plan in a few words: the scans and joins that tell it from others."""
    found = [
        plan_words.phrase(node)
        for _, node in stored.plan.root.walk()
        if node.relation or node.index or "Join" in node.node_type or "Loop" in node.node_type
    ]
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    return words.one_line(", ".join(found[:3]) or plan_words.title(stored.plan.root), 110) + more


def _words(plan: StoredPlan, names: dict[int, str], view: View) -> str:
    first, last = (t.astimezone(view.zone) for t in (plan.first_seen, plan.last_seen))
    kind = "generic plan" if plan.is_generic else "with its parameters"
    return (
        f"{names[plan.plan_id]} · {kind}, cost {plan.total_cost:,.0f}, seen "
        f"{first:%d %b %H:%M} to {last:%d %b %H:%M}"
    )


def missing(refusal: PlanRefusal | None, view: View) -> str:
    """Return in markdown why a statement has no plan, and what to do."""
    if refusal is None:
        return (
            "No plan yet. The collector asks for one when an execution is over the threshold, or "
            "when the statement takes much of the database's time; it asks once in 15 minutes."
        )
    at = refusal.refused_at.astimezone(view.zone)
    remedy = f"  \n{words.plain(refusal.remedy)}" if refusal.remedy else ""
    return f"{words.plain(refusal.reason)} :gray[(asked {at:%d %b %H:%M})]{remedy}"


def own_markers(
    markers: Sequence[Marker], detail: StatementDetail, stored: Sequence[StoredPlan]
) -> list[Marker]:
    """Return the markers without other statements' plans, this one's named by their letters."""
    names = letters(stored)
    by_shape = {p.shape_hash: names[p.plan_id] for p in stored}
    found = []
    for marker in markers:
        if marker.kind != "plan change":
            found.append(marker)
        elif marker.details.get("fingerprint") == str(detail.fingerprint):
            before, after = (
                by_shape.get(str(marker.details.get(side)), "?") for side in ("before", "after")
            )
            found.append(replace(marker, label=f"plan {before} → {after}"))
    return found
