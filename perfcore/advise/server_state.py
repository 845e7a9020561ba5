"""What a target's server tells of itself beyond its tables: settings, counters, ids, holders.

Everything is read in one read-only transaction, each view in a savepoint of its own: what the
role may not read, or what fails, costs only that part, and `unread` says so in words.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import psutil
import psycopg
from psycopg import sql
from psycopg.rows import TupleRow, dict_row

from perfcore.db import MARKER, query
from perfcore.plan import Plan
from perfcore.whatif.catalog import read_only

T = TypeVar("T")
Connection = psycopg.Connection[TupleRow]

MB = 1 << 20
_UNIT_BYTES = {"B": 1, "kB": 1 << 10, "8kB": 8 << 10, "MB": MB, "16MB": 16 * MB, "GB": 1 << 30}
_UNIT_MS = {"us": 0.001, "ms": 1.0, "s": 1e3, "min": 60e3, "h": 3600e3, "d": 86400e3}

SETTINGS = (
    "shared_buffers", "effective_cache_size", "work_mem", "hash_mem_multiplier",
    "maintenance_work_mem", "autovacuum_work_mem", "max_connections", "max_parallel_workers",
    "max_parallel_workers_per_gather", "random_page_cost", "seq_page_cost",
    "effective_io_concurrency", "max_wal_size", "min_wal_size", "checkpoint_timeout",
    "checkpoint_completion_target", "wal_segment_size", "wal_level", "autovacuum",
    "autovacuum_max_workers", "autovacuum_naptime", "autovacuum_vacuum_threshold",
    "autovacuum_vacuum_scale_factor", "autovacuum_vacuum_max_threshold",
    "autovacuum_analyze_threshold", "autovacuum_analyze_scale_factor",
    "autovacuum_vacuum_cost_delay", "autovacuum_vacuum_cost_limit", "vacuum_cost_limit",
    "autovacuum_freeze_max_age", "autovacuum_multixact_freeze_max_age", "track_counts",
    "track_io_timing", "jit", "jit_above_cost", "pg_stat_statements.max",
    "max_slot_wal_keep_size",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class SettingValue:
    """A setting as this database's sessions get it."""

    name: str
    text: str  # in its own unit
    unit: str  # "8kB", "ms", empty
    context: str  # postmaster: a restart; sighup: a reload; user: any session
    is_pending_restart: bool = False

    @property
    def number(self) -> float:
        """Return the value in its own unit.

        >>> SettingValue("random_page_cost", "1.1", "", "user").number
        1.1
        """
        return float(self.text)

    @property
    def number_is_special(self) -> bool:
        """Say whether the number stands for something else, which has no unit: -1, or 0."""
        return self.text in ("-1", "0")

    @property
    def size_bytes(self) -> float:
        """Return a size in bytes; -1 stays below zero.

        >>> SettingValue("shared_buffers", "16384", "8kB", "postmaster").size_bytes / MB
        128.0
        """
        return self.number * _UNIT_BYTES[self.unit]

    @property
    def duration_ms(self) -> float:
        return self.number * _UNIT_MS[self.unit]

    @property
    def is_on(self) -> bool:
        return self.text == "on"

    @property
    def needs_restart(self) -> bool:
        return self.context == "postmaster"


def is_true(text: str) -> bool:
    """Return what the server reads in a storage parameter, which it keeps as it was typed.

    >>> [is_true(t) for t in ("on", "T", "1", "no", "OFF", "fal", "0")]
    [True, True, True, False, False, False, False]
    """
    word = text.lower()
    return not (word in ("of", "off", "0") or "false".startswith(word) or "no".startswith(word))


@dataclass(frozen=True, slots=True)
class ServerCounters:
    """The answer of `health_server.sql`."""

    version: int
    database: str
    role: str
    read_at: datetime
    started_at: datetime
    is_standby: bool
    reads_all_stats: bool
    reads_all_settings: bool
    statements_schema: str | None
    stats_since: datetime
    blks_hit: int
    blks_read: int
    read_ms: float  # 0 without track_io_timing
    temp_files: int
    temp_bytes: int
    database_bytes: int
    next_xid: int  # 64 bits: it never wraps


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """Checkpoints since the counters began."""

    timed: int
    requested: int
    since: datetime


