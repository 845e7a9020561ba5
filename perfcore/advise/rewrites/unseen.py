"""ORDER BY and DISTINCT that nobody sees."""

from __future__ import annotations

from sqlglot import exp

from perfcore.advise.rewrites.reading import (
    EXACT_AGGREGATES,
    FLOATS,
    Reader,
    bare_type,
    has_windows,
    is_aggregating,
    is_inexact,
    is_stable,
    selects,
)
from perfcore.advise.rewrites.rewrite import Parsed, Rewrite
from perfcore.advise.rewrites.writing import (
    counterpart,
    written,
)

_SET_RETURNING_IN_LIST = (exp.Explode, exp.GenerateSeries)


def unseen_order(parsed: Parsed) -> Rewrite | None:
    """Drop ORDER BY and DISTINCT where what reads the query looks at neither."""
    for query in selects(parsed.tree):
        order, distinct = query.args.get("order"), query.args.get("distinct")
        if any(query.args.get(c) is not None for c in ("limit", "offset")) or has_windows(query):
            continue
        if query.find(*_SET_RETURNING_IN_LIST) or not is_stable(query):
            continue
        where = _reader_of(parsed.reader, query)
        plain = distinct is not None and distinct.args.get("on") is None
        drops_distinct = plain and where == "membership" and not is_aggregating(query)
        if distinct is not None and not plain:
            continue
        if not where or not (order is not None or drops_distinct):
            continue
        new = parsed.tree.copy()
        target = counterpart(new, query)
        target.set("order", None)
        if drops_distinct:
            target.set("distinct", None)
        return _unseen(new, order is not None, drops_distinct)
    return None


def _reader_of(reader: Reader, query: exp.Select) -> str:
    """Say what reads a subquery: a test of membership, or something that has its own order."""
    node, parent = query, query.parent
    if isinstance(parent, exp.Exists):
        return "membership"
    if not isinstance(parent, exp.Subquery):
        return ""
    node, parent = parent, parent.parent  # type: ignore[assignment]
    if isinstance(parent, exp.In) or (isinstance(parent, exp.Any) and parent.this is node):
        return "membership"
    outer = parent.parent if isinstance(parent, (exp.From, exp.Join)) else None
    if not isinstance(outer, exp.Select):
        return ""
    return "query" if _forgets_order(reader, outer, query) else ""


def _forgets_order(reader: Reader, outer: exp.Select, query: exp.Select) -> bool:
    """Say whether a query's rows do not depend on the order of what it reads."""
    limited = any(outer.args.get(c) is not None for c in ("limit", "offset"))
    distinct = outer.args.get("distinct")
    if has_windows(outer) or (distinct is not None and distinct.args.get("on") is not None):
        return False
    if is_aggregating(outer):
        found = [a for a in outer.find_all(exp.AggFunc) if a.parent_select is outer]
        exact = all(isinstance(a, EXACT_AGGREGATES) for a in found)
        if any(isinstance(a, (exp.Sum, exp.Avg)) for a in found):
            exact = exact and not is_inexact(outer) and _sums_exactly(reader, query)
        return exact and is_stable(outer) and not limited
    return outer.args.get("order") is not None and not limited


def _sums_exactly(reader: Reader, query: exp.Select) -> bool:
    """Say whether no column of a query is a floating-point number, as far as can be told."""
    fields = [f for p in query.expressions for f in reader.fields(p)]
    known = all(f is not None and bare_type(f.column.type) not in FLOATS for f in fields)
    return known and not any(p.is_star or is_inexact(p) for p in query.expressions)


def _unseen(new: exp.Expr, had_order: bool, had_distinct: bool) -> Rewrite:
    what = " and ".join(
        w for w, had in (("ORDER BY", had_order), ("DISTINCT", had_distinct)) if had
    )
    return Rewrite(
        rule="unseen_order",
        title=f"Drop {what} from a subquery where nobody sees it",
        why=(
            f"The subquery's {what} takes a sort or a hash of all its rows, and what reads them "
            "asks only whether there is such a row, or puts them in an order of its own."
        ),
        sql=written(new),
        obligation="The same rows in every case, in an order among ties that was never promised.",
        finding="unseen_order",
    )
