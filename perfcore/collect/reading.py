"""One pass over one target: read everything once, write the differences down."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import psycopg
from psycopg.errors import InsufficientPrivilege

from perfcore.collect import statements
from perfcore.collect.plans import (
    PASS_LIMIT_S,
    Agenda,
    explain_generic,
    explain_with,
    values_of,
)
from perfcore.collect.target import Connection, Identity, changed_server, identify, read
from perfcore.errors import PlanningFailed, StatementRefused
from perfcore.plan import Plan
from perfcore.store import targets
from perfcore.store.targets import IndexEvent, PlanCandidate, StoredSnapshot

log = logging.getLogger(__name__)

_DATABASE_COUNTERS = (
    "blks_hit", "blks_read", "xact_commit", "xact_rollback", "temp_bytes", "deadlocks",
)  # fmt: skip
_INDEX = ("name", "identifier", "definition", "table_oid", "bytes")
_TABLE_COUNTERS = (
    "heap_blks_hit", "heap_blks_read", "idx_blks_hit", "idx_blks_read", "seq_scan", "idx_scan",
    "n_tup_ins", "n_tup_upd", "n_tup_hot_upd", "n_tup_del",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class PassReport:
    """What one pass found: rows written, and in words what it could not do."""

    statement_deltas: int = 0
    plans: int = 0
    problems: tuple[str, ...] = ()


@dataclass
class Collector:
    """Reads one target into the store; it keeps nothing that a restart would miss."""

    target: Connection
    store: Connection
    target_id: int
    slow_ms: float = 100.0
    agenda: Agenda = field(default_factory=Agenda)
    own: set[int] = field(default_factory=set)  # queryids of our own statements
    known: set[int] = field(default_factory=set)  # queryids whose text is in the store
    missing: set[str] = field(default_factory=set)  # indexes that one pass did not find
    refused: set[int] = field(default_factory=set)  # queryids whose missing plan was named

    def collect(self) -> PassReport:
        """Make one pass. What the target refuses is named in the report, and the rest goes on.

        psycopg.Error passes through when the target's or the store's connection is lost.
        """
        who = identify(self.target)
        problems: list[str] = []
        counts = {"statements": 0, "plans": 0}

        def part(name: str, work: Callable[[Identity], int | str]) -> None:
            try:
                result = work(who)
            except psycopg.Error as error:
                if self.target.closed or self.store.closed:
                    raise
                problems.append(f"{name}: {str(error).strip()}")
                return
            if isinstance(result, str):
                problems.append(result)
            else:
                counts[name] = result

        part("server", self._mark_server)
        part("settings", self._settings)
        part("statements", self._statements)
        part("database", self._database)
        part("tables", self._tables)
        part("indexes", self._indexes)
        part("plans", self._plans)
        targets.save_seen(
            self.store,
            self.target_id,
            server_version=who.server_version,
            database=who.database,
            system_identifier=who.system_identifier,
            last_error="; ".join(p for p in problems if p),
        )
        return PassReport(counts["statements"], counts["plans"], tuple(p for p in problems if p))

    def _mark_server(self, who: Identity) -> int:
        """Mark a restart, a failover or a reset of the database's statistics."""
        before = targets.read_snapshot(self.store, self.target_id, "server")
        epoch = who.epoch(who.stats_reset)
        if before and before.epoch == epoch:
            return 0
        with self.store.transaction():
            if before:
                what = changed_server(before.epoch, who)
                kind = "restart" if what else "statistics reset"
                targets.add_marker(
                    self.store, self.target_id, kind, what or "database statistics reset"
                )
            self._save("server", who, epoch, {})
        return 0

    def _settings(self, who: Identity) -> int:
        now = {row["name"]: row["value"] for row in read(self.target, "target_settings")}
        before = targets.read_settings(self.store, self.target_id)
        if now == before:
            return 0
        changed = {
            name: [before.get(name), now.get(name)]
            for name in sorted(before.keys() | now.keys())
            if before.get(name) != now.get(name)
        }
        with self.store.transaction():
            targets.save_settings(self.store, self.target_id, now)
            if before:
                label = ", ".join(f"{k}: {old} -> {new}" for k, (old, new) in changed.items())
                targets.add_marker(
                    self.store, self.target_id, "settings", label[:200], {"changed": changed}
                )
        return 0

    def _statements(self, who: Identity) -> int | str:
        extension = statements.find_extension(self.target)
        if extension.problem:
            return extension.problem
        reset = read(self.target, "statements_epoch", extension_schema=extension.schema)
        stats_reset = reset[0]["stats_reset"]
        now = statements.read_counters(self.target, extension.schema)
        if not now:
            # Not even our own: nothing is counted, or nothing is named.
            return (
                "pg_stat_statements shows no statement: set pg_stat_statements.track = 'top' "
                "and compute_query_id = 'auto'"
            )
        withheld = self._learn_texts(extension.schema, now)
        epoch = who.epoch(stats_reset)
        before = targets.read_snapshot(self.store, self.target_id, "pg_stat_statements")
        same = before is not None and before.epoch == epoch
        deltas = statements.differences(before.body, now) if before and same else {}
        rows: list[dict[str, Any]] = [
            {"target_id": self.target_id, "queryid": q, "end": who.now,
             "start": before.taken_at if before else who.now, **d}
            for q, d in deltas.items()
            if q in self.known
        ]  # fmt: skip
        with self.store.transaction():
            targets.run_many(self.store, "store_insert_statement_delta", rows)
            targets.save_statements_seen(
                self.store, self.target_id, [row["queryid"] for row in rows]
            )
            self._save("pg_stat_statements", who, epoch, now)
            if before and not same and not changed_server(before.epoch, who):
                targets.add_marker(
                    self.store, self.target_id, "statistics reset", "pg_stat_statements reset"
                )
        if withheld:
            return (
                f"the texts of {withheld} statements are withheld: "
                "GRANT pg_monitor TO the role that collects"
            )
        return len(rows)

    def _learn_texts(self, schema: str, now: statements.Reading) -> int:
        """Fetch the texts of new statements; return how many the server withheld."""
        if not self.known:
            self.known = targets.read_statement_ids(self.store, self.target_id)
        new = {statements.queryid_of(key) for key in now} - self.known - self.own
        texts = statements.read_texts(self.target, schema, new)
        described = statements.describe(texts.items())
        targets.save_statements(self.store, self.target_id, described)
        self.known |= {queryid for queryid, _, _ in described}
        self.own |= texts.keys() - self.known
        return len(new - texts.keys())

    def _database(self, who: Identity) -> int:
        row = read(self.target, "target_database")[0]
        now = {name: int(row[name]) for name in _DATABASE_COUNTERS}
        before = self._last("pg_stat_database", who)
        with self.store.transaction():
            change = _change(before.body, now) if before else None
            if before and change is not None:
                targets.run(
                    self.store, "store_insert_database_delta", target_id=self.target_id,
                    start=before.taken_at, end=who.now, backends=row["backends"],
                    database_bytes=row["database_bytes"], **change,
                )  # fmt: skip
            self._save("pg_stat_database", who, who.epoch(who.stats_reset), now)
        return 0

    def _tables(self, who: Identity) -> int:
        rows = read(self.target, "target_tables")
        now = {str(r["oid"]): {name: int(r[name]) for name in _TABLE_COUNTERS} for r in rows}
        names = {str(r["oid"]): (r["schema_name"], r["table_name"]) for r in rows}
        before = self._last("pg_stat_user_tables", who)
        deltas = []
        for oid, counters in now.items():
            # A table that was not there counts from 0: it was made in between.
            old = before.body.get(oid, dict.fromkeys(counters, 0)) if before else counters
            change = _change(old, counters)
            if before and change and any(change.values()):
                schema_name, table_name = names[oid]
                deltas.append(
                    {"target_id": self.target_id, "schema_name": schema_name,
                     "table_name": table_name, "start": before.taken_at, "end": who.now, **change}
                )  # fmt: skip
        with self.store.transaction():
            targets.run_many(self.store, "store_insert_table_delta", deltas)
            self._save("pg_stat_user_tables", who, who.epoch(who.stats_reset), now)
        return len(deltas)

    def _indexes(self, who: Identity) -> int:
        """Notice indexes that came or went without Perfcore's doing."""
        now = {str(r["oid"]): _index(r) for r in read(self.target, "target_indexes")}
        before = targets.read_snapshot(self.store, self.target_id, "indexes")
        same_database = before is not None and before.epoch == _place(who)
        if before and same_database:
            events, kept = index_events(before.body, now, self.missing)
            self.missing = set(kept)
            with self.store.transaction():
                for event in events:
                    targets.save_index_event(self.store, self.target_id, event)
                self._save("indexes", who, _place(who), {**now, **kept})
            if events:
                self.agenda.forget()
            return len(events)
        self._save("indexes", who, _place(who), now)
        return 0

    def _plans(self, who: Identity) -> int | str:
        candidates = targets.plan_candidates(self.store, self.target_id, self.slow_ms)
        until = time.monotonic() + PASS_LIMIT_S
        stored, missing_right = 0, ""
        for candidate in self.agenda.due(candidates):
            if time.monotonic() > until:
                break
            self.agenda.note(candidate.queryid)
            try:
                self._save_plan(candidate, explain_generic(self.target, candidate.text), who, None)
            except (PlanningFailed, StatementRefused, ValueError) as error:
                missing_right = self._refused(candidate, error) or missing_right
                continue
            self._explain_slowest(candidate, who)
            stored += 1
        return f"plans: {missing_right}" if missing_right else stored

    def _explain_slowest(self, candidate: PlanCandidate, who: Identity) -> None:
        """Keep the plan for the slowest execution's parameters too, where they are known."""
        values = values_of(candidate)
        if values is None:
            return
        try:
            plan = explain_with(self.target, candidate.text, values)
        except (PlanningFailed, ValueError) as error:
            # The generic plan is there; the error's words may hold a value.
            log.debug("statement %d: no plan for its values: %s", candidate.queryid, type(error))
            return
        self._save_plan(candidate, plan, who, candidate.parameters_at)

    def _save_plan(
        self, candidate: PlanCandidate, plan: Plan, who: Identity, parameters_at: datetime | None
    ) -> None:
        targets.save_plan(
            self.store, self.target_id, queryid=candidate.queryid,
            fingerprint=candidate.fingerprint, plan=plan, seen_at=who.now,
            parameters_at=parameters_at,
        )  # fmt: skip

    def _refused(self, candidate: PlanCandidate, error: Exception) -> str:
        """Keep why there is no plan, name it once, and return the right that is missing."""
        remedy = str(getattr(error, "hint", ""))
        targets.save_plan_refusal(self.store, self.target_id, candidate, str(error), remedy)
        if candidate.queryid not in self.refused and isinstance(error, PlanningFailed):
            log.info("statement %d: %s", candidate.queryid, error)
        self.refused.add(candidate.queryid)
        return remedy if isinstance(error.__cause__, InsufficientPrivilege) else ""

    def _last(self, view: str, who: Identity) -> StoredSnapshot | None:
        """Return the last reading of a view of the database, if it can be subtracted from."""
        before = targets.read_snapshot(self.store, self.target_id, view)
        same = before is not None and before.epoch == who.epoch(who.stats_reset)
        return before if same else None

    def _save(self, view: str, who: Identity, epoch: str, body: Any) -> None:
        targets.save_snapshot(
            self.store, self.target_id, view, StoredSnapshot(who.now, epoch, body)
        )


