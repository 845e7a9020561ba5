"""What to do, by who can do it, the most saving first, each with its reason, price and undo."""

import streamlit as st

from perfcore.aggregate import statements
from perfcore.store import read
from perfcore.ui import advice, frame, lab, suggestions

every = frame.read(read.suggestions, state=None)
if change_id := lab.followed("suggestions"):
    lab.change(change_id)
ran = frame.read(statements.statement_table, frame.view().range)
of = advice.shares(ran)
if chosen := frame.parameter("suggestion"):
    suggestions.opened(every, chosen, of)
    st.stop()

shown = suggestions.view()
if shown == suggestions.REJECTED:
    suggestions.rejected(frame.read(read.rejections))
elif shown == suggestions.SILENT:
    suggestions.silences(frame.read(read.silences), ran)
elif every:
    passing, readers = suggestions.filters(every)
    above = None if suggestions.is_narrowed() else suggestions.first(passing, of)
    suggestions.groups(passing, readers, every, of, above)
else:
    frame.nothing_here(
        "No suggestion yet",
        "The advisor works from the statements that the collector read. Run it once by hand to "
        "see what it says.",
        command="python -m perfcore advise",
    )
