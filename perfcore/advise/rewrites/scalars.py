"""Scalar subqueries that run for every row, or more than once.

Grouping once instead of asking per row is Kim's transformation, with the outer join that
Ganski and Wong (SIGMOD 1987) showed it to need.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sqlglot import exp

from perfcore.advise.rewrites.reading import (
    EXACT_AGGREGATES,
    FLOATS,
    Reader,
    columns,
    has_windows,
    is_aggregating,
    is_bare,
    is_constant,
    is_inexact,
    is_stable,
    name_of,
    number,
    selects,
    tells_apart,
    where_conjuncts,
)
from perfcore.advise.rewrites.rewrite import Equality, Parsed, Rewrite, is_output
from perfcore.advise.rewrites.writing import (
    aliases,
    brief,
    build,
    conjunction,
    counterpart,
    fresh,
    qualified,
    rename,
    set_where,
    starless,
    written,
)


@dataclass(frozen=True, slots=True)
class _Alike:
    """Scalar subqueries that differ in nothing but what they select."""

    select: exp.Select  # whose they are
    nodes: tuple[exp.Subquery, ...]

    @property
    def body(self) -> exp.Select:
        body = self.nodes[0].unnest()
        assert isinstance(body, exp.Select)
        return body


def _alike(parsed: Parsed) -> Iterator[_Alike]:
    for select in selects(parsed.tree):
        found: dict[str, list[exp.Subquery]] = {}
        for node in select.find_all(exp.Subquery):
            if node.parent_select is select and _is_scalar(node) and _may_move(select, node):
                found.setdefault(_body_of(node), []).append(node)
        for nodes in found.values():
            yield _Alike(select, tuple(nodes))


def _is_scalar(node: exp.Subquery) -> bool:
    inner = node.unnest()
    parents = (exp.From, exp.Join, exp.In, exp.Exists, exp.Lateral, exp.Any, exp.All, exp.CTE)
    if not isinstance(inner, exp.Select) or isinstance(node.parent, (*parents, exp.SetOperation)):
        return False
    if len(inner.expressions) != 1 or inner.args.get("with_") or _orders_by_output(inner):
        return False
    return is_stable(inner)


def _orders_by_output(query: exp.Select) -> bool:
    """Say whether ORDER BY means what the query selects, by its place or by its name."""
    order, name = query.args.get("order"), query.expressions[0].alias
    return order is not None and any(
        isinstance(o.this, exp.Literal)
        or (isinstance(o.this, exp.Column) and not o.this.table and o.this.name == name)
        for o in order.expressions
    )


def _may_move(select: exp.Select, node: exp.Subquery) -> bool:
    """Say whether the subquery may become a member of FROM without changing groups."""
    sources = [select.args.get("from_"), *(select.args.get("joins") or ())]
    if sources[0] is None or any(_is_merging(s) for s in sources):
        return False
    clause = _clause(select, node)
    if is_aggregating(select) or has_windows(select):
        return clause == "where"
    return clause in ("where", "expressions", "order")


def _is_merging(source: exp.Expr) -> bool:
    return bool(source.args.get("using")) or source.args.get("method") == "NATURAL"


def _clause(select: exp.Select, node: exp.Expr) -> str:
    while node.parent is not None and node.parent is not select:
        node = node.parent
    return node.arg_key or ""


def _body_of(node: exp.Subquery) -> str:
    inner = node.unnest().copy()
    assert isinstance(inner, exp.Select)
    kind = "groups" if is_aggregating(inner) else "rows"
    if inner.args.get("distinct") is None:
        inner.set("expressions", [exp.Literal.number(1)])
    return f"{kind} {inner.sql(dialect='postgres')}"


def one_lateral(parsed: Parsed) -> Rewrite | None:
    """Run a subquery once where it stands twice, or where two read the same rows."""
    for alike in _alike(parsed):
        if len(alike.nodes) > 1 and _has_no_groups(alike.body):
            return _joined_once(parsed, alike)
    return None


def _has_no_groups(body: exp.Select) -> bool:
    return body.args.get("group") is None and body.args.get("having") is None


def _joined_once(parsed: Parsed, alike: _Alike) -> Rewrite:
    reader, body = parsed.reader, alike.body
    name = fresh("once", aliases(parsed.tree))
    new, select = _copied(parsed, alike)
    texts: dict[str, str] = {}
    for node, copy in _pairs(parsed, new, alike):
        value = node.unnest().expressions[0].unalias()
        column = texts.setdefault(brief(value), f"value_{len(texts) + 1}")
        copy.replace(_kept_name(node, qualified(column, name)))
    select.set("expressions", starless(select, reader.sources(alike.select)))
    inner = body.copy()
    values = [p.unnest().expressions[0].unalias() for p in alike.nodes]
    unique = {brief(v): v for v in values}
    inner.set("expressions", [exp.alias_(v.copy(), texts[t]) for t, v in unique.items()])
    lateral = exp.Lateral(
        this=exp.Subquery(this=inner), alias=exp.TableAlias(this=exp.to_identifier(name))
    )
    _join(select, lateral, exp.true())
    proven = _is_one_row(reader, body)
    count = len(alike.nodes)
    times = f"{len(alike.nodes)} subqueries" if len(unique) > 1 else "A subquery"
    stands = "read the same rows" if len(unique) > 1 else f"stands {len(alike.nodes)} times"
    return Rewrite(
        rule="one_lateral",
        title=f"Run the subquery of {_table_words(reader, body)} once, not {count} times",
        why=(
            f"{times} {stands}, and PostgreSQL runs each of them for every row. As one LATERAL "
            "query it runs once a row and gives all that is wanted of it."
        ),
        sql=written(new),
        obligation=(
            "The same rows in every case: the subquery has one row or none for each."
            if proven
            else "The same rows as long as the subquery finds one row or none for each; of more "
            "the old form makes an error and the new one further rows."
        ),
        finding="repeated_subquery",
        equality=Equality.ALWAYS if proven else Equality.CONDITION,
    )


def _copied(parsed: Parsed, alike: _Alike) -> tuple[exp.Expr, exp.Select]:
    """Return a copy of the statement and in it the query whose subqueries move."""
    new = parsed.tree.copy()
    select = counterpart(new, alike.select)
    assert isinstance(select, exp.Select)
    return new, select


def _pairs(parsed: Parsed, new: exp.Expr, alike: _Alike) -> list[tuple[exp.Subquery, exp.Expr]]:
    return [(node, counterpart(new, node)) for node in alike.nodes]


def _kept_name(node: exp.Subquery, replacement: exp.Expr) -> exp.Expr:
    """Keep the output's name: that of a scalar subquery is the name of what it selects."""
    if not isinstance(node.parent, exp.Select) or node.arg_key != "expressions":
        return replacement
    value = node.unnest().expressions[0]
    given = value.alias if isinstance(value, exp.Alias) else ""
    column = value.name if isinstance(value, exp.Column) else ""
    name = node.alias or given or column or _function_name(value)
    if isinstance(replacement, exp.Column) and replacement.name == name:
        return replacement
    return exp.alias_(replacement, exp.to_identifier(name)) if name else replacement


