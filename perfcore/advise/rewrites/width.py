"""SELECT * over rows of which a few columns make the bulk."""

from __future__ import annotations

from sqlglot import exp

from perfcore.advise.rewrites.reading import Source, is_bare, name_of
from perfcore.advise.rewrites.rewrite import Equality, Parsed, Pricing, Rewrite
from perfcore.advise.rewrites.writing import identifier, qualified, written
from perfcore.types import ColumnInfo

_WIDE_ROW_BYTES = 400
_WIDE_COLUMN_BYTES = 100
_TOAST_BYTES = 2000  # a row above it is compressed and moved out of line


def select_star(parsed: Parsed) -> Rewrite | None:
    """Name the columns, the bulky ones left to those who show them."""
    tree = parsed.tree
    if not is_bare(tree, "order", "limit", "offset", "with_") or not isinstance(tree, exp.Select):
        return None
    sources = parsed.reader.sources(tree)
    if any(s.table is None for s in sources) or any(
        s.join is not None and (s.join.args.get("using") or s.join.method) for s in sources
    ):
        return None
    starred = _starred(tree, sources)
    wide = [
        (s, c) for s in starred for c in (s.table.columns if s.table else ()) if _is_bulky(s, c)
    ]
    if not wide:
        return None
    new = tree.copy()
    new.set("expressions", _named(tree, sources, wide))
    return _rewrite(new, starred, wide)


def _starred(tree: exp.Select, sources: tuple[Source, ...]) -> list[Source]:
    found: list[Source] = []
    for projection in tree.expressions:
        if isinstance(projection, exp.Star):
            found += sources
        elif projection.is_star:
            found += [s for s in sources if s.alias == name_of(projection.args.get("table"))]
    return found


def _width(column: ColumnInfo) -> int:
    return column.avg_width_bytes or 0


def _row_width(source: Source) -> int:
    return sum(_width(c) for c in source.table.columns) if source.table else 0


def _is_bulky(source: Source, column: ColumnInfo) -> bool:
    """Say whether a column alone is a fifth of a wide row."""
    row = _row_width(source)
    width = _width(column)
    return row >= _WIDE_ROW_BYTES and width >= max(_WIDE_COLUMN_BYTES, row / 5)


def _named(
    tree: exp.Select, sources: tuple[Source, ...], wide: list[tuple[Source, ColumnInfo]]
) -> list[exp.Expr]:
    left_out = {(s.alias, c.name) for s, c in wide}
    places: list[exp.Expr] = []
    for projection in tree.expressions:
        if not projection.is_star:
            places.append(projection.copy())
            continue
        wanted = name_of(projection.args.get("table"))
        for source in sources:
            if source.table is None or wanted not in ("", source.alias):
                continue
            for column in source.table.columns:
                if (source.alias, column.name) not in left_out:
                    places.append(_place(column.name, source, sources))
    return places


def _place(name: str, source: Source, sources: tuple[Source, ...]) -> exp.Expr:
    if len(sources) == 1:
        return exp.column(identifier(name))
    return qualified(name, source.alias)


def _rewrite(
    new: exp.Select, starred: list[Source], wide: list[tuple[Source, ColumnInfo]]
) -> Rewrite | None:
    if not new.expressions:
        return None
    row = sum(_row_width(s) for s in starred)
    saved = sum(_width(c) for _, c in wide)
    names = ", ".join(
        f"{s.table.name}.{c.name} ({_width(c):,} bytes)" for s, c in wide if s.table is not None
    )
    toast = (
        " Values that size lie in the TOAST table: each is fetched by lookups of its own and "
        "decompressed."
        if any(_row_width(s) >= _TOAST_BYTES for s, _ in wide)
        else ""
    )
    return Rewrite(
        rule="select_star",
        title=f"Name the columns instead of *: {saved:,} of {row:,} bytes a row are {_few(wide)}",
        why=(
            f"SELECT * returns {row:,} bytes a row by the statistics, of which {names} make "
            f"{saved:,}.{toast} A plan's cost knows nothing of what is sent and unpacked, so this "
            "rests on the widths and the time per call alone."
        ),
        sql=written(new),
        obligation=(
            f"The same rows without {_few(wide)}: name those too where the application shows "
            "them. Naming columns also lets an index answer alone, and a column added later "
            "changes nothing."
        ),
        finding="wide_rows",
        equality=Equality.DIFFERENT,
        pricing=Pricing.NOTHING,
        saved_bytes_per_row=saved,
    )


def _few(wide: list[tuple[Source, ColumnInfo]]) -> str:
    return ", ".join(c.name for _, c in wide)
