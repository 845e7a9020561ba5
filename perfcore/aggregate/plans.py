"""Plans over time: which shape was in use when, and how long the statement took meanwhile."""

from __future__ import annotations

import pandas as pd
import sqlalchemy

from perfcore.aggregate.frames import FLAG, NUMBER, TEXT, TIME, WHOLE, frame
from perfcore.store.fetch import fetch
from perfcore.types import TimeRange

_HISTORY = {
    "plan_id": WHOLE, "shape_hash": TEXT, "is_generic": FLAG, "seen_from": TIME, "seen_to": TIME,
    "calls": WHOLE, "mean_ms": NUMBER,
}  # fmt: skip


def plan_history(
    store: sqlalchemy.Engine, r: TimeRange, target_id: int, fingerprint: int
) -> pd.DataFrame:
    """Return a row for each time a plan shape was in use, the earliest first.

    A shape that comes back has several rows. Generic plans and plans for captured parameters
    are two histories that lie side by side: choose by `is_generic`. `calls` and the server's
    `mean_ms` are of the readings wholly inside the span and the range; the mean is NaN where
    none is. Between two spans the plan changed, nobody knows when: what ran there counts for
    neither.
    """
    filters = {
        "start": r.start, "end": r.end, "target_id": target_id, "fingerprint": fingerprint,
    }  # fmt: skip
    rows = fetch(store, "read_plan_history", filters)
    return frame(_HISTORY, (dict(zip(_HISTORY, row, strict=True)) for row in rows))
