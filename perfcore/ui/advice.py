"""How a suggestion is shown: in a line, and in full."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import streamlit as st

from perfcore.store.read import StoredSuggestion
from perfcore.types import Evidence, Suggestion
from perfcore.ui import frame, words

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


def heading(stored: StoredSuggestion, buttons: Callable[[StoredSuggestion], None]) -> None:
    """Draw a suggestion's title and kind, how well its gain is known, and what can be done."""
    suggestion = stored.suggestion
    name, icon = KINDS.get(suggestion.kind, (suggestion.kind, "lightbulb"))
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.markdown(f":material/{icon}: **{words.plain(suggestion.title)}**", width="stretch")
        # One block, so that where there is less room all of it moves below the title.
        with st.container(
            horizontal=True, vertical_alignment="center", gap="xsmall", width="content"
        ):
            st.badge(name, color="gray")
            evidence_badge(suggestion.evidence)
            buttons(stored)


def head(suggestion: Suggestion) -> str:
    """Return in one line of markdown what a suggestion is worth, and to whom."""
    found = []
    if gain := saved(suggestion):
        found.append(f":green[saves {gain}]")
    if suggestion.proposed:
        found.append(
            f"{words.plain(suggestion.present or words.NOTHING)} → "
            f"**{words.plain(suggestion.proposed)}**"
        )
    helped = [e for e in suggestion.endpoints if e.saved_ms_per_request > 0]
    if helped:
        best = max(helped, key=lambda e: e.saved_ms_per_request)
        found.append(
            f"{words.code(best.endpoint)} −{words.ms(best.saved_ms_per_request)} per request"
        )
        if len(helped) > 1:
            found.append(f"{len(helped) - 1} more endpoint" + ("s" if len(helped) > 2 else ""))
    if suggestion.kind == "index" and suggestion.index_bytes:
        found.append(f":gray[size {words.byte_size(suggestion.index_bytes)}]")
    return " · ".join(found) or f":gray[{words.plain(suggestion.finding.summary)}]"


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
