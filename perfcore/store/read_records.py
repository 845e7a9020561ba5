"""Reading single records of the store: advice, trials, changes, plans, targets, accounting."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID

import sqlalchemy

from perfcore.codec import from_json
from perfcore.plan import Plan, parse_plan
from perfcore.server_times import ServerTimes, merged
from perfcore.store.fetch import fetch, snapshot
from perfcore.types import (
    IndexDefinition,
    Rejection,
    SilenceReason,
    Suggestion,
    SuggestionPlans,
    TableInfo,
    TimeRange,
)

# A sender silent for longer than this is shown as gone.
SILENT_AFTER_S = 60.0


@dataclass(frozen=True, slots=True)
class StoredSuggestion:
    """A suggestion with what became of it."""

    suggestion: Suggestion
    state: str  # open, dismissed, snoozed, applied, gone
    state_reason: str
    created_at: datetime
    updated_at: datetime
    snoozed_until: datetime | None = None
    snoozed_until_ms: float | None = None  # until its slowest statement's mean is above this

    @property
    def suggestion_id(self) -> str:
        return self.suggestion.suggestion_id


@dataclass(frozen=True, slots=True)
class StoredSilence:
    """Why a statement has no suggestion, in a sentence."""

    target_id: int
    fingerprint: int
    queryid: int
    text: str
    reason: str
    detail: str
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class RejectedFor:
    """A statement that a rejected index was weighed for."""

    queryid: int
    fingerprint: int
    text: str


@dataclass(frozen=True, slots=True)
class StoredRejection:
    """An index that the last round weighed and did not suggest."""

    target_id: int
    rejection: Rejection
    updated_at: datetime
    statements: tuple[RejectedFor, ...]  # those that the store still knows, the heaviest first


@dataclass(frozen=True, slots=True)
class StoredReplay:
    """What a cache would do to some reads; `body` is what perfcore.advise wrote."""

    target_id: int
    target: str
    replayed_at: datetime
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class StreamState:
    """What one service sent of the reference stream."""

    service: str
    pieces: int
    references: int
    first_at: datetime
    last_at: datetime


@dataclass(frozen=True, slots=True)
class StoredTrial:
    """A trial in the lab; `result` is what perfcore.lab wrote, None before it is done."""

    trial_id: UUID
    target_id: int
    suggestion_id: str | None
    fingerprint: int
    index: IndexDefinition | None  # None where a rewritten statement was tried
    state: str  # queued, running, done, failed
    progress: float  # 0 to 1
    message: str
    started_at: datetime
    finished_at: datetime | None
    result: Mapping[str, Any] | None
    rewritten_sql: str = ""  # empty where an index was tried


@dataclass(frozen=True, slots=True)
class StoredChange:
    """Something done to a target; `verdict` is what perfcore.lab wrote, None before it judged."""

    change_id: UUID
    target_id: int
    target: str
    suggestion_id: str | None
    kind: str  # create_index, drop_index, setting
    object_name: str
    ddl: str
    undo: str
    origin: str  # perfcore, by hand
    state: str  # intended, running, applied, failed, reverted
    message: str
    index_oid: int | None
    index_bytes: int | None
    fingerprints: tuple[int, ...]
    intended_at: datetime
    started_at: datetime | None
    applied_at: datetime | None
    reverted_at: datetime | None
    verdict: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Marker:
    """An instant to draw on every chart."""

    marker_id: int
    at: datetime
    kind: str
    label: str
    target_id: int | None
    service: str
    details: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class TargetState:
    """A watched database as the collector last saw it; no DSN is kept in the store."""

    target_id: int
    name: str
    server_version: int | None
    database: str | None
    last_seen_at: datetime | None
    last_error: str
    settings: Mapping[str, Any]
    created_at: datetime


@dataclass(frozen=True, slots=True)
class ProcessAccount:
    """Where every sample of a process is: the first is the sum of those up to `missing`."""

    generated: int
    stored: int
    spooled: int  # on the sender's disk, or waiting in its memory
    buffered: int  # not flushed when it sent its last batch
    dropped: Mapping[str, int]  # by reason
    missing: int  # 0, or this program has a bug
    gone: int  # of the stored, no longer in the ledger: expired, or the store was restored
    self_errors: int
    refused: int  # values that were no finite numbers; never generated
    quarantined: int  # rows that no table takes
    spool_bytes: int
    trouble: str  # with the store, in words with its beginning; "" where there was none


@dataclass(frozen=True, slots=True)
class ProcessState:
    """A sending process: what arrived from it, and the running totals it told last."""

    service: str
    process: str
    batches: int
    samples: int
    raw_samples: int
    spooled_batches: int
    last_received_at: datetime
    last_sent_at: datetime
    totals: Mapping[str, Any]

    @property
    def account(self) -> ProcessAccount:
        """Return what became of its samples, by what arrived here and what it told last.

        What arrived counts where the two differ: a dead process tells no more that another one
        has delivered its spool.
        """
        told = partial(_whole, self.totals)
        dropped = _by_reason(self.totals.get("dropped"))
        stored = max(self.samples, told("stored"))
        generated = told("generated") or stored
        on_the_way = generated - stored - sum(dropped.values())
        spooled = max(0, min(told("spooled"), on_the_way))
        buffered = max(0, min(told("buffered"), on_the_way - spooled))
        return ProcessAccount(
            generated, stored, spooled, buffered, dropped,
            missing=on_the_way - spooled - buffered,
            gone=stored - self.samples,
            self_errors=told("self_errors"),
            refused=told("refused"),
            quarantined=told("quarantined"),
            spool_bytes=told("spool_bytes"),
            trouble=_trouble(self.totals.get("trouble")),
        )  # fmt: skip


def _whole(totals: Mapping[str, Any], name: str) -> int:
    value = totals.get(name)
    return value if isinstance(value, int) else 0


def _by_reason(dropped: Any) -> dict[str, int]:
    if not isinstance(dropped, Mapping):
        return {"unknown": dropped} if isinstance(dropped, int) and dropped else {}
    return {str(k): v for k, v in dropped.items() if isinstance(v, int) and v}


def _trouble(told: Any) -> str:
    if not isinstance(told, Mapping) or not told.get("reason"):
        return ""
    until = f" until {_clock_time(told['until'])}" if told.get("until") else ""
    return f"{told['reason']} since {_clock_time(told.get('since'))}{until}"


def _clock_time(instant: Any) -> str:
    try:
        return f"{datetime.fromisoformat(str(instant)).astimezone(UTC):%d %b %H:%M} UTC"
    except ValueError:
        return str(instant)


@dataclass(frozen=True, slots=True)
class CollectionState:
    """Where the numbers come from, and whether they still come."""

    read_at: datetime
    processes: tuple[ProcessState, ...]
    targets: tuple[TargetState, ...]

    @property
    def last_batch_at(self) -> datetime | None:
        return max((p.last_received_at for p in self.processes), default=None)

    @property
    def last_seen_at(self) -> datetime | None:
        """Return when the collector last read any target."""
        return max((t.last_seen_at for t in self.targets if t.last_seen_at), default=None)

    @property
    def samples(self) -> int:
        return sum(p.samples for p in self.processes)

    @property
    def sending(self) -> tuple[ProcessState, ...]:
        """Return the processes heard of within the last minute."""
        return tuple(
            p
            for p in self.processes
            if (self.read_at - p.last_received_at).total_seconds() <= SILENT_AFTER_S
        )


@dataclass(frozen=True, slots=True)
class StoredPlan:
    """A plan of a statement."""

    plan_id: int
    target_id: int
    fingerprint: int
    queryid: int
    shape_hash: str
    is_generic: bool
    total_cost: float
    plan: Plan
    first_seen: datetime
    last_seen: datetime
    parameters_at: datetime | None = None  # of the execution whose values it was made with


@dataclass(frozen=True, slots=True)
class PlanRefusal:
    """Why a statement has no plan, and what would change that."""

    reason: str
    remedy: str
    refused_at: datetime


@dataclass(frozen=True, slots=True)
class StatementDetail:
    """A statement as the server knows it and, where a hook saw it, as the application sent it."""

    target_id: int
    target: str
    queryid: int
    fingerprint: int
    text: str
    application_text: str
    first_seen: datetime
    last_seen: datetime
    queryids: tuple[int, ...]  # all that share the fingerprint on this target
    server: ServerTimes | None = None  # of all these; None before the first reading


def suggestions(
    store: sqlalchemy.Engine, target_id: int | None = None, state: str | None = "open"
) -> list[StoredSuggestion]:
    """Return suggestions in one state (None: in any), the most saving first."""
    return _suggestions(store, None, target_id, state)


def suggestion(store: sqlalchemy.Engine, suggestion_id: str) -> StoredSuggestion | None:
    """Return a suggestion in whatever state, None if there is none of that id."""
    return next(iter(_suggestions(store, suggestion_id, None, None)), None)


def _suggestions(
    store: sqlalchemy.Engine, suggestion_id: str | None, target_id: int | None, state: str | None
) -> list[StoredSuggestion]:
    filters = {"suggestion_id": suggestion_id, "target_id": target_id, "state": state}
    return [
        StoredSuggestion(from_json(Suggestion, body), *rest)
        for body, *rest in fetch(store, "read_suggestions", filters)
    ]


def silences(store: sqlalchemy.Engine, target_id: int | None = None) -> list[StoredSilence]:
    """Return why each other statement of the last round has no suggestion."""
    return [
        StoredSilence(target, fingerprint, queryid, text, _sentence(reason), detail, updated_at)
        for target, fingerprint, queryid, text, reason, detail, updated_at in fetch(
            store, "read_silences", {"target_id": target_id}
        )
    ]


def suggestion_plans(store: sqlalchemy.Engine, suggestion_id: str) -> SuggestionPlans | None:
    """Return the plans of a suggestion's most saving statement, None where none were kept."""
    rows = fetch(store, "read_suggestion_plans", {"suggestion_id": suggestion_id})
    return next((SuggestionPlans(*row) for row in rows), None)