def _function_name(value: exp.Expr) -> str:
    return value.sql_name().lower() if isinstance(value, exp.Func) else ""


def _join(select: exp.Select, node: exp.Expr, on: exp.Expr) -> None:
    """Join a member that adds no row and drops none, at the end of FROM."""
    for join in select.args.get("joins") or ():
        if not any(join.args.get(a) for a in ("side", "kind", "on", "using", "method")):
            join.set("kind", "CROSS")  # a comma binds less than the JOIN that follows
    joins = [*(select.args.get("joins") or ()), exp.Join(this=node, side="LEFT", on=on)]
    select.set("joins", joins)


def _is_one_row(reader: Reader, body: exp.Select) -> bool:
    limit = body.args.get("limit")
    one = number(getattr(limit, "expression", None)) == 1
    grouped = is_aggregating(body) and body.args.get("group") is None
    return one or grouped or reader.determines(body, [])


def _table_words(reader: Reader, body: exp.Select) -> str:
    sources = reader.sources(body)
    return sources[0].table.name if sources and sources[0].table else "a"


def lookup_join(parsed: Parsed) -> Rewrite | None:
    """Join the one row that a subquery looks up by a unique key."""
    if parsed.tree.find(exp.Subquery) is None:
        return None
    parsed = parsed.qualified()
    reader = parsed.reader
    for alike in _alike(parsed):
        body = alike.body
        table = reader.only_table(body)
        if not is_bare(body) or table is None or not reader.determines(body, []):
            continue
        if not all(
            isinstance(n.unnest().expressions[0].unalias(), exp.Column) for n in alike.nodes
        ):
            continue
        if any(f is None for f in reader.fields(body)) or not _reads(reader, body, alike.select):
            continue
        if any(not _stays_clear(reader, c) for c in columns(alike.select)):
            continue
        return _looked_up(parsed, alike, table.name)
    return None


