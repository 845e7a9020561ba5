"""How far the planner's promises held, drawn and by kind of plan change."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from perfcore import charts
from perfcore.advise.calibration import Calibration, Kind, Observation, calibrate
from perfcore.store.read import DeliveredGain, StoredTrial
from perfcore.types import ConfidenceInterval
from perfcore.ui import frame, parts, words


def section(gains: Sequence[DeliveredGain], trials: Sequence[StoredTrial]) -> None:
    """Draw promised against delivered, or say how there comes to be something to draw."""
    targets = dict(sorted({(g.target_id, g.target) for g in gains}))
    known = [calibrate(gains, target_id) for target_id in targets]
    if not any(c.observations for c in known):
        frame.nothing_here(
            "No promise was put to the test yet",
            "Test a suggested index in the Index lab: what it saves there, and in live traffic "
            "once it is applied, is held here against what the planner promised, and corrects "
            "the ranking of the suggestions that follow.",
        )
        frame.link("index_lab", "Index lab", icon=":material/science:")
        return
    several = len(targets) > 1
    seen, chosen = known[0].observations, frame.parameter("plan_change")
    board = parts.Board(2, least_width_px=420)
    with board.card("Promised and delivered", "click a point to open it", help=_HELP):
        parts.pointed_chart(
            charts.promised_delivered(_points(seen, several=several)),
            "Promised and delivered share of time saved",
            key="promises",
            opens=lambda data: _open(seen[int(data[-1])], trials),
        )
    with board.card("By what becomes of the plan", "medians · click a row to narrow the list"):
        rows = [_row(k, targets[c.target_id]) for c in known for k in _own(c)]
        shown = {k: v for k, v in _COLUMNS.items() if k != "target" or several}
        parts.table(
            pd.DataFrame(rows), shown, key="calibration",
            opens=lambda row: st.query_params.update(plan_change=row["kind"]),
        )  # fmt: skip
        st.caption(
            "A suggestion's time saved is multiplied by “Counted at”. It starts at 100 % and "
            "follows what is delivered, the closer the more was seen."
        )
    with parts.card("Each promise", "click a row to open its change or its test"):
        if chosen:
            st.button(
                f"Only {chosen}: show all", icon=":material/close:", type="tertiary",
                key="all_promises", on_click=frame.drop_parameters, args=("plan_change",),
            )  # fmt: skip
        each([o for o in seen if arrow(o.plan_change) == chosen] if chosen else seen, trials,
             several=several)  # fmt: skip


def each(
    observations: Sequence[Observation],
    trials: Sequence[StoredTrial],
    *,
    several: bool = False,
    key: str = "each_promise",
) -> None:
    """List what was promised and delivered; a row leads to the change or test that shows it."""
    if not observations:
        st.caption("Nothing of this kind was measured or proven yet.")
        return
    parts.table(
        _points(observations, several=several).assign(
            promised=[100 * o.promised for o in observations],
            delivered=[100 * o.delivered for o in observations],
            interval=[f"{100 * o.low:.0f} to {100 * o.high:.0f} %" for o in observations],
        ),
        _EACH,
        key=key,
        opens=lambda row: _open(observations[int(row["place"])], trials),
        max_rows=8,
    )


def _open(observation: Observation, trials: Sequence[StoredTrial]) -> None:
    """Go to what an observation stands for: its change, else its trial."""
    if observation.change_id is not None:
        frame.open_page("ledger", change=observation.change_id)
        return
    trial = next((t for t in trials if t.trial_id == observation.trial_id), None)
    if trial is None:
        st.toast("Its test is kept no longer.")
        return
    frame.open_page("index_lab", suggestion=trial.suggestion_id, trial=trial.trial_id)


def _own(calibration: Calibration) -> list[Kind]:
    """Return the kinds seen on the calibration's own target."""
    return [k for k in calibration.kinds() if k.count]


