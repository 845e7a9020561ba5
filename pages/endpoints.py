"""Which endpoints there are, how fast each is, and which got worse."""

import streamlit as st

from perfcore.aggregate import endpoints
from perfcore.store import read
from perfcore.ui import frame, overview, parts, tables

SORTS = {
    "p95": "p95_ms",
    "total time": "total_ms",
    "requests": "requests",
    "errors": "error_rate",
    "p99": "p99_ms",
    "name": "endpoint",
}

view = frame.view()
now = frame.read(endpoints.endpoint_table, view.range)
if now.empty:
    overview.no_requests(has_targets=bool(frame.read(read.targets)))
    st.stop()

needle, sort = parts.filters("endpoint", SORTS, "Filter endpoints")
found = parts.chosen(now, needle, ["endpoint", "service"])
with parts.card("Endpoints", f"{len(found)} of {len(now)} · click a row to open it"):
    tables.endpoints(
        found,
        frame.read(endpoints.endpoint_table, view.baseline),
        view,
        key="endpoints",
        sort=SORTS[sort],
        full=True,
    )
