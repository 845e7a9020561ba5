"""The tables that more than one page shows: endpoints, statements, slow executions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from perfcore.aggregate.compare import compare
from perfcore.sqlcommenter import without_tags
from perfcore.ui import frame, parts, tags, words
from perfcore.ui.timerange import View

# From here on a statement's share of an endpoint is said in words.
_WORTH_A_WORD = 0.1
_CHANGE_HELP = "Relative difference to {}; empty where there was nothing to compare with."


def endpoints(
    now: pd.DataFrame,
    before: pd.DataFrame,
    view: View,
    *,
    key: str,
    sort: str = "p95_ms",
    limit: int | None = None,
    full: bool = False,
) -> None:
    """Draw endpoints, the largest by `sort` first, with p95 against the other period."""
    rows = _with_change(now, before, ["service", "endpoint"], "p95_ms")
    rows = rows.sort_values(sort, ascending=sort == "endpoint").head(limit or len(rows))
    rows = rows.assign(error_percent=100 * rows["error_rate"], total_s=rows["total_ms"] / 1000)
    parts.table(
        rows,
        _endpoint_columns(view, full=full, services=full and rows["service"].nunique() > 1),
        key=key,
        opens=lambda row: frame.open_page(
            "endpoint", service=row["service"], endpoint=row["endpoint"]
        ),
        max_rows=limit or 20,
    )


def _endpoint_columns(view: View, *, full: bool, services: bool) -> dict[str, Any]:
    every: dict[str, Any] = {
        "service": parts.text("Service", width=110),
        "endpoint": parts.text("Endpoint", "Method and route template.", 215 if full else 190),
        "requests_per_min": parts.number("Req/min", "%.1f", "Requests per minute.", 80),
        "p50_ms": parts.number("p50", "%.1f ms", "Half of the requests took at most this.", 85),
        "p95_ms": parts.number("p95", "%.1f ms", "95 of 100 requests took at most this.", 90),
        "change_percent": parts.number(
            "Change", "%+.0f %%", "Of p95. " + _CHANGE_HELP.format(view.baseline_words), 80
        ),
        "p99_ms": parts.number("p99", "%.1f ms", "99 of 100 requests took at most this.", 90),
        "max_ms": parts.number("Slowest", "%,.0f ms", "The slowest request of the range.", 90),
        "error_percent": parts.number(
            "Errors", "%.2f %%", "Share of requests that ended in an exception or 5xx.", 75
        ),
        "requests": parts.number("Requests", "%,d", "Requests in the range.", 90),
        "total_s": parts.number("Total time", "%,.0f s", "Time of all requests together.", 90),
    }
    brief = ("endpoint", "requests_per_min", "p95_ms", "change_percent", "error_percent")
    shown = tuple(every) if full else brief
    return {name: every[name] for name in shown if name != "service" or services}


def statements(
    now: pd.DataFrame,
    before: pd.DataFrame,
    view: View,
    *,
    key: str,
    sort: str = "total_ms",
    limit: int | None = None,
    full: bool = False,
) -> None:
    """Draw statements, the largest by `sort` first, with their mean against the other period."""
    if now.empty:
        st.caption(
            "No statement was read from a watched database in this range. Settings & readiness "
            "shows what each database still needs."
        )
        return
    rows = _with_change(now, before, ["target_id", "queryid"], "mean_ms")
    rows = rows.sort_values(sort, ascending=False).head(limit or len(rows))
    rows = rows.assign(
        tags=[tags.tag_words(t) for t in rows["text"]],
        text=[words.gist(without_tags(t)) for t in rows["text"]],
        queryid=rows["queryid"].astype(str),
        total_s=rows["total_ms"] / 1000,
    )
    columns = _statement_columns(view, max(0.01, float(rows["share_of_db_time"].max())), full=full)
    if full and rows["tags"].any():
        columns.pop("text")
        columns = {"text": parts.text("Query", _QUERY_HELP, 235), "tags": _TAGS, **columns}
    parts.table(
        rows,
        columns,
        key=key,
        opens=lambda row: frame.open_page("query", queryid=row["queryid"]),
        max_rows=limit or 20,
    )


_QUERY_HELP = "The statement; a long select list is left out."
_TAGS = parts.text(
    "Tagged by",
    "From the comment in the text, of the execution that PostgreSQL saw first: executions with "
    "other comments are counted in the same entry.",
    130,
)


def _statement_columns(view: View, top_share: float, *, full: bool) -> dict[str, Any]:
    every: dict[str, Any] = {
        "text": parts.text("Query", _QUERY_HELP, 315),
        "share_of_db_time": parts.bar("DB time", "Share of all statements' time.", top_share, 125),
        "total_s": parts.number("Total", "%,.1f s", "Execution time of all calls together.", 70),
        "calls": parts.number("Calls", "%,d", "Executions in the range.", 65),
        "mean_ms": parts.number("Mean", "%.1f ms", "Mean execution time, by the server.", 75),
        "change_percent": parts.number(
            "Change", "%+.0f %%", "Of the mean. " + _CHANGE_HELP.format(view.baseline_words), 70
        ),
        "p95_ms": parts.number(
            "p95", "%.1f ms", "As the application measured it; empty where no hook saw it.", 75
        ),
        "hit_ratio": parts.number("Cached", "percent", "Blocks found in shared buffers.", 70),
        "endpoints": parts.number("Endpoints", "%d", "How many endpoints run it.", 75),
        "slow_count": parts.number("Slow", "%d", "Captured executions over the threshold.", 50),
    }
    brief = ("text", "share_of_db_time", "total_s", "calls", "mean_ms", "change_percent", "p95_ms")
    return every if full else {name: every[name] for name in brief}


def callers(ran: pd.DataFrame, *, key: str) -> None:
    """Draw which endpoints run a statement, and how much of their time it takes."""
    if ran.empty:
        st.caption(
            "No instrumented endpoint ran it in this range: psql, cron, another service, or an "
            "engine that is not watched."
        )
        return
    most = ran.sort_values("share_of_endpoint", ascending=False).iloc[0]
    if most["share_of_endpoint"] >= _WORTH_A_WORD:
        st.markdown(
            f"Takes {words.percent(most['share_of_endpoint'])} of {words.code(most['endpoint'])}."
        )
    parts.table(
        ran.sort_values("total_ms", ascending=False),
        {
            "endpoint": parts.text("Endpoint", width="medium"),
            "share_of_endpoint": parts.bar(
                "Of its time", "Share of all time of the endpoint's requests.", width=110
            ),
            "calls_per_request": parts.number(
                "Calls/request", "%.1f", "Executions per request that ran it."
            ),
            "mean_ms": parts.number("Mean", "%.1f ms", parts.MEAN_OF_EXECUTIONS),
            "calls": parts.number("Calls", "%,d", "Executions; an executemany is one."),
            "total_ms": parts.number("Total", "%,.0f ms"),
        },
        key=key,
        opens=lambda row: frame.open_page(
            "endpoint", service=row["service"], endpoint=row["endpoint"]
        ),
        max_rows=8,
    )


def blocks(rows: pd.DataFrame, *, key: str) -> None:
    """Draw tables with how their blocks were found, the one read most from outside first."""
    names = [
        table if schema == "public" else f"{schema}.{table}"
        for schema, table in zip(rows["schema"], rows["table"], strict=True)
    ]
    parts.table(rows.assign(name=names), _BLOCK_COLUMNS, key=key, max_rows=15)


_BLOCK_COLUMNS = {
    "name": parts.text("Table", "Of schema public where no other is named.", 190),
    "hit_ratio": parts.bar(
        "Hit ratio",
        "Blocks found in PostgreSQL's shared buffers, of all it asked for. What it read may "
        "still have come from the system's cache.",
        width=150,
    ),
    "blks_hit": parts.number(
        "Blocks hit", "%,d", "8 kB blocks of table and indexes found in shared buffers.", 110
    ),
    "blks_read": parts.number(
        "Blocks read", "%,d", "8 kB blocks of table and indexes read from outside of them.", 110
    ),
    "seq_scan": parts.number("Seq scans", "%,d", "Times the whole table was read.", 100),
    "idx_scan": parts.number("Index scans", "%,d", "Times one of its indexes was searched.", 100),
    "writes": parts.number("Writes", "%,d", "Rows inserted, updated and deleted.", 90),
}


def slow_queries(
    rows: pd.DataFrame,
    view: View,
    *,
    key: str,
    show: tuple[str, ...] = ("text", "endpoint"),
    max_rows: int = 10,
) -> None:
    """Draw captured slow executions; `show` says which of statement and endpoint to name."""
    if rows.empty:
        st.caption("No execution was over the threshold (PERFCORE_SLOW_QUERY_MS) in this range.")
        return
    rows = rows.assign(
        text=[words.gist(str(t or "")) for t in rows["text"]],
        queryid=[
            str(q) if q == q and q is not None else "" for q in rows["queryid"].astype(object)
        ],
        values=[parameters(p) for p in rows["parameters"]],
        planned=rows["plan_id"].notna(),
    )
    every = {
        "text": parts.text("Statement", width=380),
        "endpoint": parts.text("Endpoint", "The request that ran it.", 200),
    }
    columns = {
        "occurred_at": parts.moment("When", view.zone.key, width=130),
        "duration_ms": parts.number("Took", "%.0f ms", width=80),
        **{name: every[name] for name in show},
        "values": parts.text(
            "Parameters", "As PERFCORE_PARAMETERS allows: their types, or the values.", "small"
        ),
        "planned": st.column_config.CheckboxColumn("Plan", help="A plan is stored.", width=60),
    }
    parts.table(rows, columns, key=key, opens=_open_slow, max_rows=max_rows)


def parameters(held: Any) -> str:
    """Return stored parameters in a line.

    >>> parameters([{"type": "int"}, {"type": "str", "length": 4}])
    'int, str(4)'
    """
    if held is None or held != held:
        return ""
    if isinstance(held, str):
        return held
    if not isinstance(held, list):
        return json.dumps(held, default=str)
    return ", ".join(_parameter(p) for p in held)


def _parameter(held: Any) -> str:
    if isinstance(held, dict) and "type" in held:
        return f"{held['type']}({held['length']})" if held.get("length") else str(held["type"])
    return held if isinstance(held, str) else json.dumps(held, default=str)


def _open_slow(row: Mapping[Any, Any]) -> None:
    if row["queryid"]:
        frame.open_page("query", queryid=row["queryid"])
    else:
        st.toast("The server has not reported this statement yet.")


def _with_change(
    now: pd.DataFrame, before: pd.DataFrame, key: list[str], value: str
) -> pd.DataFrame:
    joined = compare(before, now, key, value)
    return joined.assign(change_percent=(100 * joined["change_ratio"]).round() + 0.0)