@dataclass(frozen=True, slots=True)
class WalWritten:
    """The write-ahead log since its counter began; None on 13, which does not count it."""

    wal_bytes: float | None
    since: datetime


@dataclass(frozen=True, slots=True)
class BlockReads:
    """Reads of blocks with the time they took, 0 ms without track_io_timing."""

    reads: int
    read_ms: float


@dataclass(frozen=True, slots=True)
class DatabaseAge:
    """A database of the server with the ages of its oldest ids."""

    name: str
    xid_age: int
    mxid_age: int


@dataclass(frozen=True, slots=True)
class SessionState:
    """A client's session with an open transaction."""

    pid: int
    role: str
    application: str
    state: str  # active, idle in transaction, ...
    database: str
    began_at: datetime
    state_since: datetime | None
    xid_age: int | None


@dataclass(frozen=True, slots=True)
class SlotState:
    """A replication slot."""

    name: str
    kind: str
    is_active: bool
    database: str
    xid_age: int | None
    retained_bytes: int


@dataclass(frozen=True, slots=True)
class PreparedState:
    """A transaction that was prepared for a two-phase commit and is open yet."""

    gid: str
    role: str
    database: str
    prepared_at: datetime
    xid_age: int


@dataclass(frozen=True, slots=True)
class StandbyState:
    """A standby that is connected."""

    name: str
    address: str
    xid_age: int | None


@dataclass(frozen=True, slots=True)
class TableState:
    """A table's storage, its vacuuming and its place in replication."""

    schema: str
    name: str
    options: tuple[str, ...]  # reloptions: "fillfactor=90"
    pages: int  # as VACUUM or ANALYZE left them, like `tuples`
    tuples: float
    toast_pages: int
    xid_age: int | None
    mxid_age: int | None
    newpage_updates: int  # -1: not counted up to 15
    vacuumed_at: datetime | None
    vacuums: int
    is_readable: bool
    lacks_identity: bool  # no primary key and no other replica identity
    identity: str  # relreplident: d the primary key, i an index, n nothing, f the whole row
    publications: str  # of updates or deletes

    @property
    def qualified_name(self) -> str:
        return f"{self.schema}.{self.name}"

    def option(self, name: str) -> str | None:
        """Return a storage parameter, None where the server's default holds."""
        pairs = (o.partition("=") for o in self.options)
        return next((value for key, _, value in pairs if key == name), None)


@dataclass(frozen=True, slots=True)
class SequenceState:
    """A sequence, once for each column that it fills."""

    schema: str
    name: str
    type: str
    increment: int
    least: int
    most: int
    cycles: bool
    is_readable: bool
    last_value: int | None
    table_schema: str = ""
    table_name: str = ""
    column_name: str = ""
    column_type: str = ""


@dataclass(frozen=True, slots=True)
class ExtendedStatistics:
    """Statistics of several columns together that exist already."""

    schema: str
    table_name: str
    name: str
    kinds: tuple[str, ...]  # d ndistinct, f dependencies, m mcv, e expressions
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class JitCost:
    """What compiling cost in statements below a second that were compiled."""

    statements: int
    calls: int
    exec_ms: float
    jit_ms: float


@dataclass(frozen=True, slots=True)
class StatementList:
    """How well pg_stat_statements' list is large enough; None on 13."""

    stats_reset: datetime | None
    evictions: int | None
    max_entries: int


@dataclass(frozen=True, slots=True)
class IndexUse:
    """What Perfcore's own readings tell of an index, whatever the server's counters forgot."""

    watched_since: datetime
    last_used_at: datetime | None  # its counter moved before this reading


@dataclass(frozen=True, slots=True)
class XidReading:
    """How far the server's transaction ids were at an instant."""

    read_at: datetime
    next_xid: int


@dataclass(frozen=True, slots=True)
class ExecutedPlan:
    """A plan with actual rows, from a trial or a capture."""

    fingerprint: int
    plan: Plan


@dataclass(frozen=True, slots=True)
class Observed:
    """What was stored of earlier readings of the target."""

    index_uses: Mapping[int, IndexUse] = field(default_factory=dict)  # by oid
    xids: XidReading | None = None
    executed: tuple[ExecutedPlan, ...] = ()


