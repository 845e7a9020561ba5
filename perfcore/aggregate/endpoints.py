"""Endpoints: how often, how fast, how often wrong, and which statements took their time."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

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
from perfcore.store.fetch import fetch, snapshot
from perfcore.store.read_rollups import (
    RollupRow,
    rollups,
    series_rollups,
    service_rollups,
    sums,
    totals,
)
from perfcore.store.resolution import DAY, HOUR, MINUTE, bucket_width, floor, whole_days
from perfcore.types import MetricType, TimeRange

# A day is drawn from its minutes: hours would leave 24 points of it.
_MINUTES_DRAWN_UP_TO = DAY + 2 * HOUR
_TABLE = {
    "service": TEXT, "endpoint": TEXT, "requests": WHOLE, "errors": WHOLE, "error_rate": NUMBER,
    "p50_ms": NUMBER, "p95_ms": NUMBER, "p99_ms": NUMBER, "max_ms": NUMBER, "mean_ms": NUMBER,
    "requests_per_min": NUMBER, "total_ms": NUMBER,
}  # fmt: skip
_TREND = {
    "time": TIME, "p50_ms": NUMBER, "p95_ms": NUMBER, "p99_ms": NUMBER, "requests": WHOLE,
    "errors": WHOLE, "requests_per_min": NUMBER, "partial": FLAG,
}  # fmt: skip
_STATEMENTS = {
    "fingerprint": WHOLE, "queryid": MAYBE_WHOLE, "text": TEXT, "calls": WHOLE,
    "calls_per_request": NUMBER, "total_ms": NUMBER, "mean_ms": NUMBER,
    "share_of_endpoint": NUMBER, "max_calls": WHOLE, "requests": WHOLE,
    "n_plus_one_requests": WHOLE, "n_plus_one_share": NUMBER, "n_plus_one_calls": NUMBER,
    "n_plus_one_ms": NUMBER, "location": TEXT,
}  # fmt: skip
_PROCESS = {"time": TIME, "mean": NUMBER, "max": NUMBER}


@dataclass(frozen=True, slots=True)
class Summary:
    """The overview's tiles; each is None when nothing was measured."""

    p95_ms: float | None
    requests_per_min: float | None
    error_rate: float | None  # errors / requests
    db_ms_per_request: float | None  # statements run within requests, as the application saw them
    cache_hit_ratio: float | None  # of all blocks that the targets read
    memory_rss_bytes: float | None  # mean over the range and the processes


def endpoint_table(
    store: sqlalchemy.Engine,
    r: TimeRange,
    service: str | None = None,
    *,
    now: datetime | None = None,
) -> pd.DataFrame:
    """Return a row per endpoint, the one that took the most time first.

    Rates are over the part of the range that was observed: from the first minute with a
    request of any endpoint to the range's end, or to now.
    """
    rows = series_rollups(store, r, MetricType.API_ENDPOINT, service=service, now=now)
    minutes = observed_minutes(rows, r, now)
    merged = merge_rows(rows, [(row.service, row.metric_name) for row in rows])
    table = frame(_TABLE, (_endpoint(*key, m, minutes) for key, m in merged.items()))
    return table.sort_values("total_ms", ascending=False, ignore_index=True)


def _endpoint(service: str, endpoint: str, m: Merged, minutes: float) -> dict[str, Any]:
    return {
        "service": service,
        "endpoint": endpoint,
        "requests": m.count,
        "errors": m.error_count,
        "error_rate": m.error_rate,
        **quantiles(m),
        "max_ms": m.max,
        "mean_ms": m.mean,
        "requests_per_min": ratio(m.count, minutes),
        "total_ms": m.sum,
    }


def observed_minutes(rows: Sequence[RollupRow], r: TimeRange, now: datetime | None = None) -> float:
    """Return the minutes from the first row, or the range's start if later, to its end or now."""
    if not rows:
        return 0.0
    first = max(min(row.bucket_start for row in rows), floor(r.start, MINUTE))
    return max((min(r.end, now or datetime.now(UTC)) - first) / MINUTE, 1 / 60)


