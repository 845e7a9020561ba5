"""One pass over one target: read everything once, write the differences down."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from psycopg.errors import InsufficientPrivilege

from perfcore.codec import to_json
from perfcore.collect import statements
from perfcore.collect.plans import (
    PASS_LIMIT_S,
    Agenda,
    explain_generic,
    explain_with,
    values_of,
)
from perfcore.collect.target import (
    Connection,
    Identity,
    changed_server,
    identify,
    read,
    same_epoch,
)
from perfcore.collect.texts import TextsUnreadable, read_texts
from perfcore.errors import PlanningFailed, StatementRefused
from perfcore.normalise import fingerprint
from perfcore.plan import Plan
from perfcore.store import targets
from perfcore.store.targets import (
    Gap,
    IndexEvent,
    PlanCandidate,
    SnapshotTaken,
    StoredSnapshot,
)
from perfcore.types import TableInfo

log = logging.getLogger(__name__)

NEWEST_MAJOR = 18
CLOCK_SKEW_S = 5.0
# Fingerprinting many long texts takes a while; the rest is for the next pass.
TEXTS_LIMIT_S = 5.0
TEXTS_AGAIN_S = 600.0
_DATABASE = "pg_stat_database"
_DATABASE_COUNTERS = (
    "blks_hit", "blks_read", "xact_commit", "xact_rollback", "temp_bytes", "deadlocks",
)  # fmt: skip
_INDEX = ("name", "identifier", "definition", "table_oid", "bytes")
_TABLE_FACTS = (
    "row_count", "table_bytes", "live_rows", "dead_rows", "modified_since_analyze", "last_analyze",
)  # fmt: skip
_DESCRIBED_EVERY = timedelta(minutes=1)
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
    own_share: float | None = None  # of the time since the last pass, in our own statements


class ServerChanged(Exception):
    """Another server answered in the middle of a pass: nothing it said can be put together."""


@dataclass
class Collector:
    """Reads one target into the store; it keeps nothing that a restart would miss."""

    target: Connection
    store: Connection
    target_id: int
    slow_ms: float = 100.0
    agenda: Agenda = field(default_factory=Agenda)
    own: set[int] = field(default_factory=set)  # queryids of our own statements
    reading: set[int] = field(default_factory=set)  # those of them that a pass sends
    known: set[int] = field(default_factory=set)  # queryids whose text is in the store
    missing: set[str] = field(default_factory=set)  # indexes that one pass did not find
    asked: dict[int, float] = field(default_factory=dict)  # when a text was not to be had
    hex_texts: int = 0  # texts that were no UTF-8
    refused: set[int] = field(default_factory=set)  # queryids whose missing plan was named
    own_share: float | None = None
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)

    def collect(self) -> PassReport:
        """Make one pass. What the target refuses is named in the report, and the rest goes on.

        psycopg.Error passes through when the target's or the store's connection is lost.
        """
        asked_at = self.clock()
        who = identify(self.target)
        problems = [
            clock_problem(who, asked_at + (self.clock() - asked_at) / 2),
            version_problem(who.server_version),
        ]
        self.own_share = None
        counts = {"statements": 0, "plans": 0}

        def part(name: str, work: Callable[[Identity], int | str]) -> None:
            try:
                result = work(who)
            except (psycopg.Error, ServerChanged, SnapshotTaken) as error:
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
            is_standby=who.is_standby,
        )
        return PassReport(
            counts["statements"], counts["plans"], tuple(p for p in problems if p), self.own_share
        )

    def _confirm(self, who: Identity) -> None:
        """Raise ServerChanged when it is not the server of the pass's beginning that answers."""
        if what := changed_server(who.epoch(None), identify(self.target).epoch(None)):
            raise ServerChanged(f"{what} in the middle of a reading, which was thrown away")

    def _mark_server(self, who: Identity) -> int:
        """Mark a restart, a failover or a reset of the database's statistics."""
        before = targets.read_snapshot(self.store, self.target_id, "server")
        epoch = who.epoch(who.stats_reset)
        if before and same_epoch(before.epoch, epoch):
            return 0
        with self.store.transaction():
            if before:
                what = changed_server(before.epoch, epoch)
                kind = "restart" if what else "statistics reset"
                targets.add_marker(
                    self.store, self.target_id, kind, what or "database statistics reset"
                )
            self._save("server", who, epoch, {}, before)
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
        before = targets.read_snapshot(self.store, self.target_id, statements.VIEW)
        now = statements.read_statements(self.target, extension, who)
        self._confirm(who)
        if not now.entries and not now.hidden:
            # Not even our own: nothing is counted, or nothing is named.
            return (
                "pg_stat_statements shows no statement: set pg_stat_statements.track = 'top' "
                "and compute_query_id = 'auto'"
            )
        problem = self._learn_texts(extension.schema, who, now)
        step = statements.advance(
            before, who, extension.stats_reset, now, is_own=self.own.__contains__,
            is_reading=self.reading.__contains__,
        )  # fmt: skip
        self.own_share = step.own_share
        self._write_statements(step, now)
        if now.hidden:
            return (
                f"{now.hidden} statements of other roles are withheld: "
                "GRANT pg_read_all_stats TO the role that collects"
            )
        return problem or len(step.deltas)

    def _write_statements(self, step: statements.Advance, now: statements.Reading) -> None:
        """Write a reading down: its differences, its gap and its snapshot, or nothing of it."""
        rows = [
            {"target_id": self.target_id, "queryid": q, "start": step.start,
             "end": step.snapshot.taken_at, **d}
            for q, d in step.deltas.items()
        ]  # fmt: skip
        with self.store.transaction():
            targets.save_snapshot(
                self.store, self.target_id, statements.VIEW, step.snapshot, step.expected
            )
            targets.run_many(self.store, "store_insert_statement_delta", rows)
            if step.interval:
                targets.save_interval(self.store, self.target_id, step.interval)
            if step.gap:
                targets.save_gap(self.store, self.target_id, step.gap)
                self._mark_gap(step.gap)
            # Without a reading before it all are new, as far as the store knows.
            ran = step.deltas.keys() if step.expected else self.known
            targets.save_server_times(
                self.store, self.target_id, statements.server_times(now.entries, ran)
            )

    def _mark_gap(self, gap: Gap) -> None:
        """Name a gap in a marker; what happened to the whole server has its own."""
        if gap.queryids is None and gap.reason == "statistics reset":
            targets.add_marker(self.store, self.target_id, gap.reason, "pg_stat_statements reset")
        elif gap.queryids is not None:
            label = {
                "eviction": "pg_stat_statements is full: statements evicted",
                "statistics reset": "statistics of single statements reset",
                "rights changed": "rights to see statements changed",
            }.get(gap.reason, "statements evicted or reset")
            targets.add_marker_once_an_hour(self.store, self.target_id, gap.reason, label)

    def _learn_texts(self, schema: str, who: Identity, now: statements.Reading) -> str:
        """Fetch the texts of new statements; return in words what is wrong with any."""
        if not self.known:
            self.known = targets.read_statement_ids(self.store, self.target_id)
        began = time.monotonic()
        sends = statements.reading_fingerprints(schema, who.server_version)
        self.asked = {q: at for q, at in self.asked.items() if began - at < TEXTS_AGAIN_S}
        queryids = {statements.queryid_of(key) for key in now.entries}
        new = queryids - self.known - self.own - self.asked.keys()
        problem = ""
        try:
            for texts in read_texts(self.target, schema, who.database_oid, new):
                described = statements.describe((t.queryid, t.text) for t in texts)
                targets.save_statements(self.store, self.target_id, described)
                self.known |= {queryid for queryid, _, _ in described}
                own = {t.queryid: t.text for t in texts if t.queryid not in self.known}
                self.own |= own.keys()
                self.reading |= {q for q, text in own.items() if fingerprint(text) in sends}
                self.hex_texts += sum(t.is_hex for t in texts)
                if time.monotonic() - began > TEXTS_LIMIT_S:
                    break
            else:
                # The server has none for these: to ask at each pass would cost it much.
                self.asked |= dict.fromkeys(new - self.known - self.own, began)
        except (psycopg.Error, TextsUnreadable) as error:
            if self.target.closed or self.store.closed:
                raise
            self.asked |= dict.fromkeys(new - self.known - self.own, began)
            problem = f"texts of statements: {str(error).strip()}"
        if self.hex_texts and not problem:
            return f"{self.hex_texts} texts in database {who.database} are not UTF-8: shown as hex"
        return problem

    def _database(self, who: Identity) -> int:
        before = targets.read_snapshot(self.store, self.target_id, _DATABASE)
        row = read(self.target, "target_database")[0]
        self._confirm(who)
        now = {name: int(row[name]) for name in _DATABASE_COUNTERS}
        epoch = who.epoch(who.stats_reset)
        with self.store.transaction():
            self._save(_DATABASE, who, epoch, now, before)
            if before is None:
                return 0
            start = min(before.taken_at, who.now)
            same = same_epoch(before.epoch, epoch)
            change = _change(before.body, now) if same else None
            if change is None:
                reason = changed_server(before.epoch, epoch) or "statistics reset"
                targets.save_gap(self.store, self.target_id, Gap(_DATABASE, start, who.now, reason))
            else:
                targets.run(
                    self.store, "store_insert_database_delta", target_id=self.target_id,
                    start=start, end=who.now, backends=row["backends"],
                    database_bytes=row["database_bytes"], **change,
                )  # fmt: skip
        return 0

    def _tables(self, who: Identity) -> int:
        stored = targets.read_snapshot(self.store, self.target_id, "pg_stat_user_tables")
        rows = read(self.target, "target_tables")
        self._confirm(who)
        epoch = who.epoch(who.stats_reset)
        before = stored if stored and same_epoch(stored.epoch, epoch) else None
        now = {str(r["oid"]): {name: int(r[name]) for name in _TABLE_COUNTERS} for r in rows}
        names = {str(r["oid"]): (r["schema_name"], r["table_name"]) for r in rows}
        deltas = []
        for oid, counters in now.items():
            # A table that was not there counts from 0: it was made in between.
            old = before.body.get(oid, dict.fromkeys(counters, 0)) if before else counters
            change = _change(old, counters)
            if before and change and any(change.values()):
                schema_name, table_name = names[oid]
                deltas.append(
                    {"target_id": self.target_id, "schema_name": schema_name,
                     "table_name": table_name, "start": min(before.taken_at, who.now),
                     "end": who.now, **change}
                )  # fmt: skip
        with self.store.transaction():
            self._save("pg_stat_user_tables", who, epoch, now, stored)
            targets.run_many(self.store, "store_insert_table_delta", deltas)
        self._describe_tables(rows, who)
        return len(deltas)

    def _describe_tables(self, rows: Sequence[Mapping[str, Any]], who: Identity) -> None:
        """Keep what the planner believes of the tables, for whoever reads plans: once a minute."""
        before = targets.read_snapshot(self.store, self.target_id, "tables")
        if before and abs(who.now - before.taken_at) < _DESCRIBED_EVERY:
            return
        described = [
            TableInfo(
                oid=r["oid"], schema=r["schema_name"], name=r["table_name"], columns=(),
                **{name: r[name] for name in _TABLE_FACTS},
            )
            for r in rows
        ]  # fmt: skip
        self._save("tables", who, _place(who), to_json(described), before)

    def _indexes(self, who: Identity) -> int | str:
        """Notice indexes that came or went without Perfcore's doing."""
        before = targets.read_snapshot(self.store, self.target_id, "indexes")
        rows = read(self.target, "target_indexes")
        # One that is dropped while it is read has no definition, and is not locked.
        now = {str(r["oid"]): _index(r) for r in rows if r["definition"] or r["is_locked"]}
        events: list[IndexEvent] = []
        kept: dict[str, Any] = {}
        if before and before.epoch == _place(who):
            for oid, row in now.items():
                if row["definition"] is None:
                    now[oid] = before.body.get(oid, row)
            events, kept = index_events(before.body, now, self.missing)
        with self.store.transaction():
            self._save("indexes", who, _place(who), {**now, **kept}, before)
            for event in events:
                targets.save_index_event(self.store, self.target_id, event)
        self.missing = set(kept)
        if events:
            self.agenda.forget()
        locked = sorted({str(r["table_name"]) for r in rows if r["is_locked"]})
        if locked:
            return f"locked (ACCESS EXCLUSIVE) and skipped: {', '.join(locked[:10])}"
        return len(events)

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

    def _save(
        self, view: str, who: Identity, epoch: str, body: Any, before: StoredSnapshot | None
    ) -> None:
        targets.save_snapshot(
            self.store, self.target_id, view, StoredSnapshot(who.now, epoch, body),
            before.taken_at if before else None,
        )  # fmt: skip


