"""One statement: its text, course, plans, who runs it, and what would make it faster."""

import streamlit as st

from perfcore import charts
from perfcore.aggregate import coverage, statements
from perfcore.aggregate.completeness import query_list_state
from perfcore.aggregate.plans import plan_history
from perfcore.store import read
from perfcore.ui import advice, cache, completeness, frame, parts, query, query_plans, tables

view = frame.view()
queryid = frame.number_parameter("queryid")
frame.link("queries", "All queries", icon=":material/arrow_back:")
detail = frame.read(read.statement, queryid) if queryid is not None else None
if detail is None:
    frame.nothing_here(
        "This query is not known" if queryid is not None else "No query is chosen",
        "Choose one in the list of queries; a link goes stale when a server's statistics are "
        "reset and the statement does not come back.",
    )
    st.stop()

found = query.helping(frame.read(read.suggestions), detail.fingerprint)
which = (detail.target_id, detail.fingerprint)
trend = frame.read(statements.statement_trend, view.range, *which)
stored = frame.read(read.plans, detail.fingerprint, detail.target_id)
past = frame.read(statements.statement_trend, view.compared, *which) if view.compared else None

query.statement_text(detail)
completeness.notice(frame.read(query_list_state, view.range, detail.target_id), view)
now = frame.read(statements.statement_table, view.range)
query.tiles(now, frame.read(statements.statement_table, view.baseline), trend, detail, view)
executed = frame.read(coverage.seen_executions, view.range)
query.times(now, coverage.unseen_statements(now, executed), detail, view)

board = parts.Board()
with board.card("Course", "drag to select a range", span=2):
    figure = charts.statement_trend(
        trend,
        zone=view.zone,
        span=view.range,
        markers=query_plans.own_markers(frame.read(read.markers, view.range), detail, stored),
        compared=past,
        shift=view.shift,
    )
    parts.selectable_chart(figure, "Mean, p95 and calls over time", key="query_trend")
with board.card("Suggestions"):
    if found:
        advice.lines(found, empty="")
        query.findings(found)
    else:
        st.markdown(query.silence(frame.read(read.silences), detail))
    query.advised(detail, frame.read(read.rejections, detail.target_id, detail.fingerprint))
    cache.of_statement(detail.fingerprint)

query_plans.plans(
    stored,
    frame.read(plan_history, view.range, *which),
    frame.read(read.plan_refusal, detail.fingerprint, detail.target_id),
    view,
)

board = parts.Board(2, least_width_px=380)
with board.card("Endpoints that run it", "click a row to open it"):
    query.endpoints(frame.read(statements.statement_endpoints, view.range, detail.fingerprint))
with board.card("Slow executions", "the latest"):
    tables.slow_queries(
        frame.read(statements.slow_queries, view.range, fingerprint=detail.fingerprint, limit=100),
        view,
        key="query_slow",
        show=("endpoint",),
        max_rows=6,
    )
