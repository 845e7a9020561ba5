"""What a choice of indexes is made from and made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from perfcore.advise.candidates import Candidate
from perfcore.advise.statement import TableUse
from perfcore.types import (
    Catalog,
    ColumnInfo,
    IndexDefinition,
    TableInfo,
    WorkloadStatement,
)
from perfcore.whatif.size import estimate_index_bytes, largest_index_bytes, row_count

# The share that is done, from 0 to 1, and in words what is being done.
Progress = Callable[[float, str], None]


def silent(share: float, what: str) -> None:
    """Report progress to nobody."""


@dataclass(frozen=True, slots=True)
class Work:
    """A statement that may be helped: its text for the planner and its cost as things are.

    A statement planned with several sets of values is several works, each with its weight.
    """

    statement: WorkloadStatement
    text: str
    tables: frozenset[str]  # schema.table
    base_cost: float
    weight: float = 1.0  # the share of the statement's calls
    # What it compares, joins, orders and groups by, each with its table; empty: not known.
    keys: frozenset[tuple[str, str]] = frozenset()

    @property
    def calls_per_hour(self) -> float:
        return self.weight * self.statement.calls_per_hour

    def may_use(self, index: IndexDefinition) -> bool:
        """Say whether a plan of the statement could begin with the index's first key."""
        name = table_of(index)
        if name not in self.tables:
            return False
        return not self.keys or (name, index.keys[0].expression) in self.keys

    def mean_ms_at(self, cost: float, floor_ms: float) -> float:
        """Return the mean time scaled by cost, never promised below the floor."""
        before = self.statement.mean_exec_time_ms
        return min(max(before * cost / self.base_cost, floor_ms), max(before, floor_ms))


@dataclass(frozen=True, slots=True)
class Selection:
    """The chosen indexes; `stopped_early` when the time ran out on the way.

    `bound_ms_per_hour` is what no set of the same candidates can save more than, net of
    writes; None where that was not worked out.
    """

    chosen: tuple[Candidate, ...] = ()
    stopped_early: bool = False
    saved_ms_per_hour: float = 0.0
    bound_ms_per_hour: float | None = None
    least_ms_per_hour: float = 0.0  # that an index had to save


def table_of(index: IndexDefinition) -> str:
    """Return "schema.table"."""
    return f"{index.schema}.{index.table}"


def with_references(catalog: Catalog, uses: Iterable[TableUse]) -> Catalog:
    """Return the catalogue in which a column that joins a unique key has no more values than that.

    Where a database declares no foreign keys, its statements tell what refers to what.
    """
    most: dict[tuple[str, str, str], float] = {}
    for use in uses:
        for join in use.joins:
            other = catalog.qualified(join.other_table)
            if other is not None and _is_unique(other, join.other_column):
                most[use.schema, use.table, join.key.expression] = row_count(other)
    if not most:
        return catalog

    def bounded(table: TableInfo, column: ColumnInfo) -> ColumnInfo:
        known = most.get((table.schema, table.name, column.name))
        return column if known is None else replace(column, most_distinct=known)

    named = {(schema, name) for schema, name, _ in most}
    tables = (
        replace(t, columns=tuple(bounded(t, c) for c in t.columns))
        if (t.schema, t.name) in named
        else t
        for t in catalog.tables
    )
    return replace(catalog, tables=tuple(tables))


def _is_unique(table: TableInfo, column: str) -> bool:
    return any(i.is_unique and not i.predicate and i.keys == (column,) for i in table.indexes)


def reserved_bytes(index: IndexDefinition, index_bytes: int, catalog: Catalog) -> int:
    """Return the room to keep for an index of that estimated size.

    A budget is kept on disk, not in estimates, and these errors go one way: of many values that
    are no numbers ANALYZE finds too few, so equal keys share less than it seems; nobody knows the
    values of the rows that a predicate leaves; and the size of an index of members depends on how
    rare those are that no sample holds.
    """
    factor = _MARGINS.get(index.method, 1.03)
    if index.predicate:
        factor = max(factor, 1.2)
    if index.method == "btree" and not index.include:
        estimated = estimate_index_bytes(catalog, index)
        factor = max(factor, 1.05, 1.02 * largest_index_bytes(catalog, index) / estimated)
    return round(index_bytes * factor)


_MARGINS = {"gin": 1.4, "gist": 1.3, "spgist": 1.3}