def index_events(
    before: Mapping[str, Mapping[str, Any]],
    now: Mapping[str, Mapping[str, Any]],
    missing: set[str],
) -> tuple[list[IndexEvent], dict[str, Any]]:
    """Return what became of indexes between two readings, and those to wait a pass for.

    An index of a table that is new, or gone, is not an event of its own; nor is one built
    anew under its name (REINDEX). A vanished index counts at the second reading without it:
    whoever took it back may still be writing so down.
    """
    old_names = {row["name"]: row for row in before.values()}
    new_names = {row["name"]: row for row in now.values()}
    old_tables = {row["table_oid"] for row in before.values()}
    new_tables = {row["table_oid"] for row in now.values()}
    events, kept = [], {}
    for oid, row in now.items():
        old = old_names.get(row["name"])
        if row["table_oid"] in old_tables and (
            old is None or old["definition"] != row["definition"]
        ):
            events.append(_event("create_index", oid, row))
    for oid, row in before.items():
        if row["name"] in new_names or row["table_oid"] not in new_tables:
            continue
        if oid in missing:
            events.append(_event("drop_index", oid, row))
        else:
            kept[oid] = row
    return events, kept


def _event(kind: str, oid: str, row: Mapping[str, Any]) -> IndexEvent:
    return IndexEvent(
        kind, row["name"], row["identifier"], row["definition"], int(oid), int(row["bytes"])
    )


def _index(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in _INDEX}


def _place(who: Identity) -> str:
    return f"{who.system_identifier}/{who.database}"


def _change(before: Mapping[str, int], now: Mapping[str, int]) -> dict[str, int] | None:
    """Return the differences, None when any counter went down."""
    change = {name: value - before[name] for name, value in now.items()}
    return None if any(value < 0 for value in change.values()) else change
