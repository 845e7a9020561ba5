"""The values that travel between the modules: frozen, typed, with their units in their names."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import cached_property, lru_cache
from typing import TypeVar

from psycopg import sql

from perfcore.metric_type import MetricType as MetricType


class Evidence(StrEnum):
    """How well a gain is known, weakest first."""

    ESTIMATED = "estimated"  # planner cost
    MEASURED = "measured"  # executed in a lab
    PROVEN = "proven"  # live traffic before and after


class Verdict(StrEnum):
    """What live traffic says about a change."""

    IMPROVED = "improved"
    NO_EFFECT = "no effect"
    REGRESSED = "regressed"
    WAITING = "not enough data yet"


@dataclass(frozen=True, slots=True)
class TimeRange:
    """A half-open interval [start, end) in UTC.

    >>> r = TimeRange(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, 1, tzinfo=UTC))
    >>> r.duration_s
    3600.0
    >>> r.previous().end == r.start
    True
    """

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        if self.start.tzinfo is None or self.end.tzinfo is None:
            raise ValueError("a time range needs instants with a time zone")
        if self.end <= self.start:
            raise ValueError(f"the range ends at {self.end}, not after its start {self.start}")

    @classmethod
    def last(cls, span: timedelta, now: datetime | None = None) -> TimeRange:
        """Return the range of that length that ends now."""
        end = now or datetime.now(UTC)
        return cls(end - span, end)

    @property
    def duration_s(self) -> float:
        return (self.end - self.start).total_seconds()

    def shifted(self, by: timedelta) -> TimeRange:
        """Return the same length of time, moved; negative is earlier."""
        return TimeRange(self.start + by, self.end + by)

    def previous(self) -> TimeRange:
        """Return the range of equal length that ends where this one starts."""
        return self.shifted(self.start - self.end)


@dataclass(frozen=True, slots=True)
class Target:
    """A database that Perfcore watches; `apply_dsn` is empty where nothing may be changed."""

    target_id: int
    name: str
    dsn: str = field(repr=False)
    apply_dsn: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class IndexKey:
    """One key of an index: a column, or an expression with `is_expression`."""

    expression: str  # an unquoted column name, or SQL text
    is_expression: bool = False
    descending: bool = False
    nulls_first: bool | None = None  # None: PostgreSQL's default for the direction
    operator_class: str = ""

    def to_sql(self) -> sql.Composable:
        text: sql.Composable = (
            sql.SQL("({})").format(sql.SQL(self.expression))
            if self.is_expression
            else sql.Identifier(self.expression)
        )
        if self.operator_class:
            text += sql.SQL(" {}").format(sql.SQL(self.operator_class))
        if self.descending:
            text += sql.SQL(" DESC")
        if self.nulls_first is not None:
            text += sql.SQL(" NULLS FIRST" if self.nulls_first else " NULLS LAST")
        return text


@dataclass(frozen=True, slots=True)
class IndexDefinition:
    """A proposed index as structure; its DDL is generated, never typed.

    >>> i = IndexDefinition("public", "orders", (IndexKey("customer_id"),))
    >>> i.ddl(concurrently=False)
    'CREATE INDEX "orders_customer_id_idx" ON "public"."orders" USING btree ("customer_id")'
    """

    schema: str
    table: str
    keys: tuple[IndexKey, ...]
    method: str = "btree"
    include: tuple[str, ...] = ()
    predicate: str = ""  # SQL text of a partial index's WHERE
    unique: bool = False
    pages_per_range: int | None = None  # of a BRIN index; None: PostgreSQL's own 128

    @property
    def name(self) -> str:
        """Return a readable name of at most 63 bytes, hashed where it would be ambiguous."""
        return _name(self)

    def _make_name(self) -> str:
        parts = [k.expression if not k.is_expression else "expr" for k in self.keys]
        plain = self.method == "btree" and not self.include and not self.predicate
        exact = plain and all(not k.is_expression and not k.descending for k in self.keys)
        suffix = "_idx" if exact else "_" + self.digest[:6] + "_idx"
        stem = "_".join([self.table, *parts])
        room = 63 - len(suffix)
        if len(stem.encode()) > room:
            suffix = "_" + self.digest[:6] + "_idx"
            stem = stem.encode()[: 63 - len(suffix)].decode(errors="ignore")
        return stem + suffix

    @property
    def digest(self) -> str:
        """Return what identifies the definition, whatever its name."""
        return _digest(self)

    def body(self) -> str:
        """Return the DDL from the table on, the part that decides what the index is."""
        return _body(self)

    def _compose(self) -> str:
        text = sql.SQL("{} USING {} ({})").format(
            sql.Identifier(self.schema, self.table),
            sql.SQL(self.method),
            sql.SQL(", ").join(k.to_sql() for k in self.keys),
        )
        if self.include:
            text += sql.SQL(" INCLUDE ({})").format(
                sql.SQL(", ").join(sql.Identifier(c) for c in self.include)
            )
        if self.pages_per_range is not None:
            text += sql.SQL(" WITH (pages_per_range = {})").format(self.pages_per_range)
        if self.predicate:
            text += sql.SQL(" WHERE {}").format(sql.SQL(self.predicate))
        return text.as_string(None)

    def ddl(self, *, concurrently: bool = True, name: str = "") -> str:
        """Return the CREATE INDEX that would be run; `name` replaces the generated one."""
        words = "CREATE UNIQUE INDEX" if self.unique else "CREATE INDEX"
        how = " CONCURRENTLY" if concurrently else ""
        ident = sql.Identifier(name or self.name).as_string(None)
        return f"{words}{how} {ident} ON {self.body()}"

    def undo(self, *, concurrently: bool = True, name: str = "") -> str:
        """Return the DROP INDEX that takes it back."""
        how = "CONCURRENTLY " if concurrently else ""
        return f"DROP INDEX {how}" + sql.Identifier(self.schema, name or self.name).as_string(None)


# An advisor asks for these a hundred thousand times, of a few hundred indexes.
@lru_cache(maxsize=8192)
def _body(index: IndexDefinition) -> str:
    return index._compose()


@lru_cache(maxsize=8192)
def _digest(index: IndexDefinition) -> str:
    return hashlib.sha256(_body(index).encode()).hexdigest()[:16]


@lru_cache(maxsize=8192)
def _name(index: IndexDefinition) -> str:
    return index._make_name()


@dataclass(frozen=True, slots=True)
class ColumnInfo:
    """A column with what pg_stats knows of it; statistics are None before the first ANALYZE."""

    name: str
    type: str  # format_type(): "integer", "timestamp with time zone", "jsonb"
    not_null: bool
    avg_width_bytes: int | None = None
    null_fraction: float | None = None
    n_distinct: float | None = None  # as in pg_stats: negative is a fraction of the rows
    correlation: float | None = None
    most_common_values: tuple[str, ...] = ()
    most_common_freqs: tuple[float, ...] = ()
    histogram_bounds: tuple[str, ...] = ()
    deduplicates: bool | None = None  # whether a B-tree keeps equal values once; None: unknown
    most_distinct: float | None = None  # rows of the table that it references


@dataclass(frozen=True, slots=True)
class IndexInfo:
    """An existing index."""

    oid: int
    schema: str
    table: str
    name: str
    definition: str  # pg_get_indexdef()
    method: str
    keys: tuple[str, ...]  # a column's name; else SQL: an expression, or a column COLLATE "x"
    include: tuple[str, ...]
    predicate: str
    is_unique: bool  # at any time: not so where the check is deferrable
    is_primary: bool
    is_constraint: bool  # backs a primary key, a unique, exclusion or foreign key constraint
    is_replica_identity: bool
    is_valid: bool
    index_bytes: int
    scans: int  # idx_scan since the statistics were reset
    descending: tuple[bool, ...] = ()
    opclasses: tuple[str, ...] = ()
    parent: str = ""  # schema.index of the partitioned table that it is a part of
    nulls_first: tuple[bool, ...] = ()  # of each key; by default as it is `descending`

    def rebuild(self) -> str:
        """Return the statement that builds it anew while writes go on."""
        return re.sub(r"^(CREATE (?:UNIQUE )?INDEX) ", r"\1 CONCURRENTLY ", self.definition)


@dataclass(frozen=True, slots=True)
class TableInfo:
    """A table with its size, its write counts and its columns in attribute order."""

    oid: int
    schema: str
    name: str
    row_count: float  # pg_class.reltuples, -1 if never analysed
    table_bytes: int
    columns: tuple[ColumnInfo, ...]
    indexes: tuple[IndexInfo, ...] = ()
    live_rows: int = 0  # pg_stat_user_tables.n_live_tup
    dead_rows: int = 0
    modified_since_analyze: int = 0
    seq_scans: int = 0
    idx_scans: int = 0
    rows_inserted: int = 0
    rows_updated: int = 0
    rows_hot_updated: int = 0
    rows_deleted: int = 0
    blocks_hit: int = 0
    blocks_read: int = 0
    last_analyze: datetime | None = None
    kind: str = "r"  # pg_class.relkind: r, p for a partitioned table, m for a materialized view
    parent: str = ""  # schema.table that it is a partition or a child of

    @property
    def qualified_name(self) -> str:
        return f"{self.schema}.{self.name}"

    def column(self, name: str) -> ColumnInfo | None:
        """Return the column of that name, None if there is none."""
        return next((c for c in self.columns if c.name == name), None)


@dataclass(frozen=True, slots=True)
class ViewInfo:
    """A view, its definition with every name in full."""

    schema: str
    name: str
    definition: str  # pg_get_viewdef()


_Item = TypeVar("_Item")
_Named = TypeVar("_Named", TableInfo, ViewInfo)


@dataclass(frozen=True)
class Catalog:
    """What a target's catalogue said at one instant: tables and what is kept like them.

    Without slots, so that it remembers where its tables are: a round asks a hundred thousand times.
    """

    server_version: int  # server_version_num: 150020
    database: str
    read_at: datetime
    tables: tuple[TableInfo, ...]
    stats_since: datetime | None = None  # pg_stat_database.stats_reset, or the server's start
    extensions: tuple[str, ...] = ()
    views: tuple[ViewInfo, ...] = ()

    def view(self, name: str, schema: str = "") -> ViewInfo | None:
        """Return a view by name; without a schema the first match, `public` before others."""
        return _first(self._views_named.get(name, ()), schema)

    def table(self, name: str, schema: str = "") -> TableInfo | None:
        """Return a table by name; without a schema the first match, `public` before others."""
        return _first(self._tables_named.get(name, ()), schema)

    def qualified(self, name: str) -> TableInfo | None:
        """Return the table of that `schema.name`, None if there is none."""
        return self._tables_qualified.get(name)

    def children(self, table: TableInfo) -> tuple[TableInfo, ...]:
        """Return the partitions of a table, or what inherits from it, one level down."""
        return self._tables_under.get(table.qualified_name, ())

    @cached_property
    def inherited(self) -> frozenset[str]:
        """Return the tables whose children are no partitions: their keys do not hold over them."""
        kinds = {t.qualified_name: t.kind for t in self.tables}
        return frozenset(p for p in self._tables_under if kinds.get(p, "p") != "p")

    @cached_property
    def _views_named(self) -> dict[str, tuple[ViewInfo, ...]]:
        return _grouped(self.views, lambda v: v.name)

    @cached_property
    def _tables_named(self) -> dict[str, tuple[TableInfo, ...]]:
        return _grouped(self.tables, lambda t: t.name)

    @cached_property
    def _tables_qualified(self) -> dict[str, TableInfo]:
        return {t.qualified_name: t for t in reversed(self.tables)}

    @cached_property
    def _tables_under(self) -> dict[str, tuple[TableInfo, ...]]:
        return _grouped((t for t in self.tables if t.parent), lambda t: t.parent)

    def leaves(self, table: TableInfo) -> tuple[TableInfo, ...]:
        """Return the tables that hold a table's rows: itself, or a partitioned one's partitions."""
        if table.kind != "p":
            return (table,)
        return tuple(leaf for child in self.children(table) for leaf in self.leaves(child))


def _grouped(items: Iterable[_Item], key: Callable[[_Item], str]) -> dict[str, tuple[_Item, ...]]:
    found: dict[str, list[_Item]] = {}
    for item in items:
        found.setdefault(key(item), []).append(item)
    return {name: tuple(group) for name, group in found.items()}


def _first(named: Sequence[_Named], schema: str) -> _Named | None:
    fitting = [n for n in named if not schema or n.schema == schema]
    return min(fitting, key=lambda n: (n.schema != "public", n.schema), default=None)


@dataclass(frozen=True, slots=True)
class WorkloadStatement:
    """A statement with its weight, the unit the advisor works on."""

    fingerprint: int
    queryid: int
    text: str  # as in pg_stat_statements: constants are $n
    calls: int  # in the window
    total_exec_time_ms: float
    window_s: float
    rows: int = 0
    shared_blks_hit: int = 0
    shared_blks_read: int = 0
    temp_blks_written: int = 0

    @property
    def mean_exec_time_ms(self) -> float:
        return self.total_exec_time_ms / self.calls if self.calls else 0.0

    @property
    def calls_per_hour(self) -> float:
        return self.calls * 3600.0 / self.window_s if self.window_s > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Finding:
    """A fact worth acting on, with its numbers in words."""

    kind: str  # "seq_scan", "n_plus_one", "unused_index", "sort_spill", "low_cache_hit", ...
    summary: str  # one sentence
    numbers: tuple[tuple[str, str], ...] = ()  # label, value with unit


@dataclass(frozen=True, slots=True)
class PlanFinding:
    """What one node of a plan shows to be wrong, with its numbers and what follows from it."""

    kind: str  # "seq_scan_keeps_few", "misestimate", "sort_spill", ...
    node: int  # its place in `plan.root.walk()`, from 0
    summary: str  # one sentence
    numbers: tuple[tuple[str, str], ...]  # label, value with unit
    consequence: str  # what to do about it, one sentence


@dataclass(frozen=True, slots=True)
class StatementGain:
    """What a suggestion does to one statement, by the planner."""

    fingerprint: int
    queryid: int
    text: str
    cost_before: float
    cost_after: float
    calls_per_hour: float
    mean_ms_before: float
    mean_ms_after: float  # mean_ms_before scaled by the cost ratio

    @property
    def saved_ms_per_hour(self) -> float:
        return (self.mean_ms_before - self.mean_ms_after) * self.calls_per_hour


@dataclass(frozen=True, slots=True)
class EndpointGain:
    """What a suggestion is expected to save per request of an endpoint."""

    service: str
    endpoint: str
    saved_ms_per_request: float
    requests_per_hour: float


@dataclass(frozen=True, slots=True)
class Suggestion:
    """An action that answers a finding."""

    suggestion_id: str  # stable: the same action on the same target keeps its id
    target_id: int
    kind: str  # index, drop_index, rewrite, cache, setting, maintenance
    title: str
    reason: str  # one paragraph: why this, why now
    finding: Finding
    evidence: Evidence
    saved_ms_per_hour: float  # ranks the list; 0 where time is not what it saves
    ddl: str = ""
    undo: str = ""
    index: IndexDefinition | None = None
    index_bytes: int | None = None  # by our own estimate
    write_cost: str = ""  # in words, with numbers
    risk: str = ""
    statements: tuple[StatementGain, ...] = ()
    endpoints: tuple[EndpointGain, ...] = ()
    caveats: tuple[str, ...] = ()
    rewritten_sql: str = ""
    present: str = ""  # of a setting or a state: the value as it is, with its unit
    proposed: str = ""  # the value it should have
    verify: str = ""  # how to see that it helped
    plan_change: str = ""  # what becomes of the plan: "Seq Scan -> Index Scan"
    promised_ms_per_hour: float = 0.0  # by the planner alone, before it was corrected
    write_ms_per_hour: float = 0.0  # what keeping a new index costs at the present rate of writes


@dataclass(frozen=True, slots=True)
class SuggestionPlans:
    """The plans of a suggestion's most saving statement, as EXPLAIN (FORMAT JSON) tells them."""

    suggestion_id: str
    fingerprint: int
    statement: str  # as it was planned
    before: Mapping[str, object] = field(repr=False)
    after: Mapping[str, object] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Rejection:
    """An index that was weighed and not suggested, with the reason."""

    index: IndexDefinition
    reason: str  # one sentence
    fingerprints: tuple[int, ...]  # of the statements it was weighed for
    index_bytes: int | None = None
    saved_ms_per_hour: float = 0.0  # what it alone would save, by the planner


