"""The workload as the advisor weighs it: statements, the endpoints behind them, write rates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from perfcore.advise.statement import StatementShape
from perfcore.config import Config
from perfcore.types import Catalog, IndexDefinition, TableInfo, WorkloadStatement

# What one entry costs to write, in ms: an order of magnitude, stated wherever it is used.
ENTRY_WRITE_MS = {"btree": 0.01, "hash": 0.01, "gin": 0.06, "gist": 0.03, "brin": 0.001}


@dataclass(frozen=True, slots=True)
class Repetition:
    """Requests that ran one statement so often and so long that it is an N+1."""

    requests_per_hour: float
    calls: float  # in one of these requests, on the average
    duration_ms: float  # likewise, all calls together
    share: float  # of the requests that ran the statement at all
    location: str = ""  # "file:line in function", empty when the hook has not seen it


@dataclass(frozen=True, slots=True)
class EndpointUse:
    """How an endpoint runs a statement, from the application's side."""

    service: str
    endpoint: str
    calls_per_request: float
    requests_per_hour: float  # requests that run it at least once
    mean_ms: float = 0.0  # per call as the application saw it, the way there and back included
    max_calls: int = 0  # most calls in one request
    repetition: Repetition | None = None


ForeignKey = tuple[str, tuple[str, ...]]  # "schema.table" and its referencing columns
Endpoints = Mapping[int, Sequence[EndpointUse]]  # by fingerprint


@dataclass(frozen=True, slots=True)
class WriteRate:
    """Row versions that a table gains and loses, per hour."""

    inserts: float = 0.0
    updates: float = 0.0
    hot_updates: float = 0.0
    deletes: float = 0.0

    @property
    def total(self) -> float:
        return self.inserts + self.updates + self.deletes


@dataclass(frozen=True, slots=True)
class Options:
    """Thresholds and limits of one round."""

    target_id: int = 0
    min_table_rows: int = 10_000
    min_gain: float = 0.2  # share of a statement's cost that an index must save
    min_calls: int = 3  # in the window
    min_mean_ms: float = 5.0  # over this a statement is looked at ...
    min_total_ms_per_hour: float = 1_000.0  # ... or over this, however fast one call is
    min_saved_ms_per_hour: float = 50.0
    max_indexes: int = 10  # a round
    storage_budget_bytes: int | None = None  # None: no limit
    max_regression: float = 0.10
    time_limit_s: float = 60.0
    min_saved_cost: float = 0.0  # of one call, in the planner's units
    floor_ms: float = 0.05  # no statement is promised to become faster than this
    unused_after_hours: float = 24.0
    is_timed: bool = True  # the statements' times were measured, not made of costs


def options_of(config: Config, target_id: int = 0) -> Options:
    """Return the options that the settings give."""
    return Options(
        target_id=target_id,
        min_table_rows=config.min_table_rows,
        min_gain=config.min_gain,
        min_saved_ms_per_hour=config.min_saved_ms_per_hour,
        max_indexes=config.max_indexes,
        storage_budget_bytes=config.index_budget_bytes,
        max_regression=config.max_regression,
        time_limit_s=config.advise_time_limit_s,
    )


@dataclass(frozen=True, slots=True)
class Writes:
    """What is written to the tables, measured or from the workload's own statements."""

    rates: Mapping[str, WriteRate]  # by schema.table
    updated_columns: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # rows/hour

    def rate(self, qualified_name: str) -> WriteRate:
        """Return the table's rate, zero where nothing was seen."""
        return self.rates.get(qualified_name, WriteRate())

    def entries_per_hour(self, index: IndexDefinition) -> float:
        """Return how many entries an index would be written per hour.

        An insert writes one, and so does an update that is not HOT; an update of one of
        the index's own columns can no longer be HOT.
        """
        name = f"{index.schema}.{index.table}"
        rate = self.rate(name)
        columns = {k.expression for k in index.keys} | set(index.include)
        updated = self.updated_columns.get(name, {})
        lost_hot = min(rate.hot_updates, sum(v for c, v in updated.items() if c in columns))
        return rate.inserts + (rate.updates - rate.hot_updates) + lost_hot

    def cost_ms_per_hour(self, index: IndexDefinition) -> float:
        """Return the time that keeping the index costs, by ENTRY_WRITE_MS."""
        return self.entries_per_hour(index) * ENTRY_WRITE_MS.get(index.method, 0.03)


def writes_of(
    statements: Iterable[tuple[WorkloadStatement, StatementShape]],
    catalog: Catalog,
    measured: Mapping[str, WriteRate] | None = None,
) -> Writes:
    """Return the write rates: those measured on the tables, else the statements' own rows."""
    seen: dict[str, WriteRate] = {}
    updated: dict[str, dict[str, float]] = {}
    for statement, shape in statements:
        name = shape.written_table
        if not name or statement.window_s <= 0:
            continue
        rows = statement.rows * 3600.0 / statement.window_s
        seen[name] = _added(seen.get(name, WriteRate()), shape.command, rows)
        for column in shape.written_columns:
            columns = updated.setdefault(name, {})
            columns[column] = columns.get(column, 0.0) + rows
    hot = {n: _with_hot(r, catalog, n) for n, r in seen.items()}
    return Writes({**hot, **_of_parents(measured or {}, catalog), **(measured or {})}, updated)


def _of_parents(measured: Mapping[str, WriteRate], catalog: Catalog) -> dict[str, WriteRate]:
    """Return what is written to partitioned tables: all that is written to their partitions."""
    rates = {}
    for table in catalog.tables:
        if table.kind == "p":
            parts = [measured.get(t.qualified_name) for t in catalog.leaves(table)]
            known = [p for p in parts if p is not None]
            if known:
                rates[table.qualified_name] = WriteRate(
                    sum(p.inserts for p in known),
                    sum(p.updates for p in known),
                    sum(p.hot_updates for p in known),
                    sum(p.deletes for p in known),
                )
    return rates


def _added(rate: WriteRate, command: str, rows: float) -> WriteRate:
    return WriteRate(
        rate.inserts + rows * (command == "insert"),
        rate.updates + rows * (command == "update"),
        rate.hot_updates,
        rate.deletes + rows * (command == "delete"),
    )


def _with_hot(rate: WriteRate, catalog: Catalog, name: str) -> WriteRate:
    """Take the share of HOT updates from the table's counters."""
    table = find_table(catalog, name)
    share = table.rows_hot_updated / table.rows_updated if table and table.rows_updated else 0.0
    return WriteRate(rate.inserts, rate.updates, rate.updates * share, rate.deletes)


def find_table(catalog: Catalog, qualified_name: str) -> TableInfo | None:
    """Return the table named "schema.table"."""
    return catalog.qualified(qualified_name)
