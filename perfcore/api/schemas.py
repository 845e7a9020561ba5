"""What the API's answers hold, field by field: JSON schemas for the OpenAPI document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Schema = Mapping[str, Any]

_TEXT = {"type": "string"}
_MAYBE_TEXT = {"type": ["string", "null"]}
_WHOLE = {"type": "integer"}
_MAYBE_WHOLE = {"type": ["integer", "null"]}
_NUMBER = {"type": "number"}
_MAYBE_NUMBER = {"type": ["number", "null"], "description": "null where nothing was measured."}
_FLAG = {"type": "boolean"}
_TIME = {"type": "string", "format": "date-time"}
_MAYBE_TIME = {"type": ["string", "null"], "format": "date-time"}
_OBJECT = {"type": "object"}
_MAYBE_OBJECT = {"type": ["object", "null"]}
_LIST = {"type": "array"}
_QUERYID_WORDS = (
    "PostgreSQL's queryid, a signed 64-bit integer as text: JSON numbers are exact up to 2^53."
)
_QUERYID = {"type": "string", "pattern": "^-?[0-9]+$", "description": _QUERYID_WORDS}
_MAYBE_QUERYID = {**_QUERYID, "type": ["string", "null"]}
_FINGERPRINT = {
    "type": "string",
    "pattern": "^[0-9a-f]{16}$",
    "description": "The normalised text's identity, 64 bits as 16 hexadecimal digits; the "
    "metric_name of the statement's database_query series.",
}


def _answer(**fields: Schema) -> dict[str, Any]:
    return {"type": "object", "required": list(fields), "properties": fields}


def _list(**fields: Schema) -> dict[str, Any]:
    return {"type": "array", "items": _answer(**fields)}


_CUT: dict[str, Schema] = {
    "count": _WHOLE,
    "is_truncated": {**_FLAG, "description": "There is more than the limit let through."},
}
_RANGE: dict[str, Schema] = {"from": _TIME, "to": _TIME, **_CUT}
_PLAN: dict[str, Schema] = {
    "plan_id": _WHOLE, "shape_hash": _TEXT, "is_generic": _FLAG, "total_cost": _NUMBER,
    "first_seen": _TIME, "last_seen": _TIME,
    "parameters_at": {
        **_MAYBE_TIME,
        "description": "When the values it was planned for were captured; null: generic.",
    },
}  # fmt: skip
_SERIES: dict[str, Schema] = {
    "service": _TEXT, "metric_type": _TEXT, "metric_name": _TEXT, "unit": _TEXT,
}  # fmt: skip

METRICS = _answer(
    **_RANGE,
    resolution=_TEXT,
    items={
        "type": "array",
        "items": {
            "oneOf": [
                _answer(
                    id=_TEXT, **_SERIES, value=_MAYBE_NUMBER, timestamp=_TIME, is_error=_FLAG,
                    weight={**_WHOLE, "description": "How many samples the row stands for."},
                ),
                _answer(
                    bucket_start=_TIME, **_SERIES, count=_WHOLE, error_count=_WHOLE,
                    sum=_MAYBE_NUMBER, mean=_MAYBE_NUMBER, min=_MAYBE_NUMBER, max=_MAYBE_NUMBER,
                    p50=_MAYBE_NUMBER, p95=_MAYBE_NUMBER, p99=_MAYBE_NUMBER,
                ),
            ],
        },
    },
)  # fmt: skip
SLOW_QUERIES = _answer(
    **_RANGE,
    items=_list(
        slow_query_id=_TEXT, occurred_at=_TIME, service=_TEXT, endpoint=_TEXT,
        fingerprint=_FINGERPRINT, queryid=_MAYBE_QUERYID, text=_TEXT, duration_ms=_NUMBER,
        is_error=_FLAG, plan_id=_MAYBE_WHOLE,
        parameters={"description": "By policy: types and lengths, or values."},
    ),
)  # fmt: skip
_GAINS = _list(
    fingerprint=_FINGERPRINT, queryid=_QUERYID, text=_TEXT, cost_before=_NUMBER,
    cost_after=_NUMBER, calls_per_hour=_NUMBER, mean_ms_before=_NUMBER, mean_ms_after=_NUMBER,
)  # fmt: skip
SUGGESTIONS = _answer(
    **_CUT,
    items=_list(
        suggestion_id=_TEXT, target_id=_WHOLE, target=_TEXT, kind=_TEXT, title=_TEXT,
        reason=_TEXT, finding=_OBJECT, evidence=_TEXT, saved_ms_per_hour=_NUMBER, ddl=_TEXT,
        undo=_TEXT, index=_MAYBE_OBJECT, index_bytes=_MAYBE_WHOLE, write_cost=_TEXT, risk=_TEXT,
        statements=_GAINS, endpoints=_LIST, caveats=_LIST, rewritten_sql=_TEXT, state=_TEXT,
        state_reason=_TEXT, created_at=_TIME, updated_at=_TIME, snoozed_until=_MAYBE_TIME,
        snoozed_until_ms={
            **_MAYBE_NUMBER,
            "description": "Until its slowest statement's mean is above this; null: not so.",
        },
        reader={**_TEXT, "description": "Whom it is for: run now, or needs somebody."},
        why={**_TEXT, "description": "Why it is for this reader."},
        present={**_TEXT, "description": "Of a setting or a state: the value as it is."},
        proposed=_TEXT, verify=_TEXT, plan_change=_TEXT,
        promised_ms_per_hour={
            **_NUMBER, "description": "By the planner alone, before what was measured corrected it."
        },
        write_ms_per_hour={**_NUMBER, "description": "What keeping a new index costs."},
    ),
)  # fmt: skip
REJECTIONS = _answer(
    **_CUT,
    items=_list(
        target_id=_WHOLE, target=_TEXT, index=_OBJECT, ddl=_TEXT, reason=_TEXT,
        index_bytes=_MAYBE_WHOLE, saved_ms_per_hour=_NUMBER, updated_at=_TIME,
        statements=_list(queryid=_QUERYID, fingerprint=_FINGERPRINT, text=_TEXT),
    ),
)  # fmt: skip
ENDPOINTS = _answer(
    **_RANGE,
    items=_list(
        service=_TEXT, endpoint=_TEXT, requests=_WHOLE, errors=_WHOLE, error_rate=_MAYBE_NUMBER,
        p50_ms=_MAYBE_NUMBER, p95_ms=_MAYBE_NUMBER, p99_ms=_MAYBE_NUMBER, max_ms=_MAYBE_NUMBER,
        mean_ms=_MAYBE_NUMBER, requests_per_min=_NUMBER, total_ms=_NUMBER,
    ),
)  # fmt: skip
STATEMENT = _answer(
    **{"from": _TIME, "to": _TIME},
    target_id=_WHOLE, target=_TEXT, queryid=_QUERYID, fingerprint=_FINGERPRINT, text=_TEXT,
    application_text=_TEXT, first_seen=_TIME, last_seen=_TIME,
    queryids={"type": "array", "items": _QUERYID},
    statistics={**_MAYBE_OBJECT, "description": "null where it did not run in the range."},
    endpoints=_LIST, plans=_list(**_PLAN),
)  # fmt: skip
PLAN = _answer(
    **_PLAN, target_id=_WHOLE, fingerprint=_FINGERPRINT, queryid=_QUERYID, plan=_OBJECT,
    text=_TEXT,
    findings=_list(
        kind=_TEXT,
        node={**_WHOLE, "description": "Its place in EXPLAIN's order, from 0."},
        summary=_TEXT, numbers=_OBJECT, consequence=_TEXT,
    ),
)  # fmt: skip
LEDGER = _answer(
    **_CUT,
    items=_list(
        change_id=_TEXT, target_id=_WHOLE, target=_TEXT, suggestion_id=_MAYBE_TEXT, kind=_TEXT,
        object_name=_TEXT, ddl=_TEXT, undo=_TEXT, origin=_TEXT, state=_TEXT, message=_TEXT,
        index_oid=_MAYBE_WHOLE, index_bytes=_MAYBE_WHOLE, intended_at=_TIME,
        fingerprints={"type": "array", "items": _FINGERPRINT}, started_at=_MAYBE_TIME,
        applied_at=_MAYBE_TIME, reverted_at=_MAYBE_TIME, verdict=_MAYBE_OBJECT,
    ),
)  # fmt: skip
PROCESSES = _answer(
    **_CUT,
    items=_list(
        service=_TEXT, process=_TEXT, generated=_WHOLE, stored=_WHOLE, spooled=_WHOLE,
        buffered=_WHOLE, dropped=_OBJECT, missing=_WHOLE, gone=_WHOLE, self_errors=_WHOLE,
        refused=_WHOLE, quarantined=_WHOLE, spool_bytes=_WHOLE, trouble=_TEXT, batches=_WHOLE,
        spooled_batches=_WHOLE, last_flush_at=_TIME,
    ),
)  # fmt: skip
HEALTH = _answer(
    status=_TEXT,
    version=_TEXT,
    last_batch_at=_MAYBE_TIME,
    samples=_WHOLE,
    processes_sending=_WHOLE,
    targets=_list(name=_TEXT, last_seen_at=_MAYBE_TIME, last_error=_TEXT),
)