def rejections(
    store: sqlalchemy.Engine, target_id: int | None = None, fingerprint: int | None = None
) -> list[StoredRejection]:
    """Return the indexes that the last round weighed and did not suggest, for a statement or all.

    What alone would save most comes first.
    """
    filters = {"target_id": target_id, "fingerprint": fingerprint}
    return [
        StoredRejection(
            target,
            Rejection(from_json(IndexDefinition, body), reason, tuple(prints), size, saved),
            updated_at,
            tuple(RejectedFor(*each) for each in statements),
        )
        for target, body, reason, prints, size, saved, updated_at, statements in fetch(
            store, "read_rejections", filters
        )
    ]


def cache_replays(store: sqlalchemy.Engine) -> list[StoredReplay]:
    """Return what the last round of advice says of caches, by target, the dearest reads first."""
    return [StoredReplay(*row) for row in fetch(store, "read_cache_replays")]


def stream_states(store: sqlalchemy.Engine, since: datetime) -> list[StreamState]:
    """Return which services have sent a reference stream since then."""
    return [StreamState(*row) for row in fetch(store, "read_stream_services", {"since": since})]


def _sentence(reason: str) -> str:
    """Return the sentence of a reason that was stored by its name or as the sentence."""
    return SilenceReason[reason].value if reason in SilenceReason.__members__ else reason


