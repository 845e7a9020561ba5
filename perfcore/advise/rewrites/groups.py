"""Conditions on groups that are conditions on rows."""

from __future__ import annotations

from sqlglot import exp

from perfcore.advise.rewrites.reading import conjuncts, is_stable, selects, where_conjuncts
from perfcore.advise.rewrites.rewrite import Parsed, Rewrite
from perfcore.advise.rewrites.writing import brief, conjunction, counterpart, set_where, written

_SETS = (exp.GroupingSets, exp.Rollup, exp.Cube)


def having_to_where(parsed: Parsed) -> Rewrite | None:
    """Drop rows before they are grouped where the condition is on the group's own keys."""
    for select in selects(parsed.tree):
        having, group = select.args.get("having"), select.args.get("group")
        if having is None or group is None or not _is_simple(group):
            continue
        keys = [_key(select, g) for g in group.expressions]
        parts = conjuncts(having.this)
        moved = [p for p in parts if _is_of_keys(p, keys)]
        if moved:
            return _moved(parsed, select, parts, moved)
    return None


def _is_simple(group: exp.Expr) -> bool:
    modes = ("grouping_sets", "cube", "rollup", "all", "totals")
    return (
        bool(group.expressions)
        and group.find(*_SETS) is None
        and not any(group.args.get(m) for m in modes)
    )


def _key(select: exp.Select, node: exp.Expr) -> exp.Expr:
    if isinstance(node, exp.Literal) and node.name.isdigit():
        key: exp.Expr = select.expressions[int(node.name) - 1].unalias()
        return key
    return node


def _is_of_keys(part: exp.Expr, keys: list[exp.Expr]) -> bool:
    """Say whether a condition reads nothing but keys; a query inside may read anything."""
    if part.find(exp.AggFunc, exp.Query, exp.Window) or not is_stable(part):
        return False
    outside = [
        c
        for c in part.find_all(exp.Column)
        if not any(node == key for key in keys for node in _upwards(c, part))
    ]
    return bool(part.find(exp.Column)) and not outside


def _upwards(node: exp.Expr, top: exp.Expr) -> list[exp.Expr]:
    found = [node]
    while node is not top and node.parent is not None:
        node = node.parent
        found.append(node)
    return found


def _moved(
    parsed: Parsed, select: exp.Select, parts: list[exp.Expr], moved: list[exp.Expr]
) -> Rewrite:
    new = parsed.tree.copy()
    target = counterpart(new, select)
    assert isinstance(target, exp.Select)
    left = conjunction(p for p in parts if not any(p is m for m in moved))
    target.set("having", exp.Having(this=left) if left is not None else None)
    set_where(target, [*where_conjuncts(select), *moved])
    said = " AND ".join(brief(m) for m in moved)
    return Rewrite(
        rule="having_to_where",
        title="Drop rows before they are grouped: HAVING to WHERE",
        why=(
            f"{said} reads only what the rows are grouped by, so it holds for all rows of a "
            "group or for none, and rows it drops need not be grouped. PostgreSQL moves plain "
            "conditions by itself; this is said only where the plan is cheaper."
        ),
        sql=written(new),
        obligation="The same rows in every case: there is a GROUP BY, and no grouping sets.",
        finding="having_on_key",
    )
