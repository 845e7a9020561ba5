"""What was changed and tested, and what came of it: Perfcore's memory."""

from perfcore.store import read
from perfcore.ui import calibration, frame, ledger, parts

changes = frame.read(read.changes)
trials = frame.read(read.trials)
chosen = frame.parameter("change")
if not changes:
    frame.nothing_here(
        "Nothing was changed yet",
        "Apply a tested index and it stands here with its verdict; so does an index that somebody "
        "creates by hand.",
    )
    frame.link("suggestions", "Suggestions", icon=":material/lightbulb:")
for number, change in enumerate(changes):
    named = str(change.change_id) == chosen
    ledger.card(change, frame.view(), is_open=named or (not chosen and number == 0))
calibration.section(frame.read(read.gains))
if trials:
    with parts.card("Trials", "click a row to open it"):
        ledger.trials(trials)