def latency_trend(
    store: sqlalchemy.Engine,
    r: TimeRange,
    service: str | None = None,
    endpoint: str | None = None,
    *,
    now: datetime | None = None,
) -> pd.DataFrame:
    """Return percentiles and counts in at most 240 steps, from the first that holds a request.

    Steps without a request are there with 0 requests and nan percentiles. The last step is
    marked partial when it is not over; its rate is over the seconds it has.
    """
    buckets, rows = _trend_rows(
        store, r, MetricType.API_ENDPOINT, service, [endpoint] if endpoint else None, now
    )
    merged = merge_rows(rows, [buckets.of(row.bucket_start) for row in rows])
    starts = buckets.starts(min(merged)) if merged else []
    return frame(_TREND, (_step(buckets, at, merged.get(at, Merged())) for at in starts))


def _step(buckets: Buckets, at: datetime, m: Merged) -> dict[str, Any]:
    return {
        "time": at,
        **quantiles(m),
        "requests": m.count,
        "errors": m.error_count,
        "requests_per_min": m.count / buckets.minutes(at),
        "partial": buckets.is_partial(at),
    }


def trend_buckets(r: TimeRange, now: datetime | None = None) -> tuple[Buckets, str]:
    """Return the steps in which a range is drawn, and the coarsest rollups that fill them."""
    if r.end - r.start <= _MINUTES_DRAWN_UP_TO:
        return Buckets(r, bucket_width(r), now), "minute"
    width = bucket_width(r, at_least=HOUR)
    return Buckets(r, width, now), "day" if width % DAY == timedelta(0) else "hour"


def _trend_rows(
    store: sqlalchemy.Engine,
    r: TimeRange,
    metric_type: MetricType,
    service: str | None,
    names: Sequence[str] | None,
    now: datetime | None,
) -> tuple[Buckets, list[RollupRow]]:
    buckets, resolution = trend_buckets(r, now)
    how: dict[str, Any] = {"service": service, "resolution": resolution, "now": now}
    if names is None:
        return buckets, service_rollups(store, buckets.range, metric_type, **how)
    return buckets, series_rollups(store, buckets.range, metric_type, names=names, **how)


def process_trend(
    store: sqlalchemy.Engine,
    r: TimeRange,
    metric_type: str,
    name: str,
    service: str | None = None,
    *,
    now: datetime | None = None,
) -> pd.DataFrame:
    """Return mean and maximum of a gauge (memory in bytes, CPU in percent) per step."""
    buckets, rows = _trend_rows(store, r, MetricType(metric_type), service, [name], now)
    merged = merge_rows(rows, [buckets.of(row.bucket_start) for row in rows])
    return frame(
        _PROCESS,
        ({"time": at, "mean": m.mean, "max": m.max} for at, m in sorted(merged.items())),
    )


def summary(
    store: sqlalchemy.Engine,
    r: TimeRange,
    service: str | None = None,
    *,
    now: datetime | None = None,
) -> Summary:
    """Return the overview's numbers of a range, all from one snapshot of the store."""
    first_day, last_day = whole_days(r, now or datetime.now(UTC))
    span = {
        "start": floor(r.start, MINUTE), "end": r.end, "service": service,
        "first_day": first_day, "last_day": last_day,
    }  # fmt: skip
    with snapshot(store) as seen:
        requests = totals(seen, r, MetricType.API_ENDPOINT, service, None, now)
        memory = rollups(seen, r, MetricType.MEMORY, service, ["process.memory.rss"], None, now)
        [(db_ms,)] = seen.rows("endpoints_database_time", span)
        [(hit, read)] = seen.rows("endpoints_blocks", {"start": r.start, "end": r.end})
    total = merge_rows(requests, [""] * len(requests)).get("", Merged())
    rss = merge_rows(memory, [""] * len(memory)).get("", Merged())
    return Summary(
        p95_ms=_known(total.quantile(0.95)),
        requests_per_min=_known(ratio(total.count, observed_minutes(requests, r, now))),
        error_rate=_known(total.error_rate),
        db_ms_per_request=None if db_ms is None else _known(ratio(db_ms, total.count)),
        cache_hit_ratio=_known(ratio(hit or 0.0, (hit or 0.0) + (read or 0.0))),
        memory_rss_bytes=_known(rss.mean),
    )


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


