"""A plausible store for the tests of readers and pages: the demo shop's last hour, made up.

Everything follows from a fixed seed and from `now`, so two stores seeded alike are alike.
"""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from psycopg.rows import TupleRow

from perfcore.codec import to_json
from perfcore.db import connect
from perfcore.histogram import Histogram
from perfcore.normalise import fingerprint, fingerprint_hex, normalise
from perfcore.types import (
    EndpointGain,
    Evidence,
    Finding,
    IndexDefinition,
    IndexKey,
    Rejection,
    SilenceReason,
    StatementGain,
    Suggestion,
    SuggestionPlans,
)

SERVICE = "shop"
CHANGE_ID = uuid.UUID("11111111-1111-4111-8111-111111111111")
TRIAL_ID = uuid.UUID("22222222-2222-4222-8222-222222222222")


@dataclass(frozen=True, slots=True)
class SeedStatement:
    """A statement of the made-up shop."""

    queryid: int
    text: str
    mean_ms: float
    hit_ratio: float

    @property
    def fingerprint(self) -> int:
        return fingerprint(self.text)


@dataclass(frozen=True, slots=True)
class SeedEndpoint:
    """An endpoint with its requests per minute and (statement, calls per request)."""

    name: str
    requests_per_min: int
    own_ms: float
    statements: tuple[tuple[int, int], ...]


STATEMENTS = (
    SeedStatement(
        7001, "SELECT * FROM orders WHERE customer_id = $1 ORDER BY created_at DESC LIMIT $2",
        140.0, 0.62,
    ),
    SeedStatement(7002, "SELECT * FROM products WHERE id = $1", 0.4, 0.999),
    SeedStatement(7003, "SELECT * FROM order_items WHERE order_id = $1", 9.0, 0.91),
    SeedStatement(7004, "SELECT id, email FROM customers WHERE lower(email) = $1", 60.0, 0.85),
    SeedStatement(-7005, "UPDATE products SET stock = stock - $1 WHERE id = $2", 1.1, 0.99),
    SeedStatement(7006, "SELECT * FROM events WHERE payload @> $1", 210.0, 0.4),
)  # fmt: skip

ENDPOINTS = (
    SeedEndpoint("GET /customers/{id}/orders", 24, 4.0, ((0, 1), (1, 1))),
    SeedEndpoint("GET /products/{id}", 60, 2.0, ((1, 1),)),
    SeedEndpoint("GET /orders/{id}", 20, 3.0, ((2, 1), (1, 8))),
    SeedEndpoint("POST /login", 10, 6.0, ((3, 1),)),
    SeedEndpoint("POST /cart", 12, 3.0, ((4, 1), (1, 1))),
    SeedEndpoint("GET /search", 4, 5.0, ((5, 1),)),
)

INDEX = IndexDefinition(
    "public", "orders", (IndexKey("customer_id"), IndexKey("created_at", descending=True))
)
PLACE = "shop/views.py:42 in order"
UNUSED = IndexDefinition("public", "orders", (IndexKey("note"),))


