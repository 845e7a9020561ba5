"""What the hooks see: the server's time that no hook saw, and requests' time in the database."""

from __future__ import annotations

import math
from collections import Counter
from datetime import datetime
from typing import Any

import pandas as pd
import sqlalchemy

from perfcore.aggregate.endpoints import RequestTimes, request_times
from perfcore.aggregate.frames import NUMBER, TEXT, WHOLE, frame, ratio
from perfcore.aggregate.statements import statement_table
from perfcore.normalise import from_hex
from perfcore.store.fetch import snapshot
from perfcore.store.read_rollups import sums
from perfcore.types import MetricType, TimeRange

_SEEN = {"fingerprint": WHOLE, "executions": WHOLE}
_SHARES = {
    "service": TEXT, "endpoint": TEXT, "requests": WHOLE, "database_ms": NUMBER,
    "database_share": NUMBER,
}  # fmt: skip


def unseen_statements(counted: pd.DataFrame, seen: pd.DataFrame) -> pd.DataFrame:
    """Return the server's statements with what no hook saw of them, the most time first.

    `counted` has the server's `target_id`, `fingerprint`, `queryid`, `text`, `calls` and
    `total_ms`, `seen` the `executions` of a fingerprint that applications measured. Times cannot be
    subtracted, because an application's hold the network too; so `unseen_ms` is the server's
    time of the share of calls that is missing. A statement of several targets is taken to be
    seen evenly.
    """
    found = counted[["target_id", "fingerprint", "queryid", "text", "calls", "total_ms"]].copy()
    executions = found["fingerprint"].map(seen.set_index("fingerprint")["executions"]).fillna(0)
    all_calls = found.groupby("fingerprint")["calls"].transform("sum")
    missing = (1 - executions / all_calls.where(all_calls > 0)).fillna(0).clip(lower=0.0)
    found["unseen_calls"] = (found["calls"] * missing).round().astype("int64")
    found["unseen_ms"] = (found["total_ms"] * missing).astype("float64")
    return found.sort_values("unseen_ms", ascending=False, kind="stable", ignore_index=True)


def unseen_share(statements: pd.DataFrame) -> float:
    """Return the part of the server's time that no hook saw, nan when there was no time."""
    return ratio(float(statements["unseen_ms"].sum()), float(statements["total_ms"].sum()))


def unseen(
    store: sqlalchemy.Engine,
    r: TimeRange,
    target_id: int | None = None,
    *,
    now: datetime | None = None,
) -> pd.DataFrame:
    """Return what `unseen_statements` says of a range: raw cursors, other programs, psql."""
    return unseen_statements(
        statement_table(store, r, target_id, now=now), seen_executions(store, r, now=now)
    )


def seen_executions(
    store: sqlalchemy.Engine, r: TimeRange, *, now: datetime | None = None
) -> pd.DataFrame:
    """Return how often applications executed each statement; an executemany once for each row."""
    executions: Counter[int] = Counter()
    with snapshot(store) as shown:
        for kind in (MetricType.DATABASE_QUERY, MetricType.DATABASE_CANCELLED):
            for row in sums(shown, r, kind, now=now):
                executions[from_hex(row.metric_name)] += row.count
        for row in sums(shown, r, MetricType.DATABASE_BATCH, now=now):
            if row.unit == "rows":
                executions[from_hex(row.metric_name)] += round(row.sum)
    return frame(
        _SEEN, ({"fingerprint": fp, "executions": count} for fp, count in executions.items())
    )


def database_shares(
    store: sqlalchemy.Engine,
    r: TimeRange,
    service: str | None = None,
    *,
    now: datetime | None = None,
) -> pd.DataFrame:
    """Return how much of each endpoint's time its requests spent in statements, at most 1.

    Statements that a request ran at the same time count once: this is time on the wall
    clock, unlike the sums of `endpoint_statements`.
    """
    times = request_times(store, r, service, now=now)
    table = frame(_SHARES, (_share(*key, spent) for key, spent in times.items()))
    return table.sort_values("database_ms", ascending=False, kind="stable", ignore_index=True)


def _share(service: str, endpoint: str, spent: RequestTimes) -> dict[str, Any]:
    waited_ms = 0.0 if math.isnan(spent.database_ms) else spent.database_ms
    return {
        "service": service,
        "endpoint": endpoint,
        "requests": spent.requests,
        "database_ms": waited_ms,
        "database_share": min(1.0, ratio(waited_ms, spent.total_ms)),
    }