@dataclass(frozen=True, slots=True)
class ServerState:
    """One reading of the server; parts that could not be read are empty and named in `unread`."""

    counters: ServerCounters
    settings: Mapping[str, SettingValue]
    memory_bytes: int | None = None  # of the server's host; None: nobody knows
    memory_source: str = ""  # in words
    checkpoints: Checkpoints | None = None
    wal: WalWritten | None = None
    reads: BlockReads | None = None
    databases: tuple[DatabaseAge, ...] = ()
    sessions: tuple[SessionState, ...] = ()
    slots: tuple[SlotState, ...] = ()
    prepared: tuple[PreparedState, ...] = ()
    standbys: tuple[StandbyState, ...] = ()
    tables: Mapping[str, TableState] = field(default_factory=dict)  # by schema.table
    building: frozenset[int] = frozenset()  # oids of indexes being built now
    index_options: Mapping[int, tuple[str, ...]] = field(default_factory=dict)  # by oid
    sequences: tuple[SequenceState, ...] = ()
    extended_statistics: tuple[ExtendedStatistics, ...] = ()
    jit: JitCost | None = None
    statement_list: StatementList | None = None
    unread: tuple[str, ...] = ()  # sentences
    observed: Observed = Observed()

    @property
    def major(self) -> int:
        return self.counters.version // 10000

    def setting(self, name: str) -> SettingValue | None:
        """Return a setting, None where this version or this role does not have it."""
        return self.settings.get(name)

    def size_bytes(self, name: str) -> float | None:
        found = self.settings.get(name)
        return None if found is None else found.size_bytes

    def number(self, name: str, default: float) -> float:
        """Return a setting's number in its own unit."""
        found = self.settings.get(name)
        return default if found is None else found.number

    def xids_per_hour(self) -> float | None:
        """Return how fast transaction ids are used up, None before a second reading."""
        earlier = self.observed.xids
        if earlier is None:
            return None
        hours = (self.counters.read_at - earlier.read_at).total_seconds() / 3600
        used = self.counters.next_xid - earlier.next_xid
        return used / hours if hours >= _MIN_RATE_HOURS and used >= 0 else None


_MIN_RATE_HOURS = 1 / 60


def read_server_state(
    connection: Connection,
    *,
    memory_bytes: int | None = None,
    observed: Observed | None = None,
) -> ServerState:
    """Return what the server tells, with as few rights as pg_monitor.

    `memory_bytes` is the memory of the server's host where somebody told it; else it is known
    only when the server runs on this host. Raises TargetUnavailable when it does not answer.
    """
    with read_only(connection):
        connection.execute(f"SET LOCAL search_path = '' {MARKER}".encode())
        return _Reader(connection).read(memory_bytes, observed or Observed())


