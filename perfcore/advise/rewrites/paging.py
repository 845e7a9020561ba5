"""Pages and samples: OFFSET to keyset, ORDER BY random() to a sample."""

from __future__ import annotations

from dataclasses import dataclass

from sqlglot import exp

from perfcore.advise.rewrites.reading import (
    Field,
    Place,
    Reader,
    is_bare,
    number,
    where_conjuncts,
)
from perfcore.advise.rewrites.rewrite import Equality, Parsed, Pricing, Rewrite
from perfcore.advise.rewrites.writing import brief, build, qualified, set_where, value, written
from perfcore.types import IndexDefinition, IndexKey, TableInfo

_SAMPLED_ROWS = 2000  # read for a sample: many times what a page shows


@dataclass(frozen=True, slots=True)
class _Key:
    column: exp.Column
    field: Field
    descending: bool

    @property
    def name(self) -> str:
        return self.field.column.name


def keyset(parsed: Parsed) -> Rewrite | None:
    """Continue after the last row shown instead of counting past all rows before it.

    The method is Markus Winand's "seek method" (Use The Index, Luke).
    """
    tree = parsed.tree
    if not is_bare(tree, "order", "limit", "offset") or not _skips_rows(tree):
        return None
    keys = _order_keys(parsed.reader, tree)
    if not keys or any(not parsed.reader.is_filled(k.field) for k in keys):
        return None
    table = keys[0].field.table
    whole = _with_tie_breaker(parsed.reader, tree, keys)
    if not whole:
        return None
    new = tree.copy()
    new.set("offset", None)
    ordered = [_as_ordered(k) for k in whole[len(keys) :]]
    new.args["order"].set("expressions", [*new.args["order"].expressions, *ordered])
    set_where(new, [*where_conjuncts(new), _after(whole)])
    names = ", ".join(brief(k.column) + (" DESC" if k.descending else "") for k in whole)
    return Rewrite(
        rule="keyset",
        title=f"Page through {table.name} by its last row instead of OFFSET",
        why=(
            "OFFSET reads and throws away every row before the page, so page 1,000 costs a "
            "thousand times page 1. Remembering the last row's keys goes straight to the page."
        ),
        sql=written(new),
        obligation=(
            f"It returns the rows that follow the given one in the order of ({names}), which no "
            "two rows share: the page that OFFSET finds, as long as nothing is inserted or "
            "deleted before it, where OFFSET shows a row twice or not at all. The first page "
            "leaves the comparison out, and there is no jump to a page by its number."
            + _ties_words(keys, whole)
        ),
        finding="deep_offset",
        equality=Equality.CONDITION,
        pricing=Pricing.FIRST_PAGE,
        indexes=_ordered_index(table, whole),
    )


def _as_ordered(key: _Key) -> exp.Ordered:
    # Without `nulls_first` the writer adds NULLS LAST, which no plain index has.
    return exp.Ordered(this=key.column.copy(), desc=key.descending, nulls_first=key.descending)


def _skips_rows(tree: exp.Expr) -> bool:
    offset = tree.args.get("offset")
    return offset is not None and number(offset.expression) != 0


def _order_keys(reader: Reader, tree: exp.Expr) -> list[_Key]:
    """Return the keys of the order, all columns of one table, else none."""
    keys = []
    order = tree.args.get("order")
    for ordered in order.expressions if order is not None else ():
        field = reader.field(ordered.this)
        descending = bool(ordered.args.get("desc"))
        if field is None or not isinstance(ordered.this, exp.Column):
            return []
        if not ordered.this.table and ordered.this.name in _renamed(tree):
            return []
        keys.append(_Key(ordered.this, field, descending))
    return keys if len({k.field.source.alias for k in keys}) == 1 else []


def _renamed(tree: exp.Expr) -> set[str]:
    """Return the output names that ORDER BY would take for something else than the column."""
    return {
        p.alias
        for p in tree.expressions
        if isinstance(p, exp.Alias) and p.unalias().name != p.alias
    }


