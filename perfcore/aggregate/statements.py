"""Statements over a range: what the server spent on them, and what the application felt."""

from __future__ import annotations

import pandas as pd
import sqlalchemy

from perfcore.aggregate.frames import (
    ANY,
    MAYBE_WHOLE,
    NUMBER,
    TEXT,
    TIME,
    WHOLE,
    Buckets,
    frame,
    ratio,
)
from perfcore.aggregate.merge import Merged, merge_rows
from perfcore.normalise import fingerprint_hex, from_hex
from perfcore.store import read
from perfcore.store.fetch import fetch
from perfcore.store.read_rollups import series_rollups
from perfcore.store.resolution import MINUTE, UNITS, bucket_width, floor, resolution_for
from perfcore.types import MetricType, TimeRange

statement = read.statement
plans = read.plans

_TABLE = {
    "target_id": WHOLE, "fingerprint": WHOLE, "queryid": WHOLE, "text": TEXT, "calls": WHOLE,
    "total_ms": NUMBER, "mean_ms": NUMBER, "share_of_db_time": NUMBER, "rows": WHOLE,
    "hit_ratio": NUMBER, "temp_blks_written": WHOLE, "p95_ms": NUMBER, "endpoints": WHOLE,
    "slow_count": WHOLE,
}  # fmt: skip
_TREND = {"time": TIME, "calls_per_min": NUMBER, "mean_ms": NUMBER, "p95_ms": NUMBER}
_ENDPOINTS = {
    "service": TEXT, "endpoint": TEXT, "calls": WHOLE, "requests": WHOLE,
    "calls_per_request": NUMBER, "total_ms": NUMBER, "mean_ms": NUMBER, "max_calls": WHOLE,
}  # fmt: skip
_SLOW = {
    "slow_query_id": TEXT, "occurred_at": TIME, "service": TEXT, "endpoint": TEXT,
    "fingerprint": WHOLE, "queryid": MAYBE_WHOLE, "text": TEXT, "duration_ms": NUMBER,
    "is_error": "bool", "parameters": ANY, "plan_id": MAYBE_WHOLE,
}  # fmt: skip
_TABLES = {
    "schema": TEXT, "table": TEXT, "hit_ratio": NUMBER, "blks_hit": WHOLE, "blks_read": WHOLE,
    "seq_scan": WHOLE, "idx_scan": WHOLE, "writes": WHOLE,
}  # fmt: skip


def statement_table(
    store: sqlalchemy.Engine, r: TimeRange, target_id: int | None = None
) -> pd.DataFrame:
    """Return a row for each statement, the one that took the server most time first.

    Calls, times and blocks are the server's; `p95_ms` is from the application's own clock,
    nan for statements that no hook saw.
    """
    filters = {"start": r.start, "end": r.end, "target_id": target_id}
    found = fetch(store, "statements_totals", filters)
    seen = {f: (endpoints, slow) for f, endpoints, slow in fetch(store, "statements_seen", filters)}
    felt = _felt(store, r)
    spent = sum(row[5] for row in found)
    return frame(
        _TABLE,
        (
            {
                "target_id": target, "fingerprint": fingerprint, "queryid": queryid, "text": text,
                "calls": calls, "total_ms": total_ms, "mean_ms": ratio(total_ms, calls),
                "share_of_db_time": ratio(total_ms, spent), "rows": rows,
                "hit_ratio": ratio(hit, hit + from_disk), "temp_blks_written": temp,
                "p95_ms": felt.get(fingerprint, Merged()).quantile(0.95),
                "endpoints": seen.get(fingerprint, (0, 0))[0],
                "slow_count": seen.get(fingerprint, (0, 0))[1],
            }
            for (target, fingerprint, queryid, text, calls, total_ms, rows, hit, from_disk, temp)
            in found
        ),
    )  # fmt: skip


