"""Counting all rows to compare the number with none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sqlglot import exp

from perfcore.advise.rewrites.reading import (
    FLIPPED,
    FLOATS,
    INTEGERS,
    SIGNS,
    TEXTS,
    Field,
    Reader,
    bare_type,
    is_stable,
    number,
    parameter,
    where_conjuncts,
)
from perfcore.advise.rewrites.rewrite import Equality, Parsed, Rewrite
from perfcore.advise.rewrites.writing import (
    build,
    counterpart,
    set_where,
    shortened,
    written,
)

_ANSWERS = {  # sign and number: whether there is a row
    (">", 0): True,
    ("<>", 0): True,
    (">=", 1): True,
    ("=", 0): False,
    ("<=", 0): False,
    ("<", 1): False,
}
_SCALARS = (
    *INTEGERS, *FLOATS, *TEXTS, "numeric", "boolean", "date", "interval", "uuid", "character",
    "json", "jsonb", "bytea", "inet", "citext",
)  # fmt: skip
_GUESSED = {">": (0, True), "<>": (0, True), ">=": (1, True), "<": (1, False)}


@dataclass(frozen=True, slots=True)
class _Counted:
    query: exp.Select
    is_there: bool
    guess: str = ""  # the parameter's value that is taken for granted


def count_to_exists(parsed: Parsed) -> Rewrite | None:
    """Stop at the first row instead of counting all to compare with none."""
    for node in parsed.tree.find_all(*SIGNS):
        for side, sign, other in _turned(node):
            query = side.unnest()
            if not isinstance(query, exp.Select) or not _is_subquery(side):
                continue
            counted = _counted(query, sign, other)
            if counted is not None and _is_count(query) is not None:
                return _exists(parsed, node, counted)
    return _whole_statement(parsed)


def _is_subquery(node: exp.Expr) -> bool:
    return isinstance(node, exp.Subquery) or (
        isinstance(node, exp.Paren) and _is_subquery(node.this)
    )


def _turned(node: exp.Expr) -> Iterator[tuple[exp.Expr, str, exp.Expr]]:
    sign = SIGNS[type(node)]
    yield node.this, sign, node.expression
    yield node.expression, FLIPPED[sign], node.this


def _counted(query: exp.Select, sign: str, other: exp.Expr) -> _Counted | None:
    value = number(other.unnest())
    if value is not None:
        there = _ANSWERS.get((sign, int(value))) if value == int(value) else None
        return None if there is None else _Counted(query, there)
    hidden = parameter(other)
    if not hidden or sign not in _GUESSED:
        return None
    taken, there = _GUESSED[sign]
    return _Counted(query, there, f"{hidden}, a constant that pg_stat_statements hides, is {taken}")


def _is_count(query: exp.Select) -> exp.Count | None:
    """Return the count that is all a query selects."""
    clauses = ("group", "having", "distinct", "limit", "offset", "with_")
    if any(query.args.get(c) is not None for c in clauses) or len(query.expressions) != 1:
        return None
    count = query.expressions[0].unalias()
    if not isinstance(count, exp.Count) or query.args.get("from_") is None:
        return None
    return count if is_stable(query) else None


def _something(reader: Reader, query: exp.Select) -> exp.Exists | None:
    """Return EXISTS over what the query counts."""
    count = _is_count(query)
    if count is None:
        return None
    what = count.this
    if isinstance(what, exp.Distinct):
        what = what.expressions[0] if len(what.expressions) == 1 else None
    if what is None or len(count.expressions) > 0:
        return None
    inner = query.copy()
    inner.set("order", None)
    inner.set("expressions", [exp.Literal.number(1)])
    field = reader.field(what)
    if not isinstance(what, (exp.Star, exp.Literal)) and not (field and reader.is_filled(field)):
        # A row with a NULL in it counts, and is neither NULL nor NOT NULL.
        test = ":x IS NOT NULL" if field and _is_scalar(field) else ":x IS DISTINCT FROM NULL"
        set_where(inner, [*where_conjuncts(inner), build(test, x=what)])
    return exp.Exists(this=inner)


def _is_scalar(field: Field) -> bool:
    kind = bare_type(field.column.type)
    return kind in _SCALARS or kind.startswith(("timestamp", "time "))


def _exists(parsed: Parsed, node: exp.Expr, counted: _Counted) -> Rewrite | None:
    exists = _something(parsed.reader, counted.query)
    if exists is None:
        return None
    new = parsed.tree.copy()
    replacement = exists if counted.is_there else exp.Not(this=exists)
    counterpart(new, node).replace(replacement)
    return _count_rewrite(new, node, counted)


def _whole_statement(parsed: Parsed) -> Rewrite | None:
    """Answer `SELECT count(*) > 0 FROM …`."""
    tree = parsed.tree
    if not isinstance(tree, exp.Select) or len(tree.expressions) != 1:
        return None
    comparison = tree.expressions[0].unalias()
    if type(comparison) not in SIGNS:
        return None
    for side, sign, other in _turned(comparison):
        if not isinstance(side, exp.Count):
            continue
        query = tree.copy()
        query.set("expressions", [side.copy()])
        counted = _counted(query, sign, other)
        exists = _something(parsed.reader, query) if counted is not None else None
        if counted is None or exists is None:
            continue
        answer: exp.Expr = exists if counted.is_there else exp.Not(this=exists)
        alias = tree.expressions[0].alias
        new = exp.select(exp.alias_(answer, alias or "exists"))
        return _count_rewrite(new, comparison, counted)
    return None


def _count_rewrite(new: exp.Expr, node: exp.Expr, counted: _Counted) -> Rewrite:
    return Rewrite(
        rule="exists",
        title="Ask EXISTS instead of counting all rows",
        why=(
            f"{shortened(node)} counts every row to learn whether there is one. EXISTS stops "
            "at the first."
        ),
        sql=written(new),
        obligation=(
            f"The same rows if {counted.guess}; with any other value the answer differs."
            if counted.guess
            else "The same rows in every case: a count is never NULL."
        ),
        finding="count_for_existence",
        equality=Equality.CONDITION if counted.guess else Equality.ALWAYS,
    )
