"""Write down what trials and verdicts delivered of what the planner had promised.

A gain is filed under the change of plan that was promised, whatever the lab's values or live
traffic then made of it: the question is how far the next such promise may be believed. Where
nobody promised anything, nothing is written.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from perfcore import db
from perfcore.advise.identity import suggestion_id
from perfcore.codec import from_json
from perfcore.errors import PerfcoreError
from perfcore.lab.ledger import Change, Connection
from perfcore.lab.trial import SetResult
from perfcore.plan import Plan
from perfcore.plan_change import plan_change
from perfcore.types import ConfidenceInterval, Evidence, IndexDefinition, Suggestion, Verdict
from perfcore.whatif.definition import parse_create_index


@dataclass(frozen=True, slots=True)
class Promise:
    """What the planner says an index does to a statement."""

    plan_change: str
    ratio: float  # of the costs, after divided by before
    saved_ms: float | None = None  # a call; only a suggestion tells it


@dataclass(frozen=True, slots=True)
class Delivered:
    """What a statement took with the index, divided by what it took without."""

    ratio: ConfidenceInterval
    saved_ms: float  # a call
    parameters: str = ""  # which values a trial took


@dataclass(frozen=True, slots=True)
class _Source:
    """Where a gain comes from: a trial or a change."""

    target_id: int
    suggestion_id: str
    digest: str  # of the index, or of the rewritten text
    evidence: Evidence
    trial_id: str | None = None
    change_id: str | None = None

    @classmethod
    def of_index(
        cls,
        target_id: int,
        index: IndexDefinition,
        evidence: Evidence,
        *,
        trial_id: str | None = None,
        change_id: str | None = None,
    ) -> _Source:
        named = suggestion_id(target_id, "index", index.digest)
        return cls(target_id, named, index.digest, evidence, trial_id, change_id)


def promise_of(before: Plan, after: Plan, index: IndexDefinition) -> Promise:
    """Return what two plans of a statement, without and with the index, promise."""
    table = f"{index.schema}.{index.table}"
    kind = plan_change(before, after, table, method=index.method)
    ratio = after.total_cost / before.total_cost if before.total_cost > 0 else 1.0
    return Promise(kind, ratio)


def record_trial(
    store: Connection,
    trial_id: str,
    target_id: int,
    index: IndexDefinition,
    fingerprint: int,
    sets: Sequence[SetResult],
    promise: Promise | None,
) -> None:
    """Write down each set of values; without a promise of its own the suggestion's counts."""
    source = _Source.of_index(target_id, index, Evidence.MEASURED, trial_id=trial_id)
    promise = _completed(promise, _suggested(store, source).get(fingerprint))
    if promise is not None:
        _save_sets(store, source, fingerprint, promise, sets)


def record_rewrite(
    store: Connection,
    trial_id: str,
    target_id: int,
    suggested: str,
    rewritten_sql: str,
    fingerprint: int,
    sets: Sequence[SetResult],
    promise: Promise,
) -> None:
    """Write down what a rewritten statement took of what the statement took."""
    digest = hashlib.sha256(rewritten_sql.encode()).hexdigest()[:16]
    source = _Source(target_id, suggested, digest, Evidence.MEASURED, trial_id=trial_id)
    _save_sets(store, source, fingerprint, promise, sets)


def _save_sets(
    store: Connection,
    source: _Source,
    fingerprint: int,
    promise: Promise,
    sets: Sequence[SetResult],
) -> None:
    for each in sets:
        saved_ms = each.baseline.median_ms - each.variant.median_ms
        _save(store, source, fingerprint, promise, Delivered(each.ratio, saved_ms, each.label))


def _completed(promise: Promise | None, said: Promise | None) -> Promise | None:
    if promise is None or said is None:
        return promise or said
    return replace(promise, saved_ms=said.saved_ms)


def record_verdict(
    store: Connection,
    change: Change,
    statements: Sequence[tuple[int, Verdict, Delivered | None]],
) -> None:
    """Write down what live traffic showed of each statement that had a promise.

    A trial's promise goes before the suggestion's: it knows the plans of each statement, the
    suggestion those of the one that it helps most.
    """
    index = _index_of(change)
    if index is None:
        return
    source = _Source.of_index(change.target_id, index, Evidence.PROVEN, change_id=change.change_id)
    promises = {**_suggested(store, source), **_tried(store, source)}
    for fingerprint, verdict, delivered in statements:
        promise = promises.get(fingerprint)
        if promise is not None and delivered is not None and verdict is not Verdict.WAITING:
            _save(store, source, fingerprint, promise, delivered)


def _index_of(change: Change) -> IndexDefinition | None:
    """Return the index that the change made, also where somebody made it by hand."""
    if change.kind != "create_index":
        return None
    if change.index is not None:
        return change.index
    try:
        return parse_create_index(change.ddl)
    except PerfcoreError:
        return None


def _suggested(store: Connection, source: _Source) -> Mapping[int, Promise]:
    """Return what the suggestion of this index promised, by statement."""
    named = {"suggestion_id": source.suggestion_id}
    row = store.execute(db.query("lab_read_promise"), named).fetchone()
    if row is None:
        return {}
    suggestion = from_json(Suggestion, row[0])
    return {
        g.fingerprint: Promise(
            suggestion.plan_change,
            g.cost_after / g.cost_before,
            g.mean_ms_before - g.mean_ms_after,
        )
        for g in suggestion.statements
        if suggestion.plan_change and g.cost_before > 0
    }


def _tried(store: Connection, source: _Source) -> Mapping[int, Promise]:
    """Return what the latest trials of this index had before them, by statement."""
    rows = store.execute(
        db.query("lab_read_tried_promises"),
        {"target_id": source.target_id, "index_digest": source.digest},
    ).fetchall()
    return {fingerprint: Promise(*promise) for fingerprint, *promise in rows}


def _save(
    store: Connection, source: _Source, fingerprint: int, promise: Promise, delivered: Delivered
) -> None:
    store.execute(
        db.query("lab_save_gain"),
        {
            "target_id": source.target_id,
            "suggestion_id": source.suggestion_id,
            "trial_id": source.trial_id,
            "change_id": source.change_id,
            "index_digest": source.digest,
            "fingerprint": fingerprint,
            "parameters": delivered.parameters,
            "plan_change": promise.plan_change,
            "evidence": source.evidence.value,
            "promised_ratio": promise.ratio,
            "promised_saved_ms": promise.saved_ms,
            "delivered_ratio": delivered.ratio.value,
            "delivered_low": delivered.ratio.low,
            "delivered_high": delivered.ratio.high,
            "delivered_saved_ms": delivered.saved_ms,
        },
    )