SCAN: dict[str, Any] = {
    "Node Type": "Limit", "Startup Cost": 41000.0, "Total Cost": 41020.0, "Plan Rows": 20,
    "Plan Width": 64,
    "Plans": [
        {
            "Node Type": "Sort", "Startup Cost": 41000.0, "Total Cost": 41030.0,
            "Plan Rows": 60, "Plan Width": 64, "Sort Key": ["created_at DESC"],
            "Plans": [
                {
                    "Node Type": "Seq Scan", "Relation Name": "orders", "Schema": "public",
                    "Startup Cost": 0.0, "Total Cost": 40900.0, "Plan Rows": 60,
                    "Plan Width": 64, "Filter": "(customer_id = $1)",
                }
            ],
        }
    ],
}  # fmt: skip
SEEK: dict[str, Any] = {
    "Node Type": "Limit", "Startup Cost": 0.43, "Total Cost": 85.0, "Plan Rows": 20,
    "Plan Width": 64,
    "Plans": [
        {
            "Node Type": "Index Scan", "Relation Name": "orders", "Schema": "public",
            "Index Name": INDEX.name, "Startup Cost": 0.43, "Total Cost": 244.0,
            "Plan Rows": 60, "Plan Width": 64, "Index Cond": "(customer_id = $1)",
        }
    ],
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Seeded:
    """What was written, by the keys with which a test finds it again."""

    now: datetime
    start: datetime
    target_id: int
    suggestion_id: str
    trial_id: uuid.UUID
    change_id: uuid.UUID
    plan_id: int
    requests: dict[str, int]  # by endpoint


def seed_store(dsn: str, *, minutes: int = 60, now: datetime | None = None) -> Seeded:
    """Write a plausible hour of the demo shop into a migrated store.

    The last minute is the one that `now` lies in, so that "the last hour" is full of data.
    """
    now = now or datetime.now(UTC)
    start = now.replace(second=0, microsecond=0) - timedelta(minutes=minutes - 1)
    chance = random.Random(20261123)
    with connect(dsn) as connection:
        target_id = _target(connection, now)
        requests = _traffic(connection, chance, start, minutes)
        _process(connection, chance, start, minutes)
        _server(connection, chance, target_id, start, minutes)
        plan_id = _plans(connection, target_id, start, now)
        _slow_queries(connection, chance, start, minutes)
        suggestion_id = _suggestions(connection, target_id, start)
        _trials_and_changes(connection, target_id, suggestion_id, start, minutes)
        _markers(connection, target_id, start, minutes)
    return Seeded(now, start, target_id, suggestion_id, TRIAL_ID, CHANGE_ID, plan_id, requests)


def insert(
    connection: psycopg.Connection[TupleRow], table: str, rows: list[dict[str, Any]]
) -> None:
    """Insert rows that share their columns into a table of the store."""
    if not rows:
        return
    columns = ", ".join(rows[0])
    values = ", ".join(f"%({c})s" for c in rows[0])
    with connection.cursor() as cursor:
        cursor.executemany(f"INSERT INTO perfcore.{table} ({columns}) VALUES ({values})", rows)


def add_series(
    connection: psycopg.Connection[TupleRow],
    metric_type: str,
    name: str,
    unit: str,
    service: str = SERVICE,
) -> int:
    """Return the id of a series, made if it is new."""
    row = connection.execute(
        "INSERT INTO perfcore.series (service, metric_type, metric_name, unit)"
        " VALUES (%s, %s, %s, %s) ON CONFLICT (service, metric_type, metric_name, unit)"
        " DO UPDATE SET unit = excluded.unit RETURNING series_id",
        (service, metric_type, name, unit),
    ).fetchone()
    assert row is not None
    return int(row[0])


def rollup_row(
    series_id: int,
    at: datetime,
    values: list[float],
    errors: int = 0,
    resolution: str = "minute",
) -> dict[str, Any]:
    """Return a row of metric_rollups that holds these values."""
    histogram = Histogram()
    for n, value in enumerate(values):
        histogram.record(value, is_error=n < errors)
    return {
        "resolution": resolution,
        "bucket_start": at,
        "series_id": series_id,
        "count": len(values),
        "error_count": errors,
        "sum": sum(values),
        "min": min(values),
        "max": max(values),
        "buckets": histogram.to_bytes(),
    }


def _minutes(start: datetime, minutes: int) -> Iterator[datetime]:
    return (start + timedelta(minutes=m) for m in range(minutes))


def _target(connection: psycopg.Connection[TupleRow], now: datetime) -> int:
    row = connection.execute(
        "INSERT INTO perfcore.targets"
        " (name, server_version, database, system_identifier, last_seen_at, settings)"
        " VALUES ('shop', 180006, 'shop', '7300000000000000001', %s, %s) RETURNING target_id",
        (now, json.dumps({"work_mem": "4MB", "shared_buffers": "128MB"})),
    ).fetchone()
    assert row is not None
    return int(row[0])


def _traffic(
    connection: psycopg.Connection[TupleRow], chance: random.Random, start: datetime, minutes: int
) -> dict[str, int]:
    """Write requests, the application's statements, which ran where, and some raw samples."""
    endpoint_ids = [add_series(connection, "api_endpoint", e.name, "ms") for e in ENDPOINTS]
    statement_ids = [
        add_series(connection, "database_query", fingerprint_hex(s.fingerprint), "ms")
        for s in STATEMENTS
    ]
    insert(
        connection,
        "statement_texts",
        [
            {"fingerprint": s.fingerprint, "text": normalise(s.text), "first_seen": start}
            for s in STATEMENTS
        ],
    )
    links: list[dict[str, Any]] = []
    rollups, raw, totals = [], [], dict.fromkeys((e.name for e in ENDPOINTS), 0)
    for at in _minutes(start, minutes):
        ran: list[list[float]] = [[] for _ in STATEMENTS]
        for endpoint, series_id in zip(ENDPOINTS, endpoint_ids, strict=True):
            spent = {n: 0.0 for n, _ in endpoint.statements}
            latencies = []
            for _ in range(endpoint.requests_per_min):
                total = endpoint.own_ms * chance.lognormvariate(0, 0.3)
                for n, calls in endpoint.statements:
                    for _ in range(calls):
                        took = STATEMENTS[n].mean_ms * chance.lognormvariate(0, 0.4)
                        ran[n].append(took)
                        spent[n] += took
                        total += took
                latencies.append(total)
            errors = int(chance.random() < 0.2)
            totals[endpoint.name] += len(latencies)
            rollups.append(rollup_row(series_id, at, latencies, errors))
            links += [
                {
                    "bucket_start": at,
                    "service": SERVICE,
                    "endpoint": endpoint.name,
                    "fingerprint": STATEMENTS[n].fingerprint,
                    "calls": calls * len(latencies),
                    "duration_ms": spent[n],
                    "requests": len(latencies),
                    "repeated_requests": len(latencies) if calls >= 5 else 0,
                    "max_calls": calls,
                }
                for n, calls in endpoint.statements
            ]
            raw += [
                {
                    "metric_type": "api_endpoint",
                    "metric_name": endpoint.name,
                    "value": value,
                    "timestamp": at + timedelta(seconds=7 * i),
                    "service": SERVICE,
                }
                for i, value in enumerate(latencies[:1])
            ]
        rollups += [rollup_row(s, at, values) for s, values in zip(statement_ids, ran, strict=True)]
    insert(connection, "metric_rollups", rollups)
    insert(connection, "endpoint_statements", links)
    insert(connection, "repetitions", [_repetition(x) for x in links if x["max_calls"] >= 5])
    insert(connection, "performance_metrics", raw)
    samples = sum(r["count"] for r in rollups)
    insert(
        connection,
        "batches",
        [
            {
                "batch_id": uuid.UUID("33333333-3333-4333-8333-333333333333"),
                "service": SERVICE,
                "process": "web-1:4242:1",
                "sent_at": start + timedelta(minutes=minutes - 1),
                "received_at": start + timedelta(minutes=minutes - 1),
                "samples": samples,
                "raw_samples": len(raw),
                "totals": json.dumps({"generated": samples, "dropped": {}}),
            }
        ],
    )
    return totals


def _repetition(link: dict[str, Any]) -> dict[str, Any]:
    """Return what is stored when half of the requests took long enough to be an N+1."""
    kept = ("bucket_start", "service", "endpoint", "fingerprint", "max_calls")
    return {
        **{name: link[name] for name in kept},
        "location": PLACE,
        "requests": link["requests"] // 2,
        "calls": link["calls"] // 2,
        "duration_ms": link["duration_ms"] / 2,
    }


def _process(
    connection: psycopg.Connection[TupleRow], chance: random.Random, start: datetime, minutes: int
) -> None:
    gauges = (
        (SERVICE, "memory", "process.memory.rss", "bytes", 150e6),
        (SERVICE, "memory", "process.memory.uss", "bytes", 120e6),
        (SERVICE, "memory", "python.heap", "bytes", 60e6),
        (SERVICE, "cpu", "process.cpu.utilization", "percent", 35.0),
        ("host", "cpu", "system.cpu.utilization", "percent", 48.0),
        ("host", "memory", "system.memory.usage", "bytes", 3e9),
    )
    rows = []
    for service, metric_type, name, unit, level in gauges:
        series_id = add_series(connection, metric_type, name, unit, service)
        for at in _minutes(start, minutes):
            rows.append(
                rollup_row(series_id, at, [level * chance.uniform(0.95, 1.05) for _ in range(3)])
            )
    insert(connection, "metric_rollups", rows)


def _server(
    connection: psycopg.Connection[TupleRow],
    chance: random.Random,
    target_id: int,
    start: datetime,
    minutes: int,
) -> None:
    """Write what the target collector would have read, once a minute."""
    insert(
        connection,
        "statements",
        [
            {
                "target_id": target_id, "queryid": s.queryid, "fingerprint": s.fingerprint,
                "text": s.text, "first_seen": start,
                "last_seen": start + timedelta(minutes=minutes),
            }
            for s in STATEMENTS
        ],
    )  # fmt: skip
    deltas, tables, databases = [], [], []
    for at in _minutes(start, minutes):
        span = {"interval_start": at, "interval_end": at + timedelta(seconds=50)}
        for n, s in enumerate(STATEMENTS):
            calls = sum(
                e.requests_per_min * c for e in ENDPOINTS for m, c in e.statements if m == n
            )
            blocks = int(calls * s.mean_ms * 20)
            deltas.append(
                {
                    "target_id": target_id, "queryid": s.queryid, **span, "calls": calls,
                    "total_exec_time_ms": calls * s.mean_ms * chance.uniform(0.9, 1.1),
                    "rows": calls, "shared_blks_hit": int(blocks * s.hit_ratio),
                    "shared_blks_read": blocks - int(blocks * s.hit_ratio),
                    "temp_blks_read": 0, "temp_blks_written": 64 if n == 0 else 0,
                }
            )  # fmt: skip
        for name, hit, read, scans in (("orders", 6000, 3000, 24), ("products", 9000, 9, 0)):
            tables.append(
                {
                    "target_id": target_id, "schema_name": "public", "table_name": name, **span,
                    "heap_blks_hit": hit, "heap_blks_read": read, "idx_blks_hit": 900,
                    "idx_blks_read": 1, "seq_scan": scans, "idx_scan": 300, "n_tup_ins": 5,
                    "n_tup_upd": 12, "n_tup_hot_upd": 10, "n_tup_del": 1,
                }
            )  # fmt: skip
        databases.append(
            {
                "target_id": target_id, **span, "blks_hit": 17000, "blks_read": 3010,
                "xact_commit": 130, "xact_rollback": 1, "temp_bytes": 0, "deadlocks": 0,
                "backends": 8, "database_bytes": 900_000_000,
            }
        )  # fmt: skip
    insert(connection, "statement_deltas", deltas)
    insert(connection, "table_deltas", tables)
    insert(connection, "database_deltas", databases)


def _plan(node: dict[str, Any]) -> str:
    return json.dumps([{"Plan": node}])


def _plans(
    connection: psycopg.Connection[TupleRow], target_id: int, start: datetime, now: datetime
) -> int:
    look_up = {
        "Node Type": "Index Scan", "Relation Name": "products", "Schema": "public",
        "Index Name": "products_pkey", "Startup Cost": 0.4, "Total Cost": 8.4, "Plan Rows": 1,
        "Plan Width": 90, "Index Cond": "(id = $1)",
    }  # fmt: skip
    for n, node, shape in ((0, SCAN, "5eed5eed5eed0000"), (1, look_up, "5eed5eed5eed0001")):
        insert(
            connection,
            "plans",
            [
                {
                    "target_id": target_id, "fingerprint": STATEMENTS[n].fingerprint,
                    "queryid": STATEMENTS[n].queryid, "shape_hash": shape, "is_generic": n == 0,
                    "total_cost": node["Total Cost"], "plan": _plan(node), "first_seen": start,
                    "last_seen": now,
                }
            ],
        )  # fmt: skip
    row = connection.execute(
        "SELECT plan_id FROM perfcore.plans WHERE shape_hash = '5eed5eed5eed0000'"
    ).fetchone()
    assert row is not None
    return int(row[0])


def _slow_queries(
    connection: psycopg.Connection[TupleRow], chance: random.Random, start: datetime, minutes: int
) -> None:
    rows = []
    for at in _minutes(start, minutes):
        for n, endpoint in ((0, ENDPOINTS[0].name), (5, ENDPOINTS[5].name)):
            rows.append(
                {
                    "slow_query_id": uuid.UUID(int=chance.getrandbits(128), version=4),
                    "occurred_at": at + timedelta(seconds=chance.uniform(0, 40)),
                    "service": SERVICE,
                    "endpoint": endpoint,
                    "fingerprint": STATEMENTS[n].fingerprint,
                    "duration_ms": 101 + STATEMENTS[n].mean_ms * chance.random(),
                    "parameters": json.dumps([{"type": "int"}]),
                }
            )
    insert(connection, "slow_queries", rows)


def suggestions(target_id: int) -> tuple[Suggestion, ...]:
    """Return the suggestions that a seeded store holds: an index, an unused one, an N+1."""
    slow = STATEMENTS[0]
    index = Suggestion(
        suggestion_id="5eed000000000001",
        target_id=target_id,
        kind="index",
        title="Create an index on orders (customer_id, created_at DESC)",
        reason="Every page of a customer's orders reads the whole table and sorts it.",
        finding=Finding("seq_scan", "orders is read whole 24 times a minute.", (
            ("rows removed by the filter", "1,000,000"), ("share of database time", "55 %"),
        )),
        evidence=Evidence.ESTIMATED,
        saved_ms_per_hour=198_000.0,
        ddl=INDEX.ddl(),
        undo=INDEX.undo(),
        index=INDEX,
        index_bytes=31_457_280,
        write_cost="one more entry for each of 300 inserted rows an hour",
        risk="The build reads the table once; writes go on.",
        statements=(
            StatementGain(
                slow.fingerprint, slow.queryid, slow.text, 41020.0, 85.0, 1440.0, 140.0, 2.5
            ),
        ),
        endpoints=(EndpointGain(SERVICE, ENDPOINTS[0].name, 137.5, 1440.0),),
        caveats=("Estimated with a generic plan.",),
    )  # fmt: skip
    unused = Suggestion(
        suggestion_id="5eed000000000002",
        target_id=target_id,
        kind="drop_index",
        title="Drop the unused index orders_note_idx",
        reason="No query has used it since the statistics began, and every write maintains it.",
        finding=Finding("unused_index", "orders_note_idx was never scanned.", (("scans", "0"),)),
        evidence=Evidence.ESTIMATED,
        saved_ms_per_hour=0.0,
        ddl=UNUSED.undo(),
        undo=UNUSED.ddl(),
        index_bytes=12_000_000,
    )
    repeated = Suggestion(
        suggestion_id="5eed000000000003",
        target_id=target_id,
        kind="rewrite",
        title="GET /orders/{id} runs one statement eight times per request",
        reason="The product of each order line is fetched by itself.",
        finding=Finding("n_plus_one", "8 calls per request.", (("calls per request", "8.0"),)),
        evidence=Evidence.ESTIMATED,
        saved_ms_per_hour=3_000.0,
        endpoints=(EndpointGain(SERVICE, ENDPOINTS[2].name, 2.5, 1200.0),),
        rewritten_sql="SELECT * FROM products WHERE id = ANY($1)",
    )
    return index, unused, repeated


def suggestion_plans() -> tuple[SuggestionPlans, ...]:
    """Return the plans of the first suggestion's statement, without the index and with it."""
    slow = STATEMENTS[0]
    return (
        SuggestionPlans(
            "5eed000000000001", slow.fingerprint, slow.text, {"Plan": SCAN}, {"Plan": SEEK}
        ),
    )


def rejections() -> tuple[Rejection, ...]:
    """Return indexes that were weighed for the slow statement, and for another, and not chosen."""
    note, created = (
        IndexDefinition("public", "orders", (IndexKey(c),)) for c in ("note", "created_at")
    )
    document = IndexDefinition("public", "events", (IndexKey("payload"),), method="gin")
    return (
        Rejection(
            note, "the planner does not use it", (STATEMENTS[0].fingerprint,), 12_000_000, 0.0
        ),
        Rejection(
            created,
            "orders (customer_id, created_at DESC) saves the same and more",
            (STATEMENTS[0].fingerprint, STATEMENTS[2].fingerprint),
            22_000_000,
            61_000.0,
        ),
        Rejection(
            document,
            "its upkeep costs more than it saves",
            (STATEMENTS[5].fingerprint,),
            310_000_000,
            9_000.0,
        ),
    )


def further_suggestions(target_id: int) -> tuple[Suggestion, ...]:
    """Return what fills each group of the page: a big index, memory, a cache, statistics."""
    seen = STATEMENTS[5]
    gin = IndexDefinition("public", "events", (IndexKey("payload"),), method="gin")
    gain = StatementGain(seen.fingerprint, seen.queryid, seen.text, 90000.0, 620.0, 240.0, 210.0, 9)
    mean = replace(gain, cost_before=1.0, cost_after=1.0, mean_ms_after=gain.mean_ms_before)
    search = (EndpointGain(SERVICE, ENDPOINTS[5].name, 201.0, 240.0),)

    def made(number: int, kind: str, title: str, finding: Finding, **more: Any) -> Suggestion:
        reason = more.pop("reason", "It is asked often and answered slowly.")
        saved = more.pop("saved_ms_per_hour", 0.0)
        return Suggestion(
            f"5eed0000000001{number:02d}", target_id, kind, title, reason, finding,
            Evidence.ESTIMATED, saved, **more,
        )  # fmt: skip

    return (
        made(
            1, "index", "Index events using gin (payload)",
            Finding("seq_scan", "events is read whole 4 times a minute."),
            ddl=gin.ddl(), undo=gin.undo(), index=gin, index_bytes=1_900_000_000,
            saved_ms_per_hour=48_240.0, write_ms_per_hour=2_400.0, statements=(gain,),
            endpoints=search, write_cost="40,000 entries an hour, about 2,400 ms an hour",
        ),
        made(
            2, "maintenance", "Analyse orders: its statistics are stale",
            Finding("stale_statistics", "310,000 rows of orders changed since it was analysed.",
                    (("last analysed", "never"), ("rows changed since", "310,000"))),
            ddl='ANALYZE "public"."orders"', risk="Plans may change, for the better as a rule.",
            reason="The planner chooses plans by statistics that no longer describe the table.",
            present="never analysed", proposed="analysed now",
            verify="last_analyze of orders in pg_stat_user_tables is new",
        ),
        made(
            3, "setting", "Give the search 64 MB of work_mem",
            Finding("sort_spill", "Each call writes 21 MB to temporary files."),
            ddl="SET LOCAL work_mem = '64MB'", undo="RESET work_mem", statements=(mean,),
            present="4 MB", proposed="64 MB in this statement's transaction",
            verify="temp_blks_written of the statement stays at 0",
        ),
        made(
            4, "setting", "Raise shared_buffers to 2 GB",
            Finding("low_cache_hit", "81 % of the block reads were answered from the cache."),
            ddl="ALTER SYSTEM SET shared_buffers = '2GB'", undo="ALTER SYSTEM RESET shared_buffers",
            present="128 MB", proposed="2 GB, a quarter of 8 GB of memory",
            verify="the hit ratio of the Cache page rises within an hour",
            risk="It needs a restart.",
        ),
        made(
            5, "cache", "Keep the answer to the search for 60 s",
            Finding("cacheable", "It is asked 240 times an hour; its tables hardly change.",
                    (("hit rate expected", "75 %"),)),
            saved_ms_per_hour=37_800.0, statements=(replace(mean, mean_ms_after=52.5),),
            endpoints=search, caveats=("Readers may see an answer up to 60 s old.",),
        ),
    )  # fmt: skip


def _suggestions(connection: psycopg.Connection[TupleRow], target_id: int, start: datetime) -> str:
    offered = suggestions(target_id)
    insert(
        connection,
        "suggestions",
        [
            {
                "suggestion_id": s.suggestion_id, "target_id": target_id, "kind": s.kind,
                "title": s.title, "saved_ms_per_hour": s.saved_ms_per_hour,
                "evidence": s.evidence.value, "body": json.dumps(to_json(s)),
                "created_at": start, "updated_at": start,
            }
            for s in offered
        ],
    )  # fmt: skip
    insert(
        connection,
        "suggestion_plans",
        [
            {
                "suggestion_id": p.suggestion_id, "fingerprint": p.fingerprint,
                "statement": p.statement, "before": json.dumps(p.before),
                "after": json.dumps(p.after),
            }
            for p in suggestion_plans()
        ],
    )  # fmt: skip
    insert(
        connection,
        "rejections",
        [
            {
                "target_id": target_id, "digest": r.index.digest,
                "index_body": json.dumps(to_json(r.index)), "reason": r.reason,
                "fingerprints": list(r.fingerprints), "index_bytes": r.index_bytes,
                "saved_ms_per_hour": r.saved_ms_per_hour,
            }
            for r in rejections()
        ],
    )  # fmt: skip
    insert(
        connection,
        "silences",
        [
            {
                "target_id": target_id, "fingerprint": STATEMENTS[n].fingerprint,
                "queryid": STATEMENTS[n].queryid, "reason": reason.value, "detail": detail,
            }
            for n, reason, detail in (
                (1, SilenceReason.SERVED, "products_pkey serves id"),
                (4, SilenceReason.FAST, "1.1 ms, 720 calls an hour"),
            )
        ],
    )  # fmt: skip
    return offered[0].suggestion_id


def _trials_and_changes(
    connection: psycopg.Connection[TupleRow],
    target_id: int,
    suggestion_id: str,
    start: datetime,
    minutes: int,
) -> None:
    half = start + timedelta(minutes=minutes // 2)
    insert(
        connection,
        "trials",
        [
            {
                "trial_id": TRIAL_ID, "target_id": target_id, "suggestion_id": suggestion_id,
                "fingerprint": STATEMENTS[0].fingerprint,
                "index_body": json.dumps(to_json(INDEX)), "state": "done", "progress": 1.0,
                "message": "12 pairs of runs", "started_at": half - timedelta(minutes=5),
                "finished_at": half - timedelta(minutes=4), "result": json.dumps({}),
            }
        ],
    )  # fmt: skip
    insert(
        connection,
        "changes",
        [
            {
                "change_id": CHANGE_ID, "target_id": target_id,
                "suggestion_id": "5eed000000000009", "kind": "create_index",
                "object_name": "public.customers_expr_idx",
                "ddl": "CREATE INDEX CONCURRENTLY customers_expr_idx ON customers (lower(email))",
                "undo": "DROP INDEX CONCURRENTLY public.customers_expr_idx",
                "state": "applied", "message": "built in 2.1 s", "index_bytes": 4_000_000,
                "fingerprints": [STATEMENTS[3].fingerprint],
                "intended_at": half - timedelta(seconds=4),
                "started_at": half - timedelta(seconds=3), "applied_at": half,
                "verdict": json.dumps({"verdict": "improved"}),
            }
        ],
    )  # fmt: skip


def _markers(
    connection: psycopg.Connection[TupleRow], target_id: int, start: datetime, minutes: int
) -> None:
    half = start + timedelta(minutes=minutes // 2)
    insert(
        connection,
        "markers",
        [
            {"at": half, "kind": "change", "label": "index customers_expr_idx created",
             "target_id": target_id, "service": ""},
            {"at": half - timedelta(minutes=minutes // 4), "kind": "release",
             "label": "shop 1.4.0", "target_id": None, "service": SERVICE},
        ],
    )  # fmt: skip
