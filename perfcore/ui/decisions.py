"""What a person can do with a suggestion: test it, dismiss it, put it off, take it along."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import streamlit as st

from perfcore.errors import DecisionRefused, PerfcoreError
from perfcore.lab.report import NOT_SAME
from perfcore.store import decide, read
from perfcore.store.read import StoredSuggestion
from perfcore.ui import frame, lab, words

_SNOOZE_DAYS = {"For a day": 1, "a week": 7, "30 days": 30}


def buttons(stored: StoredSuggestion) -> None:
    """Draw what can be done with a suggestion in its state, into a horizontal container."""
    suggestion, key = stored.suggestion, stored.suggestion_id
    if lab.may_be_tried(suggestion) and frame.has_page("index_lab"):
        st.button(
            f"Test this {suggestion.kind}",
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
        _put_away(stored)


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


def _put_away(stored: StoredSuggestion) -> None:
    key = stored.suggestion_id
    with st.popover("Dismiss", key=f"dismissing_{key}"):
        st.text_input(
            "Reason", key=f"reason_{key}", placeholder="why it does not fit here",
            max_chars=decide.MAX_REASON_LETTERS,
        )  # fmt: skip
        st.button("Dismiss it", key=f"dismiss_{key}", on_click=_dismiss, args=(key,))
        _refused(f"dismiss_{key}")
    with st.popover("Snooze", key=f"snoozing_{key}"):
        with st.container(horizontal=True, gap="xsmall"):
            for label, days in _SNOOZE_DAYS.items():
                st.button(label, key=f"snooze_{key}_{days}", on_click=_snooze, args=(key, days))
        _until_slower(stored)


def _until_slower(stored: StoredSuggestion) -> None:
    key = stored.suggestion_id
    slowest = max((g.mean_ms_before for g in stored.suggestion.statements), default=0.0)
    if slowest <= 0:
        st.caption("It names no statement whose mean could be watched instead.")
        return
    st.text_input(
        f"or until its slowest statement's mean, now {words.ms(slowest)}, is above",
        value=f"{_rounded(1.5 * slowest)} ms",
        key=f"slower_{key}",
        max_chars=30,
    )
    st.button(
        "Snooze until slower", key=f"snooze_{key}_slower", on_click=_snooze_until_slower,
        args=(key,),
    )  # fmt: skip
    _refused(f"slower_{key}")


def _rounded(mean_ms: float) -> str:
    """Return a limit that people would have chosen themselves.

    >>> _rounded(618.3), _rounded(13.26), _rounded(0.0312)
    ('620', '13', '0.031')
    """
    return f"{float(f'{mean_ms:.2g}'):,.10g}".replace(",", "")


def milliseconds(text: str) -> float:
    """Return the time that somebody wrote: "300", "300 ms", "1.5 s", "2 min".

    Raises DecisionRefused for what is no time.

    >>> milliseconds("300"), milliseconds(" 1.5 s"), milliseconds("1,200ms")
    (300.0, 1500.0, 1200.0)
    """
    found = re.fullmatch(r"\s*([\d,]*\.?\d+)\s*(ms|s|min)?\s*", text)
    if found is None:
        raise DecisionRefused(
            f"nothing was snoozed: {text.strip()!r} is no time", hint="write 300 ms, or 1.5 s"
        )
    return float(found[1].replace(",", "")) * {"s": 1000.0, "min": 60_000.0}.get(found[2], 1.0)


def _refused(name: str) -> None:
    """Say why the last try was refused, below what it was tried with."""
    if said := st.session_state.get(f"_refused_{name}"):
        st.markdown(f":red[:material/error: {words.plain(said)}]")


def state_words(stored: StoredSuggestion) -> str:
    """Return what became of a suggestion, in markdown; empty where it is simply open.

    One that a round woke from its snooze is open, with the reason.
    """
    if stored.state == "open" and stored.state_reason.startswith(NOT_SAME):
        return f":red[:material/error: {words.plain(stored.state_reason)}]"
    if stored.state == "open":
        return words.plain(stored.state_reason)
    said = stored.state
    if stored.state == "snoozed" and stored.snoozed_until:
        said += f" until {stored.snoozed_until:%d %b %Y}"
    if stored.state == "snoozed" and stored.snoozed_until_ms:
        limit = words.ms(stored.snoozed_until_ms)
        said += f" until its slowest statement's mean is above {limit}"
    return words.plain(said + (f": {stored.state_reason}" if stored.state_reason else ""))


def _dismiss(key: str) -> None:
    reason = str(st.session_state.get(f"reason_{key}") or "")
    _decide(f"dismiss_{key}", lambda: decide.dismiss(frame.store(), key, reason), "Dismissed.")


def _snooze(key: str, days: int) -> None:
    until = datetime.now(UTC) + timedelta(days=days)
    _decide(
        f"days_{key}",
        lambda: decide.snooze(frame.store(), key, until),
        f"Snoozed until {until:%d %b}.",
    )


def _snooze_until_slower(key: str) -> None:
    wanted = str(st.session_state.get(f"slower_{key}") or "")

    def snooze() -> bool:
        return decide.snooze_until_slower(frame.store(), key, milliseconds(wanted))

    _decide(f"slower_{key}", snooze, f"Snoozed until its mean is above {wanted.strip()}.")


def _reopen(key: str) -> None:
    _decide(f"reopen_{key}", lambda: decide.reopen(frame.store(), key), "It is back on the list.")


def _decide(name: str, act: Callable[[], bool], message: str) -> None:
    """Carry a decision out; one that cannot be kept is answered where it was made."""
    st.session_state.pop(f"_refused_{name}", None)
    try:
        is_done = act()
    except DecisionRefused as error:
        st.session_state[f"_refused_{name}"] = f"{error}; {error.hint}"
        return
    frame.forget()
    st.toast(message if is_done else "It changed meanwhile; look at the list again.")