def trials(
    store: sqlalchemy.Engine, suggestion_id: str | None = None, *, limit: int = 200
) -> list[StoredTrial]:
    """Return the trials of a suggestion, or all, the latest first."""
    return _trials(store, None, suggestion_id, limit)


def trial(store: sqlalchemy.Engine, trial_id: UUID | str) -> StoredTrial | None:
    """Return a trial, None if there is none of that id."""
    known = _uuid(trial_id)
    return next(iter(_trials(store, known, None, 1)), None) if known else None


def _trials(
    store: sqlalchemy.Engine, trial_id: UUID | None, suggestion_id: str | None, limit: int
) -> list[StoredTrial]:
    filters = {"trial_id": trial_id, "suggestion_id": suggestion_id, "limit": limit}
    rows = fetch(store, "read_trials", filters)
    return [StoredTrial(*_decoded(row, 4, _index)) for row in rows]


def _index(body: Any) -> IndexDefinition | None:
    return None if body is None else from_json(IndexDefinition, body)


def changes(store: sqlalchemy.Engine, *, limit: int = 500) -> list[StoredChange]:
    """Return what was done to the targets, the latest first."""
    return _changes(store, None, limit)


def change(store: sqlalchemy.Engine, change_id: UUID | str) -> StoredChange | None:
    """Return a change, None if there is none of that id."""
    known = _uuid(change_id)
    return next(iter(_changes(store, known, 1)), None) if known else None