def clock_problem(who: Identity, at: datetime) -> str:
    """Return in words by how much the target's clock is off ours, "" up to five seconds."""
    ahead_s = (who.now - at).total_seconds()
    if abs(ahead_s) <= CLOCK_SKEW_S:
        return ""
    return (
        f"the target's clock is {abs(ahead_s):.0f} s {'ahead of' if ahead_s > 0 else 'behind'} the "
        "collector's, and its statements are shown at the times of its clock: let both follow NTP"
    )


def version_problem(server_version: int) -> str:
    """Return in words that a server is newer than what this version knows, else "".

    >>> version_problem(180006)
    ''
    """
    major = server_version // 10000
    if major <= NEWEST_MAJOR:
        return ""
    return (
        f"PostgreSQL {major} is newer than {NEWEST_MAJOR}, the newest that this version of "
        "Perfcore knows: what it cannot read is missing; upgrade Perfcore"
    )


def index_events(
    before: Mapping[str, Mapping[str, Any]],
    now: Mapping[str, Mapping[str, Any]],
    missing: set[str],
) -> tuple[list[IndexEvent], dict[str, Any]]:
    """Return what became of indexes between two readings, and those to wait a pass for.

    An index of a table that is new, or gone, is not an event of its own; nor is one built
    anew under its name (REINDEX), or whose table was renamed. A vanished index counts at the
    second reading without it: whoever took it back may still be writing so down.
    """
    old_names = {row["name"]: row for row in before.values()}
    new_names = {row["name"]: row for row in now.values()}
    old_tables = {row["table_oid"] for row in before.values()}
    new_tables = {row["table_oid"] for row in now.values()}
    events, kept = [], {}
    for oid, row in now.items():
        # Of one that was locked at first, no definition is known.
        old = old_names.get(row["name"])
        if oid in before or row["definition"] is None:
            continue
        if row["table_oid"] in old_tables and (
            old is None or old["definition"] not in (None, row["definition"])
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