@dataclass
class _Reader:
    connection: Connection
    version: int = 0
    unread: list[str] = field(default_factory=list)

    def read(self, told_bytes: int | None, observed: Observed) -> ServerState:
        counters = self.one("health_server", ServerCounters)
        assert counters is not None
        self.version = counters.version
        memory_bytes, source = _memory(self.connection, told_bytes)
        schema = counters.statements_schema
        return ServerState(
            counters=counters,
            settings=self.settings(),
            memory_bytes=memory_bytes,
            memory_source=source,
            checkpoints=self.one("health_checkpoints", Checkpoints),
            wal=self.one("health_wal", WalWritten),
            reads=self.one("health_reads", BlockReads),
            databases=self.all("health_databases", DatabaseAge),
            sessions=self.all("health_sessions", SessionState),
            slots=self.all("health_slots", SlotState),
            prepared=self.all("health_prepared", PreparedState),
            standbys=self.all("health_standbys", StandbyState),
            tables={t.qualified_name: t for t in self.all("health_tables", TableState)},
            building=frozenset(row["oid"] for row in self.rows("health_building")),
            index_options={
                row["oid"]: tuple(row["options"]) for row in self.rows("health_indexes")
            },
            sequences=self.all("health_sequences", SequenceState),
            extended_statistics=self.all("health_extended_statistics", ExtendedStatistics),
            jit=self.one("health_jit", JitCost, schema) if schema else None,
            statement_list=(
                self.one("statements_epoch", StatementList, schema) if schema else None
            ),
            unread=(*self._rights(counters), *self.unread),
            observed=observed,
        )

    def settings(self) -> dict[str, SettingValue]:
        rows = self.rows("health_settings", names=list(SETTINGS))
        return {row["name"]: _made(SettingValue, row) for row in rows}

    def all(self, name: str, kind: Callable[..., T]) -> tuple[T, ...]:
        return tuple(_made(kind, row) for row in self.rows(name))

    def one(self, name: str, kind: Callable[..., T], schema: str | None = None) -> T | None:
        rows = self.rows(name, schema)
        return _made(kind, rows[0]) if rows else None

    def rows(self, name: str, schema: str | None = None, **given: Any) -> list[dict[str, Any]]:
        text: Any = query(name, self.version or self.connection.info.server_version)
        statement = sql.SQL(text).format(schema=sql.Identifier(schema)) if schema else text.encode()
        # By hand, because psycopg's own savepoints would lack our mark in the server's statistics.
        self.connection.execute("SAVEPOINT perfcore_view")
        try:
            with self.connection.cursor(row_factory=dict_row) as c:
                found = c.execute(statement, given).fetchall()
            self.connection.execute("RELEASE SAVEPOINT perfcore_view")
            return found
        except psycopg.errors.Error as error:
            if self.connection.closed or not self.version:
                raise
            self.connection.execute("ROLLBACK TO SAVEPOINT perfcore_view")
            words = (error.diag.message_primary or str(error)).strip()
            self.unread.append(f"{name.removeprefix('health_')}: {words}.")
            return []

    def _rights(self, counters: ServerCounters) -> list[str]:
        found = []
        if not counters.reads_all_stats:
            found.append("sessions and statements of other roles: pg_read_all_stats is missing.")
        if not counters.reads_all_settings:
            found.append("some settings: pg_read_all_settings is missing.")
        return found


def _made(kind: Callable[..., T], row: Mapping[str, Any]) -> T:
    names = {f.name for f in fields(kind)}  # type: ignore[arg-type]
    given = {k: tuple(v) if isinstance(v, list) else v for k, v in row.items() if k in names}
    return kind(**given)


def _memory(connection: Connection, told_bytes: int | None) -> tuple[int | None, str]:
    if told_bytes is not None:
        return told_bytes, "as PERFCORE_TARGET_MEMORY_MB says"
    if not is_on_this_host(connection):
        return None, ""
    return memory_of_this_host(), "read on the server's own host"


def is_on_this_host(connection: Connection) -> bool:
    """Say whether the server's process is one of this host's.

    A loopback address proves nothing: a tunnel or a container may lie behind it. So the process
    with the session's number must be a PostgreSQL that began when the session did.
    """
    row: Any = connection.execute(
        "SELECT extract(epoch FROM backend_start) FROM pg_catalog.pg_stat_activity "
        f"WHERE pid = pg_catalog.pg_backend_pid() {MARKER}".encode()
    ).fetchone()
    try:
        process = psutil.Process(connection.info.backend_pid)
        is_server = process.name().startswith(("postgres", "postmaster"))
        return (
            is_server and abs(process.create_time() - float(row[0])) < timedelta(seconds=3).seconds
        )
    except (psutil.Error, TypeError):
        return False


def memory_of_this_host(cgroup: Path = Path("/sys/fs/cgroup/memory.max")) -> int:
    """Return the bytes of memory that programs here may use: the control group's limit counts."""
    total = int(psutil.virtual_memory().total)
    try:
        text = cgroup.read_text().strip() if os.name == "posix" else "max"
    except OSError:
        return total
    return min(total, int(text)) if text.isdigit() else total


def told_memory_bytes(told: Sequence[tuple[str, int]], target: str) -> int | None:
    """Return the memory that was told for the target of that name, None where none was.

    >>> told_memory_bytes((("shop", 2),), "shop"), told_memory_bytes((), "shop")
    (2097152, None)
    """
    found = dict(told).get(target)
    return None if found is None else found * MB
