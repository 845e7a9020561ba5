"""What each path answers, from the readers and the tables made of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any

import pandas as pd
import sqlalchemy

import perfcore
from perfcore.advise.plan_findings import plan_findings
from perfcore.advise.readers import place, reader_of
from perfcore.aggregate import endpoints as endpoint_tables
from perfcore.aggregate import metrics as metric_tables
from perfcore.aggregate import statements as statement_tables
from perfcore.api.parameters import RequestRefused
from perfcore.db import redact
from perfcore.store import read
from perfcore.store.resolution import DAY
from perfcore.types import TimeRange

DEFAULT_SPAN = timedelta(hours=1)
# The longest range of each resolution, and the most that one answer may read and merge.
LONGEST = {"minute": 2 * DAY, "hour": 90 * DAY}
MAX_HISTOGRAMS = 200_000


@dataclass(frozen=True, slots=True)
class Question:
    """A request whose parameters are read and checked."""

    values: Mapping[str, Any]
    now: datetime

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    @property
    def range(self) -> TimeRange:
        """Return the range asked for, by default the last hour before its end."""
        end = self["to"] or self.now
        start = self["from"] or end - DEFAULT_SPAN
        if start >= end:
            raise RequestRefused(
                f"from ({start.isoformat()}) is not before to ({end.isoformat()})",
                field="from",
                hint="let from be earlier than to",
            )
        return TimeRange(start, end)


def metrics(store: sqlalchemy.Engine, question: Question) -> Any:
    """Return raw samples, or a row per bucket and series."""
    r, resolution = question.range, question["resolution"]
    if r.end - r.start > LONGEST.get(resolution, r.end - r.start):
        raise RequestRefused(
            f"the range is too long for resolution {resolution}",
            field="resolution",
            hint=f"at most {LONGEST[resolution].days} days; choose a coarser resolution",
        )
    chosen = (question["metric_type"], question["metric_name"], question["service"])
    limit = question["limit"]
    if resolution == "raw":
        found = metric_tables.raw_samples(store, r, *chosen, limit=limit + 1)
    else:
        _refuse_too_many(
            metric_tables.count_histograms(store, r, resolution, *chosen, most=MAX_HISTOGRAMS)
        )
        found = metric_tables.rollup_table(
            store, r, resolution, *chosen, limit=limit + 1, now=question.now
        )
    return _listed(found, r, limit) | {"resolution": resolution}


def _refuse_too_many(histograms: int) -> None:
    if histograms > MAX_HISTOGRAMS:
        raise RequestRefused(
            f"more than {MAX_HISTOGRAMS:,} histograms lie in this range",
            field="from",
            hint="ask for a shorter range, one metric_name, or a coarser resolution",
        )


def slow_queries(store: sqlalchemy.Engine, question: Question) -> Any:
    """Return captured slow executions, the latest first."""
    r = question.range
    found = statement_tables.slow_queries(
        store,
        r,
        endpoint=question["endpoint"],
        queryid=question["queryid"],
        service=question["service"],
        min_duration_ms=question["min_duration_ms"],
        limit=question["limit"] + 1,
    )
    return _listed(found, r, question["limit"])


def suggestions(store: sqlalchemy.Engine, question: Question) -> Any:
    """Return suggestions with what became of them, the most saving first."""
    wanted, names = question["state"], _target_names(store, question)
    found = [
        {
            **_fields(stored.suggestion),
            **_fields(place(stored.suggestion)),
            "target": names.get(stored.suggestion.target_id, ""),
            "state": stored.state,
            "state_reason": stored.state_reason,
            "snoozed_until": stored.snoozed_until,
            "snoozed_until_ms": stored.snoozed_until_ms,
            "created_at": stored.created_at,
            "updated_at": stored.updated_at,
        }
        for stored in read.suggestions(store, state=None if wanted == "all" else wanted)
        if question["kind"] in (None, stored.suggestion.kind)
        and question["reader"] in (None, reader_of(stored.suggestion))
        and question["target"] in (None, names.get(stored.suggestion.target_id, ""))
    ]
    return _cut(found, question["limit"])


def rejections(store: sqlalchemy.Engine, question: Question) -> Any:
    """Return the indexes of the last round that were weighed and not suggested."""
    names = _target_names(store, question)
    found = [
        {
            "target_id": stored.target_id,
            "target": names.get(stored.target_id, ""),
            "index": stored.rejection.index,
            "ddl": stored.rejection.index.ddl(),
            "reason": stored.rejection.reason,
            "index_bytes": stored.rejection.index_bytes,
            "saved_ms_per_hour": stored.rejection.saved_ms_per_hour,
            "statements": stored.statements,
            "updated_at": stored.updated_at,
        }
        for stored in read.rejections(store)
        if question["target"] in (None, names.get(stored.target_id, ""))
    ]
    return _cut(found, question["limit"])


def _target_names(store: sqlalchemy.Engine, question: Question) -> dict[int, str]:
    """Return the targets' names; refuse a question about a target that is not among them."""
    names = {t.target_id: t.name for t in read.targets(store)}
    if question["target"] is not None and question["target"] not in names.values():
        known = ", ".join(names.values()) or "none is watched yet"
        raise RequestRefused(
            f"no target is named {question['target']!r}", field="target", hint=f"known: {known}"
        )
    return names


