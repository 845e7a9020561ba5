"""Statements: what the server counted, joined by fingerprint with what applications measured."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import sqlalchemy

from perfcore.aggregate.completeness import lost_minutes
from perfcore.aggregate.endpoints import RequestTimes, request_times, trend_buckets
from perfcore.aggregate.frames import (
    ANY,
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
from perfcore.normalise import fingerprint_hex, from_hex
from perfcore.store.fetch import fetch, snapshot
from perfcore.store.read import StatementDetail, StoredPlan, plans, statement
from perfcore.store.read_rollups import rollups
from perfcore.store.resolution import (
    HOUR,
    MINUTE,
    WORK_AS_IT_CAME,
    WORK_KEPT_FINE,
    WORK_STEP,
    floor,
    whole_days,
)
from perfcore.types import MetricType, TimeRange

__all__ = [
    "StatementDetail",
    "StoredPlan",
    "plans",
    "slow_queries",
    "statement",
    "statement_endpoints",
    "statement_table",
    "statement_trend",
    "tables",
]

_TABLE = {
    "target_id": WHOLE, "fingerprint": WHOLE, "queryid": WHOLE, "text": TEXT, "calls": WHOLE,
    "total_ms": NUMBER, "mean_ms": NUMBER, "share_of_db_time": NUMBER, "rows": WHOLE,
    "hit_ratio": NUMBER, "blks_hit": WHOLE, "blks_read": WHOLE, "temp_blks_written": WHOLE,
    "p50_ms": NUMBER, "p95_ms": NUMBER, "p99_ms": NUMBER, "endpoints": WHOLE,
    "slow_count": WHOLE,
}  # fmt: skip
_TREND = {
    "time": TIME, "calls_per_min": NUMBER, "mean_ms": NUMBER, "p95_ms": NUMBER, "partial": FLAG,
}  # fmt: skip
_ENDPOINTS = {
    "service": TEXT, "endpoint": TEXT, "calls": WHOLE, "requests": WHOLE,
    "calls_per_request": NUMBER, "total_ms": NUMBER, "mean_ms": NUMBER,
    "share_of_endpoint": NUMBER,
}  # fmt: skip
# A rate taken from less of a step than this would be an accident.
_KNOWN_AT_LEAST = 0.05
_SLOW = {
    "occurred_at": TIME, "service": TEXT, "endpoint": TEXT, "fingerprint": WHOLE,
    "queryid": MAYBE_WHOLE, "text": TEXT, "duration_ms": NUMBER, "parameters": ANY,
    "plan_id": MAYBE_WHOLE, "is_error": FLAG, "slow_query_id": TEXT,
}  # fmt: skip
_TABLES = {
    "schema": TEXT, "table": TEXT, "hit_ratio": NUMBER, "blks_hit": WHOLE, "blks_read": WHOLE,
    "seq_scan": WHOLE, "idx_scan": WHOLE, "writes": WHOLE,
}  # fmt: skip


def statement_table(
    store: sqlalchemy.Engine,
    r: TimeRange,
    target_id: int | None = None,
    *,
    now: datetime | None = None,
) -> pd.DataFrame:
    """Return a row per target and statement, the one that took the most time first.

    Calls and times are the server's, of the readings that ended in the range; `p95_ms` is
    what applications measured, nan for statements that no hook saw.
    """
    first_day, last_day = whole_days(r, now or datetime.now(UTC))
    filters = {
        "start": r.start, "end": r.end, "target_id": target_id, "minute": floor(r.start, MINUTE),
        "first_day": first_day, "last_day": last_day,
    }  # fmt: skip
    with snapshot(store) as seen:
        found = seen.rows("statements_table", filters)
        names = list({fingerprint_hex(row[1]) for row in found})
        timed = rollups(seen, r, MetricType.DATABASE_QUERY, None, names, None, now) if names else []
    merged = merge_rows(timed, [from_hex(row.metric_name) for row in timed])
    all_ms = sum(row[5] for row in found)
    return frame(_TABLE, (_statement(row, merged, all_ms) for row in found))


def _statement(row: tuple[Any, ...], merged: Mapping[int, Merged], all_ms: float) -> dict[str, Any]:
    (target_id, fingerprint, queryid, text, calls, total_ms, rows, hit, read, temp, endpoints,
     slow) = row  # fmt: skip
    return {
        "target_id": target_id,
        "fingerprint": fingerprint,
        "queryid": queryid,
        "text": text,
        "calls": calls,
        "total_ms": total_ms,
        "mean_ms": ratio(total_ms, calls),
        "share_of_db_time": ratio(total_ms, all_ms),
        "rows": rows,
        "hit_ratio": ratio(hit, hit + read),
        "blks_hit": hit,
        "blks_read": read,
        "temp_blks_written": temp,
        **quantiles(merged.get(fingerprint, Merged())),
        "endpoints": endpoints,
        "slow_count": slow,
    }


def statement_trend(
    store: sqlalchemy.Engine,
    r: TimeRange,
    target_id: int,
    fingerprint: int,
    *,
    now: datetime | None = None,
) -> pd.DataFrame:
    """Return calls and times of a statement in at most 240 steps.

    `calls_per_min` and `mean_ms` are the server's, `p95_ms` the applications'. A reading is
    spread over the steps that it covers. Where nothing is known of what the server counted,
    calls are nan and not 0; rates are taken over the time that is known.
    """
    buckets, resolution = trend_buckets(r, now)
    age = (now or datetime.now(UTC)) - r.start
    # Where the server's readings are further apart, shorter steps would be all peaks and gaps.
    if age > WORK_KEPT_FINE and buckets.width < HOUR:
        buckets, resolution = Buckets(r, HOUR, now), "hour"
    elif age > WORK_AS_IT_CAME and buckets.width < WORK_STEP:
        buckets = Buckets(r, WORK_STEP, now)
    filters = {
        "target_id": target_id, "fingerprint": fingerprint, "start": buckets.range.start,
        "end": buckets.range.end, "width_s": buckets.width.total_seconds(),
    }  # fmt: skip
    names = [fingerprint_hex(fingerprint)]
    with snapshot(store) as seen:
        counted = {at: (calls, ms) for at, calls, ms in seen.rows("statements_trend", filters)}
        gaps = list(seen.rows("statements_trend_gaps", filters))
        timed = rollups(
            seen, buckets.range, MetricType.DATABASE_QUERY, None, names, resolution, now
        )
    merged = merge_rows(timed, [buckets.of(row.bucket_start) for row in timed])
    known = {*counted, *merged}
    lost = lost_minutes(buckets, ((start, end) for start, end, _ in gaps))
    wholly = lost_minutes(buckets, ((start, end) for start, end, is_whole in gaps if is_whole))
    return frame(
        _TREND,
        (
            {
                "time": at,
                "calls_per_min": _rate(
                    calls, buckets.minutes(at), lost.get(at, 0.0), wholly.get(at, 0.0)
                ),
                "mean_ms": ratio(total_ms, calls),
                "p95_ms": merged.get(at, Merged()).quantile(0.95),
                "partial": buckets.is_partial(at),
            }
            for at in (buckets.starts(min(known)) if known else [])
            for calls, total_ms in [counted.get(at, (0, 0.0))]
        ),
    )


def _rate(calls: float, minutes: float, lost: float, wholly_lost: float) -> float:
    """Return calls per minute of what is known of a step, nan when none of it is."""
    if lost >= minutes * (1 - _KNOWN_AT_LEAST):
        return float("nan")
    return calls / (minutes - wholly_lost)


def statement_endpoints(
    store: sqlalchemy.Engine, r: TimeRange, fingerprint: int, *, now: datetime | None = None
) -> pd.DataFrame:
    """Return who ran a statement, the endpoint it took the most time of first.

    `share_of_endpoint` is the statement's part of the time of all the endpoint's requests,
    nan for what ran outside of requests.
    """
    filters = {"start": floor(r.start, MINUTE), "end": r.end, "fingerprint": fingerprint}
    found = fetch(store, "statements_endpoints", filters)
    names = [row[1] for row in found]
    times = request_times(store, r, None, names, now=now) if names else {}
    return frame(
        _ENDPOINTS,
        (
            {
                "service": service,
                "endpoint": endpoint,
                "calls": calls,
                "requests": requests,
                "calls_per_request": ratio(calls, requests),
                "total_ms": total_ms,
                "mean_ms": ratio(total_ms, calls),
                "share_of_endpoint": times.get((service, endpoint), RequestTimes()).share(
                    total_ms, all_ms
                ),
            }
            for service, endpoint, calls, requests, total_ms, all_ms in found
        ),
    )


def slow_queries(
    store: sqlalchemy.Engine,
    r: TimeRange,
    *,
    fingerprint: int | None = None,
    queryid: int | None = None,
    endpoint: str | None = None,
    service: str | None = None,
    min_duration_ms: float = 0.0,
    limit: int = 100,
) -> pd.DataFrame:
    """Return captured slow executions, the latest first; parameters are passed on as stored."""
    filters = {
        "start": r.start, "end": r.end, "fingerprint": fingerprint, "queryid": queryid,
        "endpoint": endpoint, "service": service, "min_duration_ms": min_duration_ms,
        "limit": limit,
    }  # fmt: skip
    return frame(
        _SLOW,
        (
            {
                "slow_query_id": str(slow_query_id),
                "occurred_at": at,
                "service": ran_by,
                "endpoint": ran_in,
                "fingerprint": of,
                "queryid": known_as,
                "text": text,
                "duration_ms": duration_ms,
                "is_error": is_error,
                "parameters": parameters,
                "plan_id": plan_id,
            }
            for (slow_query_id, at, ran_by, ran_in, of, known_as, text, duration_ms, is_error,
                 parameters, plan_id) in fetch(store, "read_slow_queries", filters)
        ),
    )  # fmt: skip


def tables(store: sqlalchemy.Engine, r: TimeRange, target_id: int | None = None) -> pd.DataFrame:
    """Return what each table's blocks and scans were, the one read most from disk first."""
    filters = {"start": r.start, "end": r.end, "target_id": target_id}
    return frame(
        _TABLES,
        (
            {
                "schema": schema,
                "table": table,
                "hit_ratio": ratio(hit, hit + read),
                "blks_hit": hit,
                "blks_read": read,
                "seq_scan": seq_scan,
                "idx_scan": idx_scan,
                "writes": writes,
            }
            for schema, table, hit, read, seq_scan, idx_scan, writes in fetch(
                store, "statements_tables", filters
            )
        ),
    )
