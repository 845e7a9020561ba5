"""Endpoints over a range: how fast, how often, how many errors, and what their time goes to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import pandas as pd
import sqlalchemy

from perfcore.aggregate.frames import (
    FLAG,
    MAYBE_WHOLE,
    NUMBER,
    TEXT,
    TIME,
    WHOLE,
    Buckets,
    frame,
    ratio,
)
from perfcore.aggregate.merge import Merged, merge_rows, quantiles
from perfcore.store.fetch import fetch
from perfcore.store.read_rollups import RollupRow, series_rollups
from perfcore.store.resolution import MINUTE, UNITS, bucket_width, floor, resolution_for
from perfcore.types import MetricType, TimeRange

_TABLE = {
    "service": TEXT, "endpoint": TEXT, "requests": WHOLE, "errors": WHOLE, "error_rate": NUMBER,
    "p50_ms": NUMBER, "p95_ms": NUMBER, "p99_ms": NUMBER, "max_ms": NUMBER, "mean_ms": NUMBER,
    "requests_per_min": NUMBER, "total_ms": NUMBER,
}  # fmt: skip
_TREND = {
    "time": TIME, "p50_ms": NUMBER, "p95_ms": NUMBER, "p99_ms": NUMBER, "requests": WHOLE,
    "errors": WHOLE, "requests_per_min": NUMBER, "is_partial": FLAG,
}  # fmt: skip
_PROCESS = {"time": TIME, "mean": NUMBER, "max": NUMBER}
_STATEMENTS = {
    "fingerprint": WHOLE, "queryid": MAYBE_WHOLE, "text": TEXT, "calls": WHOLE,
    "calls_per_request": NUMBER, "total_ms": NUMBER, "mean_ms": NUMBER,
    "share_of_endpoint": NUMBER, "max_calls": WHOLE, "repeated_requests": WHOLE,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Summary:
    """A range in six numbers, each None where nothing was measured."""

    requests: int
    p95_ms: float | None
    requests_per_min: float | None
    error_rate: float | None
    db_ms_per_request: float | None  # statements' time in the applications, per request
    cache_hit_ratio: float | None  # of blocks that the targets asked their buffer cache for
    memory_rss_bytes: float | None  # mean, summed over the services


def endpoint_table(
    store: sqlalchemy.Engine, r: TimeRange, service: str | None = None
) -> pd.DataFrame:
    """Return a row for each endpoint, the one that took most time in all first."""
    rows = series_rollups(store, r, MetricType.API_ENDPOINT, service=service)
    merged = merge_rows(rows, [(row.service, row.metric_name) for row in rows])
    minutes = _covered_minutes(rows, r)
    table = frame(
        _TABLE,
        (
            {
                "service": of, "endpoint": name, "requests": m.count, "errors": m.error_count,
                "error_rate": m.error_rate, **quantiles(m), "max_ms": m.max, "mean_ms": m.mean,
                "requests_per_min": m.count / minutes, "total_ms": m.sum,
            }
            for (of, name), m in merged.items()
        ),
    )  # fmt: skip
    return table.sort_values(["total_ms", "endpoint"], ascending=[False, True], ignore_index=True)


def latency_trend(
    store: sqlalchemy.Engine,
    r: TimeRange,
    service: str | None = None,
    endpoint: str | None = None,
    *,
    now: datetime | None = None,
) -> pd.DataFrame:
    """Return percentiles and rates per step, from the first step with requests on.

    A step without requests has nan percentiles and zero requests: a gap, not a zero.
    """
    width = _width(r)
    buckets = Buckets(r, width, now)
    names = None if endpoint is None else [endpoint]
    rows = series_rollups(
        store, buckets.range, MetricType.API_ENDPOINT, service=service, names=names
    )
    merged = merge_rows(rows, [buckets.of(row.bucket_start) for row in rows])
    starts = buckets.starts(min(merged)) if merged else []
    empty = Merged()
    return frame(
        _TREND,
        (
            {
                "time": at,
                **quantiles(m),
                "requests": m.count,
                "errors": m.error_count,
                "requests_per_min": m.count / buckets.minutes(at),
                "is_partial": buckets.is_partial(at),
            }
            for at in starts
            for m in [merged.get(at, empty)]
        ),
    )


def summary(store: sqlalchemy.Engine, r: TimeRange) -> Summary:
    """Return the range's numbers for the overview."""
    requests = series_rollups(store, r, MetricType.API_ENDPOINT)
    all_requests = _sum(requests)
    statements = sum(row.sum for row in series_rollups(store, r, MetricType.DATABASE_QUERY))
    blocks = fetch(
        store,
        "trends_blocks",
        {"start": r.start, "end": r.end, "step_s": 10 * 366 * 86400.0},
    )
    hit, read = sum(row[1] for row in blocks), sum(row[2] for row in blocks)
    count = all_requests.count
    return Summary(
        requests=count,
        p95_ms=_known(all_requests.quantile(0.95)),
        requests_per_min=count / _covered_minutes(requests, r) if count else None,
        error_rate=_known(all_requests.error_rate),
        db_ms_per_request=statements / count if count and statements else None,
        cache_hit_ratio=_known(ratio(hit, hit + read)),
        memory_rss_bytes=_memory(store, r),
    )


