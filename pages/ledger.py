"""What was changed and tested, and what came of it: Perfcore's memory."""

import streamlit as st

from perfcore.store import read
from perfcore.ui import calibration, frame, ledger, parts

changes = frame.read(read.changes)
trials = frame.read(read.trials)
gains = frame.read(read.gains)
named = frame.parameter("change")
if chosen := next((c for c in changes if str(c.change_id) == named), None):
    ledger.chosen(chosen, frame.view(), gains, trials)
    st.stop()

if not changes:
    frame.nothing_here(
        "Nothing was changed yet",
        "Apply a tested index and it stands here with its verdict; so does an index that somebody "
        "creates by hand.",
    )
    frame.link("suggestions", "Suggestions", icon=":material/lightbulb:")
for number, change in enumerate(changes):
    ledger.card(change, frame.view(), is_open=number == 0)
calibration.section(gains, trials)
if trials:
    with parts.card("Trials", "click a row to open it"):
        ledger.trials(trials)
