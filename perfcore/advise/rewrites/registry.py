"""The rules, and all that they say of one statement."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sqlglot import exp

from perfcore.advise.rewrites import (
    alternatives,
    arrays,
    casts,
    counting,
    duplicates,
    groups,
    membership,
    paging,
    ranges,
    sameness,
    scalars,
    unseen,
    width,
)
from perfcore.advise.rewrites.reading import Reader
from perfcore.advise.rewrites.rewrite import Parsed, Recognise, Rewrite
from perfcore.advise.statement import Unparsable, parse
from perfcore.types import Catalog

RULES: dict[str, Recognise] = {
    "keyset": paging.keyset,
    "not_exists": membership.not_exists,
    "range": ranges.function_range,
    "expression_index": ranges.expression_index,
    "column_cast": casts.column_cast,
    "or_to_union": alternatives.or_to_union,
    "grouped_join": scalars.grouped_join,
    "lookup_join": scalars.lookup_join,
    "distinct_to_exists": duplicates.distinct_to_exists,
    "exists": counting.count_to_exists,
    "trigram": ranges.leading_wildcard,
    "random_order": paging.random_order,
    "select_star": width.select_star,
    "any_array": membership.long_list,
    "array_member": arrays.array_member,
    "not_distinct": sameness.not_distinct,
    "one_lateral": scalars.one_lateral,
    "needless_distinct": duplicates.needless_distinct,
    "unseen_order": unseen.unseen_order,
    "union_all": duplicates.union_to_union_all,
    "having_to_where": groups.having_to_where,
    "count_of_key": duplicates.count_of_key,
}
_WRITES = (exp.Insert, exp.Update, exp.Delete, exp.Merge, exp.Into, exp.Lock)


def rewrites_of(
    text: str, catalog: Catalog, rules: Iterable[Recognise] = tuple(RULES.values())
) -> tuple[Rewrite, ...]:
    """Return what each rule makes of a query; raises Unparsable for what is not understood.

    Nothing is rewritten that locks rows or writes: which rows it touches is then a matter of
    the plan too.
    """
    tree = parse(text)
    if not isinstance(tree, exp.Query) or tree.find(*_WRITES) is not None:
        return ()
    if any(o.args.get("with_ties") for o in tree.find_all(exp.LimitOptions)):
        return ()
    parsed = Parsed(tree, Reader(tree, catalog))
    return tuple(_readable(parsed, rules))


def _readable(parsed: Parsed, rules: Iterable[Recognise]) -> Iterator[Rewrite]:
    for recognise in rules:
        found = recognise(parsed)
        if found is not None and _can_be_read(found.sql):
            yield found


def _can_be_read(sql: str) -> bool:
    """Say whether the written text is one statement: a safeguard against the writer."""
    try:
        parse(sql)
    except Unparsable:
        return False
    return True
