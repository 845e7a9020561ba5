"""What a person can do with a suggestion: test it, dismiss it, put it off, take it along."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import streamlit as st

from perfcore.advise.migration_text import migration_texts
from perfcore.errors import PerfcoreError
from perfcore.store import decide, read
from perfcore.store.read import StoredSuggestion
from perfcore.types import Suggestion
from perfcore.ui import frame, lab, words

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
    if suggestion.kind == "drop_index" and stored.state == "open":
        _drop(stored)
    if stored.state in ("dismissed", "snoozed"):
        st.button(
            "Put back", icon=":material/undo:", key=f"reopen_{key}", on_click=_reopen, args=(key,)
        )
    elif stored.state == "open":
        _put_away(key)


def dropped_index(ddl: str) -> tuple[str, str] | None:
    """Return schema and name of the index that a DROP INDEX of ours names.

    >>> dropped_index('DROP INDEX CONCURRENTLY "public"."a ""b"" idx"')
    ('public', 'a "b" idx')
    >>> dropped_index("DROP TABLE orders") is None
    True
    """
    found = re.fullmatch(r'DROP INDEX CONCURRENTLY "((?:[^"]|"")+)"\."((?:[^"]|"")+)"', ddl)
    return (found[1].replace('""', '"'), found[2].replace('""', '"')) if found else None


def _drop(stored: StoredSuggestion) -> None:
    """Draw the way to drop the index, where Perfcore may change the target."""
    key, suggestion = stored.suggestion_id, stored.suggestion
    name = next(
        (t.name for t in frame.read(read.targets) if t.target_id == suggestion.target_id), ""
    )
    index = dropped_index(suggestion.ddl)
    if index is None or not lab.jobs().may_apply(name):
        return
    turn = st.session_state.get(f"_dropped_{key}", 0)
    with st.popover("Drop this index", icon=":material/delete:", key=f"dropping_{key}_{turn}"):
        st.code(f"{suggestion.ddl};", language="sql", wrap_lines=True)
        st.markdown(_REPLICAS)
        st.button(
            "Drop it now", type="primary", key=f"drop_{key}", on_click=_start_drop,
            args=(stored, name, index),
        )  # fmt: skip


_REPLICAS = (
    ":material/warning: A standby replays the drop, and counts its own scans: an index that is "
    "idle here may serve the queries there. Ask each replica before you go on. It is dropped "
    "concurrently; the ledger keeps the DDL that builds it anew."
)


def _start_drop(stored: StoredSuggestion, target: str, index: tuple[str, str]) -> None:
    key = stored.suggestion_id
    try:
        change_id = lab.jobs().start_drop(
            stored.suggestion.target_id, target, *index, suggestion_id=key
        )
    except PerfcoreError as error:
        st.toast(words.plain(f"{error} {error.hint}".strip()))
        return
    st.session_state[f"_dropped_{key}"] = st.session_state.get(f"_dropped_{key}", 0) + 1
    lab.follow(change_id, "suggestions")


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
