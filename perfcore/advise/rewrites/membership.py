"""Membership: NOT IN to NOT EXISTS, long lists to = ANY, many calls to one."""

from __future__ import annotations

from sqlglot import exp

from perfcore.advise.rewrites.reading import (
    Field,
    Reader,
    array_type,
    is_bare,
    is_constant,
    is_stable,
    parameter,
    positive,
    returns_sets,
    selects,
    where_conjuncts,
)
from perfcore.advise.rewrites.rewrite import Equality, Parsed, Pricing, Rewrite
from perfcore.advise.rewrites.writing import (
    aliases,
    build,
    cast,
    counterpart,
    fresh,
    qualified,
    rename,
    set_where,
    value,
    written,
)
from perfcore.advise.statement import parse
from perfcore.types import Catalog

_LONG_LIST = 20


def not_exists(parsed: Parsed) -> Rewrite | None:
    """Turn NOT IN over a query into an anti-join."""
    if parsed.tree.find(exp.In, exp.All) is None:
        return None
    original, parsed = parsed, parsed.qualified()
    for select in selects(parsed.tree):
        for outer, inner, node in _exclusions(select):
            if found := _anti_join(parsed, select, outer, inner, node):
                return _in_place(original, node, *found)
    return None


def _exclusions(select: exp.Select) -> list[tuple[exp.Expr, exp.Select, exp.Expr]]:
    """Return (x, query, node) of each `x NOT IN (query)` that a row passes only when it is true."""
    where = select.args.get("where")
    found: list[tuple[exp.Expr, exp.Select, exp.Expr]] = []
    for node in positive(where.this) if where is not None else ():
        member = node.this.unnest() if isinstance(node, exp.Not) else node
        outer: exp.Expr = member.this
        if isinstance(node, exp.Not) and isinstance(member, exp.In):
            query = member.args.get("query")
        elif isinstance(node, exp.NEQ) and isinstance(node.expression, exp.All):
            query = node.expression.this
        else:
            continue
        inner = query.unnest() if query is not None else None
        if isinstance(inner, exp.Select):
            found.append((outer, inner, node))
    return found


def _anti_join(
    parsed: Parsed, select: exp.Select, outer: exp.Expr, inner: exp.Select, node: exp.Expr
) -> tuple[exp.Expr, Field | None, bool] | None:
    """Return what stands for the NOT IN, and whether the list's column is never NULL."""
    reader = parsed.reader
    if not is_bare(inner) or len(inner.expressions) != 1 or not is_stable(inner):
        return None
    value_of = inner.expressions[0].unalias()
    if outer.find(exp.Query) or any(f is None for f in reader.fields(node)):
        return None
    if isinstance(outer, exp.Tuple) or returns_sets(value_of) or not is_stable(outer):
        return None
    inside, outside = reader.field(value_of), reader.field(outer)
    sub = inner.copy()
    _rename_clashes(parsed, select, inner, sub)
    column = sub.expressions[0].unalias()
    sub.set("expressions", [exp.Literal.number(1)])
    joined = sub.copy()
    set_where(joined, [*where_conjuncts(joined), build(":a = :b", a=column, b=outer)])
    replacement: exp.Expr = build("NOT EXISTS(:q)", q=joined)
    null_safe = inside is not None and reader.is_filled(inside)
    if not (outside is not None and reader.is_filled(outside)) and null_safe:
        replacement = build(
            ":n AND (:x IS NOT NULL OR NOT EXISTS(:q))", n=replacement, x=outer, q=sub
        )
    return replacement, inside, null_safe


def _rename_clashes(parsed: Parsed, select: exp.Select, inner: exp.Select, sub: exp.Select) -> None:
    """Give the inner tables aliases of their own where the outer query uses the same."""
    outer_names = {s.alias for s in parsed.reader.sources(select)}
    taken = aliases(parsed.tree)
    reader = Reader(sub, parsed.reader.catalog)
    for source in reader.sources(sub):
        if source.alias in outer_names:
            new = fresh(source.alias, taken)
            taken.add(new)
            rename(reader, sub, source, new)


def _in_place(
    parsed: Parsed, node: exp.Expr, replacement: exp.Expr, inside: Field | None, null_safe: bool
) -> Rewrite:
    new = parsed.tree.copy()
    place = counterpart(new, node)
    place.replace(exp.Paren(this=replacement) if isinstance(place.parent, exp.Or) else replacement)
    name = f"{inside.table.name}.{inside.column.name}" if inside else "an expression"
    why = (
        f"{name} may be NULL, so PostgreSQL cannot turn NOT IN into an anti-join"
        if not null_safe
        else "PostgreSQL does not turn NOT IN into an anti-join, not even where nothing is NULL"
    )
    return Rewrite(
        rule="not_exists",
        title=f"Ask NOT EXISTS instead of NOT IN over {name}",
        why=f"{why}: it keeps the whole list in memory or scans it for every row.",
        sql=written(new),
        obligation=(
            f"The same rows in every case: {name} is never NULL, and where the other side "
            "may be, the new form says what NOT IN does with it."
            if null_safe
            else _null_words(name, inside)
        ),
        finding="not_in_nullable" if not null_safe else "not_in",
        equality=Equality.ALWAYS if null_safe else Equality.CONDITION,
    )