def _changes(store: sqlalchemy.Engine, change_id: UUID | None, limit: int) -> list[StoredChange]:
    rows = fetch(store, "read_changes", {"change_id": change_id, "limit": limit})
    return [StoredChange(*_decoded(row, 13, tuple)) for row in rows]


def markers(store: sqlalchemy.Engine, r: TimeRange) -> list[Marker]:
    """Return the markers of a range, the earliest first."""
    rows = fetch(store, "read_markers", {"start": r.start, "end": r.end})
    return [Marker(*row) for row in rows]


def targets(store: sqlalchemy.Engine) -> list[TargetState]:
    """Return the watched databases."""
    return [TargetState(*row) for row in fetch(store, "read_targets")]


def tables(store: sqlalchemy.Engine, target_id: int) -> list[TableInfo]:
    """Return the target's tables as the planner knows them, without their columns and indexes."""
    filters = {"target_id": target_id, "view": "tables"}
    rows = fetch(store, "store_read_snapshot", filters)
    return [from_json(TableInfo, each) for row in rows for each in row[2]]


def services(store: sqlalchemy.Engine) -> list[str]:
    """Return the names of the applications that reported requests."""
    return [str(row[0]) for row in fetch(store, "read_services")]


def collection_state(store: sqlalchemy.Engine, now: datetime | None = None) -> CollectionState:
    """Return who sends, what arrived from them, and when each target was last read."""
    with snapshot(store) as seen:
        processes = tuple(ProcessState(*row) for row in seen.rows("read_processes"))
        watched = tuple(TargetState(*row) for row in seen.rows("read_targets"))
    return CollectionState(now or datetime.now(UTC), processes, watched)


def plans(
    store: sqlalchemy.Engine, fingerprint: int, target_id: int | None = None
) -> list[StoredPlan]:
    """Return the plans of a statement, the one seen last first."""
    return _plans(store, None, fingerprint, target_id)


def plan(store: sqlalchemy.Engine, plan_id: int) -> StoredPlan | None:
    """Return a plan, None if there is none of that id."""
    return next(iter(_plans(store, plan_id, None, None)), None)


def plan_refusal(
    store: sqlalchemy.Engine, fingerprint: int, target_id: int | None = None
) -> PlanRefusal | None:
    """Return why the statement had no plan when it was last asked for, None if it had."""
    filters = {"fingerprint": fingerprint, "target_id": target_id}
    return next((PlanRefusal(*row) for row in fetch(store, "read_plan_refusal", filters)), None)


def _plans(
    store: sqlalchemy.Engine,
    plan_id: int | None,
    fingerprint: int | None,
    target_id: int | None,
) -> list[StoredPlan]:
    filters = {"plan_id": plan_id, "fingerprint": fingerprint, "target_id": target_id}
    rows = fetch(store, "read_plans", filters)
    return [StoredPlan(*_decoded(row, 7, parse_plan)) for row in rows]


def statement(
    store: sqlalchemy.Engine,
    queryid: int | None = None,
    *,
    fingerprint: int | None = None,
    target_id: int | None = None,
) -> StatementDetail | None:
    """Return the statement of that queryid (or fingerprint), the one seen last if several."""
    if queryid is None and fingerprint is None:
        return None
    filters = {"queryid": queryid, "fingerprint": fingerprint, "target_id": target_id}
    rows = fetch(store, "read_statement", filters)
    found = next((StatementDetail(*_decoded(row, 8, tuple)) for row in rows), None)
    if found is None:
        return None
    which = {"target_id": found.target_id, "queryids": list(found.queryids)}
    times = (ServerTimes(*row) for row in fetch(store, "read_server_times", which))
    return replace(found, server=merged(times))


def _decoded(row: Sequence[Any], place: int, decode: Callable[[Any], Any]) -> list[Any]:
    """Return the row with the value at one place decoded."""
    values = list(row)
    values[place] = decode(values[place])
    return values


def _uuid(text: UUID | str) -> UUID | None:
    try:
        return text if isinstance(text, UUID) else UUID(text)
    except ValueError:
        return None
