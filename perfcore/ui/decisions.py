"""What a person can do with a suggestion: test it, dismiss it, put it off, take it along."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import streamlit as st

from perfcore.advise.migration_text import migration_texts
from perfcore.store import decide
from perfcore.store.read import StoredSuggestion
from perfcore.types import Suggestion
from perfcore.ui import frame, words

_SNOOZE_DAYS = {"for a day": 1, "for a week": 7, "for 30 days": 30}


def sql(suggestion: Suggestion) -> None:
    """Show the exact DDL, its undo, and both as a migration of the usual kinds."""
    if not suggestion.ddl:
        return
    forms = migration_texts(suggestion)
    names = ["DDL", *(n for n in forms if n != "SQL")]
    tabs = st.tabs(names)
    with tabs[0]:
        st.code(f"{suggestion.ddl};", language="sql", wrap_lines=True)
        if suggestion.undo:
            st.caption("Undo")
            st.code(f"{suggestion.undo};", language="sql", wrap_lines=True)
    for tab, name in zip(tabs[1:], names[1:], strict=True):
        with tab:
            st.code(forms[name], language="python", wrap_lines=True)


def buttons(stored: StoredSuggestion) -> None:
    """Draw what can be done with a suggestion in its state, into a horizontal container."""
    suggestion, key = stored.suggestion, stored.suggestion_id
    if suggestion.kind == "index" and frame.has_page("index_lab"):
        st.button(
            "Test this index",
            icon=":material/science:",
            key=f"test_{key}",
            on_click=lambda: frame.open_page("index_lab", suggestion=key),
        )
    if stored.state in ("dismissed", "snoozed"):
        st.button(
            "Put back", icon=":material/undo:", key=f"reopen_{key}", on_click=_reopen, args=(key,)
        )
    elif stored.state == "open":
        _put_away(key)


def _put_away(key: str) -> None:
    with st.popover("Dismiss", key=f"dismissing_{key}"):
        st.text_input(
            "Reason", key=f"reason_{key}", placeholder="why it does not fit here", max_chars=200
        )
        st.button("Dismiss it", key=f"dismiss_{key}", on_click=_dismiss, args=(key,))
    with st.popover("Snooze", key=f"snoozing_{key}"):
        for label, days in _SNOOZE_DAYS.items():
            st.button(
                label.capitalize(), key=f"snooze_{key}_{days}", on_click=_snooze, args=(key, days)
            )


def state_words(stored: StoredSuggestion) -> str:
    """Return what became of a suggestion that is not open, in markdown."""
    said = stored.state
    if stored.snoozed_until and stored.state == "snoozed":
        said += f" until {stored.snoozed_until:%d %b %Y}"
    return words.plain(said + (f": {stored.state_reason}" if stored.state_reason else ""))


def _dismiss(suggestion_id: str) -> None:
    reason = str(st.session_state.get(f"reason_{suggestion_id}") or "").strip()
    _done(decide.dismiss(frame.store(), suggestion_id, reason), "Dismissed.")


def _snooze(suggestion_id: str, days: int) -> None:
    until = datetime.now(UTC) + timedelta(days=days)
    _done(decide.snooze(frame.store(), suggestion_id, until), f"Snoozed until {until:%d %b}.")


def _reopen(suggestion_id: str) -> None:
    _done(decide.reopen(frame.store(), suggestion_id), "It is back on the list.")


def _done(is_done: bool, message: str) -> None:
    frame.forget()
    st.toast(message if is_done else "It changed meanwhile; look at the list again.")