def _stays_clear(reader: Reader, column: exp.Column) -> bool:
    """Say whether a name keeps its meaning when a further table is joined."""
    return bool(column.table) or reader.field(column) is not None or is_output(column)


def _reads(reader: Reader, body: exp.Select, select: exp.Select) -> bool:
    return any(f is not None and f.select is select for f in reader.fields(body))


def _looked_up(parsed: Parsed, alike: _Alike, table: str) -> Rewrite:
    reader, moved = parsed.reader, alike.body.copy()
    inside = Reader(moved, reader.catalog)
    source = inside.sources(moved)[0]
    alias = fresh(source.alias, _taken(parsed, alike))
    rename(inside, moved, source, alias)
    new, select = _copied(parsed, alike)
    for node, copy in _pairs(parsed, new, alike):
        name = name_of(node.unnest().expressions[0].unalias().this)
        copy.replace(_kept_name(node, qualified(name, alias)))
    select.set("expressions", starless(select, reader.sources(alike.select)))
    on = conjunction(where_conjuncts(moved)) or exp.true()
    _join(select, source.node.copy(), on)
    return Rewrite(
        rule="lookup_join",
        title=f"Join {table} instead of looking it up for each row",
        why=(
            f"The subquery looks one row of {table} up for every row that the statement finds. "
            "As a LEFT JOIN the planner may also read the table once and hash it."
        ),
        sql=written(new),
        obligation=(
            f"The same rows in every case: a unique key of {table} is compared, so it has one "
            "row at most, and where it has none the outer join gives NULL as the subquery does."
        ),
        finding="correlated_subquery",
    )


def _taken(parsed: Parsed, alike: _Alike) -> set[str]:
    """Return the aliases of all the rest of the statement."""
    inside = {id(n) for node in alike.nodes for n in node.walk()}
    members = parsed.tree.find_all(exp.Table, exp.Subquery, exp.Lateral, exp.CTE)
    return {m.alias_or_name for m in members if id(m) not in inside}


def grouped_join(parsed: Parsed) -> Rewrite | None:
    """Aggregate once for all rows instead of once for each."""
    if parsed.tree.find(exp.Subquery) is None:
        return None
    parsed = parsed.qualified()
    for alike in _alike(parsed):
        if found := _grouped(parsed, alike):
            return found
    return None


@dataclass(frozen=True, slots=True)
class _Correlation:
    inner: exp.Expr
    outer: exp.Expr


def _grouped(parsed: Parsed, alike: _Alike) -> Rewrite | None:
    reader, body = parsed.reader, alike.body
    clauses = ("group", "having", "distinct", "limit", "offset", "windows", "order")
    if any(body.args.get(c) is not None for c in clauses) or body.args.get("from_") is None:
        return None
    if not is_aggregating(body) or has_windows(body):
        return None
    links, rest = _correlations(reader, body, alike.select)
    if not links or any(_leaves(reader, p, body) for p in rest) or not _joins_stay(reader, body):
        return None
    if not all(_is_exact(reader, n.unnest()) for n in alike.nodes):
        return None
    return _grouped_once(parsed, alike, links, rest)


def _correlations(
    reader: Reader, body: exp.Select, select: exp.Select
) -> tuple[list[_Correlation], list[exp.Expr]]:
    """Split the conditions into equalities with the outer query's columns, and the others."""
    links, rest = [], []
    for part in where_conjuncts(body):
        link = _link(reader, part, body, select)
        if link is not None:
            links.append(link)
        else:
            rest.append(part)
    return links, rest


def _link(
    reader: Reader, part: exp.Expr, body: exp.Select, select: exp.Select
) -> _Correlation | None:
    if not isinstance(part, exp.EQ):
        return None
    sides = (part.this.unnest(), part.expression.unnest())
    for mine, other in (sides, sides[::-1]):
        inner, outer = reader.field(mine), reader.field(other)
        if inner and outer and inner.select is body and outer.select is select:
            # Else a row may be equal to several groups, or to a part of one.
            is_exact = tells_apart(inner.column, outer.column)
            return _Correlation(mine, other) if is_exact else None
    return None