def endpoints(store: sqlalchemy.Engine, question: Question) -> Any:
    """Return the endpoints of the range, the one that took most time first."""
    r = question.range
    table = endpoint_tables.endpoint_table(store, r, question["service"], now=question.now)
    return _listed(table, r, question["limit"])


def statement(store: sqlalchemy.Engine, question: Question) -> Any:
    """Return a statement with its numbers in the range, its endpoints and its plans."""
    r = question.range
    detail = read.statement(store, question["queryid"])
    if detail is None:
        raise _unknown("queryid", question["queryid"], "GET /api/v1/slow-queries lists some")
    table = statement_tables.statement_table(store, r, detail.target_id, now=question.now)
    mine = table[table["fingerprint"] == detail.fingerprint].drop(
        columns=["target_id", "fingerprint", "queryid", "text"]
    )
    return _fields(detail) | {
        "from": r.start,
        "to": r.end,
        "statistics": next(iter(_records(mine)), None),
        "endpoints": _records(statement_tables.statement_endpoints(store, r, detail.fingerprint)),
        "plans": [
            {name: getattr(p, name) for name in _PLAN_FIELDS}
            for p in read.plans(store, detail.fingerprint, detail.target_id)
        ],
    }


_PLAN_FIELDS = (
    "plan_id", "shape_hash", "is_generic", "total_cost", "first_seen", "last_seen",
    "parameters_at",
)  # fmt: skip


def plan(store: sqlalchemy.Engine, question: Question) -> Any:
    """Return a plan, as a document and as text, with what it shows to be wrong."""
    found = read.plan(store, question["plan_id"])
    if found is None:
        raise _unknown(
            "plan_id", question["plan_id"], "GET /api/v1/statements/{queryid} lists them"
        )
    findings = plan_findings(found.plan, read.tables(store, found.target_id))
    return _fields(found) | {
        "plan": found.plan.document,
        "text": found.plan.to_text(),
        "findings": [{**_fields(f), "numbers": dict(f.numbers)} for f in findings],
    }


def ledger(store: sqlalchemy.Engine, question: Question) -> Any:
    """Return what was done to the targets, the latest first."""
    changes = read.changes(store, limit=question["limit"] + 1)
    return _cut([_fields(c) for c in changes], question["limit"])


def health(store: sqlalchemy.Engine, question: Question) -> Any:
    """Return whether samples still arrive; a store away is an error of its own."""
    state = read.collection_state(store, question.now)
    return {
        "status": "ok",
        "version": perfcore.__version__,
        "last_batch_at": state.last_batch_at,
        "samples": state.samples,
        "processes_sending": len(state.sending),
        "targets": [
            {"name": t.name, "last_seen_at": t.last_seen_at, "last_error": redact(t.last_error)}
            for t in state.targets
        ],
    }


def processes(store: sqlalchemy.Engine, question: Question) -> Any:
    """Return what became of the samples of each sending process."""
    state = read.collection_state(store, question.now)
    known = [
        {
            "service": p.service,
            "process": p.process,
            **_fields(p.account),
            "batches": p.batches,
            "spooled_batches": p.spooled_batches,
            "last_flush_at": p.last_received_at,
        }
        for p in state.processes
    ]
    return _cut(known, question["limit"])


def _unknown(field: str, value: object, hint: str) -> RequestRefused:
    return RequestRefused(f"{field} {value} is not known", field=field, hint=hint, status=404)


def _listed(table: pd.DataFrame, r: TimeRange, limit: int) -> dict[str, Any]:
    return {"from": r.start, "to": r.end, **_cut(_records(table), limit)}


def _cut(items: list[dict[str, Any]], limit: int) -> dict[str, Any]:
    kept = items[:limit]
    return {"count": len(kept), "is_truncated": len(items) > limit, "items": kept}


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(k): v for k, v in row.items()} for row in table.to_dict("records")]


def _fields(value: Any) -> dict[str, Any]:
    """Return a dataclass's fields, without descending into them."""
    return {f.name: getattr(value, f.name) for f in fields(value)}
