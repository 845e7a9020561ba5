"""Test an index or a wording before anybody depends on it: estimate, trial, and the change."""

from perfcore.ui import frame, lab, rewrite_lab

subject = lab.choose()
if subject is not None:
    if isinstance(subject, lab.Rewritten):
        rewrite_lab.bench(subject)
    else:
        lab.bench(subject)
        if change_id := lab.followed(subject.index.digest):
            lab.change(change_id)
    trial = lab.current_trial(subject)
    if trial is None:
        frame.nothing_here("Not tested yet", f"{lab.name(subject)} has no trial.")
    elif trial.state in ("queued", "running"):
        lab.watch_trial(str(trial.trial_id))
    elif trial.index is None:
        rewrite_lab.result(trial)
    else:
        lab.result(trial)
