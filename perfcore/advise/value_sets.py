"""Values to plan a statement with, where its parameters hide which are asked for.

The generic plan takes the average value. Where a few values have most of the rows, an index that
serves the average may fail the frequent ones, and one that pays for a rare value may not pay at
all: so such a statement is weighed with a typical, a frequent and a rare value.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from psycopg import sql

from perfcore.advise.statement import Operator, StatementShape
from perfcore.types import Catalog, ColumnInfo

# Nobody knows how often each is asked for: half of the calls are taken as typical.
TYPICAL, FREQUENT, RARE = 0.5, 0.25, 0.25
_SKEWED = 5.0  # the most frequent value has so many times the rows of a typical one


@dataclass(frozen=True, slots=True)
class ValueSet:
    """SQL text for some of a statement's `$n`, and the share of its calls taken to have it."""

    share: float
    literals: Mapping[int, str] = field(default_factory=dict)


def value_sets(
    shape: StatementShape, catalog: Catalog, fixed: Mapping[int, str]
) -> tuple[ValueSet, ...]:
    """Return the sets, the typical one first; only that one where no compared column is skewed.

    `fixed` are parameters whose value is decided already; every set has them.
    """
    frequent, rare = dict(fixed), dict(fixed)
    for number, column in _compared(shape, catalog):
        if number not in fixed and _is_skewed(column):
            frequent.setdefault(number, _quoted(column.most_common_values[0]))
            rare.setdefault(number, _quoted(_rare_value(column)))
    if len(frequent) == len(fixed):
        return (ValueSet(1.0, fixed),)
    return ValueSet(TYPICAL, fixed), ValueSet(FREQUENT, frequent), ValueSet(RARE, rare)


def _compared(shape: StatementShape, catalog: Catalog) -> Iterator[tuple[int, ColumnInfo]]:
    for use in shape.uses:
        table = catalog.table(use.table, use.schema)
        for predicate in use.predicates:
            is_equal = predicate.operator is Operator.EQUAL and predicate.parameter
            column = table.column(predicate.key.expression) if table and is_equal else None
            if column is not None:
                yield predicate.parameter, column


def _is_skewed(column: ColumnInfo) -> bool:
    """Say whether the most frequent value has many times the rows that the others have."""
    if not column.most_common_freqs or column.n_distinct is None or column.n_distinct <= 0:
        return False
    others = column.n_distinct - len(column.most_common_freqs)
    rest = max(0.0, 1.0 - sum(column.most_common_freqs) - (column.null_fraction or 0.0))
    typical = rest / others if others >= 1 else column.most_common_freqs[-1]
    return column.most_common_freqs[0] >= _SKEWED * max(typical, 1e-12)


def _rare_value(column: ColumnInfo) -> str:
    bounds = column.histogram_bounds
    return bounds[len(bounds) // 2] if bounds else column.most_common_values[-1]


def _quoted(value: str) -> str:
    return sql.Literal(value).as_string(None)