def _null_words(name: str, inside: Field | None) -> str:
    share = inside.column.null_fraction if inside else None
    if share:
        today = f"{100 * share:.1f} % of the table's rows hold NULL there now."
    elif share == 0:
        today = "The statistics show none now: today both return the same."
    else:
        today = "The statistics do not say whether there are any."
    return (
        f"While {name} holds a NULL, NOT IN returns no row at all and NOT EXISTS does; without "
        f"NULLs on either side both return the same rows. {today}"
    )


def long_list(parsed: Parsed) -> Rewrite | None:
    """Pass a long list as one array."""
    for node in parsed.tree.find_all(exp.In):
        field, items = parsed.reader.field(node.this), node.expressions
        if field is None or not items or not all(is_constant(i) for i in items):
            continue
        squashed = any("..." in c for i in items for c in _comments(i))
        if len(items) < _LONG_LIST and not squashed:
            continue
        negated = isinstance(node.parent, exp.Not)
        old: exp.Expr = node.parent if negated else node  # type: ignore[assignment]
        keys = cast(value("keys"), array_type(field.column.type))
        sign = "<> ALL" if negated else "= ANY"
        new = parsed.tree.copy()
        counterpart(new, old).replace(build(f":c {sign}(:k)", c=node.this, k=keys))
        many = (
            "a list whose length pg_stat_statements does not show"
            if squashed
            else (f"{len(items)} values")
        )
        return Rewrite(
            rule="any_array",
            title=f"Pass the list for {field.table.name}.{field.column.name} as one array",
            why=(
                f"It compares with {many}. Each length of the list is a statement of its own: "
                "parsed, planned and counted apart, and no prepared statement serves two of "
                "them. With an array there is one text and one plan for all lengths."
            ),
            sql=written(new),
            obligation=(
                "The same rows for the same values, NULLs included; an empty array, which IN "
                f"cannot express, finds {'every row' if negated else 'nothing'}."
            ),
            finding="long_list",
            pricing=Pricing.NOTHING,
        )
    return None


def _comments(node: exp.Expr) -> list[str]:
    found: list[str] = []
    for part in node.walk():
        found += part.comments or []
    return found


def batch(text: str, catalog: Catalog | None = None) -> str:
    """Return the statement that asks for many keys at once, empty where there is no single key.

    Each row comes with its key, and a key that finds nothing has no row. Where rows of one key
    are counted, sorted or limited among themselves, the statement is asked per key in one go.
    """
    tree = parse(text)
    if not isinstance(tree, exp.Select):
        return ""
    for node in where_conjuncts(tree):
        if not isinstance(node, exp.EQ) or not isinstance(node.this.unnest(), exp.Column):
            continue
        if not parameter(node.expression):
            continue
        reader = Reader(tree, catalog) if catalog is not None else None
        field = reader.field(node.this) if reader else None
        keys = value("keys")
        if field is not None:
            keys = cast(keys, array_type(field.column.type))
        limited = any(tree.args.get(c) is not None for c in ("limit", "offset", "distinct"))
        return _per_key(tree, node, keys) if limited else _of_all_keys(tree, node, keys)
    return ""


def _of_all_keys(tree: exp.Select, node: exp.EQ, keys: exp.Expr) -> str:
    new = tree.copy()
    column = node.this.unnest()
    assert isinstance(column, exp.Column)
    counterpart(new, node).replace(build(":c = ANY(:k)", c=column, k=keys))
    _keep_apart(new, column)
    return written(new)


def _per_key(tree: exp.Select, node: exp.EQ, keys: exp.Expr) -> str:
    asked, answer = fresh("asked", aliases(tree)), fresh("answer", aliases(tree))
    inner = tree.copy()
    counterpart(inner, node.expression).replace(qualified("key", asked))
    name = exp.TableAlias(this=exp.to_identifier(asked), columns=[exp.to_identifier("key")])
    source = exp.Unnest(expressions=[keys], alias=name)
    new = exp.select(f"{asked}.key", f"{answer}.*").from_(source)
    lateral = exp.Lateral(
        this=exp.Subquery(this=inner), alias=exp.TableAlias(this=exp.to_identifier(answer))
    )
    new.set("joins", [exp.Join(this=lateral, kind="CROSS")])
    return written(new)


def _keep_apart(select: exp.Select, key: exp.Column) -> None:
    """Return the key with each row, and group by it where the statement aggregates."""
    names = {p.alias_or_name for p in select.expressions}
    if key.name not in names and not any(p.is_star for p in select.expressions):
        select.set("expressions", [key.copy(), *select.expressions])
    aggregates = any(p.find(exp.AggFunc) for p in select.expressions)
    group = select.args.get("group")
    if group is not None and key not in group.expressions:
        group.set("expressions", [key.copy(), *group.expressions])
    elif aggregates and group is None:
        select.set("group", exp.Group(expressions=[key.copy()]))
