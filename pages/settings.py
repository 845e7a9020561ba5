"""Is everything connected, does everything arrive, how is it set."""

from perfcore.store import read
from perfcore.ui import frame, parts, system

state = frame.read(read.collection_state)

with parts.card("Watched databases", "and what they still need"):
    system.targets(state)

with parts.card("Collection", "what the instrumented processes sent"):
    system.accounting(state)

with parts.card("Settings", "of this process; they come from its environment"):
    system.settings()
    system.versions()
