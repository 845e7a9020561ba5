"""Which statements take the database's time."""

import streamlit as st

from perfcore.aggregate import statements
from perfcore.aggregate.completeness import query_list_state
from perfcore.store import read
from perfcore.ui import completeness, frame, parts, system, tables, words

SORTS = {
    "total time": "total_ms",
    "mean": "mean_ms",
    "calls": "calls",
    "p95": "p95_ms",
    "slow executions": "slow_count",
    "temporary blocks": "temp_blks_written",
}

view = frame.view()
now = frame.read(statements.statement_table, view.range)
if now.empty:
    system.no_statements(frame.read(read.collection_state))
    st.stop()

targets = frame.read(read.targets)
for target in targets:
    completeness.notice(
        frame.read(query_list_state, view.range, target.target_id),
        view,
        target.name if len(targets) > 1 else "",
    )
needle, sort = parts.filters("query", SORTS, "Filter by SQL text")
found = parts.chosen(now, needle, ["text", "queryid"])
with parts.card("Queries", f"{len(found)} of {len(now)} · click a row to open it"):
    tables.statements(
        found,
        frame.read(statements.statement_table, view.baseline),
        view,
        key="queries",
        sort=SORTS[sort],
        full=True,
    )
for target in targets:
    used = frame.read(statements.tables, view.range, target.target_id)
    if used.empty:
        continue
    of = f" on {words.plain(target.name)}" if len(targets) > 1 else ""
    with parts.card("Tables", f"· how their blocks were found{of}"):
        tables.blocks(used, key=f"blocks_{target.target_id}")
with parts.card("Slow queries", "the latest executions over the threshold"):
    tables.slow_queries(
        frame.read(statements.slow_queries, view.range, limit=200), view, key="slow"
    )
