"""What pages/overview.py reads when it is opened without a cache, by name."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy

from perfcore.aggregate import endpoints, statements, trends
from perfcore.store import read
from perfcore.types import TimeRange

_GAUGES = (
    ("memory", "process.memory.rss"), ("memory", "process.memory.uss"),
    ("memory", "python.heap"), ("cpu", "process.cpu.utilization"),
    ("cpu", "system.cpu.utilization"),
)  # fmt: skip


def reads(store: sqlalchemy.Engine, now: datetime, days: int = 30) -> dict[str, Callable[[], Any]]:
    """Return the readers of the page for a range and the one before, ready to be called."""
    r = TimeRange(now - timedelta(days=days), now)
    before = r.previous()
    found: dict[str, Callable[[], Any]] = {
        "latency_trend": lambda: endpoints.latency_trend(store, r, now=now),
        "markers": lambda: read.markers(store, r),
        "summary": lambda: endpoints.summary(store, r, now=now),
        "summary before": lambda: endpoints.summary(store, before, now=now),
        "database_trend": lambda: trends.database_trend(store, r),
        "suggestions": lambda: read.suggestions(store),
        "statement_table": lambda: statements.statement_table(store, r, now=now),
        "statement_table before": lambda: statements.statement_table(store, before, now=now),
        "endpoint_table": lambda: endpoints.endpoint_table(store, r, now=now),
        "endpoint_table before": lambda: endpoints.endpoint_table(store, before, now=now),
        "slow_queries": lambda: statements.slow_queries(store, r, limit=50),
    }
    for kind, name in _GAUGES:
        found[f"process_trend {name}"] = lambda k=kind, n=name: endpoints.process_trend(
            store, r, k, n, now=now
        )
    return found
