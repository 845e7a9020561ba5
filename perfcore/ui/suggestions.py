"""The list of suggestions by reader, the rejected candidates, and the statements without advice."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from perfcore.advise.calibration import calibrate
from perfcore.advise.explanation import index_words
from perfcore.advise.readers import Reader, place, reader_of
from perfcore.store import read
from perfcore.store.read import StoredRejection, StoredSilence, StoredSuggestion
from perfcore.types import Suggestion
from perfcore.ui import advice, chain, decisions, frame, parts, words

SUGGESTED, REJECTED, SILENT = "suggestions", "rejected candidates", "statements without"
VIEWS = (SUGGESTED, REJECTED, SILENT)
STATES = ("open", "snoozed", "dismissed", "applied", "gone")
_ANYBODY = "everybody"
_ANY = "all kinds"

_MEANING = {
    Reader.RUN_NOW: "Safe, online and taken back by its undo: test it, then run it.",
    Reader.DEVELOPER: "The application's code changes: its queries, their number, what it keeps.",
    Reader.DECISION: "Something is given up for it: disk, memory, a restart, or an index that "
    "somebody may need.",
}
_EMPTY = {
    Reader.RUN_NOW: "Nothing that is safe to run at once would save enough to be worth it.",
    Reader.DEVELOPER: "No statement is repeated, written or asked for in a way that costs much.",
    Reader.DECISION: "Nothing asks for much disk or memory, and no index is there in vain.",
}


def view() -> str:
    """Draw the choice of what the page lists, kept in the URL; return it."""
    chosen: str | None = st.segmented_control(
        "Show", VIEWS, default=VIEWS[0], required=True, key="show", bind="query-params",
        label_visibility="collapsed",
    )  # fmt: skip
    return chosen or VIEWS[0]


def filters(stored: Sequence[StoredSuggestion]) -> tuple[list[StoredSuggestion], list[Reader]]:
    """Draw the filters, kept in the URL; return what passes them, and the groups to show."""
    present = sorted({s.suggestion.kind for s in stored})
    with st.container(horizontal=True, vertical_alignment="center"):
        reader = _control("reader", "For", (_ANYBODY, *(r.value for r in Reader)), _ANYBODY)
        state = _control("state", "State", STATES, "open")
        kind = st.selectbox(
            "Kind",
            [_ANY, *present],
            key="kind",
            bind="query-params",
            label_visibility="collapsed",
            icon=":material/filter_list:",
            width=170,
        )
    shown = [s for s in stored if s.state == state and kind in (_ANY, s.suggestion.kind)]
    return shown, [r for r in Reader if reader in (_ANYBODY, r.value)]


def _control(key: str, label: str, options: Sequence[str], default: str) -> str | None:
    return st.segmented_control(
        label, options, default=default, required=True, key=key, bind="query-params",
        label_visibility="collapsed",
    )  # fmt: skip


def is_narrowed() -> bool:
    """Say whether the filters show less than all open suggestions."""
    chosen = (st.session_state.get(name) for name in ("reader", "state", "kind"))
    return tuple(chosen) != (_ANYBODY, "open", _ANY)


def first(shown: Sequence[StoredSuggestion], of: advice.Shares) -> StoredSuggestion | None:
    """Draw what to do first, with what it saves and how sure that is; return it.

    That is what saves most of all that is safe to run, else what saves most; None where nothing
    is known to save time.
    """
    able = [s for s in ranked(shown) if s.suggestion.saved_ms_per_hour > 0]
    safe = [s for s in able if reader_of(s.suggestion) is Reader.RUN_NOW]
    if not able:
        return None
    best = (safe or able)[0]
    with st.container(border=True, gap="small"):
        st.markdown("##### :orange[:material/flag:] Do this first", anchors=False)
        advice.heading(best, _buttons)
        if line := decisions.state_words(best):
            st.caption(line)
        _worth(best.suggestion, of)
        if best.suggestion.ddl:
            st.code(f"{best.suggestion.ddl};", language="sql", wrap_lines=True)
    return best


def _worth(suggestion: Suggestion, of: advice.Shares) -> None:
    """Draw in four words what a suggestion saves, whom it helps, what it costs, how sure it is."""
    part, helped = advice.share(suggestion, of), advice.most_helped(suggestion)
    time = advice.saved_time([suggestion])
    found = [
        (
            "Saves per hour",
            f"{words.ms(suggestion.saved_ms_per_hour)} of {time}",
            f"{words.percent(round(part, 3))} of all database time" if part >= 0.001 else "",
        )
    ]
    if helped is not None:
        found.append(
            (
                "Helps most",
                words.code(helped.endpoint),
                f"−{words.ms(helped.saved_ms_per_request)} per request",
            )
        )
    if suggestion.index_bytes:
        upkeep = suggestion.write_ms_per_hour
        found.append(
            (
                "Costs",
                f"{words.byte_size(suggestion.index_bytes)} of disk",
                f"{words.ms(upkeep)} of writes per hour" if upkeep else "",
            )
        )
    found.append(("How sure", suggestion.evidence.value, words.plain(_how_sure(suggestion))))
    grid = st.grid(len(found), min_column_width=190, gap="small")
    for label, value, note in found:
        with grid.cell():
            more = f"  \n:small[:gray[{note}]]" if note else ""
            st.markdown(f":small[:gray[{label}]]  \n**{value}**{more}")


def _how_sure(suggestion: Suggestion) -> str:
    """Say what the gain rests on, and how such promises were kept here before."""
    known = calibrate(frame.read(read.gains), suggestion.target_id).kind(suggestion.plan_change)
    if known is None or not known.count:
        return advice.basis(suggestion)
    return (
        f"{advice.basis(suggestion)} Of {known.count} such changes tried here, "
        f"{100 * known.share:.0f} % of the promise was delivered."
    )


def groups(
    shown: Sequence[StoredSuggestion],
    readers: Sequence[Reader],
    every: Sequence[StoredSuggestion],
    of: advice.Shares,
    above: StoredSuggestion | None = None,
) -> None:
    """Draw the groups that are asked for, each with its sums and the most saving first.

    What stands `above` them already is counted and not drawn again.
    """
    for reader in readers:
        mine = ranked(s for s in shown if reader_of(s.suggestion) is reader)
        others = sum(reader_of(s.suggestion) is reader for s in every) - len(mine)
        with st.container(gap="xsmall"):
            st.markdown(f"##### {reader.value.capitalize()} :gray[{_sums(mine)}]", anchors=False)
            more = " The first of them stands above." if above in mine else ""
            st.caption(_MEANING[reader] + more if mine else _why_empty(reader, others))
        for stored in mine:
            if stored is not above:
                _card(stored, of)
    st.caption(
        "Gains of different suggestions can overlap: an index and a cache for one statement do not "
        "add up."
    )


def ranked(stored: Iterable[StoredSuggestion]) -> list[StoredSuggestion]:
    """Return suggestions by the time they save, then by the disk that they free or take."""
    return sorted(
        stored,
        key=lambda s: (-s.suggestion.saved_ms_per_hour, -(s.suggestion.index_bytes or 0)),
    )


def _sums(stored: Sequence[StoredSuggestion]) -> str:
    if not stored:
        return "none"
    saved_ms = sum(s.suggestion.saved_ms_per_hour for s in stored)
    found = [str(len(stored))]
    if saved_ms:
        time = advice.saved_time(s.suggestion for s in stored)
        found.append(f"up to {words.ms(saved_ms)} of {time} per hour")
    new = sum(s.suggestion.index_bytes or 0 for s in stored if s.suggestion.kind == "index")
    freed = sum(advice.freed_bytes(s.suggestion) for s in stored)
    for size, what in ((new, "new indexes"), (freed, "freed")):
        if size:
            found.append(f"{words.byte_size(size)} {what}")
    return " · ".join(found)


def _why_empty(reader: Reader, hidden: int) -> str:
    if hidden > 0:
        kept = "1 suggestion is" if hidden == 1 else f"{hidden} suggestions are"
        return f"None in this state and of this kind; {kept} kept back by the filters."
    return _EMPTY[reader]


def is_to_come(stored: StoredSuggestion) -> bool:
    """Say whether its gain is still to come, and so a share of the time spent now."""
    return stored.state in ("open", "snoozed")


def _card(stored: StoredSuggestion, of: advice.Shares) -> None:
    """Draw a suggestion in the list: what it is, what it is worth, what can be done."""
    suggestion = stored.suggestion
    with st.container(border=True, gap="xsmall"):
        advice.heading(stored, _buttons)
        line = advice.head(suggestion, of if is_to_come(stored) else {})
        st.markdown(line)
        notes = [decisions.state_words(stored)]
        if suggestion.saved_ms_per_hour <= 0 and suggestion.finding.summary not in line:
            notes.append(words.plain(suggestion.finding.summary))
        if reader_of(suggestion) is Reader.DECISION:
            notes.append(words.plain(place(suggestion).why))
        if line := " · ".join(n for n in notes if n):
            st.caption(line)


def _buttons(stored: StoredSuggestion) -> None:
    st.button(
        "Details",
        icon=":material/arrow_forward:",
        type="tertiary",
        key=f"details_{stored.suggestion_id}",
        help="Finding, endpoints, plans, gain, cost, DDL, undo and migration.",
        on_click=_open,
        args=(stored.suggestion_id,),
    )
    decisions.buttons(stored)


def _open(suggestion_id: str) -> None:
    st.query_params["suggestion"] = suggestion_id


def opened(every: Sequence[StoredSuggestion], suggestion_id: str, of: advice.Shares) -> None:
    """Draw one suggestion in full, with the way back to the list as it was narrowed."""
    st.button(
        "All suggestions", icon=":material/arrow_back:", type="tertiary", key="all_suggestions",
        on_click=frame.drop_parameters, args=("suggestion",),
    )  # fmt: skip
    stored = next((s for s in every if s.suggestion_id == suggestion_id), None)
    if stored is None:
        frame.nothing_here(
            "This suggestion is not known",
            "A link goes stale when its target is watched no longer. The list has all others.",
        )
        return
    chain.show(stored, of if is_to_come(stored) else {})


def rejected(found: Sequence[StoredRejection]) -> None:
    """List the indexes that were weighed and not suggested, one of them with its statements."""
    queryid = frame.number_parameter("of")
    if queryid is not None:
        found = _weighed_for(queryid, found)
    if not found:
        frame.nothing_here(
            "No candidate was rejected",
            "The advisor keeps those of its last round; it has not run yet, or it suggested all "
            "that it weighed.",
        )
        return
    chosen = next((r for r in found if _key(r) == frame.parameter("rejected")), None)
    if chosen is not None:
        _rejection(chosen)
    needle = st.text_input(
        "Filter", key="rejected_filter", bind="query-params", icon=":material/search:",
        placeholder="table, column, reason or statement", label_visibility="collapsed",
    )  # fmt: skip
    rows = pd.DataFrame([_rejected_row(r) for r in found])
    shown = parts.chosen(rows, needle or "", ["index", "reason", "text"])
    st.caption(
        f"{len(shown)} of {len(rows)} candidates of the last round, by what each alone would save. "
        "Click one to see its statements."
    )
    if not shown.empty:
        parts.table(
            shown,
            {
                "index": parts.text("Index", width=320),
                "reason": parts.text("Rejected, because", width=370),
                "index_bytes": parts.text("Size", "By our own estimate.", width=80),
                "saved_s": parts.number(
                    "Would save", "%,.1f s/h", "It alone, by the planner.", width=90
                ),
                "statements": parts.number("Statements", "%d", width=85),
                "text": parts.text("The first of them", width="medium"),
            },
            key="rejections",
            opens=_open_rejected,
            max_rows=18,
        )


def _weighed_for(queryid: int, found: Sequence[StoredRejection]) -> list[StoredRejection]:
    """Narrow the list to one statement, and say so with the way back."""
    with st.container(horizontal=True, vertical_alignment="center"):
        label = f"Weighed for statement {queryid}"
        frame.link("query", label, icon=":material/database:", queryid=queryid)
        st.button(
            "All candidates", icon=":material/close:", type="tertiary", key="all_candidates",
            on_click=frame.drop_parameters, args=("of", "rejected"),
        )  # fmt: skip
    return [r for r in found if any(s.queryid == queryid for s in r.statements)]


def _open_rejected(row: Mapping[Any, Any]) -> None:
    st.query_params["rejected"] = row["key"]


def _key(stored: StoredRejection) -> str:
    return f"{stored.target_id}-{stored.rejection.index.digest}"


def _rejected_row(stored: StoredRejection) -> dict[str, Any]:
    rejection = stored.rejection
    return {
        "key": _key(stored),
        "index": index_words(rejection.index),
        "reason": rejection.reason,
        "index_bytes": words.byte_size(rejection.index_bytes),
        "saved_s": rejection.saved_ms_per_hour / 1000 or None,
        "statements": len(rejection.fingerprints),
        "text": words.gist(stored.statements[0].text) if stored.statements else "",
    }


def _rejection(stored: StoredRejection) -> None:
    rejection = stored.rejection
    with parts.card(words.plain(index_words(rejection.index)), "was weighed and rejected"):
        st.markdown(f":material/block: {words.plain(rejection.reason)}")
        st.code(f"{rejection.index.ddl()};", language="sql", wrap_lines=True)
        st.caption("Weighed for")
        for each in stored.statements:
            frame.link(
                "query", words.code(words.gist(each.text, 140)), icon=":material/database:",
                queryid=each.queryid,
            )  # fmt: skip
        if not stored.statements:
            st.caption("Its statements are no longer known to the server.")


def silences(found: Sequence[StoredSilence], ran: pd.DataFrame) -> None:
    """List why each other statement has no suggestion, the one that takes most time first."""
    if not found:
        frame.nothing_here(
            "No statement is without a suggestion",
            "The advisor has not run yet, or every statement has one.",
        )
        return
    times = dict(zip(ran["fingerprint"], ran["total_ms"], strict=True))
    of = dict(zip(ran["fingerprint"], ran["share_of_db_time"], strict=True))
    rows = pd.DataFrame(
        [
            {
                "queryid": str(s.queryid),
                "text": words.gist(s.text),
                "total_s": times.get(s.fingerprint, 0.0) / 1000,
                "share": of.get(s.fingerprint, 0.0),
                "reason": s.reason,
                "detail": s.detail,
            }
            for s in found
        ]
    ).sort_values("total_s", ascending=False, kind="stable")
    st.caption(
        f"{len(rows)} statements without a suggestion, {words.percent(float(rows['share'].sum()))} "
        "of the database time in this range. Click one to open it."
    )
    parts.table(
        rows,
        {
            "text": parts.text("Statement", width=330),
            "total_s": parts.number("DB time", "%,.2f s", "Execution time in the range.", 80),
            "reason": parts.text("No suggestion, because", width="large"),
            "detail": parts.text("More", width="medium"),
        },
        key="silences",
        opens=lambda row: frame.open_page("query", queryid=row["queryid"]),
        max_rows=18,
    )
