"""What to do, the most saving first, each with its reason, its price and its undo."""

import streamlit as st

from perfcore.store import read
from perfcore.ui import frame, lab, parts, suggestions

every = frame.read(read.suggestions, state=None)
chosen = frame.parameter("suggestion")
if not every:
    frame.nothing_here(
        "No suggestion yet",
        "The advisor works from the statements that the collector read. Run it once by hand to "
        "see what it says.",
        command="python -m perfcore advise",
    )

if change_id := lab.followed("suggestions"):
    lab.change(change_id)
if every:
    shown = suggestions.filters(every)
    picked = [s for s in every if s.suggestion_id == chosen]
    shown = picked + [s for s in shown if s.suggestion_id != chosen]
    if shown:
        suggestions.summary(shown)
    else:
        st.caption("None in this state.")
    for stored in shown:
        suggestions.card(stored, is_open=stored.suggestion_id == chosen)

with parts.card("Statements without a suggestion", "and why"):
    with st.expander("Show them", key="show_silences"):
        suggestions.silences(frame.read(read.silences))
