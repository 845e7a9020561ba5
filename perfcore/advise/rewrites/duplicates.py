"""Duplicates that are made and then dropped, or dropped though there are none."""

from __future__ import annotations

from collections.abc import Iterator

from sqlglot import exp

from perfcore.advise.rewrites.reading import (
    TEXTS,
    Place,
    Reader,
    Source,
    bare_type,
    conditions,
    conjuncts,
    has_windows,
    is_aggregating,
    is_bare,
    is_stable,
    name_of,
    returns_sets,
    selects,
    where_conjuncts,
)
from perfcore.advise.rewrites.rewrite import Parsed, Rewrite
from perfcore.advise.rewrites.writing import build, counterpart, set_where, written

_ALL = "The same rows in every case"


def distinct_to_exists(parsed: Parsed) -> Rewrite | None:
    """Ask whether a partner exists instead of joining them all and dropping duplicates."""
    if parsed.tree.find(exp.Distinct) is None:
        return None
    parsed = parsed.qualified()
    for select in selects(parsed.tree):
        if not _is_distinct(select) or not is_bare(select, "distinct", "order"):
            continue
        if has_windows(select) or not is_stable(select):
            continue
        kept = _kept_source(parsed.reader, select)
        if kept is not None:
            return _as_exists(parsed, select, kept)
    return None


def _is_distinct(select: exp.Select) -> bool:
    distinct = select.args.get("distinct")
    return distinct is not None and distinct.args.get("on") is None


def _kept_source(reader: Reader, select: exp.Select) -> Source | None:
    """Return the one table whose columns are selected, where others are only joined to it."""
    sources = reader.sources(select)
    if len(sources) < 2 or any(not _is_inner(s) for s in sources):
        return None
    order = select.args.get("order")
    parts = [*select.expressions, *(order.expressions if order is not None else ())]
    seen = {alias for p in parts for alias in _aliases_in(reader, select, p)}
    if len(seen) != 1 or not all(_can_tell(reader, c) for c in conditions(select)):
        return None
    alias = seen.pop()
    return next((s for s in sources if s.alias == alias), None)


def _is_inner(source: Source) -> bool:
    join = source.join
    if source.table is None or not isinstance(source.node, exp.Table):
        return False
    if source.node.args.get("sample") is not None:
        return False
    return join is None or not (join.side or join.args.get("using") or join.method)


def _aliases_in(reader: Reader, select: exp.Select, part: exp.Expr) -> set[str]:
    """Return the aliases that a part of the select list reads, "" for what cannot be told."""
    if part.find(exp.Query):
        return {""}
    found = set()
    outputs = {p.alias for p in select.expressions if isinstance(p, exp.Alias)}
    for node in part.find_all(exp.Column, exp.Star):
        if isinstance(node, exp.Star):
            qualifier = node.parent.args.get("table") if node.parent is not None else None
            found.add(name_of(qualifier))
        elif isinstance(node.this, exp.Star):
            continue
        elif isinstance(part, exp.Ordered) and node is part.this and node.name in outputs:
            continue
        else:
            field = reader.field(node)
            found.add(field.source.alias if field and field.select is select else "")
    return found


def _can_tell(reader: Reader, node: exp.Expr) -> bool:
    return all(f is not None for f in reader.fields(node))


