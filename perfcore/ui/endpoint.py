"""The parts of an endpoint's page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from perfcore import charts
from perfcore.aggregate.endpoints import RequestTimes
from perfcore.store.read import StoredSuggestion
from perfcore.types import Suggestion
from perfcore.ui import frame, parts, words
from perfcore.ui.timerange import View

_PARTS = len(charts.SEGMENTS)
_APPLICATION = "outside of SQL: the application itself, and waiting"
# Sums this much longer than the wait for them come from statements that ran at the same time.
_OVERLAP = 1.1


def tiles(
    now: pd.DataFrame,
    before: pd.DataFrame,
    trend: pd.DataFrame,
    ran: pd.DataFrame,
    times: RequestTimes,
    endpoint: tuple[str, str],
    view: View,
) -> None:
    """Draw the endpoint's numbers against the other period."""
    row, past = _row(now, endpoint), _row(before, endpoint)
    in_sql = float(ran["share_of_endpoint"].sum()) * times.mean_ms if len(ran) else None
    calls = ran["calls"].sum() / times.requests if len(ran) and times.requests else None
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
        words.ms(in_sql),
        f":gray[in {words.count(calls)} call{'' if words.count(calls) == '1' else 's'}]"
        if calls
        else "",
        help="Time that a request waits for SQL statements, and how many it executes. Statements "
        "that run at the same time count once; an executemany is one.",
    )


def breakdown(ran: pd.DataFrame, times: RequestTimes) -> None:
    """Draw the endpoint's mean request: a part for each statement, and the rest."""
    if ran.empty:
        st.caption("It ran no statement in this range, or its engine is not watched.")
        st.code("perfcore.collect.watch(engine)", language="python")
        return
    labels, shares, colours = _parts_of(ran)
    spent = [words.ms(share * times.mean_ms) for share in shares]
    parts.chart(
        charts.stacked_bar(labels, shares, spent, colours, ink=parts.ink()),
        "What the mean request is made of",
        key="endpoint_mean_request",
    )
    texts = [f"{words.percent(share)} · {took}" for share, took in zip(shares, spent, strict=True)]
    parts.chart(
        charts.share_bars(labels, shares, texts, colour=colours, ink=parts.ink()),
        "Share of the endpoint's time",
    )
    together_ms = float(ran["total_ms"].sum())
    if together_ms > _OVERLAP * times.database_ms > 0:
        st.caption(
            f"Its statements run at the same time: {words.ms(together_ms / times.requests)} of "
            f"them fit into a wait of {words.ms(times.database_ms / times.requests)} a request. "
            "The shares are of that wait."
        )


def _parts_of(ran: pd.DataFrame) -> tuple[list[str], list[float], list[str]]:
    """Return labels, shares and colours of the statements, the others together, and the rest."""
    rows = ran.sort_values("share_of_endpoint", ascending=False)
    top = rows.head(_PARTS)
    labels = [words.gist(str(t), 120) for t in top["text"]]
    shares = [float(s) for s in top["share_of_endpoint"]]
    colours = list(charts.SEGMENTS[: len(top)])
    if len(rows) > _PARTS:
        labels.append(f"{len(rows) - _PARTS} other statements")
        shares.append(float(rows["share_of_endpoint"].iloc[_PARTS:].sum()))
        colours.append(charts.GREY)
    rest = 1.0 - float(rows["share_of_endpoint"].sum())
    if rest > 0:
        labels.append(_APPLICATION)
        shares.append(rest)
        colours.append(charts.REST)
    return labels, shares, colours


def statements(ran: pd.DataFrame) -> None:
    """Draw the statements it runs, with a word on those that are an N+1."""
    if ran.empty:
        st.caption("It ran no statement in this range.")
        return
    rows = ran.sort_values("total_ms", ascending=False)
    rows = rows.assign(text=[words.gist(str(t)) for t in rows["text"]])
    for _, row in rows[rows["n_plus_one_requests"] > 0].iterrows():
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.badge("N+1", icon=":material/repeat:", color="orange", help=_N_PLUS_ONE_HELP)
            st.markdown(n_plus_one(row), width="stretch")
    parts.table(
        rows,
        {
            "text": parts.text("Statement", width=300),
            "share_of_endpoint": parts.bar(
                "Share of its time",
                "Of all time of the requests; what ran at the same time shares the wait.",
            ),
            "calls_per_request": parts.number(
                "Calls/request", "%.1f", "Executions per request that ran it."
            ),
            "max_calls": parts.number("Most in one", "%d", "Most executions in one request."),
            "mean_ms": parts.number("Mean", "%.1f ms", parts.MEAN_OF_EXECUTIONS),
            "calls": parts.number("Calls", "%,d", "Executions; an executemany is one."),
            "total_ms": parts.number("Total", "%,.0f ms"),
        },
        key="endpoint_statements",
        opens=_open_statement,
    )


def n_plus_one(row: Mapping[Any, Any] | pd.Series) -> str:
    """Return in markdown how often, how long and from where requests repeat a statement.

    >>> row = {"n_plus_one_calls": 42.0, "n_plus_one_ms": 180.0, "n_plus_one_share": 0.31,
    ...        "location": "shop/views.py:42 in orders", "text": "SELECT 1"}
    >>> print(n_plus_one(row))
    42 calls in a request, 180 ms of it, in 31 % of its requests: `SELECT 1` from \
`shop/views.py:42 in orders`
    """
    place = str(row["location"])
    where = f" from {words.code(place)}" if place else ""
    return (
        f"{words.count(row['n_plus_one_calls'])} calls in a request, "
        f"{words.ms(row['n_plus_one_ms'])} of it, in {words.percent(row['n_plus_one_share'])} of "
        f"its requests: {words.code(words.one_line(str(row['text']), 100))}{where}"
    )


_N_PLUS_ONE_HELP = (
    "One statement runs again and again in a request, at least PERFCORE_N_PLUS_ONE_CALLS times "
    "and PERFCORE_N_PLUS_ONE_MS together: usually a loop around a look-up that one statement with "
    "= ANY(…) or a join would replace. The place in the code is what the hook saw most often; it "
    "is looked up once a statement has been repeated."
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
