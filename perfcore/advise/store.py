"""Advice and its raw material in the store, and what else it needs of a target."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import psycopg
from psycopg.rows import TupleRow
from psycopg.types.json import Jsonb

from perfcore.advise.advisor import Advice
from perfcore.advise.workload import Endpoints, EndpointUse, ForeignKey, Repetition, WriteRate
from perfcore.codec import from_json, to_json
from perfcore.db import query
from perfcore.types import IndexDefinition, Suggestion, SuggestionPlans, WorkloadStatement

Connection = psycopg.Connection[TupleRow]
MAX_PLANS_BYTES = 400_000  # of a suggestion, both plans together
MAX_REJECTIONS = 500  # of a target


def read_workload(
    store: Connection, target_id: int, since: datetime
) -> tuple[WorkloadStatement, ...]:
    """Return what the target ran since then, the heaviest statement first."""
    rows = _rows(store, "advise_read_workload", target_id=target_id, since=since)
    return tuple(WorkloadStatement(*row) for row in rows)


def read_standing(store: Connection, target_id: int) -> tuple[IndexDefinition, ...]:
    """Return the indexes that the last rounds suggested, whatever people thought of them."""
    rows = _rows(store, "advise_read_standing", target_id=target_id)
    return tuple(from_json(IndexDefinition, body) for (body,) in rows)


def read_endpoints(store: Connection, since: datetime) -> Endpoints:
    """Return the endpoints behind each statement, by fingerprint."""
    found: dict[int, list[EndpointUse]] = {}
    for fingerprint, *row in _rows(store, "advise_read_endpoints", since=since):
        found.setdefault(fingerprint, []).append(_endpoint_use(*row))
    return found


def _endpoint_use(
    service: str,
    endpoint: str,
    calls: float,
    duration_ms: float,
    requests: float,
    max_calls: int,
    hours: float,
    repeated_requests: float,
    repeated_calls: float,
    repeated_ms: float,
    location: str,
) -> EndpointUse:
    repetition = None
    if repeated_requests:
        repetition = Repetition(
            requests_per_hour=repeated_requests / hours,
            calls=repeated_calls / repeated_requests,
            duration_ms=repeated_ms / repeated_requests,
            share=min(1.0, repeated_requests / max(requests, 1.0)),
            location=location,
        )
    return EndpointUse(
        service=service,
        endpoint=endpoint,
        calls_per_request=calls / max(requests, 1.0),
        requests_per_hour=requests / hours,
        mean_ms=duration_ms / max(calls, 1.0),
        max_calls=max_calls,
        repetition=repetition,
    )


def read_write_rates(store: Connection, target_id: int, since: datetime) -> dict[str, WriteRate]:
    """Return the measured writes of each table, by "schema.table"."""
    rates = {}
    for schema, table, *counts, seconds in _rows(
        store, "advise_read_writes", target_id=target_id, since=since
    ):
        per_hour = 3600.0 / seconds if seconds else 0.0
        rates[f"{schema}.{table}"] = WriteRate(*(c * per_hour for c in counts))
    return rates


def read_foreign_keys(target: Connection) -> tuple[ForeignKey, ...]:
    """Return the referencing columns of the target's tables."""
    return tuple(
        (name, tuple(columns)) for name, columns in _rows(target, "advise_read_foreign_keys")
    )


def save_advice(store: Connection, target_id: int, advice: Advice) -> None:
    """Write one round down in one transaction.

    Suggestions keep the state a person gave them. One that is no longer proposed becomes
    "gone", unless the round was cut short: then nobody knows.
    """
    with store.transaction():
        for suggestion in advice.suggestions:
            _save_suggestion(store, suggestion)
        _save_plans(store, advice)
        if not advice.stopped_early:
            ids = [s.suggestion_id for s in advice.suggestions]
            _run(store, "advise_retire_suggestions", target_id=target_id, suggestion_ids=ids)
        _save_silences(store, target_id, advice)
        _save_rejections(store, target_id, advice)


def _save_suggestion(store: Connection, suggestion: Suggestion) -> None:
    body: dict[str, Any] = to_json(suggestion)
    columns = ("suggestion_id", "target_id", "kind", "title", "saved_ms_per_hour", "evidence")
    slowest = max((g.mean_ms_before for g in suggestion.statements), default=None)
    _run(
        store,
        "advise_save_suggestion",
        **{c: body[c] for c in columns},
        body=Jsonb(body),
        slowest_mean_ms=slowest,
    )


def _save_plans(store: Connection, advice: Advice) -> None:
    """Keep the plans of the round's suggestions; one that has none, or too large ones, has none."""
    plans = {p.suggestion_id: p for p in advice.plans}
    for suggestion in advice.suggestions:
        found = plans.get(suggestion.suggestion_id)
        if found is None or _size_of(found) > MAX_PLANS_BYTES:
            _run(store, "advise_delete_plans", suggestion_id=suggestion.suggestion_id)
            continue
        _run(
            store,
            "advise_save_plans",
            suggestion_id=found.suggestion_id,
            fingerprint=found.fingerprint,
            statement=found.statement,
            before=Jsonb(found.before),
            after=Jsonb(found.after),
        )


def _size_of(plans: SuggestionPlans) -> int:
    return len(json.dumps([plans.before, plans.after]).encode()) + len(plans.statement.encode())


def _save_silences(store: Connection, target_id: int, advice: Advice) -> None:
    _run(store, "advise_delete_silences", target_id=target_id)
    for silence in advice.silences:
        _run(
            store,
            "advise_insert_silence",
            target_id=target_id,
            fingerprint=silence.fingerprint,
            queryid=silence.queryid,
            reason=silence.reason.value,
            detail=silence.detail,
        )


def _save_rejections(store: Connection, target_id: int, advice: Advice) -> None:
    """Keep the rejected indexes that alone would save most, at most MAX_REJECTIONS."""
    _run(store, "advise_delete_rejections", target_id=target_id)
    distinct = {r.index.digest: r for r in advice.rejections}.values()
    ranked = sorted(distinct, key=lambda r: (-r.saved_ms_per_hour, r.index.digest))
    for rejection in ranked[:MAX_REJECTIONS]:
        _run(
            store,
            "advise_insert_rejection",
            target_id=target_id,
            digest=rejection.index.digest,
            index_body=Jsonb(to_json(rejection.index)),
            reason=rejection.reason,
            fingerprints=list(rejection.fingerprints),
            index_bytes=rejection.index_bytes,
            saved_ms_per_hour=rejection.saved_ms_per_hour,
        )


def _rows(store: Connection, name: str, **parameters: Any) -> list[TupleRow]:
    return store.execute(query(name).encode(), parameters).fetchall()


def _run(store: Connection, name: str, **parameters: Any) -> None:
    store.execute(query(name).encode(), parameters)
