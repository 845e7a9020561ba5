"""The database's share over time: what the overview's tiles draw below their numbers."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime

import pandas as pd
import sqlalchemy

from perfcore.aggregate.completeness import lost_minutes
from perfcore.aggregate.frames import NUMBER, TIME, Buckets, frame, ratio
from perfcore.store.fetch import fetch
from perfcore.store.read_rollups import RollupRow, service_rollups
from perfcore.store.resolution import MINUTE, UNITS, aligned, bucket_width, floor, resolution_for
from perfcore.types import MetricType, TimeRange

_COLUMNS = {"time": TIME, "db_ms_per_request": NUMBER, "cache_hit_ratio": NUMBER}


def database_trend(store: sqlalchemy.Engine, r: TimeRange) -> pd.DataFrame:
    """Return per step the statements' time per request, in ms, and the share of cached blocks.

    Columns are time, db_ms_per_request and cache_hit_ratio, nan where nothing was measured or,
    after a restart or a reset of its statistics, the server's counters say nothing.
    """
    width = bucket_width(r, at_least=UNITS.get(resolution_for(r), MINUTE))
    whole = aligned(r, width)
    spent: dict[datetime, float] = defaultdict(float)
    requests: dict[datetime, float] = defaultdict(float)
    for row in _rows(store, whole, MetricType.DATABASE_QUERY):
        spent[floor(row.bucket_start, width)] += row.sum
    for row in _rows(store, whole, MetricType.API_ENDPOINT):
        requests[floor(row.bucket_start, width)] += row.count
    filters = {"start": whole.start, "end": whole.end, "step_s": width.total_seconds()}
    blocks = {at: (hit, read) for at, hit, read in fetch(store, "trends_blocks", filters)}
    lost = lost_minutes(Buckets(r, width), fetch(store, "trends_gaps", filters))
    return frame(
        _COLUMNS,
        (
            {
                "time": at,
                "db_ms_per_request": ratio(spent[at], requests[at]),
                "cache_hit_ratio": ratio(blocks[at][0], sum(blocks[at])) if at in blocks else None,
            }
            for at in sorted({*spent, *requests, *blocks, *lost})
        ),
    )


def _rows(store: sqlalchemy.Engine, r: TimeRange, metric_type: MetricType) -> list[RollupRow]:
    return service_rollups(store, r, metric_type.value)
