"""The list of suggestions, and of statements that have none."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from perfcore.store.read import StoredSilence, StoredSuggestion
from perfcore.ui import advice, decisions, frame, parts, words

STATES = ("open", "snoozed", "dismissed", "applied", "gone")
_ANY = "all kinds"


def filters(stored: Sequence[StoredSuggestion]) -> list[StoredSuggestion]:
    """Draw the filters by state and kind, kept in the URL; return what passes them."""
    present = sorted({s.suggestion.kind for s in stored})
    with st.container(horizontal=True, vertical_alignment="center"):
        state = st.segmented_control(
            "State",
            STATES,
            default="open",
            required=True,
            key="state",
            bind="query-params",
            label_visibility="collapsed",
        )
        kind = st.selectbox(
            "Kind",
            [_ANY, *present],
            key="kind",
            bind="query-params",
            label_visibility="collapsed",
            icon=":material/filter_list:",
            width=190,
        )
    return [s for s in stored if s.state == state and kind in (_ANY, s.suggestion.kind)]


def summary(stored: Sequence[StoredSuggestion]) -> None:
    """Say what all of the shown suggestions together are worth."""
    total = sum(s.suggestion.saved_ms_per_hour for s in stored)
    size = sum(s.suggestion.index_bytes or 0 for s in stored if s.suggestion.kind == "index")
    words_ = f"{len(stored)} suggestions"
    if total:
        words_ += f", together {words.ms(total)} of database time per hour"
    if size:
        words_ += f", new indexes of {words.byte_size(size)}"
    st.caption(words_ + ". Gains of different suggestions can overlap.")


def card(stored: StoredSuggestion, *, is_open: bool) -> None:
    """Draw one suggestion: its head and what can be done always, everything else when opened."""
    suggestion = stored.suggestion
    name, icon = advice.KINDS.get(suggestion.kind, (suggestion.kind, "lightbulb"))
    with st.container(border=True, gap="xsmall"):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.markdown(f":material/{icon}: **{words.plain(suggestion.title)}**", width="stretch")
            st.badge(name, color="gray")
            advice.evidence_badge(suggestion.evidence)
            decisions.buttons(stored)
        st.markdown(_head(stored))
        if stored.state != "open":
            st.caption(decisions.state_words(stored))
        with st.expander(
            "Why, what it helps, what it costs",
            expanded=is_open,
            key=f"open_{stored.suggestion_id}",
        ):
            advice.details(suggestion)
            decisions.sql(suggestion)


def _head(stored: StoredSuggestion) -> str:
    suggestion = stored.suggestion
    parts_ = []
    if gain := advice.saved(suggestion):
        parts_.append(f":green[saves {gain}]")
    helped = [e for e in suggestion.endpoints if e.saved_ms_per_request > 0]
    if helped:
        best = max(helped, key=lambda e: e.saved_ms_per_request)
        parts_.append(
            f"{words.code(best.endpoint)} −{words.ms(best.saved_ms_per_request)} per request"
        )
        if len(helped) > 1:
            parts_.append(
                f"{len(helped) - 1} more" + (" endpoints" if len(helped) > 2 else " endpoint")
            )
    if suggestion.kind == "index" and suggestion.index_bytes:
        parts_.append(f":gray[size {words.byte_size(suggestion.index_bytes)}]")
    return " · ".join(parts_) or f":gray[{words.plain(suggestion.finding.summary)}]"


def silences(found: Sequence[StoredSilence]) -> None:
    """List why each other statement has no suggestion."""
    if not found:
        st.caption("The advisor has not run yet, or every statement has a suggestion.")
        return
    rows = pd.DataFrame(
        [
            {
                "queryid": str(s.queryid),
                "text": words.gist(s.text),
                "reason": s.reason,
                "detail": s.detail,
            }
            for s in found
        ]
    )
    parts.table(
        rows,
        {
            "text": parts.text("Statement", width="large"),
            "reason": parts.text("No suggestion, because", width="large"),
            "detail": parts.text("More", width="medium"),
        },
        key="silences",
        opens=lambda row: frame.open_page("query", queryid=row["queryid"]),
        max_rows=15,
    )
