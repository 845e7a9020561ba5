"""What a choice of indexes is made from and made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from perfcore.advise.candidates import Candidate
from perfcore.types import Catalog, IndexDefinition, WorkloadStatement

# ANALYZE looks at 30,000 rows by default: of so many values it meets each often enough.
_SAMPLED_DISTINCT = 3_000.0
_NEARLY_UNIQUE = 0.9  # of the rows

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


def table_of(index: IndexDefinition) -> str:
    """Return "schema.table"."""
    return f"{index.schema}.{index.table}"


def reserved_bytes(index: IndexDefinition, index_bytes: int, catalog: Catalog) -> int:
    """Return the room to keep for an index of that estimated size.

    A budget is kept on disk, not in estimates, and these errors go one way: ANALYZE finds too few
    of the distinct values of a column that has many, a fifth too few where each is in three rows,
    so equal keys share less than it seems; nobody knows the values of the rows that a predicate
    leaves; and a GIN index depends on what is inside the values.
    """
    if index.method not in ("btree", "brin", "hash"):
        return round(index_bytes * 1.25)
    if index.predicate:
        return round(index_bytes * 1.2)
    if index.method == "btree" and not index.include:
        return round(index_bytes * (1.15 if _shares_keys(index, catalog) else 1.05))
    return round(index_bytes * 1.03)


def _shares_keys(index: IndexDefinition, catalog: Catalog) -> bool:
    """Say whether the size rests on how many of very many values are distinct."""
    table = catalog.table(index.table, index.schema)
    column = table.column(index.keys[0].expression) if table is not None else None
    if index.method != "btree" or len(index.keys) > 1 or index.include or column is None:
        return False
    distinct = column.n_distinct or 0.0
    return distinct > _SAMPLED_DISTINCT or -_NEARLY_UNIQUE < distinct < 0