def _as_exists(parsed: Parsed, select: exp.Select, kept: Source) -> Rewrite | None:
    reader = parsed.reader
    sources = reader.sources(select)
    others = [s for s in sources if s is not kept and s.alias != kept.alias]
    mine: list[exp.Expr] = []
    theirs: list[exp.Expr] = []
    for part in (p for c in conditions(select) for p in conjuncts(c)):
        read = {f.source.alias for f in reader.fields(part) if f and f.select is select}
        (mine if read <= {kept.alias} else theirs).append(part)
    inner = exp.select("1").from_(others[0].node.copy())
    for other in others[1:]:
        inner = inner.join(other.node.copy(), join_type="cross")
    set_where(inner, theirs)
    new = parsed.tree.copy()
    target = counterpart(new, select)
    assert isinstance(target, exp.Select)
    target.args["from_"].set("this", kept.node.copy())
    target.set("joins", None)
    set_where(target, [*mine, build("EXISTS(:q)", q=inner)])
    unique = _drop_distinct(target, reader)
    names = ", ".join(s.table.name for s in others if s.table)
    return Rewrite(
        rule="distinct_to_exists",
        title=f"Ask whether there is a match in {names} instead of joining and dropping copies",
        why=(
            f"Nothing of {names} is returned: the join makes a row for every match, and DISTINCT "
            "sorts or hashes them all to drop the copies. EXISTS stops at the first match."
        ),
        sql=written(new),
        obligation=(
            f"{_ALL}: a unique key is among the columns, so without the join there are no copies."
            if unique
            else f"{_ALL}: DISTINCT stays, because rows may be alike without the join too."
        ),
        finding="distinct_over_join",
    )


def _drop_distinct(target: exp.Select, reader: Reader) -> bool:
    listed = reader.listed(target)
    unique = listed is not None and reader.determines(target, listed)
    if unique:
        target.set("distinct", None)
    return unique


def needless_distinct(parsed: Parsed) -> Rewrite | None:
    """Drop DISTINCT where the catalogue proves that no two rows are alike."""
    for select in selects(parsed.tree):
        if not _is_distinct(select) or select.args.get("limit") is not None:
            continue
        if not _has_no_copies(parsed.reader, select):
            continue
        new = parsed.tree.copy()
        counterpart(new, select).set("distinct", None)
        return Rewrite(
            rule="needless_distinct",
            title="Drop a DISTINCT that has nothing to drop",
            why=(
                "A unique key of every table is settled by the columns returned, so no two rows "
                "can be alike; DISTINCT sorts or hashes all of them to find that out."
            ),
            sql=written(new),
            obligation=f"{_ALL}, as long as the unique keys stay.",
            finding="needless_distinct",
        )
    return None


def _has_no_copies(reader: Reader, select: exp.Select) -> bool:
    if is_aggregating(select):
        return _groups_are_listed(select)
    listed = reader.listed(select)
    return listed is not None and reader.determines(select, listed)


def _groups_are_listed(select: exp.Select) -> bool:
    """Say whether a query that groups returns all its keys, or has one row anyway."""
    group = select.args.get("group")
    shown = [p.unalias() for p in select.expressions]
    if any(returns_sets(p) for p in shown):
        return False
    if group is None:
        return select.args.get("having") is None and not has_windows(select)
    modes = ("grouping_sets", "cube", "rollup", "all", "totals")
    if any(group.args.get(m) for m in modes) or not group.expressions:
        return False
    positions = {str(n) for n in range(1, len(shown) + 1)}
    return is_stable(select) and all(
        k in shown or (isinstance(k, exp.Literal) and k.name in positions)
        for k in group.expressions
    )


def union_to_union_all(parsed: Parsed) -> Rewrite | None:
    """Append instead of looking for duplicates where there are none, or where none matter."""
    for union in parsed.tree.find_all(exp.Union):
        if not union.args.get("distinct") or _is_cut(union):
            continue
        if isinstance(union.parent, exp.SetOperation):
            continue
        unseen = _is_membership(union) and _only_unions(union)
        if not unseen and not _are_disjoint(parsed.reader, union):
            continue
        new = parsed.tree.copy()
        target = counterpart(new, union)
        assert isinstance(target, exp.Union)
        for part in _unions(target) if unseen else [target]:
            part.set("distinct", False)
        return Rewrite(
            rule="union_all",
            title="Use UNION ALL where there are no duplicates to drop",
            why=(
                "UNION sorts or hashes the rows of both sides to drop duplicates. "
                + (
                    "Here they are only asked whether a value is among them."
                    if unseen
                    else "Here the sides cannot share a row, and neither holds one twice."
                )
            ),
            sql=written(new),
            obligation=f"{_ALL}, as long as the unique keys stay.",
            finding="needless_union",
        )
    return None


