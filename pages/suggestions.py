"""What to do, by who can do it, the most saving first, each with its reason, price and undo."""

import streamlit as st

from perfcore.store import read
from perfcore.ui import frame, lab, suggestions

every = frame.read(read.suggestions, state=None)
if change_id := lab.followed("suggestions"):
    lab.change(change_id)
if chosen := frame.parameter("suggestion"):
    suggestions.opened(every, chosen)
    st.stop()

shown = suggestions.view()
if shown == suggestions.REJECTED:
    suggestions.rejected(frame.read(read.rejections))
elif shown == suggestions.SILENT:
    suggestions.silences(frame.read(read.silences))
elif every:
    passing, readers = suggestions.filters(every)
    suggestions.groups(passing, readers, every)
else:
    frame.nothing_here(
        "No suggestion yet",
        "The advisor works from the statements that the collector read. Run it once by hand to "
        "see what it says.",
        command="python -m perfcore advise",
    )
