"""The parts of a query's page."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from perfcore.store.read import (
    StatementDetail,
    StoredRejection,
    StoredSilence,
    StoredSuggestion,
)
from perfcore.types import Suggestion
from perfcore.ui import chain, coverage, frame, parts, tables, words
from perfcore.ui.suggestions import REJECTED
from perfcore.ui.tags import tags_line
from perfcore.ui.timerange import View


def tiles(
    now: pd.DataFrame,
    before: pd.DataFrame,
    trend: pd.DataFrame,
    detail: StatementDetail,
    view: View,
) -> None:
    """Draw the statement's numbers against the other period."""
    courses = {
        "total_ms": trend["calls_per_min"] * trend["mean_ms"],
        "calls": trend["calls_per_min"],
        "mean_ms": trend["mean_ms"],
        "p95_ms": trend["p95_ms"],
    }
    row, past = _row(now, detail), _row(before, detail)
    drawn = parts.Tiles()
    for label, field, write, unit, up_is_bad, meaning in (
        (
            "Share of DB time", "share_of_db_time", words.percent, "pp", True,
            "Of the execution time of all statements.",
        ),
        ("Total time", "total_ms", words.ms, "%", True, "Execution time of all calls."),
        ("Calls", "calls", words.count, "%", None, "Executions in the range."),
        ("Mean", "mean_ms", words.ms, "%", True, "Execution time per call, by the server."),
        (
            "p95", "p95_ms", words.ms, "%", True,
            "95 of 100 executions took at most this, as the application measured.",
        ),
        (
            "Cache hit", "hit_ratio", words.percent, "pp", False,
            "Blocks found in shared buffers, of all it asked for.",
        ),
    ):  # fmt: skip
        value = None if row is None else float(row[field])
        earlier = None if past is None else float(past[field])
        drawn.draw(
            label,
            write(value),
            words.change(value, earlier, unit, up_is_bad=up_is_bad),
            help=f"{meaning} The difference is against {view.baseline_words}.",
            trend=courses[field].tolist() if field in courses else (),
        )


def times(now: pd.DataFrame, unseen: pd.DataFrame, detail: StatementDetail, view: View) -> None:
    """Draw what one execution takes: by the server, and as applications measured it."""
    board = parts.Board(2, least_width_px=340)
    with board.card("By the server", _since(detail, view), help=_BY_SERVER):
        if (server := detail.server) is None:
            st.caption("The server has told no times of it since the collector watches.")
        else:
            _numbers(
                ("min", server.min_ms),
                ("mean", server.mean_ms),
                ("max", server.max_ms),
                ("std. deviation", server.stddev_ms),
            )
    row = _row(now, detail)
    with board.card("By the application", "in the range", help=coverage.PERCENTILES):
        if row is not None and not words.is_missing(row["p95_ms"]):
            _numbers(*((name, float(row[f"{name}_ms"])) for name in ("p50", "p95", "p99")))
        if line := coverage.coverage_line(unseen, detail):
            st.markdown(f":small[{line}]")
        elif row is None:
            st.caption("It did not run in this range.")


_BY_SERVER = (
    "pg_stat_statements keeps mean, extremes and standard deviation of all executions since its "
    "entry began, and no percentiles; network and waiting for a connection are not in them."
)


def _since(detail: StatementDetail, view: View) -> str:
    if detail.server is None:
        return ""
    calls = f"{words.count(detail.server.calls)} calls"
    if detail.server.counted_since is None:
        return f"{calls} since the statistics began"
    return f"{calls} since {detail.server.counted_since.astimezone(view.zone):%d %b %H:%M}"


def _numbers(*numbers: tuple[str, float]) -> None:
    with st.container(horizontal=True, gap="large"):
        for label, value in numbers:
            st.markdown(f":small[:gray[{label}]]  \n**{words.ms(value)}**", width="content")


def _row(table: pd.DataFrame, detail: StatementDetail) -> pd.Series | None:
    found = table[
        (table["target_id"] == detail.target_id) & (table["fingerprint"] == detail.fingerprint)
    ]
    return None if found.empty else found.iloc[0]


def endpoints(ran: pd.DataFrame) -> None:
    """Draw which endpoints run the statement."""
    tables.callers(ran, key="query_endpoints")


def helping(stored: Sequence[StoredSuggestion], fingerprint: int) -> list[Suggestion]:
    """Return the suggestions that name the statement among those they help."""
    return [
        s.suggestion
        for s in stored
        if any(g.fingerprint == fingerprint for g in s.suggestion.statements)
    ]


def silence(silences: Sequence[StoredSilence], detail: StatementDetail) -> str:
    """Return in a sentence why the statement has no suggestion."""
    found = [
        s
        for s in silences
        if s.fingerprint == detail.fingerprint and s.target_id == detail.target_id
    ]
    if not found:
        return "The advisor has not looked at it yet; it looks each minute at what ran."
    why = found[0]
    more = f" ({words.plain(why.detail)})" if why.detail else ""
    return f"No suggestion: {words.plain(why.reason)}{more}."


def advised(detail: StatementDetail, rejected: Sequence[StoredRejection]) -> None:
    """Lead to what was tried for the statement: the lab, the rejected candidates, all as text."""
    if rejected:
        what = "candidate was" if len(rejected) == 1 else "candidates were"
        frame.link(
            "suggestions",
            f"{len(rejected)} {what} weighed and rejected",
            icon=":material/block:",
            show=REJECTED,
            of=detail.queryid,
        )
    frame.link(
        "index_lab", "Try an index for it", icon=":material/science:", queryid=detail.queryid
    )
    chain.explanation(detail.target_id, detail.queryid)


def statement_text(detail: StatementDetail) -> None:
    """Show the statement as the server knows it and, where it differs, as it was sent."""
    st.code(detail.text, language="sql", wrap_lines=True)
    st.caption(
        f"{words.plain(detail.target)} · queryid {detail.queryid}"
        + (f" and {len(detail.queryids) - 1} more" if len(detail.queryids) > 1 else "")
    )
    if line := tags_line(detail):
        st.markdown(f":small[{line}]")


def findings(suggestions: Sequence[Suggestion]) -> None:
    """List the facts behind the suggestions."""
    for suggestion in suggestions:
        finding = suggestion.finding
        numbers = " · ".join(
            f"{words.plain(label)} {words.plain(value)}" for label, value in finding.numbers
        )
        st.markdown(
            f":material/search: {words.plain(finding.summary)}"
            + (f"  \n:small[:gray[{numbers}]]" if numbers else "")
        )