def _with_tie_breaker(reader: Reader, tree: exp.Expr, keys: list[_Key]) -> list[_Key]:
    """Add the primary key where rows may tie; nothing where that leaves ties."""
    assert isinstance(tree, exp.Select)
    places: list[Place] = [k.field.place for k in keys]
    if reader.determines(tree, places):
        return keys
    first = keys[0].field
    for name in reader.primary_key(first.table):
        info = first.table.column(name)
        if info is not None and (first.source.alias, name) not in places:
            column = (
                qualified(name, first.source.alias)
                if keys[0].column.table or tree.args.get("joins")
                else exp.column(name)
            )
            field = Field(first.source, first.table, info, first.select)
            keys = [*keys, _Key(column, field, keys[-1].descending)]
    return keys if reader.determines(tree, [k.field.place for k in keys]) else []


def _ties_words(keys: list[_Key], whole: list[_Key]) -> str:
    if len(keys) == len(whole):
        return ""
    added = ", ".join(k.name for k in whole[len(keys) :])
    return f" {added} is added to the order, because without it ties have none."


def _after(keys: list[_Key]) -> exp.Expr:
    """Return the comparison that the rows after the last one pass."""
    if len({k.descending for k in keys}) == 1:
        sign = "<" if keys[0].descending else ">"
        mine = exp.Tuple(expressions=[k.column.copy() for k in keys])
        last = exp.Tuple(expressions=[value(f"last_{k.name}") for k in keys])
        return build(f":a {sign} :b", a=mine, b=last)
    return _after_mixed(keys)


def _after_mixed(keys: list[_Key]) -> exp.Expr:
    """Spell the comparison out: row comparison knows no mixed directions."""
    branches = []
    for n, key in enumerate(keys):
        sign = "<" if key.descending else ">"
        parts = [build(":a = :b", a=k.column, b=value(f"last_{k.name}")) for k in keys[:n]]
        parts.append(build(f":a {sign} :b", a=key.column, b=value(f"last_{key.name}")))
        branches.append(exp.and_(*parts))
    first = keys[0]
    bound = build(
        f":a {'<=' if first.descending else '>='} :b",
        a=first.column,
        b=value(f"last_{first.name}"),
    )
    return exp.and_(bound, exp.or_(*branches))


def _ordered_index(table: TableInfo, keys: list[_Key]) -> tuple[IndexDefinition, ...]:
    wanted = tuple(k.name for k in keys)
    turns = [k.descending for k in keys]
    for index in table.indexes:
        descending = list(index.descending[: len(wanted)]) or [False] * len(wanted)
        if index.keys[: len(wanted)] == wanted and not index.predicate:
            if descending in (turns, [not t for t in turns]):
                return ()
    is_mixed = len(set(turns)) > 1
    index_keys = tuple(IndexKey(k.name, descending=is_mixed and k.descending) for k in keys)
    return (IndexDefinition(table.schema, table.name, index_keys),)


def random_order(parsed: Parsed) -> Rewrite | None:
    """Sort a random sample of the table by random() instead of the whole table."""
    tree = parsed.tree
    if not is_bare(tree, "order", "limit") or tree.args.get("limit") is None:
        return None
    if tree.args.get("where") is not None:
        return None
    order = tree.args.get("order")
    table, orders = parsed.reader.only_table(tree), order.expressions if order else []
    if table is None or len(orders) != 1 or not isinstance(orders[0].this, exp.Rand):
        return None
    wanted = number(getattr(tree.args["limit"], "expression", None)) or 20.0
    rows = max(table.row_count, float(table.live_rows))
    percent = 100.0 * max(_SAMPLED_ROWS, 10 * wanted) / rows if rows > 0 else 100.0
    if percent >= 50 or tree.find(exp.TableSample) is not None:
        return None
    new = tree.copy()
    sample = exp.TableSample(
        method=exp.Var(this="SYSTEM"), percent=exp.Literal.number(f"{percent:.2g}")
    )
    new.args["from_"].this.set("sample", sample)
    return Rewrite(
        rule="random_order",
        title=f"Draw rows of {table.name} from a sample instead of sorting all by random()",
        why=(
            f"ORDER BY random() gives each of about {rows:,.0f} rows a number and sorts them all "
            "to keep a few. TABLESAMPLE draws some pages first; each row still has the same chance."
        ),
        sql=written(new),
        obligation=(
            "The rows differ from run to run in both forms, so there is nothing to compare. The "
            f"sample has about {rows * percent / 100:,.0f} rows; should the table shrink, it has "
            "fewer, at last fewer than the statement asks for. Rows of one page come together; "
            "BERNOULLI in the place of SYSTEM draws each row alone, but reads every page."
        ),
        finding="random_order",
        equality=Equality.DIFFERENT,
    )
