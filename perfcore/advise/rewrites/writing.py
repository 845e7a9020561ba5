"""Building the new wording from the old one's parts."""

from __future__ import annotations

import re
from collections.abc import Iterable

import sqlglot
from sqlglot import exp

from perfcore.advise.rewrites.reading import Field, Reader, Source, columns
from perfcore.types import IndexDefinition, IndexKey

_WRAPPED = (exp.Binary, exp.Connector, exp.Between, exp.In, exp.Not, exp.Is)
_VALUE = re.compile(r"(?<![:\w]):([a-z_]\w*)")


_LOOSE = (exp.Where, exp.Having, exp.Paren, exp.Func, exp.Anonymous)


def _tidied(tree: exp.Expr) -> exp.Expr:
    """Drop brackets that keep nothing together."""
    for paren in list(tree.find_all(exp.Paren)):
        inner, parent = paren.this, paren.parent
        joined = isinstance(parent, exp.Connector) and not isinstance(inner, exp.Connector)
        same = isinstance(parent, exp.And) and isinstance(inner, exp.And)
        alone = isinstance(parent, _LOOSE) and not isinstance(parent, exp.Connector)
        if joined or same or alone:
            paren.replace(inner)
    return tree


def written(tree: exp.Expr) -> str:
    """Return a statement's text, laid out to be read."""
    tree = _tidied(tree)
    text: str = tree.sql(
        dialect="postgres", pretty=True, comments=False, normalize_functions="lower"
    )
    return re.sub(r"\(\s*(:\w+|CAST\([^()]*\))\s*\)", r"(\1)", text)


def brief(node: exp.Expr) -> str:
    """Return a fragment's text on one line."""
    text: str = node.sql(dialect="postgres", comments=False, normalize_functions="lower")
    return text


def shortened(node: exp.Expr) -> str:
    """Return a fragment's text, cut where it is long."""
    text = brief(node)
    return text if len(text) <= 70 else text[:67] + "..."


def build(template: str, **parts: exp.Expr) -> exp.Expr:
    """Return the template's tree with a copy of each part in the place of its `:name`."""
    tree = sqlglot.parse_one(template, dialect="postgres")
    placed = {name: operand(part) for name, part in parts.items()}
    return exp.replace_placeholders(tree, **placed)


def operand(node: exp.Expr) -> exp.Expr:
    """Return a copy that keeps together whatever it is joined with."""
    copy = node.copy()
    return exp.Paren(this=copy) if isinstance(copy, _WRAPPED) else copy


def value(name: str) -> exp.Expr:
    """Return the place of a value that the application passes by name."""
    return exp.Var(this=":" + re.sub(r"\W", "_", name))


def numbered(sql: str) -> str:
    """Return the text with its `:name` values as further `$n`, the way a server plans it.

    >>> numbered("SELECT 1 FROM t WHERE a = $1 AND (b) > (:last_b) AND c = ANY(:keys::int[])")
    'SELECT 1 FROM t WHERE a = $1 AND (b) > ($2) AND c = ANY($3::int[])'
    """
    first = max((int(n) for n in re.findall(r"\$(\d+)", sql)), default=0) + 1
    names = list(dict.fromkeys(_VALUE.findall(sql)))
    return _VALUE.sub(lambda m: f"${first + names.index(m[1])}", sql)


def cast(node: exp.Expr, type_name: str) -> exp.Expr:
    return exp.Cast(
        this=node.copy(), to=exp.DataType.build(type_name, dialect="postgres", udt=True)
    )


def conjunction(parts: Iterable[exp.Expr]) -> exp.Expr | None:
    """Return the parts joined by AND, each kept together."""
    kept = [exp.Paren(this=p.copy()) if isinstance(p, exp.Or) else p.copy() for p in parts]
    if not kept:
        return None
    joined = kept[0]
    for part in kept[1:]:
        joined = exp.And(this=joined, expression=part)
    return joined


def set_where(select: exp.Expr, parts: Iterable[exp.Expr]) -> None:
    condition = conjunction(parts)
    select.set("where", exp.Where(this=condition) if condition is not None else None)


def counterpart(copy: exp.Expr, node: exp.Expr) -> exp.Expr:
    """Return the node of a tree's copy that stands where a node stands in the tree."""
    path: list[tuple[str, int | None]] = []
    while node.parent is not None:
        path.append((node.arg_key or "", node.index))
        node = node.parent
    for key, index in reversed(path):
        found = copy.args[key]
        copy = found[index] if index is not None else found
    return copy


def qualified(name: str, alias: str) -> exp.Column:
    """Return alias.name, quoted where the server would read it otherwise."""
    return exp.column(identifier(name), table=identifier(alias))


def identifier(name: str) -> exp.Identifier:
    return exp.to_identifier(name, quoted=not re.fullmatch(r"[a-z_][a-z0-9_]*", name))


def fresh(stem: str, taken: Iterable[str]) -> str:
    """Return the stem, numbered where it is taken.

    >>> fresh("o", {"o", "o_1"})
    'o_2'
    """
    used = set(taken)
    if stem not in used:
        return stem
    return next(f"{stem}_{n}" for n in range(1, len(used) + 2) if f"{stem}_{n}" not in used)


def aliases(tree: exp.Expr) -> set[str]:
    """Return every name that a FROM clause of the statement uses."""
    names = {t.alias_or_name for t in tree.find_all(exp.Table, exp.Subquery, exp.Lateral, exp.CTE)}
    return names | {c.table for c in tree.find_all(exp.Column) if c.table}


def rename(reader: Reader, select: exp.Select, source: Source, alias: str) -> None:
    """Give a table of the query another alias, in all that speaks of it."""
    meant = [
        c
        for c in columns(select)
        if (field := reader.field(c)) is not None
        and field.select is select
        and field.source.alias == source.alias
    ]
    for column in meant:
        column.set("table", identifier(alias))
    if alias != source.alias:
        source.node.set("alias", exp.TableAlias(this=identifier(alias)))


def index_on(field: Field) -> tuple[IndexDefinition, ...]:
    """Return the index on a bare column, nothing where one leads with it already."""
    name = field.column.name
    if any(i.keys[:1] == (name,) and not i.predicate for i in field.table.indexes):
        return ()
    return (IndexDefinition(field.table.schema, field.table.name, (IndexKey(name),)),)


def starless(select: exp.Select, sources: Iterable[Source]) -> list[exp.Expr]:
    """Return the select list with a bare star spelled out by table, so that a join adds nothing."""
    places: list[exp.Expr] = []
    for projection in select.expressions:
        if isinstance(projection, exp.Star):
            places += [exp.Column(this=exp.Star(), table=identifier(s.alias)) for s in sources]
        else:
            places.append(projection.copy())
    return places
