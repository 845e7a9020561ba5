"""The parts of an endpoint's page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from perfcore import charts
from perfcore.store.read import StoredSuggestion
from perfcore.types import Suggestion
from perfcore.ui import frame, parts, words
from perfcore.ui.timerange import View

# Below so many calls per request, one after the other is no pattern.
_N_PLUS_ONE_CALLS = 5
_BARS = 7


def tiles(
    now: pd.DataFrame,
    before: pd.DataFrame,
    trend: pd.DataFrame,
    ran: pd.DataFrame,
    endpoint: tuple[str, str],
    view: View,
) -> None:
    """Draw the endpoint's numbers against the other period."""
    row, past = _row(now, endpoint), _row(before, endpoint)
    database = ran["total_ms"].sum() / row["requests"] if row is not None else None
    calls = ran["calls_per_request"].sum() if len(ran) else None
    courses = trend.assign(error_rate=trend["errors"] / trend["requests"])
    drawn = parts.Tiles()
    for label, field, write, unit, up_is_bad, meaning in (
        ("p50", "p50_ms", words.ms, "%", True, "Half of the requests took at most this."),
        ("p95", "p95_ms", words.ms, "%", True, "95 of 100 requests took at most this."),
        ("p99", "p99_ms", words.ms, "%", True, "99 of 100 requests took at most this."),
        ("Throughput", "requests_per_min", words.rate, "%", None, "Requests per minute."),
        ("Error rate", "error_rate", words.percent, "pp", True, "Exceptions and 5xx answers."),
    ):
        value = None if row is None else float(row[field])
        earlier = None if past is None else float(past[field])
        drawn.draw(
            label,
            write(value),
            words.change(value, earlier, unit, up_is_bad=up_is_bad),
            help=f"{meaning} The difference is against {view.baseline_words}.",
            trend=courses[field].tolist(),
        )
    drawn.draw(
        "DB time / request",
        words.ms(database),
        f":gray[in {words.count(calls)} calls]" if calls else "",
        help="Time in SQL statements per request, and in how many executions.",
    )


def breakdown(ran: pd.DataFrame) -> None:
    """Draw the share of the endpoint's time that each statement takes, and the rest."""
    if ran.empty:
        st.caption("It ran no statement in this range, or its engine is not watched.")
        st.code("perfcore.collect.watch(engine)", language="python")
        return
    rows = ran.sort_values("share_of_endpoint", ascending=False)
    top = rows.head(_BARS)
    labels = [words.gist(str(t), 120) for t in top["text"]]
    shares = [float(s) for s in top["share_of_endpoint"]]
    if len(rows) > _BARS:
        labels.append(f"{len(rows) - _BARS} other statements")
        shares.append(float(rows["share_of_endpoint"].iloc[_BARS:].sum()))
    rest = 1.0 - float(rows["share_of_endpoint"].sum())
    if rest > 0:
        labels.append("outside of SQL: the application itself, and waiting")
        shares.append(rest)
    texts = [words.percent(s) for s in shares]
    parts.chart(
        charts.share_bars(labels, shares, texts, ink=parts.ink()), "Share of the endpoint's time"
    )


def statements(ran: pd.DataFrame) -> None:
    """Draw the statements it runs, with a word on those it repeats in one request."""
    if ran.empty:
        st.caption("It ran no statement in this range.")
        return
    rows = ran.sort_values("total_ms", ascending=False)
    rows = rows.assign(text=[words.gist(str(t)) for t in rows["text"]])
    for _, row in rows[_repeated(rows)].iterrows():
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.badge("N+1", icon=":material/repeat:", color="orange", help=_N_PLUS_ONE_HELP)
            st.markdown(
                f"{words.count(row['calls_per_request'])} times per request: "
                f"{words.code(words.one_line(row['text'], 100))}",
                width="stretch",
            )
    parts.table(
        rows,
        {
            "text": parts.text("Statement", width=300),
            "share_of_endpoint": parts.bar("Share of its time", "Of all time of the requests."),
            "calls_per_request": parts.number("Calls/request", "%.1f", "Executions per request."),
            "max_calls": parts.number("Most in one", "%d", "Most executions in one request."),
            "mean_ms": parts.number("Mean", "%.1f ms", "Per execution, by the application."),
            "calls": parts.number("Calls", "%,d"),
            "total_ms": parts.number("Total", "%,.0f ms"),
        },
        key="endpoint_statements",
        opens=_open_statement,
    )


def _repeated(rows: pd.DataFrame) -> pd.Series:
    """Say per statement whether requests run it over and over."""
    often = rows["calls_per_request"] >= _N_PLUS_ONE_CALLS
    return often | ((rows["repeated_requests"] > 0) & (rows["calls_per_request"] >= 2))


_N_PLUS_ONE_HELP = (
    "The same statement runs five times or more in one request: usually a loop around a look-up "
    "that one statement with = ANY(…) or a join would replace."
)


def helping(
    stored: Sequence[StoredSuggestion], service: str, endpoint: str, limit: int = 6
) -> list[Suggestion]:
    """Return the suggestions that name the endpoint among those they help."""
    return [
        s.suggestion
        for s in stored
        if any(
            e.endpoint == endpoint and e.service in ("", service) for e in s.suggestion.endpoints
        )
    ][:limit]


def _row(table: pd.DataFrame, endpoint: tuple[str, str]) -> pd.Series | None:
    service, name = endpoint
    found = table[(table["endpoint"] == name) & ((table["service"] == service) | (not service))]
    return None if found.empty else found.iloc[0]


def _open_statement(row: Mapping[Any, Any]) -> None:
    if pd.notna(row["queryid"]) and row["queryid"]:
        frame.open_page("query", queryid=int(row["queryid"]))
    else:
        st.toast("The server has not reported this statement yet.")
