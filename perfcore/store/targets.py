"""What the collector writes about targets: snapshots, differences, texts, plans, markers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg.rows import TupleRow, dict_row
from psycopg.types.json import Jsonb

from perfcore.db import query
from perfcore.plan import Plan
from perfcore.server_times import ServerTimes

Connection = psycopg.Connection[TupleRow]


@dataclass(frozen=True, slots=True)
class StoredSnapshot:
    """The last raw reading of a view: when, in which epoch, and the reading itself."""

    taken_at: datetime
    epoch: str
    body: Any


@dataclass(frozen=True, slots=True)
class Gap:
    """A span in which work ran that no difference holds."""

    view: str  # pg_stat_statements or pg_stat_database
    start: datetime
    end: datetime
    reason: str
    queryids: tuple[int, ...] | None = None  # None: all of the view


@dataclass(frozen=True, slots=True)
class StatementInterval:
    """How complete the server's list of statements was between two readings."""

    start: datetime
    end: datetime
    entries: int  # of all databases
    max_entries: int
    evictions: int | None  # times that the list was full; None: not counted up to 13
    counted_ms: float  # of top-level statements
    active_ms: float | None  # of the database's sessions; None: not counted up to 13


class SnapshotTaken(Exception):
    """Another collector has read the view since; what was read here would count twice."""


def run(connection: Connection, file: str, /, **parameters: Any) -> list[dict[str, Any]]:
    """Run one of the SQL files; return its rows, none for a statement that has none."""
    with connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute(query(file).encode(), parameters)
        return cursor.fetchall() if cursor.description else []