def _felt(store: sqlalchemy.Engine, r: TimeRange) -> dict[int, Merged]:
    rows = series_rollups(store, r, MetricType.DATABASE_QUERY)
    return merge_rows(rows, [from_hex(row.metric_name) for row in rows])


def statement_trend(
    store: sqlalchemy.Engine, r: TimeRange, target_id: int, fingerprint: int
) -> pd.DataFrame:
    """Return calls a minute and mean by the server, and the application's p95, per step."""
    width = bucket_width(r, at_least=UNITS.get(resolution_for(r), MINUTE))
    buckets = Buckets(r, width)
    name = fingerprint_hex(fingerprint)
    rows = series_rollups(store, buckets.range, MetricType.DATABASE_QUERY, names=[name])
    felt = merge_rows(rows, [buckets.of(row.bucket_start) for row in rows])
    filters = {
        "start": buckets.range.start, "end": buckets.range.end, "step_s": width.total_seconds(),
        "target_id": target_id, "fingerprint": fingerprint,
    }  # fmt: skip
    served = {at: (calls, ms) for at, calls, ms in fetch(store, "statements_trend", filters)}
    steps = sorted({*felt, *served})
    return frame(
        _TREND,
        (
            {
                "time": at,
                "calls_per_min": max(calls, own.count) / buckets.minutes(at),
                "mean_ms": ratio(ms, calls) if calls else own.mean,
                "p95_ms": own.quantile(0.95),
            }
            for at in (buckets.starts(steps[0]) if steps else [])
            for (calls, ms), own in [(served.get(at, (0, 0.0)), felt.get(at, Merged()))]
        ),
    )


def statement_endpoints(store: sqlalchemy.Engine, r: TimeRange, fingerprint: int) -> pd.DataFrame:
    """Return the endpoints that ran a statement, the one it cost most time first.

    Calls are per request that ran it at least once.
    """
    filters = {"start": floor(r.start, MINUTE), "end": r.end, "fingerprint": fingerprint}
    return frame(
        _ENDPOINTS,
        (
            {
                "service": service, "endpoint": endpoint, "calls": calls, "requests": requests,
                "calls_per_request": ratio(calls, requests), "total_ms": total_ms,
                "mean_ms": ratio(total_ms, calls), "max_calls": most,
            }
            for service, endpoint, calls, requests, total_ms, most
            in fetch(store, "statements_endpoints", filters)
        ),
    )  # fmt: skip


def slow_queries(
    store: sqlalchemy.Engine,
    r: TimeRange,
    *,
    fingerprint: int | None = None,
    endpoint: str | None = None,
    service: str | None = None,
    queryid: int | None = None,
    min_duration_ms: float = 0.0,
    limit: int = 100,
) -> pd.DataFrame:
    """Return captured slow executions, the latest first, each with the plan then in use."""
    filters = {
        "start": r.start, "end": r.end, "fingerprint": fingerprint, "endpoint": endpoint,
        "service": service, "queryid": queryid, "min_duration_ms": min_duration_ms, "limit": limit,
    }  # fmt: skip
    rows = fetch(store, "read_slow_queries", filters)
    return frame(_SLOW, (dict(zip(_SLOW, (str(row[0]), *row[1:]), strict=True)) for row in rows))


def tables(store: sqlalchemy.Engine, r: TimeRange, target_id: int | None = None) -> pd.DataFrame:
    """Return how each table was read and written, the one read most from disk first."""
    filters = {"start": r.start, "end": r.end, "target_id": target_id}
    return frame(
        _TABLES,
        (
            {
                "schema": schema, "table": table, "hit_ratio": ratio(hit, hit + from_disk),
                "blks_hit": hit, "blks_read": from_disk, "seq_scan": seq, "idx_scan": idx,
                "writes": writes,
            }
            for schema, table, hit, from_disk, seq, idx, writes
            in fetch(store, "tables_totals", filters)
        ),
    )  # fmt: skip