def _leaves(reader: Reader, node: exp.Expr, body: exp.Select) -> bool:
    """Say whether a node reads what is not of the subquery itself, as far as can be told."""
    inside = {id(body), *(id(s) for s in body.find_all(exp.Select))}
    return any(f is None or id(f.select) not in inside for f in reader.fields(node))


def _joins_stay(reader: Reader, body: exp.Select) -> bool:
    parts = [body.args["from_"], *(body.args.get("joins") or ())]
    return not any(_leaves(reader, p, body) for p in parts)


def _is_exact(reader: Reader, body: exp.Expr) -> bool:
    """Say whether a query selects aggregates whose result no order of rows changes."""
    assert isinstance(body, exp.Select)
    value = body.expressions[0].unalias()
    found = [a for a in value.find_all(exp.AggFunc) if a.parent_select is body]
    if not found or any(not isinstance(a, EXACT_AGGREGATES) for a in found):
        return False
    if _leaves(reader, value, body) or value.find(exp.Query):
        return False
    fields = reader.fields(value)
    if any(f is not None and f.column.type in FLOATS for f in fields) or is_inexact(value):
        return False
    outside = value.copy().transform(lambda n: exp.Null() if _is_whole_aggregate(n) else n)
    return is_constant(outside)


def _is_whole_aggregate(node: exp.Expr) -> bool:
    """Say whether a node is an aggregate with its FILTER, where it has one."""
    if isinstance(node, exp.Filter):
        return True
    return isinstance(node, exp.AggFunc) and not isinstance(node.parent, exp.Filter)


def _grouped_once(
    parsed: Parsed, alike: _Alike, links: list[_Correlation], rest: list[exp.Expr]
) -> Rewrite:
    reader, body = parsed.reader, alike.body
    name = fresh("per_key", aliases(parsed.tree))
    inner = body.copy()
    set_where(inner, rest)
    keys = [exp.alias_(k.inner.copy(), f"key_{n}") for n, k in enumerate(links, start=1)]
    group = exp.Group(expressions=[k.inner.copy() for k in links])
    new, select = _copied(parsed, alike)
    columns: dict[str, tuple[str, exp.Expr]] = {}
    for node, copy in _pairs(parsed, new, alike):
        value = node.unnest().expressions[0].unalias()
        copy.replace(_kept_name(node, _from_group(value, name, columns)))
    inner.set("expressions", [*keys, *(exp.alias_(a, c) for c, a in columns.values())])
    inner.set("group", group)
    source = exp.Subquery(this=inner, alias=exp.TableAlias(this=exp.to_identifier(name)))
    sources = reader.sources(alike.select)
    on = conjunction(
        build(
            ":k = :o",
            k=qualified(f"key_{n}", name),
            o=link.outer,
        )
        for n, link in enumerate(links, start=1)
    )
    select.set("expressions", starless(select, sources))
    assert on is not None
    _join(select, source, on)
    table = _table_words(reader, body)
    return Rewrite(
        rule="grouped_join",
        title=f"Group {table} once instead of aggregating it for each row",
        why=(
            f"The subquery reads and aggregates rows of {table} for every row that the statement "
            "finds. Grouped by the key that they are looked up by, all groups are made in one "
            "pass and joined."
        ),
        sql=written(new),
        obligation=(
            "The same rows in every case: the outer join keeps rows without a group, and a "
            "count of none is still 0."
        ),
        finding="correlated_subquery",
    )


def _from_group(value: exp.Expr, name: str, columns: dict[str, tuple[str, exp.Expr]]) -> exp.Expr:
    """Return the value with each aggregate taken from the grouped query's columns."""

    def taken(node: exp.Expr) -> exp.Expr:
        if not _is_whole_aggregate(node):
            return node
        counted = isinstance(node.this if isinstance(node, exp.Filter) else node, exp.Count)
        column, _ = columns.setdefault(brief(node), (f"value_{len(columns) + 1}", node.copy()))
        reference: exp.Expr = qualified(column, name)
        return build("coalesce(:v, 0)", v=reference) if counted else reference

    return value.copy().transform(taken)
