"""How a suggestion is shown: in a line, and in full."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from perfcore.types import Evidence, Suggestion
from perfcore.ui import frame, parts, words

KINDS = {
    "index": ("Index", "add_chart"),
    "drop_index": ("Drop index", "delete_sweep"),
    "rewrite": ("Rewrite", "edit_note"),
    "cache": ("Cache", "bolt"),
    "setting": ("Setting", "tune"),
    "maintenance": ("Maintenance", "cleaning_services"),
}
_EVIDENCE = {
    Evidence.ESTIMATED: (
        "gray", "By the planner's cost, before anything was run. Test it to measure the gain.",
    ),
    Evidence.MEASURED: ("blue", "Executed in the lab, with and without, interleaved."),
    Evidence.PROVEN: ("green", "Live traffic before and after the change."),
}  # fmt: skip


def saved(suggestion: Suggestion) -> str:
    """Return in words what the suggestion saves.

    Time where it saves time, else space, else nothing.
    """
    if suggestion.saved_ms_per_hour > 0:
        return f"{words.ms(suggestion.saved_ms_per_hour)} of database time per hour"
    if suggestion.kind == "drop_index" and suggestion.index_bytes:
        return f"{words.byte_size(suggestion.index_bytes)} of disk and its upkeep on each write"
    return ""


def evidence_badge(evidence: Evidence) -> None:
    colour, meaning = _EVIDENCE[evidence]
    st.badge(evidence.value, color=colour, help=meaning)  # type: ignore[arg-type]


def line(suggestion: Suggestion, endpoint: str = "") -> None:
    """Draw a suggestion as a link, with what it is and what it saves the endpoint below it.

    Without an endpoint it is the one that the suggestion helps most.
    """
    _, icon = KINDS.get(suggestion.kind, ("", "lightbulb"))
    title, more = brief(suggestion)
    with st.container(gap=None):
        frame.link(
            "suggestions",
            f"**{words.plain(title)}**",
            icon=f":material/{icon}:",
            help=words.plain(suggestion.title),
            suggestion=suggestion.suggestion_id,
        )
        if more:
            st.markdown(words.code(more))
        st.caption(_worth(suggestion, endpoint))


def brief(suggestion: Suggestion) -> tuple[str, str]:
    """Return a title that fits a narrow card, and what it leaves out.

    An index is named by its table; the second part lists its keys.
    """
    index = suggestion.index
    if index is None or suggestion.kind != "index":
        return words.one_line(suggestion.title, 36), ""
    _, _, body = index.body().partition(" USING ")
    body = body.replace('"', "").removeprefix("btree ")
    return words.one_line(f"Index on {index.table}", 36), words.one_line(body, 90)


def _worth(suggestion: Suggestion, endpoint: str) -> str:
    note = saved(suggestion)
    helped = [e for e in suggestion.endpoints if e.saved_ms_per_request > 0]
    if helped:
        best = max(helped, key=lambda e: (e.endpoint == endpoint, e.saved_ms_per_request))
        note = f"−{words.ms(best.saved_ms_per_request)} per request of {words.code(best.endpoint)}"
    return " · ".join(p for p in (note, suggestion.evidence.value) if p)


def lines(suggestions: Sequence[Suggestion], *, empty: str, endpoint: str = "") -> None:
    """Draw several suggestions, or say why there is none."""
    if not suggestions:
        st.caption(empty)
    for suggestion in suggestions:
        line(suggestion, endpoint)


def details(suggestion: Suggestion) -> None:
    """Draw everything known of a suggestion but its buttons."""
    with st.container(gap="xsmall"):
        _details(suggestion)


def _details(suggestion: Suggestion) -> None:
    st.markdown(words.plain(suggestion.reason))
    if suggestion.finding.numbers or suggestion.finding.summary:
        st.markdown(f":material/search: {words.plain(suggestion.finding.summary)}")
        _pairs(suggestion.finding.numbers)
    if suggestion.endpoints:
        st.markdown("**Endpoints it helps**")
        _endpoints(suggestion)
    if suggestion.statements:
        st.markdown("**Statements, by the planner**")
        _statements(suggestion)
    _costs(suggestion)
    for caveat in suggestion.caveats:
        st.caption(f":material/info: {words.plain(caveat)}")
    if suggestion.rewritten_sql:
        st.markdown("**Written differently**")
        st.code(suggestion.rewritten_sql, language="sql", wrap_lines=True)


def _pairs(pairs: Sequence[tuple[str, str]]) -> None:
    if pairs:
        shown = [f":gray[{words.plain(label)}] {words.plain(value)}" for label, value in pairs]
        st.markdown("  \u2003".join(shown))


def _endpoints(suggestion: Suggestion) -> None:
    rows = pd.DataFrame(
        [
            {
                "service": e.service,
                "endpoint": e.endpoint,
                "saved_ms_per_request": e.saved_ms_per_request,
                "requests_per_hour": e.requests_per_hour,
            }
            for e in suggestion.endpoints
        ]
    )
    parts.table(
        rows,
        {
            "endpoint": parts.text("Endpoint", width=230),
            "service": parts.text("Service"),
            "saved_ms_per_request": parts.number("Saved per request", "%.1f ms"),
            "requests_per_hour": parts.number("Requests per hour", "%,.0f"),
        },
        key=f"helped_{suggestion.suggestion_id}",
        opens=lambda row: frame.open_page(
            "endpoint", service=row["service"], endpoint=row["endpoint"]
        ),
        max_rows=6,
    )


def _statements(suggestion: Suggestion) -> None:
    rows = pd.DataFrame(
        [
            {
                "queryid": str(s.queryid),
                "text": words.gist(s.text),
                "cost_before": s.cost_before,
                "cost_after": s.cost_after,
                "mean_ms_before": s.mean_ms_before,
                "mean_ms_after": s.mean_ms_after,
                "calls_per_hour": s.calls_per_hour,
            }
            for s in suggestion.statements
        ]
    )
    parts.table(
        rows,
        {
            "text": parts.text("Statement", width=300),
            "cost_before": parts.number("Cost before", "%,.0f", "The planner's cost as it is."),
            "cost_after": parts.number(
                "Cost after", "%,.0f", "The planner's cost with the change."
            ),
            "mean_ms_before": parts.number("Mean now", "%.1f ms"),
            "mean_ms_after": parts.number(
                "Expected", "%.1f ms", "The mean now, scaled by the ratio of the costs."
            ),
            "calls_per_hour": parts.number("Calls per hour", "%,.0f"),
        },
        key=f"gains_{suggestion.suggestion_id}",
        opens=lambda row: frame.open_page("query", queryid=row["queryid"]),
        max_rows=6,
    )


def _costs(suggestion: Suggestion) -> None:
    pairs = (
        ("Size", words.byte_size(suggestion.index_bytes) if suggestion.index_bytes else ""),
        ("Cost on writes", suggestion.write_cost),
        ("Risk", suggestion.risk),
    )
    for label, value in pairs:
        if value:
            st.markdown(f":gray[{label}]\u2003{words.plain(value)}")
