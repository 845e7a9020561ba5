"""Is it fast, what changed, what to do."""

from typing import Any

import streamlit as st

from perfcore import charts
from perfcore.aggregate import endpoints, statements, trends
from perfcore.store import read
from perfcore.ui import advice, frame, overview, parts, tables

view = frame.view()
trend = frame.read(endpoints.latency_trend, view.range)
if trend.empty:
    overview.no_requests(has_targets=bool(frame.read(read.targets)))
    st.stop()

markers = frame.read(read.markers, view.range)
past = frame.read(endpoints.latency_trend, view.compared) if view.compared else None
overlay: dict[str, Any] = {
    "zone": view.zone,
    "span": view.range,
    "markers": markers,
    "compared": past,
    "shift": view.shift,
}

overview.tiles(
    frame.read(endpoints.summary, view.range),
    frame.read(endpoints.summary, view.baseline),
    overview.courses(trend, frame.read(trends.database_trend, view.range), view),
    view,
)

board = parts.Board()
with board.card("Latency", "ms · drag to select a range", span=2):
    parts.selectable_chart(
        charts.latency(trend, **overlay), "p50, p95 and p99 over time", key="latency"
    )
with board.card("Top suggestions", "by time saved"):
    advice.lines(
        [s.suggestion for s in frame.read(read.suggestions)[:4]],
        empty="No open suggestion. The advisor looks each minute at what ran.",
    )
with board.card("Throughput and errors"):
    parts.chart(charts.throughput(trend, **overlay), "Requests per minute and error share")
with board.card("CPU", "% of a core; machine: of all"):
    overview.cpu_chart(view, markers)
with board.card("Memory", "of the instrumented processes"):
    overview.memory_chart(view, markers)

with parts.card("Queries by total time", "click a row to open it"):
    tables.statements(
        frame.read(statements.statement_table, view.range),
        frame.read(statements.statement_table, view.baseline),
        view,
        key="top_queries",
        limit=8,
    )

board = parts.Board()
with board.card("Slowest endpoints", "by p95", span=2):
    tables.endpoints(
        frame.read(endpoints.endpoint_table, view.range),
        frame.read(endpoints.endpoint_table, view.baseline),
        view,
        key="slowest",
        limit=8,
    )
with board.card("What changed", "in this range"):
    overview.what_changed(markers, view)

with parts.card("Slow queries", "the latest executions over the threshold"):
    tables.slow_queries(frame.read(statements.slow_queries, view.range, limit=50), view, key="slow")