@dataclass(frozen=True, slots=True)
class RequestTimes:
    """What the requests of an endpoint took, and how much of it they waited for statements."""

    requests: int = 0
    total_ms: float = 0.0
    database_ms: float = math.nan  # on the wall clock; nan when nobody measured it

    @property
    def mean_ms(self) -> float:
        return ratio(self.total_ms, self.requests)

    def share(self, statement_ms: float, statements_ms: float) -> float:
        """Return a statement's part of the time, nan where there was no request.

        Where statements ran at the same time their sum exceeds what the requests waited: each
        then gets its part of the wait, so that all shares together never exceed 1.
        """
        most_ms = self.total_ms
        if not math.isnan(self.database_ms):
            most_ms = min(self.database_ms, most_ms)
        factor = min(1.0, ratio(most_ms, statements_ms)) if statements_ms > 0 else 1.0
        return ratio(statement_ms * factor, self.total_ms)


def request_times(
    store: sqlalchemy.Engine,
    r: TimeRange,
    service: str | None = None,
    names: Sequence[str] | None = None,
    *,
    now: datetime | None = None,
) -> dict[tuple[str, str], RequestTimes]:
    """Return the times of each (service, endpoint), of all when no names are given."""
    counts: Counter[tuple[str, str]] = Counter()
    spent_ms: dict[tuple[str, str], float] = {}
    waited_ms: dict[tuple[str, str], float] = {}
    with snapshot(store) as seen:
        for row in sums(seen, r, MetricType.API_ENDPOINT, service, names, now):
            key = row.service, row.metric_name
            counts[key] += row.count
            spent_ms[key] = spent_ms.get(key, 0.0) + row.sum
        for row in sums(seen, r, MetricType.DATABASE_TIME, service, names, now):
            key = row.service, row.metric_name
            waited_ms[key] = waited_ms.get(key, 0.0) + row.sum
    return {
        key: RequestTimes(counts[key], total_ms, waited_ms.get(key, math.nan))
        for key, total_ms in spent_ms.items()
    }


def endpoint_times(
    store: sqlalchemy.Engine,
    r: TimeRange,
    service: str,
    endpoint: str,
    *,
    now: datetime | None = None,
) -> RequestTimes:
    """Return the times of one endpoint; of all services that have it when none is named."""
    times = request_times(store, r, service or None, [endpoint], now=now).values()
    return RequestTimes(
        sum(t.requests for t in times),
        math.fsum(t.total_ms for t in times),
        math.fsum(t.database_ms for t in times) if times else math.nan,
    )


def endpoint_statements(
    store: sqlalchemy.Engine,
    r: TimeRange,
    service: str,
    endpoint: str,
    *,
    now: datetime | None = None,
) -> pd.DataFrame:
    """Return the statements that an endpoint ran, the one that took the most time first.

    `calls_per_request` is over the requests that ran the statement at all, so an N+1 of a
    rare branch stays visible; `share_of_endpoint` is of the time of all its requests, and all
    shares together are at most 1. Of the requests that were an N+1 by the application's
    settings there are the number, their share of all, and calls and time in one of them.
    """
    whole = endpoint_times(store, r, service, endpoint, now=now)
    filters = {
        "start": floor(r.start, MINUTE),
        "end": r.end,
        "service": service or None,
        "endpoint": endpoint,
    }
    found = fetch(store, "endpoints_statements", filters)
    all_ms = math.fsum(row[4] for row in found)
    return frame(_STATEMENTS, (_ran(row, whole, all_ms) for row in found))


def _ran(row: Sequence[Any], whole: RequestTimes, all_ms: float) -> dict[str, Any]:
    (fingerprint, queryid, text, calls, spent_ms, requests, max_calls, repeated, repeated_calls,
     repeated_ms, location) = row  # fmt: skip
    return {
        "fingerprint": fingerprint,
        "queryid": queryid,
        "text": text,
        "calls": calls,
        "calls_per_request": ratio(calls, requests),
        "total_ms": spent_ms,
        "mean_ms": ratio(spent_ms, calls),
        "share_of_endpoint": whole.share(spent_ms, all_ms),
        "max_calls": max_calls,
        "requests": requests,
        "n_plus_one_requests": repeated,
        "n_plus_one_share": min(1.0, ratio(repeated, whole.requests)),
        "n_plus_one_calls": ratio(repeated_calls, repeated),
        "n_plus_one_ms": ratio(repeated_ms, repeated),
        "location": location,
    }
