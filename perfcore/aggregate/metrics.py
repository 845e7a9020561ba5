"""Any metric: its samples as recorded, or its histograms per minute, hour or day."""

from __future__ import annotations

from datetime import datetime

import pandas as pd
import sqlalchemy

from perfcore.aggregate.frames import FLAG, NUMBER, TEXT, TIME, WHOLE, frame
from perfcore.aggregate.merge import merge_rows, quantiles
from perfcore.store.fetch import fetch
from perfcore.store.read_rollups import series_rollups
from perfcore.store.resolution import UNITS, aligned, floor
from perfcore.types import MetricType, TimeRange

_RAW = {
    "id": TEXT, "metric_type": TEXT, "metric_name": TEXT, "service": TEXT, "value": NUMBER,
    "unit": TEXT, "timestamp": TIME, "is_error": FLAG, "weight": WHOLE,
}  # fmt: skip
_ROLLUPS = {
    "bucket_start": TIME, "service": TEXT, "metric_type": TEXT, "metric_name": TEXT,
    "unit": TEXT, "count": WHOLE, "error_count": WHOLE, "sum": NUMBER, "mean": NUMBER,
    "min": NUMBER, "max": NUMBER, "p50": NUMBER, "p95": NUMBER, "p99": NUMBER,
}  # fmt: skip


def raw_samples(
    store: sqlalchemy.Engine,
    r: TimeRange,
    metric_type: str | None = None,
    metric_name: str | None = None,
    service: str | None = None,
    *,
    limit: int = 1000,
) -> pd.DataFrame:
    """Return samples, the latest first; one of weight n stands for n of them."""
    filters = {
        "start": r.start, "end": r.end, "metric_type": metric_type, "metric_name": metric_name,
        "service": service, "limit": limit,
    }  # fmt: skip
    rows = fetch(store, "read_raw_metrics", filters)
    return frame(_RAW, (dict(zip(_RAW, (str(i), *rest), strict=True)) for i, *rest in rows))


def count_histograms(
    store: sqlalchemy.Engine,
    r: TimeRange,
    resolution: str,
    metric_type: str | None = None,
    metric_name: str | None = None,
    service: str | None = None,
    *,
    most: int,
) -> int:
    """Return how many histograms of that resolution a table would read, at most `most` + 1."""
    filters = {
        "resolution": resolution, "start": aligned(r, UNITS[resolution]).start, "end": r.end,
        "metric_type": metric_type, "metric_name": metric_name, "service": service, "most": most,
    }  # fmt: skip
    return int(fetch(store, "metrics_count_rollups", filters)[0][0])


def rollup_table(
    store: sqlalchemy.Engine,
    r: TimeRange,
    resolution: str,
    metric_type: str | None = None,
    metric_name: str | None = None,
    service: str | None = None,
    *,
    limit: int = 1000,
    now: datetime | None = None,
) -> pd.DataFrame:
    """Return a row per bucket and series, the latest first, its start moved back to a bucket's."""
    width = UNITS[resolution]
    types = [metric_type] if metric_type else [m.value for m in MetricType]
    found = [
        (kind, row)
        for kind in types
        for row in series_rollups(
            store,
            aligned(r, width),
            kind,
            service=service,
            names=None if metric_name is None else [metric_name],
            resolution=resolution,
            now=now,
        )
    ]
    merged = merge_rows(
        [row for _, row in found],
        [
            (floor(row.bucket_start, width), row.service, kind, row.metric_name, row.unit)
            for kind, row in found
        ],
    )
    latest = sorted(merged.items(), key=lambda item: (-item[0][0].timestamp(), item[0][1:]))
    return frame(
        _ROLLUPS,
        (
            dict(zip(_ROLLUPS, key, strict=False))
            | {"count": m.count, "error_count": m.error_count, "sum": m.sum, "mean": m.mean}
            | {"min": m.min, "max": m.max, **quantiles(m, unit="")}
            for key, m in latest[:limit]
        ),
    )