class SilenceReason(StrEnum):
    """Why a statement has no suggestion; the value is the sentence shown."""

    NOT_A_SELECT = "it is not a SELECT, UPDATE or DELETE, so no index can shorten its search"
    UNPARSABLE = "its text could not be parsed"
    CATALOG_ONLY = "it reads no user table"
    SMALL_TABLE = "its tables are small enough that reading them whole is the cheapest plan"
    FAST = "it is already fast and rare enough that no index would repay its cost"
    SERVED = "existing indexes already serve every predicate it has"
    NO_CANDIDATE = "it has no predicate, join or order that an index could serve"
    NO_GAIN = (
        "the planner does not choose any of the candidate indexes, or gains too little from them"
    )
    OUTBID = "an index would help it, but not enough for what it costs beside the others"
    PLANNING_FAILED = "the planner could not plan it in the twin"


@dataclass(frozen=True, slots=True)
class Silence:
    """A statement that got no suggestion, with the reason."""

    fingerprint: int
    queryid: int
    text: str
    reason: SilenceReason
    detail: str = ""


@dataclass(frozen=True, slots=True)
class ConfidenceInterval:
    """A point with its bounds; ratios are variant divided by baseline, below 1 is faster."""

    value: float
    low: float
    high: float
    level: float = 0.95
