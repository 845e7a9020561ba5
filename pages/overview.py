"""Is it fast, what changed, what to do."""

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
overlay = {"zone": view.zone, "markers": markers, "compared": past, "shift": view.shift}

overview.tiles(
    frame.read(endpoints.summary, view.range),
    frame.read(endpoints.summary, view.baseline),
    overview.courses(trend, frame.read(trends.database_trend, view.range), view),
    view,
)

wide, narrow = st.columns([2.3, 1], gap="small")
with wide, parts.card("Latency", "ms · drag to select a range", height="stretch"):
    parts.selectable_chart(
        charts.latency(trend, **overlay), "p50, p95 and p99 over time", key="latency"
    )
with narrow, parts.card("Top suggestions", "by time saved", height="stretch"):
    advice.lines(
        [s.suggestion for s in frame.read(read.suggestions)[:4]],
        empty="No open suggestion. The advisor looks each minute at what ran.",
    )

left, middle, right = st.columns([1.3, 1, 1], gap="small")
with left, parts.card("Throughput and errors", height="stretch"):
    parts.chart(charts.throughput(trend, **overlay), "Requests per minute and error share")
with middle, parts.card("CPU", "% of a core; host: of the machine", height="stretch"):
    overview.cpu_chart(view, markers)
with right, parts.card("Memory", "of the instrumented processes", height="stretch"):
    overview.memory_chart(view, markers)

with parts.card("Queries by total time", "click a row to open it"):
    tables.statements(
        frame.read(statements.statement_table, view.range),
        frame.read(statements.statement_table, view.baseline),
        view,
        key="top_queries",
        limit=8,
    )

left, right = st.columns([1.2, 1], gap="small")
with left, parts.card("Slowest endpoints", "by p95", height="stretch"):
    tables.endpoints(
        frame.read(endpoints.endpoint_table, view.range),
        frame.read(endpoints.endpoint_table, view.baseline),
        view,
        key="slowest",
        limit=8,
    )
with right, parts.card("What changed", "in this range", height="stretch"):
    overview.what_changed(markers, view)

with parts.card("Slow queries", "the latest executions over the threshold"):
    tables.slow_queries(frame.read(statements.slow_queries, view.range, limit=50), view, key="slow")
