"""OR over columns that no one index serves: a query for each side, joined by UNION ALL."""

from __future__ import annotations

from sqlglot import exp

from perfcore.advise.rewrites.reading import (
    Place,
    Reader,
    disjuncts,
    has_windows,
    is_bare,
    is_stable,
    name_of,
    returns_sets,
    where_conjuncts,
)
from perfcore.advise.rewrites.rewrite import Equality, Parsed, Rewrite
from perfcore.advise.rewrites.writing import identifier, set_where, shortened, written

_MOST_SIDES = 4


def or_to_union(parsed: Parsed) -> Rewrite | None:
    """Ask each side of an OR by itself, and of the later ones only what the earlier left out."""
    tree = parsed.tree
    if not is_bare(tree, "order", "limit") or not is_stable(tree) or has_windows(tree):
        return None
    if any(returns_sets(p) for p in tree.expressions):
        return None
    chosen = next((c for c in where_conjuncts(tree) if _splits(parsed.reader, tree, c)), None)
    if chosen is None:
        return None
    order = _order_by_output(tree)
    if order is None or (tree.args.get("limit") is not None and not order):
        return None
    new = _union(tree, chosen, order)
    ties = tree.args.get("limit") is not None and not _is_total(parsed.reader, tree)
    return Rewrite(
        rule="or_to_union",
        title="Ask each side of an OR by itself, joined by UNION ALL",
        why=(
            f"({shortened(chosen)}) speaks of different columns, so no one index finds its "
            "rows and the planner reads them all to test them. Each side alone can take its own "
            "index; the later ones leave out, by IS NOT TRUE, what an earlier one has found."
        ),
        sql=written(new),
        obligation=(
            "The same rows in every case but one: where rows tie in the order at the LIMIT, "
            "either form may keep other ones of them."
            if ties
            else "The same rows in every case, duplicates and NULLs included: IS NOT TRUE "
            "holds where the earlier side is false or NULL."
        ),
        finding="or_over_columns",
        equality=Equality.CONDITION if ties else Equality.ALWAYS,
    )


def _splits(reader: Reader, tree: exp.Expr, node: exp.Expr) -> bool:
    sides = disjuncts(node)
    if not 2 <= len(sides) <= _MOST_SIDES:
        return False
    places = [_places(reader, tree, side) for side in sides]
    return all(places) and any(p != places[0] for p in places[1:])


def _places(reader: Reader, tree: exp.Expr, node: exp.Expr) -> set[Place]:
    fields = reader.fields(node)
    if any(f is None for f in fields):
        return set()
    own = {f.place for f in fields if f is not None and f.select is tree}
    deeper = {
        (f"{f.source.alias} below", f.column.name) for f in fields if f and f.select is not tree
    }
    return own | deeper


def _order_by_output(tree: exp.Expr) -> list[exp.Expr] | None:
    """Return the order in terms of the output's columns, None where it cannot be said so."""
    order = tree.args.get("order")
    names = [p.alias_or_name for p in tree.expressions]
    found: list[exp.Expr] = []
    for ordered in order.expressions if order is not None else ():
        is_position = isinstance(ordered.this, exp.Literal) and not ordered.this.is_string
        name = None if is_position else _output_name(tree, ordered.this)
        if not is_position and (name is None or names.count(name) > 1):
            return None
        new = ordered.copy()
        if name is not None:
            new.set("this", exp.column(identifier(name)))
        found.append(new)
    return found


def _output_name(tree: exp.Expr, node: exp.Expr) -> str | None:
    if not isinstance(node, exp.Column):
        return None
    for projection in tree.expressions:
        if isinstance(projection, exp.Alias) and not node.table and projection.alias == node.name:
            return name_of(projection.args["alias"])
    for projection in tree.expressions:
        if projection.unalias() == node or (
            isinstance(projection, exp.Column)
            and projection.name == node.name
            and not (projection.table and node.table)
        ):
            alias = projection.args.get("alias") if isinstance(projection, exp.Alias) else None
            return name_of(alias) if alias is not None else name_of(node.this)
    alone = len(tree.expressions) == 1 and isinstance(tree.expressions[0], exp.Star)
    return name_of(node.this) if alone and not tree.args.get("joins") else None


def _is_total(reader: Reader, tree: exp.Expr) -> bool:
    """Say whether no two rows tie in the order."""
    assert isinstance(tree, exp.Select)
    fields = [reader.field(o.this) for o in tree.args["order"].expressions]
    return reader.determines(tree, [f.place for f in fields if f is not None])


def _is_not_true(side: exp.Expr) -> exp.Expr:
    return exp.Is(this=exp.Paren(this=side.copy()), expression=exp.Not(this=exp.true()))


def _union(tree: exp.Expr, chosen: exp.Expr, order: list[exp.Expr]) -> exp.Expr:
    assert isinstance(tree, exp.Select)
    rest = [c for c in where_conjuncts(tree) if c is not chosen]
    sides = disjuncts(chosen)
    limit = tree.args.get("limit")
    branches: list[exp.Expr] = []
    for n, side in enumerate(sides):
        branch: exp.Expr = tree.copy()
        left_out = [_is_not_true(earlier) for earlier in sides[:n]]
        set_where(branch, [side, *left_out, *rest])
        if limit is None:
            branch.set("order", None)
        branches.append(exp.Subquery(this=branch) if limit is not None else branch)
    union: exp.Expr = branches[0]
    for branch in branches[1:]:
        union = exp.Union(this=union, expression=branch, distinct=False)
    if order:
        union.set("order", exp.Order(expressions=order))
    if limit is not None:
        union.set("limit", limit.copy())
    return union
