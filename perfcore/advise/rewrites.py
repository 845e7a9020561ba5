"""Statements that another wording makes faster: what is recognised, the new SQL, what to prove."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sqlglot import exp

from perfcore.advise.statement import parse
from perfcore.types import Catalog, TableInfo


@dataclass(frozen=True, slots=True)
class Rewrite:
    """A new wording; `obligation` says what must hold for the results to be the same."""

    rule: str
    title: str
    why: str
    sql: str
    obligation: str


def keyset(text: str, catalog: Catalog) -> Rewrite | None:
    """Return the keyset form of a page by OFFSET, None where the statement has no such page."""
    tree = parse(text)
    offset = tree.args.get("offset") if isinstance(tree, exp.Select) else None
    order = tree.args.get("order")
    if offset is None or order is None or not isinstance(offset.expression, exp.Parameter):
        return None
    table = _only_table(tree, catalog)
    columns = [o.this for o in order.expressions]
    directions = {bool(o.args.get("desc")) for o in order.expressions}
    if table is None or len(directions) != 1:
        return None
    if not all(isinstance(c, exp.Column) and table.column(c.name) for c in columns):
        return None
    descending = directions.pop()
    names = [c.name for c in columns]
    tie_breakers = [k for k in _primary_key(table) if k not in names]
    if not _primary_key(table):
        return None
    new = tree.copy()
    new.set("offset", None)
    qualifier = columns[0].table
    for name in tie_breakers:
        ordered = exp.Ordered(this=exp.column(name, table=qualifier or None), desc=descending)
        new.args["order"].append("expressions", ordered)
    keys = ", ".join([*(c.sql(dialect="postgres") for c in columns), *tie_breakers])
    values = ", ".join(f"@last_{n}" for n in [*names, *tie_breakers])
    comparison = f"({keys}) {'<' if descending else '>'} ({values})"
    marker = exp.Var(this=comparison)
    where = new.args.get("where")
    condition = exp.and_(where.this, marker) if where is not None else marker
    new.set("where", exp.Where(this=condition))
    words = new.sql(dialect="postgres", pretty=True).replace("@last_", ":last_")
    return Rewrite(
        rule="keyset",
        title=f"Page through {table.name} by its last row instead of OFFSET",
        why=(
            "OFFSET reads and throws away every row before the page, so page 1,000 costs a "
            "thousand times page 1. Remembering the last row's keys goes straight to the page."
        ),
        sql=words,
        obligation=(
            f"The application passes the keys of the last row it has shown ({keys}); the first "
            f"page leaves the comparison out. It needs an index on ({keys}), none of them NULL, "
            "and gives up jumping to a page by its number."
        ),
    )


def not_exists(text: str, catalog: Catalog) -> Rewrite | None:
    """Return the NOT EXISTS form of a NOT IN over a column that may be NULL."""
    tree = parse(text)
    for node in tree.find_all(exp.Not):
        membership = node.this.unnest()
        if not isinstance(membership, exp.In) or membership.args.get("query") is None:
            continue
        inner = membership.args["query"].unnest()
        found = _nullable_column(inner, catalog)
        if found is None or not isinstance(membership.this, exp.Column):
            continue
        table, column = found
        new = tree.copy()
        target = next(n for n in new.find_all(exp.Not) if n == node)
        target.replace(_anti_join(tree, membership.this, inner))
        return Rewrite(
            rule="not_exists",
            title=f"Ask NOT EXISTS instead of NOT IN over {table.name}.{column}",
            why=(
                f"{table.name}.{column} may be NULL, so PostgreSQL cannot turn NOT IN into an "
                "anti-join: it keeps the whole list in memory or scans it for every row."
            ),
            sql=new.sql(dialect="postgres", pretty=True),
            obligation=_null_words(table, column),
        )
    return None


def batch(text: str) -> str:
    """Return the statement that asks for many keys at once, empty where there is no single key."""
    tree = parse(text)
    if not isinstance(tree, exp.Select) or tree.args.get("limit") is not None:
        return ""
    where = tree.args.get("where")
    for node in where.find_all(exp.EQ) if where is not None else ():
        if isinstance(node.this, exp.Column) and isinstance(node.expression, exp.Parameter):
            new = tree.copy()
            target = next(n for n in new.find_all(exp.EQ) if n == node)
            key = target.this.copy()
            target.replace(
                exp.EQ(this=key, expression=exp.Any(this=exp.Paren(this=exp.Var(this="@keys"))))
            )
            _keep_apart(new, key)
            words = new.sql(dialect="postgres", pretty=True)
            return re.sub(r"ANY\(\s*@keys\s*\)", "ANY(:keys)", words)
    return ""


def _keep_apart(select: exp.Select, key: exp.Column) -> None:
    """Return the key with each row, and group by it where the statement aggregates."""
    names = {p.alias_or_name for p in select.expressions}
    if key.name not in names and not any(isinstance(p, exp.Star) for p in select.expressions):
        select.set("expressions", [key.copy(), *select.expressions])
    aggregates = any(p.find(exp.AggFunc) for p in select.expressions)
    if aggregates and select.args.get("group") is None:
        select.set("group", exp.Group(expressions=[key.copy()]))


def _anti_join(tree: exp.Expr, outer: exp.Column, inner: exp.Select) -> exp.Expr:
    sub = inner.copy()
    column = sub.expressions[0].unalias()
    qualified_outer = outer.copy()
    if not outer.table and isinstance(tree, exp.Select):
        source = tree.args["from_"].this if tree.args.get("from_") else tree.args["from"].this
        qualified_outer.set("table", exp.to_identifier(source.alias_or_name))
    inner_source = (sub.args.get("from_") or sub.args["from"]).this
    qualified_inner = column.copy()
    if not column.table:
        qualified_inner.set("table", exp.to_identifier(inner_source.alias_or_name))
    sub.set("expressions", [exp.Literal.number(1)])
    sub = sub.where(exp.EQ(this=qualified_inner, expression=qualified_outer))
    return exp.Not(this=exp.Exists(this=sub))


def _nullable_column(inner: exp.Expr, catalog: Catalog) -> tuple[TableInfo, str] | None:
    if not isinstance(inner, exp.Select) or len(inner.expressions) != 1:
        return None
    column = inner.expressions[0].unalias()
    table = _only_table(inner, catalog)
    info = table.column(column.name) if table and isinstance(column, exp.Column) else None
    return (table, info.name) if table and info and not info.not_null else None


def _null_words(table: TableInfo, column: str) -> str:
    info = table.column(column)
    share = info.null_fraction if info else None
    if share:
        today = f"{100 * share:.1f} % of its rows hold NULL now, so today NOT IN returns nothing."
    elif share == 0:
        today = "The statistics show none now, so today both return the same."
    else:
        today = "The statistics do not say whether there are any."
    return (
        f"While {column} holds a NULL, NOT IN returns no row at all and NOT EXISTS does; without "
        f"NULLs on either side both return the same rows. {today}"
    )


def _only_table(select: exp.Expr, catalog: Catalog) -> TableInfo | None:
    tables = [t for t in select.find_all(exp.Table) if t.parent_select is select]
    if len(tables) != 1:
        return None
    return catalog.table(tables[0].name, tables[0].db)


def _primary_key(table: TableInfo) -> tuple[str, ...]:
    return next((i.keys for i in table.indexes if i.is_primary), ())
