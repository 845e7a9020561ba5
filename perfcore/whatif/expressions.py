"""What can be told of the values of an expression before its index exists.

Without statistics of its own the planner takes half a percent of the rows to match any
expression, a hundred times too many where the values are as distinct as the column's.
"""

from __future__ import annotations

import re

from perfcore.types import IndexKey
from perfcore.whatif import size
from perfcore.whatif.source import ColumnStatistics, Source

# Functions that leave about as many distinct values as there were, and NULLs alone.
_ONE_TO_ONE = re.compile(
    r"\(*(?:lower|upper|btrim|ltrim|rtrim|reverse|md5)\(\s*\(?\"?(\w+)\"?\)?(?:::text)?\s*\)+",
    re.IGNORECASE,
)


def has_known_values(key: IndexKey) -> bool:
    """Say whether the column's statistics tell how many values a key that is an expression has.

    That is of functions that keep values apart, and of the members of documents.

    >>> [has_known_values(IndexKey(e, True)) for e in ("lower(email)", "doc ->> 'a'", "net * 2")]
    [True, True, False]
    """
    if not key.is_expression:
        return False
    whole = _ONE_TO_ONE.fullmatch(key.expression.strip())
    return whole is not None or size.member_of(key.expression) is not None


def expression_statistics(
    source: Source, schema: str, table: str, index: str, number: int, key: IndexKey
) -> ColumnStatistics | None:
    """Return the statistics of an index's key, of its column's; None where nothing is known.

    The number of distinct values, the share of NULLs and the width carry over, the values
    themselves do not. Those of a document's member are those in the sample of documents.
    """
    found = _ONE_TO_ONE.fullmatch(key.expression.strip()) if key.is_expression else None
    if found is None:
        return _of_member(source, schema, table, index, number, key)
    for known in source.statistics:
        if (known.schema, known.relation, known.column) == (schema, table, found[1]):
            if not known.inherited:
                return ColumnStatistics(
                    schema, index, None, number, False, known.null_fraction, known.width,
                    known.distinct, *[None] * 10,
                )  # fmt: skip
    return None


def _of_member(
    source: Source, schema: str, table: str, index: str, number: int, key: IndexKey
) -> ColumnStatistics | None:
    owner = source.catalog.table(table, schema)
    member = size.member(owner, key.expression) if owner and key.is_expression else None
    if member is None or member.n_distinct is None:
        return None
    return ColumnStatistics(
        schema, index, None, number, False, member.null_fraction or 0.0,
        member.avg_width_bytes or 0, member.n_distinct, *[None] * 10,
    )  # fmt: skip
