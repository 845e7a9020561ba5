"""How a suggestion is shown: in a line, and in full."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import pandas as pd
import streamlit as st

from perfcore.store.read import StoredSuggestion
from perfcore.types import EndpointGain, Evidence, Suggestion
from perfcore.ui import frame, words

Shares = Mapping[tuple[int, int], float]  # of all database time, by target and fingerprint
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
        return f"{words.ms(suggestion.saved_ms_per_hour)} of {saved_time([suggestion])} per hour"
    if freed := freed_bytes(suggestion):
        return f"{words.byte_size(freed)} of disk and its upkeep on each write"
    return ""


def saved_time(suggestions: Iterable[Suggestion]) -> str:
    """Return which time suggestions save: an N+1 waits for round trips, not for the server."""
    waits = {s.finding.kind == "n_plus_one" for s in suggestions if s.saved_ms_per_hour > 0}
    return "waiting" if waits == {True} else "time" if True in waits else "database time"


def shares(ran: pd.DataFrame) -> Shares:
    """Return each statement's share of the database time, from the table of statements."""
    keys = zip(ran["target_id"], ran["fingerprint"], strict=True)
    return dict(zip(keys, ran["share_of_db_time"], strict=True))


def share(suggestion: Suggestion, of: Shares) -> float:
    """Return the share of all database time that a suggestion saves, 0 where none is known."""
    if suggestion.finding.kind == "n_plus_one" or suggestion.saved_ms_per_hour <= 0:
        return 0.0
    found = 0.0
    for gain in suggestion.statements:
        part = of.get((suggestion.target_id, gain.fingerprint), 0.0)
        if part == part and gain.mean_ms_before > 0:
            found += part * (1 - gain.mean_ms_after / gain.mean_ms_before)
    promised = suggestion.promised_ms_per_hour
    believed = suggestion.saved_ms_per_hour / promised if promised > 0 else 1.0
    return min(max(found * believed, 0.0), 1.0)


def freed_bytes(suggestion: Suggestion) -> int:
    """Return the disk that dropping an index frees; a merge of two builds another instead."""
    is_drop = suggestion.kind == "drop_index" and suggestion.ddl.startswith("DROP INDEX")
    return (suggestion.index_bytes or 0) if is_drop else 0


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
            evidence_badge(suggestion)
            buttons(stored)


def most_helped(suggestion: Suggestion) -> EndpointGain | None:
    """Return the endpoint of which a request gets most faster, None where none is known."""
    helped = [e for e in suggestion.endpoints if e.saved_ms_per_request > 0]
    return max(helped, key=lambda e: e.saved_ms_per_request, default=None)


def head(suggestion: Suggestion, of: Shares) -> str:
    """Return in one line of markdown what a suggestion is worth, and to whom."""
    found = []
    if gain := saved(suggestion):
        part = share(suggestion, of)
        of_all = f", {words.percent(round(part, 3))} of all" if part >= 0.001 else ""
        found.append(f":green[saves {gain}{of_all}]")
    if suggestion.proposed and not found:
        found.append(
            f"{words.plain(suggestion.present or words.NOTHING)} → "
            f"**{words.plain(suggestion.proposed)}**"
        )
    if best := most_helped(suggestion):
        found.append(
            f"{words.code(best.endpoint)} −{words.ms(best.saved_ms_per_request)} per request"
        )
        others = sum(e.saved_ms_per_request > 0 for e in suggestion.endpoints) - 1
        if others:
            found.append(f"{others} more endpoint" + ("s" if others > 1 else ""))
    if suggestion.kind == "index" and suggestion.index_bytes:
        found.append(f":gray[size {words.byte_size(suggestion.index_bytes)}]")
    return " · ".join(found) or f":gray[{words.plain(suggestion.finding.summary)}]"


def evidence_badge(suggestion: Suggestion) -> None:
    """Draw how well the gain is known; what promises no time has nothing to know of it."""
    evidence = suggestion.evidence
    if evidence is Evidence.ESTIMATED and suggestion.saved_ms_per_hour <= 0:
        return
    colour, meaning = _EVIDENCE[evidence]
    meaning = basis(suggestion) if evidence is Evidence.ESTIMATED else meaning
    st.badge(evidence.value, color=colour, help=words.plain(meaning))  # type: ignore[arg-type]


def basis(suggestion: Suggestion) -> str:
    """Say in a sentence what the gain of a suggestion rests on."""
    if suggestion.evidence is not Evidence.ESTIMATED:
        return _EVIDENCE[suggestion.evidence][1]
    if suggestion.saved_ms_per_hour <= 0:
        return _KNOWN.get(suggestion.kind, "How much time it saves is known once it is tried.")
    if suggestion.finding.kind == "n_plus_one":
        return "By the time of a round trip, as the application measured it."
    if suggestion.kind == "cache":
        is_replayed = any(label == "TTL" for label, _ in suggestion.finding.numbers)
        return _REPLAYED if is_replayed else "By calls and writes an hour, without a replay."
    return _EVIDENCE[Evidence.ESTIMATED][1]


_REPLAYED = "By replaying the application's real reads and writes through such a cache."
_KNOWN = {
    "drop_index": "It saves disk and writes; the catalogue and the server's counters show it.",
    "maintenance": "The server's own state shows it; how much time it saves is known after it.",
    "setting": "The server's own state shows it; how much time it saves is known after it.",
}


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

    An index is named by its table, and the second part lists its keys; of a cache it is what to
    keep.
    """
    index = suggestion.index
    if suggestion.kind == "cache" and len(suggestion.statements) == 1:
        _, _, ttl = suggestion.title.rpartition(" for ")
        return f"Keep an answer for {ttl}", words.gist(suggestion.statements[0].text, 90)
    if index is None or suggestion.kind != "index":
        return words.one_line(suggestion.title, 36), ""
    _, _, body = index.body().partition(" USING ")
    body = body.replace('"', "").removeprefix("btree ")
    return words.one_line(f"Index on {index.table}", 36), words.one_line(body, 90)


def _worth(suggestion: Suggestion, endpoint: str) -> str:
    notes = [saved(suggestion)]
    helped = [e for e in suggestion.endpoints if e.saved_ms_per_request > 0]
    if helped:
        best = max(helped, key=lambda e: (e.endpoint == endpoint, e.saved_ms_per_request))
        faster = f"−{words.ms(best.saved_ms_per_request)} per request of"
        notes = [f"{faster} {words.code(best.endpoint)}"]
        if not endpoint and suggestion.saved_ms_per_hour > 0:
            notes.insert(0, f"**{words.ms(suggestion.saved_ms_per_hour)} per hour**")
    if suggestion.saved_ms_per_hour > 0:
        notes.append(suggestion.evidence.value)
    return " · ".join(n for n in notes if n)


def lines(suggestions: Sequence[Suggestion], *, empty: str, endpoint: str = "") -> None:
    """Draw several suggestions, or say why there is none."""
    if not suggestions:
        st.caption(empty)
    for suggestion in suggestions:
        line(suggestion, endpoint)
