"""How much is answered from memory, and what an application's cache would save."""

from datetime import timedelta

import streamlit as st

from perfcore import charts
from perfcore.aggregate import statements, trends
from perfcore.store import read
from perfcore.ui import cache, frame, parts, system, tables

view = frame.view()
ran = frame.read(statements.statement_table, view.range)
if ran.empty:
    system.no_statements(frame.read(read.collection_state))
    st.stop()

past = frame.read(trends.database_trend, view.compared) if view.compared else None
with parts.card(
    "Shared buffers", "of all databases · drag to select a range", help=cache.HIT_RATIO
):
    figure = charts.hit_ratio(
        frame.read(trends.database_trend, view.range),
        zone=view.zone,
        span=view.range,
        markers=frame.read(read.markers, view.range),
        compared=past,
        shift=view.shift,
    )
    parts.selectable_chart(figure, "Blocks found in shared buffers over time", key="hit_ratio")

for target in frame.read(read.targets):
    used = frame.read(statements.tables, view.range, target.target_id)
    if not used.empty:
        with parts.card("Relations", cache.of_target(target), help=cache.HIT_RATIO):
            tables.blocks(used, key=f"cache_blocks_{target.target_id}")
with parts.card("Statements", "most blocks read first · click a row to open it"):
    cache.statements(ran)

replays = cache.replays(frame.read(read.cache_replays))
if not replays:
    cache.nothing_replayed(frame.read(read.stream_states, view.range.end - timedelta(hours=1)))
    st.stop()
with parts.card("What an application cache would save", cache.note(replays), help=cache.REPLAY):
    shown = cache.choice(replays)
    if shown:
        cache.table(shown)
    else:
        st.caption("None of this kind was replayed: no endpoint is known for the reads so far.")
if shown:
    cache.subject(cache.chosen(shown, frame.parameter("subject")))
