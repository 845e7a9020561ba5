"""One endpoint: its course, where its time goes, and what would shorten it."""

from typing import Any

import streamlit as st

from perfcore import charts
from perfcore.aggregate import endpoints, statements
from perfcore.store import read
from perfcore.ui import advice, cache, frame, parts, tables, words
from perfcore.ui import endpoint as shown

view = frame.view()
service, name = frame.parameter("service"), frame.parameter("endpoint")
frame.link("endpoints", "All endpoints", icon=":material/arrow_back:")
if not name:
    frame.nothing_here("No endpoint is chosen", "Choose one in the list of endpoints.")
    st.stop()

st.markdown(f"### {words.code(name)} :gray[{words.plain(service)}]", anchors=False)
trend = frame.read(endpoints.latency_trend, view.range, service=service or None, endpoint=name)
if trend.empty:
    frame.nothing_here(
        "It had no request in this range", "Choose a longer range, or another endpoint."
    )
    st.stop()

markers = frame.read(read.markers, view.range)
past = None
if view.compared:
    past = frame.read(
        endpoints.latency_trend, view.compared, service=service or None, endpoint=name
    )
overlay: dict[str, Any] = {
    "zone": view.zone,
    "span": view.range,
    "markers": markers,
    "compared": past,
    "shift": view.shift,
}
ran = frame.read(endpoints.endpoint_statements, view.range, service, name)
times = frame.read(endpoints.endpoint_times, view.range, service, name)

shown.tiles(
    frame.read(endpoints.endpoint_table, view.range),
    frame.read(endpoints.endpoint_table, view.baseline),
    trend,
    ran,
    times,
    (service, name),
    view,
)
board = parts.Board(5, least_width_px=190)
with board.card("Latency", "ms · drag to select a range", span=3):
    parts.selectable_chart(
        charts.latency(trend, **overlay), "p50, p95 and p99 over time", key="endpoint_latency"
    )
with board.card("Throughput and errors", span=2):
    parts.chart(charts.throughput(trend, height=270, **overlay), "Requests and error share")
with board.card("Where its time goes", f"· the mean request, {words.ms(times.mean_ms)}", span=3):
    shown.breakdown(ran, times)
with board.card("Suggestions", "that shorten it", span=2):
    advice.lines(
        shown.helping(frame.read(read.suggestions), service, name),
        empty="None: no open suggestion speeds up a statement that this endpoint runs.",
        endpoint=name,
    )
    cache.of_endpoint(service, name)

with parts.card("Statements", "click a row to open it"):
    shown.statements(ran)

with parts.card("Slow queries", "its latest executions over the threshold"):
    tables.slow_queries(
        frame.read(statements.slow_queries, view.range, endpoint=name, limit=100),
        view,
        key="endpoint_slow",
        show=("text",),
    )