def endpoint_statements(
    store: sqlalchemy.Engine, r: TimeRange, service: str, endpoint: str
) -> pd.DataFrame:
    """Return the statements of an endpoint, with calls per request and share of its time.

    The share is of the time that its requests took in all; queries that ran side by side
    can take more than that together, and are then shown as the whole.
    """
    whole = TimeRange(floor(r.start, MINUTE), r.end)
    requests = _sum(
        series_rollups(store, whole, MetricType.API_ENDPOINT, service=service, names=[endpoint])
    )
    filters = {"start": whole.start, "end": whole.end, "service": service, "endpoint": endpoint}
    found = fetch(store, "endpoints_statements", filters)
    spent = max(requests.sum, sum(row[4] for row in found))
    return frame(
        _STATEMENTS,
        (
            {
                "fingerprint": fingerprint, "queryid": queryid, "text": text, "calls": calls,
                "calls_per_request": ratio(calls, requests.count or ran), "total_ms": total_ms,
                "mean_ms": ratio(total_ms, calls), "share_of_endpoint": ratio(total_ms, spent),
                "max_calls": most, "repeated_requests": repeated,
            }
            for fingerprint, queryid, text, calls, total_ms, ran, repeated, most in found
        ),
    )  # fmt: skip


def process_trend(
    store: sqlalchemy.Engine,
    r: TimeRange,
    metric_type: str,
    name: str,
    service: str | None = None,
) -> pd.DataFrame:
    """Return mean and maximum of a gauge per step: memory in bytes, CPU in percent.

    Several services' means are added up, for that is what the machine carries.
    """
    width = _width(r)
    buckets = Buckets(r, width)
    rows = series_rollups(store, buckets.range, metric_type, service=service, names=[name])
    merged = merge_rows(rows, [(buckets.of(row.bucket_start), row.service) for row in rows])
    steps: dict[datetime, list[Merged]] = {}
    for (at, _), m in merged.items():
        steps.setdefault(at, []).append(m)
    return frame(
        _PROCESS,
        (
            {"time": at, "mean": sum(m.mean for m in ms), "max": sum(m.max for m in ms)}
            for at, ms in sorted(steps.items())
        ),
    )


def _width(r: TimeRange) -> timedelta:
    return bucket_width(r, at_least=UNITS.get(resolution_for(r), MINUTE))


def _sum(rows: Sequence[RollupRow]) -> Merged:
    return merge_rows(rows, [0] * len(rows)).get(0, Merged())


def _memory(store: sqlalchemy.Engine, r: TimeRange) -> float | None:
    rows = series_rollups(store, r, MetricType.MEMORY, names=["process.memory.rss"])
    merged = merge_rows(rows, [row.service for row in rows])
    return sum(m.mean for m in merged.values()) if merged else None


def _covered_minutes(rows: Sequence[RollupRow], r: TimeRange) -> float:
    """Return how long the rows were measured within the range, so that a rate is not diluted.

    An application watched for ten minutes had its requests in ten minutes, also when the
    range is a day.
    """
    if not rows:
        return 1.0
    first = max(min(row.bucket_start for row in rows), floor(r.start, MINUTE))
    return max((r.end - first) / MINUTE, 1.0)


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
