"""Test an index before anybody depends on it: the estimate, the trial, and the change itself."""

from perfcore.ui import frame, lab, words

subject = lab.choose()
if subject is not None:
    lab.bench(subject)
    if change_id := lab.followed(subject.index.digest):
        lab.change(change_id)
    trial = lab.current_trial(subject)
    if trial is None:
        frame.nothing_here("Not tested yet", f"{words.plain(subject.index.name)} has no trial.")
    elif trial.state in ("queued", "running"):
        lab.watch_trial(str(trial.trial_id))
    else:
        lab.result(trial)