def run_many(connection: Connection, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Run one of the SQL files once for each row of parameters."""
    with connection.cursor() as cursor:
        cursor.executemany(query(name).encode(), list(rows))


def ensure_target(connection: Connection, name: str) -> int:
    """Return the number of the target of that name, which is made when it is new."""
    found = run(connection, "store_find_target", name=name) or run(
        connection, "store_insert_target", name=name
    )
    return int(found[0]["target_id"])


def save_seen(
    connection: Connection,
    target_id: int,
    *,
    server_version: int,
    database: str,
    system_identifier: str,
    last_error: str,
    is_standby: bool = False,
) -> None:
    """Note that the target answered, and what could not be read; empty when all could."""
    run(
        connection,
        "store_target_seen",
        target_id=target_id,
        server_version=server_version,
        database=database,
        system_identifier=system_identifier,
        last_error=last_error,
        is_standby=is_standby,
    )


def save_error(connection: Connection, target_id: int, message: str) -> None:
    """Note why the target did not answer."""
    run(connection, "store_target_error", target_id=target_id, last_error=message)


def read_settings(connection: Connection, target_id: int) -> dict[str, str]:
    """Return the settings as last seen, empty before the first time."""
    return dict(run(connection, "store_read_target_settings", target_id=target_id)[0]["settings"])


def save_settings(connection: Connection, target_id: int, settings: Mapping[str, str]) -> None:
    """Keep the settings as they are now."""
    run(connection, "store_save_target_settings", target_id=target_id, settings=Jsonb(settings))


def read_snapshot(connection: Connection, target_id: int, view: str) -> StoredSnapshot | None:
    """Return the last reading of the view, None before the first."""
    rows = run(connection, "store_read_snapshot", target_id=target_id, view=view)
    if not rows:
        return None
    return StoredSnapshot(rows[0]["taken_at"], rows[0]["epoch"], rows[0]["snapshot"])


def save_snapshot(
    connection: Connection,
    target_id: int,
    view: str,
    snapshot: StoredSnapshot,
    expected: datetime | None = None,
) -> None:
    """Keep the reading in the place of the one before; call it in the deltas' transaction.

    `expected` is when that one was taken, None when there was none. Raises SnapshotTaken when
    it is another by now, whatever the collectors' lock should have prevented.
    """
    saved = run(
        connection,
        "store_save_snapshot",
        target_id=target_id,
        view=view,
        taken_at=snapshot.taken_at,
        epoch=snapshot.epoch,
        snapshot=Jsonb(snapshot.body),
        expected=expected,
    )
    if not saved:
        raise SnapshotTaken(f"another collector has read {view} of target {target_id} meanwhile")


def save_gap(connection: Connection, target_id: int, gap: Gap) -> None:
    """Keep a span whose work is not known."""
    run(
        connection, "store_insert_gap", target_id=target_id, view=gap.view, start=gap.start,
        end=gap.end, reason=gap.reason,
        queryids=None if gap.queryids is None else list(gap.queryids),
    )  # fmt: skip


def save_interval(connection: Connection, target_id: int, interval: StatementInterval) -> None:
    """Keep how complete the list of statements was."""
    run(connection, "store_insert_interval", target_id=target_id, **asdict(interval))


def save_server_times(
    connection: Connection, target_id: int, times: Mapping[int, ServerTimes]
) -> None:
    """Keep the server's own times of statements, which still run."""
    found = list(times.items())
    run(
        connection,
        "store_save_server_times",
        target_id=target_id,
        queryids=[q for q, _ in found],
        calls=[t.calls for _, t in found],
        min_ms=[t.min_ms for _, t in found],
        mean_ms=[t.mean_ms for _, t in found],
        max_ms=[t.max_ms for _, t in found],
        stddev_ms=[t.stddev_ms for _, t in found],
        since=[t.counted_since for _, t in found],
    )


def add_marker(
    connection: Connection,
    target_id: int,
    kind: str,
    label: str,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Draw a line into every chart, now."""
    run(
        connection,
        "store_insert_marker",
        target_id=target_id,
        kind=kind,
        label=label,
        details=Jsonb(details or {}),
    )


def add_marker_once_an_hour(connection: Connection, target_id: int, kind: str, label: str) -> None:
    """Draw a line for what may go on and on."""
    run(connection, "store_insert_marker_once", target_id=target_id, kind=kind, label=label)


def read_statement_ids(connection: Connection, target_id: int) -> set[int]:
    """Return the queryids whose text is known."""
    return {
        int(row["queryid"])
        for row in run(connection, "store_read_statement_ids", target_id=target_id)
    }


def save_statements(
    connection: Connection, target_id: int, texts: Sequence[tuple[int, int, str]]
) -> None:
    """Keep new statements, given as (queryid, fingerprint, text)."""
    run_many(
        connection,
        "store_save_statement",
        ({"target_id": target_id, "queryid": q, "fingerprint": f, "text": t} for q, f, t in texts),
    )


@dataclass(frozen=True, slots=True)
class PlanCandidate:
    """A statement whose plan is worth knowing, and its slowest execution of the last hour."""

    queryid: int
    fingerprint: int
    text: str  # as in pg_stat_statements
    application_text: str = ""  # normalised; empty where no hook saw the statement
    parameters: tuple[Any, ...] = ()  # values, or by policy only their types
    parameters_at: datetime | None = None  # None: no slow execution was captured


def plan_candidates(connection: Connection, target_id: int, slow_ms: float) -> list[PlanCandidate]:
    """Return the statements whose plan is worth knowing, those without any at the end."""
    return [
        PlanCandidate(
            int(r["queryid"]), int(r["fingerprint"]), str(r["text"]),
            str(r["application_text"] or ""), tuple(r["parameters"] or ()), r["occurred_at"],
        )
        for r in run(connection, "store_plan_candidates", target_id=target_id, slow_ms=slow_ms)
    ]  # fmt: skip


def save_plan(
    connection: Connection,
    target_id: int,
    *,
    queryid: int,
    fingerprint: int,
    plan: Plan,
    seen_at: datetime,
    parameters_at: datetime | None = None,
) -> str | None:
    """Keep a plan, once a shape, and that it is in use; return the shape it took the place of.

    A plan for given parameters (`parameters_at`) has a history of its own beside the generic
    one: other values may rightly have another plan, so only a generic plan that changed is
    marked. Returns None where no plan came before, or the same one.
    """
    is_generic = parameters_at is None
    statement = {"target_id": target_id, "fingerprint": fingerprint}
    with connection.transaction():
        found = run(connection, "store_latest_plan", is_generic=is_generic, **statement)
        (saved,) = run(
            connection,
            "store_save_plan",
            queryid=queryid,
            shape_hash=plan.shape_hash,
            is_generic=is_generic,
            total_cost=plan.total_cost,
            plan=Jsonb(plan.document),
            **statement,
        )
        run(connection, "store_clear_plan_refusal", **statement)
        latest = found[0] if found else None
        if latest and latest["plan_id"] == saved["plan_id"]:
            run(
                connection, "store_extend_plan_use",
                plan_use_id=latest["plan_use_id"], seen_at=seen_at, parameters_at=parameters_at,
            )  # fmt: skip
            return None
        run(
            connection, "store_insert_plan_use", plan_id=saved["plan_id"],
            is_generic=is_generic, seen_at=seen_at, parameters_at=parameters_at, **statement,
        )  # fmt: skip
        if latest is None:
            return None
        before = str(latest["shape_hash"])
        if is_generic:
            add_marker(
                connection,
                target_id,
                "plan change",
                f"another plan for a statement on {_tables(plan)}",
                {"queryid": str(queryid), "fingerprint": str(fingerprint),
                 "before": before, "after": plan.shape_hash},
            )  # fmt: skip
        return before


def save_plan_refusal(
    connection: Connection, target_id: int, statement: PlanCandidate, reason: str, remedy: str
) -> None:
    """Keep why a statement has no plan, for its page to say so."""
    run(
        connection,
        "store_save_plan_refusal",
        target_id=target_id,
        fingerprint=statement.fingerprint,
        queryid=statement.queryid,
        reason=reason,
        remedy=remedy,
    )


def _tables(plan: Plan) -> str:
    """Return the plan's tables in words, at most three of them."""
    names = list(dict.fromkeys(n.relation for _, n in plan.root.walk() if n.relation))
    return ", ".join(names[:3]) + (" …" if len(names) > 3 else "") or "no table"


@dataclass(frozen=True, slots=True)
class IndexEvent:
    """An index that came or went, as the catalogue showed it."""

    kind: str  # "create_index" or "drop_index"
    name: str  # "schema.index", as in the ledger
    identifier: str  # the same, quoted where PostgreSQL needs it
    definition: str
    oid: int
    bytes: int


def save_index_event(connection: Connection, target_id: int, event: IndexEvent) -> bool:
    """Enter an index change made by hand; return False when it was Perfcore's own doing."""
    with connection.transaction():
        own = run(connection, "store_own_changes", target_id=target_id)
        if any(_explains(change, event) for change in own):
            return False
        drop = f"DROP INDEX CONCURRENTLY {event.identifier}"
        created = event.kind == "create_index"
        run(
            connection,
            "store_insert_hand_change",
            target_id=target_id,
            kind=event.kind,
            object_name=event.name,
            ddl=event.definition if created else drop,
            undo=drop if created else event.definition,
            index_oid=event.oid,
            index_bytes=event.bytes,
        )
        verb = "created" if created else "dropped"
        add_marker(
            connection, target_id, "change", f"{event.name} {verb} by hand",
            {"index": event.name, "origin": "by hand"},
        )  # fmt: skip
        return True


def _explains(change: Mapping[str, Any], event: IndexEvent) -> bool:
    same = change["index_oid"] == event.oid or change["object_name"] == event.name
    if not same:
        return False
    if event.kind == change["kind"]:
        return change["state"] in ("intended", "running", "applied")
    # An index of ours that is taken back is dropped, a dropped one that is taken back is made.
    return change["state"] in ("reverted", "running")