def _points(observations: Sequence[Observation], *, several: bool) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "promised": o.promised,
                "delivered": o.delivered,
                "low": o.low,
                "high": o.high,
                "kind": arrow(o.plan_change),
                "evidence": o.evidence.value,
                "label": (f"{o.target}: " if several else "") + words.gist(o.text or "?", 80),
                "place": place,
            }
            for place, o in enumerate(observations)
        ]
    )


def _row(kind: Kind, target: str) -> dict[str, object]:
    return {
        "target": target,
        "kind": arrow(kind.plan_change),
        "seen": kind.count,
        "promised": 100 * kind.promised,
        "delivered": 100 * kind.delivered,
        "factor": 100 * kind.factor,
    }


def arrow(plan_change: str) -> str:
    """Return a change of a plan as people draw it.

    >>> arrow("Seq Scan -> Index Scan")
    'Seq Scan → Index Scan'
    """
    return plan_change.replace("->", "→")


def kept(promised_ratio: float, delivered: ConfidenceInterval) -> str:
    """Return in markdown what was promised and what came of it, as shares of the time.

    >>> kept(0.02, ConfidenceInterval(0.1, 0.08, 0.12))
    'Promised 98 % less time, delivered **90 %** (88 to 92 %): 92 % of the promise'
    >>> kept(0.5, ConfidenceInterval(1.2, 1.1, 1.3))
    'Promised 50 % less time, delivered **20 % more** (10 to 30 % more)'
    >>> kept(1.0, ConfidenceInterval(0.9, 0.8, 1.2))
    'Promised nothing, delivered **10 %** (-20 to 20 %)'
    """
    promised, saved = 1 - promised_ratio, 1 - delivered.value
    said = f"Promised {_share(promised)} less time" if promised >= 0.005 else "Promised nothing"
    if saved < 0:
        span = f"{(delivered.low - 1) * 100:.0f} to {_share(delivered.high - 1)} more"
        return f"{said}, delivered **{_share(-saved)} more** ({span})"
    span = f"{_share(1 - delivered.high).removesuffix(' %')} to {_share(1 - delivered.low)}"
    part = f": {_share(saved / promised)} of the promise" if promised >= 0.005 else ""
    return f"{said}, delivered **{_share(saved)}** ({span}){part}"


def _share(value: float) -> str:
    """Return a share in percent, near the whole with the digits that tell it from the whole.

    >>> _share(0.5), _share(0.991), _share(0.9992)
    ('50 %', '99.1 %', '99.92 %')
    """
    digits = 0 if value < 0.985 or value >= 1 else 1 if value < 0.995 else 2
    return f"{value * 100:.{digits}f} %"


_HELP = (
    "Promised: by how much the planner's cost falls. Delivered: by how much the time falls, "
    "measured in the lab or proven by live traffic, with its 95 % interval. Below the line less "
    "came than was promised."
)
_COLUMNS = {
    "target": parts.text("Target"),
    "kind": parts.text("Plan change", width=192),
    "seen": parts.number("Seen", "%d", "Indexes on statements, measured or proven.", width=52),
    "promised": parts.number("Promised", "%.0f %%", "Median of the cost saved.", width=72),
    "delivered": parts.number("Delivered", "%.0f %%", "Median of the time saved.", width=72),
    "factor": parts.number(
        "Counted at",
        "%.0f %%",
        "Of a promised saving, what the ranking expects. Three kept promises stand beside what "
        "was seen; what live traffic proved counts twice.",
        width=84,
    ),
}
_EACH = {
    "label": parts.text("Statement", width=330),
    "kind": parts.text("Plan change", width=210),
    "evidence": parts.text("Evidence", "Measured in the lab, or proven by live traffic.", 85),
    "promised": parts.number("Promised", "%.0f %%", "Less cost, by the planner.", 80),
    "delivered": parts.number("Delivered", "%.0f %%", "Less time, by the clock.", 80),
    "interval": parts.text("Interval", "95 % interval of what was delivered.", 110),
}
