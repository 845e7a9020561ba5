"""What can be told of the values of an expression before its index exists.

Without statistics of its own the planner takes half a percent of the rows to match any
expression, a hundred times too many where the values are as distinct as the column's.
"""

from __future__ import annotations

import re

from perfcore.types import IndexKey
from perfcore.whatif.source import ColumnStatistics, Source

# Functions that leave about as many distinct values as there were, and NULLs alone.
_ONE_TO_ONE = re.compile(
    r"\(*(?:lower|upper|btrim|ltrim|rtrim|reverse|md5)\(\s*\(?\"?(\w+)\"?\)?(?:::text)?\s*\)+",
    re.IGNORECASE,
)


def keeps_distinct(key: IndexKey) -> bool:
    """Say whether a key is an expression with about as many distinct values as its column.

    >>> keeps_distinct(IndexKey("lower(email)", True)), keeps_distinct(IndexKey("net * 2", True))
    (True, False)
    """
    return key.is_expression and _ONE_TO_ONE.fullmatch(key.expression.strip()) is not None


def expression_statistics(
    source: Source, schema: str, table: str, index: str, number: int, key: IndexKey
) -> ColumnStatistics | None:
    """Return the statistics of an index's key, of its column's; None where nothing is known.

    The number of distinct values, the share of NULLs and the width carry over, the values
    themselves do not.
    """
    found = _ONE_TO_ONE.fullmatch(key.expression.strip()) if key.is_expression else None
    if found is None:
        return None
    for known in source.statistics:
        if (known.schema, known.relation, known.column) == (schema, table, found[1]):
            if not known.inherited:
                return ColumnStatistics(
                    schema, index, None, number, False, known.null_fraction, known.width,
                    known.distinct, *[None] * 10,
                )  # fmt: skip
    return None