def _is_membership(union: exp.Union) -> bool:
    parent = union.parent
    if isinstance(parent, exp.Exists):
        return True
    return isinstance(parent, exp.Subquery) and isinstance(parent.parent, exp.In)


def _only_unions(union: exp.Union) -> bool:
    """Say whether the sides are queries, or unions of which no side is cut off."""
    return all(
        isinstance(side, exp.Select) or (isinstance(side, exp.Union) and not _is_cut(side))
        for each in _unions(union)
        for side in (each.this.unnest(), each.expression.unnest())
    )


def _is_cut(query: exp.Expr) -> bool:
    return any(query.args.get(c) is not None for c in ("limit", "offset"))


def _unions(union: exp.Union) -> Iterator[exp.Union]:
    """Yield the union and those that are its sides, none of a subquery's."""
    yield union
    for side in (union.this.unnest(), union.expression.unnest()):
        if isinstance(side, exp.Union):
            yield from _unions(side)


def _are_disjoint(reader: Reader, union: exp.Union) -> bool:
    left, right = union.this.unnest(), union.expression.unnest()
    if not isinstance(left, exp.Select) or not isinstance(right, exp.Select):
        return False
    if len(left.expressions) != len(right.expressions):
        return False
    for side in (left, right):
        listed = reader.listed(side) if is_bare(side, "order") else None
        if listed is None or not reader.determines(side, listed):
            return False
    pairs = zip(left.expressions, right.expressions, strict=True)
    return any(_differ(_fixed(reader, left, a), _fixed(reader, right, b)) for a, b in pairs)


def _fixed(reader: Reader, select: exp.Select, projection: exp.Expr) -> exp.Literal | None:
    """Return the literal that a column of the output always has."""
    node = projection.unalias()
    if isinstance(node, exp.Literal):
        return node
    field = reader.field(node)
    if field is None or field.select is not select:
        return None
    for part in where_conjuncts(select):
        if isinstance(part, exp.EQ) and isinstance(part.expression, exp.Literal):
            other = reader.field(part.this)
            if other is not None and other.place == field.place:
                is_text = bare_type(field.column.type) in TEXTS
                # A collation may hold different letters for equal.
                is_bytewise = is_text and field.column.deduplicates is not False
                comparable = is_bytewise or not part.expression.is_string
                return part.expression if comparable else None
    return None


def _differ(a: exp.Literal | None, b: exp.Literal | None) -> bool:
    if a is None or b is None or a.is_string is not b.is_string:
        return False
    return a.name != b.name if a.is_string else float(a.name) != float(b.name)


def count_of_key(parsed: Parsed) -> Rewrite | None:
    """Count rows where every row has a value of its own."""
    for count in parsed.tree.find_all(exp.Count):
        inside = count.this
        if not isinstance(inside, exp.Distinct) or len(inside.expressions) != 1:
            continue
        column = inside.expressions[0]
        field, select = parsed.reader.field(column), count.parent_select
        if field is None or field.select is not select or not isinstance(select, exp.Select):
            continue
        places: list[Place] = [field.place]
        if not parsed.reader.determines(select, places, without_nulls=True):
            continue
        new = parsed.tree.copy()
        what = exp.Star() if parsed.reader.is_filled(field) else column.copy()
        counterpart(new, inside).replace(what)
        name = f"{field.table.name}.{field.column.name}"
        return Rewrite(
            rule="count_of_key",
            title=f"Count rows instead of distinct {name}",
            why=(
                f"{name} is unique in what the statement reads, so each row has a value of its "
                "own. count(DISTINCT) sorts all of them to find that out, and rules out a "
                "parallel or hashed plan."
            ),
            sql=written(new),
            obligation=f"{_ALL}, as long as the unique key stays.",
            finding="distinct_count_of_key",
        )
    return None
