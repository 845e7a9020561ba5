"""How large an index would be, from the statistics of its columns.

A B-tree is computed page by page as a fresh CREATE INDEX would fill it, deduplication
included (nbtsort.c, nbtdedup.c). The other methods are rules of thumb, good to a factor of
about two: what decides their size (distinct elements, overlap) is not in pg_stats.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from itertools import pairwise

from psycopg import sql

from perfcore.errors import PerfcoreError
from perfcore.types import Catalog, ColumnInfo, IndexDefinition, TableInfo
from perfcore.whatif.gin_size import GinSize, gin_size

PAGE = 8192
_USABLE = PAGE - 24 - 16  # page header, B-tree special space
_LEAF_ROOM = _USABLE - PAGE // 10  # fillfactor 90
_INNER_ROOM = _USABLE * 0.7
_LINE_POINTER = 4
_TUPLE_HEADER = 8
_TID = 6
_PIVOT_TID = 8
_POSTING_MAX = 812  # a tenth of a page, less a line pointer
_BRIN_PAGES_PER_RANGE = 128

_FIXED = {
    "boolean": 1, "smallint": 2, "integer": 4, "bigint": 8, "real": 4, "double precision": 8,
    "date": 4, "time without time zone": 8, "timestamp without time zone": 8,
    "timestamp with time zone": 8, "uuid": 16, "oid": 4, "money": 8, "interval": 16,
    '"char"': 1, "name": 64, "macaddr": 6,
}  # fmt: skip
_FULL_TIME = "timestamp with time zone"
# Types whose equal values may differ in bytes are never deduplicated.
_NOT_DEDUPLICATED = ("numeric", "real", "double precision", "jsonb", "record")
_MANY_DISTINCT = 3_000  # above it the statistics know too few of a column's values
_NEARLY_UNIQUE = 0.9
_MOST_MISSED = 3.0  # times as many values as ANALYZE found in its sample
_LIKELY_MISSED = 1.4
_DEFAULT_WIDTH = 16
_MEMBER_WIDTH = 12
_TEXT = re.compile(r"text|character|citext")


def estimate_index_bytes(
    catalog: Catalog, index: IndexDefinition, *, rows: float | None = None
) -> int:
    """Return the bytes that a freshly built index would take.

    `rows` is how many rows it holds, for a partial index whose predicate somebody has
    estimated; otherwise the predicate is read roughly from pg_stats. That of a partitioned
    table is the sum of its partitions'. Raises PerfcoreError when the catalogue has no such
    table or column.
    """
    table = catalog.table(index.table, index.schema)
    if table is None:
        raise PerfcoreError(
            f"there is no table {index.schema}.{index.table} in {catalog.database!r}"
        )
    leaves = catalog.leaves(table)
    whole = sum(map(row_count, leaves))
    return sum(
        _bytes_on(leaf, index, None if rows is None else rows * row_count(leaf) / max(1.0, whole))
        for leaf in leaves
    )


def largest_index_bytes(catalog: Catalog, index: IndexDefinition) -> int:
    """Return the bytes if ANALYZE missed as many values of the key as it well may.

    The more distinct values, the fewer keys share their entry. Whole numbers are told better, and
    so are columns of few values or of nearly as many as rows.
    """
    table = catalog.table(index.table, index.schema)
    if table is None or index.method != "btree" or index.include or len(index.keys) > 1:
        return estimate_index_bytes(catalog, index)
    return sum(_bytes_on(_with_missed_values(t), index, None) for t in catalog.leaves(table))


def _with_missed_values(table: TableInfo) -> TableInfo:
    rows = row_count(table)
    return replace(table, columns=tuple(_with_missed(c, rows) for c in table.columns))


def _with_missed(column: ColumnInfo, rows: float) -> ColumnInfo:
    known = column.n_distinct or 0.0
    sampled = known if known > 0 else -known * rows
    if sampled < _MANY_DISTINCT or known <= -_NEARLY_UNIQUE or _widths(column):
        return column
    # Of texts often some are in many rows and all the others in one: no sample tells how many.
    missed = _MOST_MISSED if _TEXT.match(column.type) else _LIKELY_MISSED
    most = min(missed * sampled, column.most_distinct or math.inf)
    return replace(column, n_distinct=max(-1.0, -max(sampled, most) / max(1.0, rows)))


def _bytes_on(table: TableInfo, index: IndexDefinition, rows: float | None) -> int:
    """Return the bytes of the index on one table that has rows itself."""
    if rows is None:
        rows = row_count(table) * _fraction(table, index.predicate)
    columns = [key_column(table, k.expression, is_expression=k.is_expression) for k in index.keys]
    columns += [key_column(table, name, is_expression=False) for name in index.include]
    columns = [_within(c, index.predicate) for c in columns]
    if index.method == "btree":
        pages = btree_pages(rows, columns, deduplicate=not index.unique and not index.include)
    elif index.method == "brin":
        pages = _brin_pages(table, columns, index.pages_per_range)
    elif index.method == "hash":
        pages = 2 + 2 ** math.ceil(math.log2(max(2.0, rows / 307)))
    elif index.method == "gin":
        pages = _gin_pages(table, index, columns, rows)
    elif index.method == "bloom":
        pages = 1 + math.ceil(rows * 16 / PAGE)
    elif index.method == "gist":
        keys = [_gist_key(c, k.operator_class) for c, k in zip(columns, index.keys, strict=False)]
        pages = math.ceil(btree_pages(rows, keys, deduplicate=False) * 1.4)
    else:  # spgist: a B-tree without deduplication, its pages two thirds full
        pages = math.ceil(btree_pages(rows, columns, deduplicate=False) * 1.4)
    return int(pages) * PAGE


def _within(column: ColumnInfo, predicate: str) -> ColumnInfo:
    """Return the column as it is in the rows of a predicate that lets no NULL of it pass."""
    nulls = column.null_fraction or 0.0
    if not 0 < nulls < 1 or f"{_quoted(column.name)} IS NOT NULL" not in predicate:
        return column
    distinct = column.n_distinct
    if distinct is not None and distinct < 0:
        distinct = max(-1.0, distinct / (1 - nulls))
    freqs = tuple(f / (1 - nulls) for f in column.most_common_freqs)
    return replace(column, null_fraction=0.0, n_distinct=distinct, most_common_freqs=freqs)


def _quoted(name: str) -> str:
    return sql.Identifier(name).as_string(None)


def row_count(table: TableInfo) -> float:
    """Return the rows of a table as the planner knows them, else as the counters do."""
    return table.row_count if table.row_count >= 0 else float(table.live_rows)


def btree_pages(rows: float, columns: Sequence[ColumnInfo], *, deduplicate: bool) -> int:
    """Return the pages of a B-tree: the metapage, the leaves and the levels above them."""
    size = _tuple_bytes(columns)
    if deduplicate and not any(_is_bytewise_unequal(c) for c in columns):
        leaf_bytes = sum(
            values * _value_bytes(multiplicity, size)
            for values, multiplicity in _multiplicities(rows, columns)
        )
    else:
        leaf_bytes = rows * (size + _LINE_POINTER)
    pages = level = max(1, math.ceil(leaf_bytes / _LEAF_ROOM))
    while level > 1:
        level = math.ceil(level / btree_fanout(columns, rows, deduplicate=deduplicate))
        pages += level
    return 1 + pages


def btree_fanout(
    columns: Sequence[ColumnInfo], rows: float = 0.0, *, deduplicate: bool = True
) -> float:
    """Return how many pages a page above the leaves points to.

    A pivot keeps the columns up to the first that tells two leaves apart, and where none
    does, a row's address (nbtsort.c, `_bt_truncate`).
    """
    tuples = _leaf_tuples(rows, columns, deduplicate=deduplicate)
    pivot, untold = 0.0, 1.0
    for count in range(1, len(columns) + 1):
        prefix = columns[:count]
        values = sum(v for v, _ in _multiplicities(rows, prefix)) if rows > 1 else tuples
        alike = min(untold, max(0.0, 1.0 - values / tuples))
        pivot += (untold - alike) * _tuple_bytes(prefix)
        untold = alike
    pivot += untold * (_tuple_bytes(columns) + _PIVOT_TID)
    return max(2.0, _INNER_ROOM / (pivot + _LINE_POINTER))


def _leaf_tuples(rows: float, columns: Sequence[ColumnInfo], *, deduplicate: bool) -> float:
    """Return how many tuples the leaves hold: rows, or the posting lists that they are put in."""
    if rows <= 1 or not deduplicate or any(_is_bytewise_unequal(c) for c in columns):
        return max(1.0, rows)
    most = max(2, int((_POSTING_MAX - _tuple_bytes(columns)) // _TID))
    return sum(v * max(min(m, 1.0), m / most) for v, m in _multiplicities(rows, columns))


def btree_height(pages: int, fanout: float) -> int:
    """Return the levels above the leaves, as the metapage of the B-tree would tell.

    >>> btree_height(2, 285), btree_height(2745, 285), btree_height(500_000, 285)
    (0, 2, 3)
    """
    leaves, height = max(1, pages - 1), 0
    while leaves > 1:
        leaves = math.ceil(leaves / fanout)
        height += 1
    return height


def index_height(
    catalog: Catalog, index: IndexDefinition, pages: int, rows: float | None = None
) -> int:
    """Return the height of a B-tree of that many pages; 0 for other methods."""
    table = catalog.table(index.table, index.schema)
    if index.method != "btree" or table is None:
        return 0
    columns = [key_column(table, k.expression, is_expression=k.is_expression) for k in index.keys]
    held = row_count(table) if rows is None else rows
    deduplicate = not index.unique and not index.include
    return btree_height(pages, btree_fanout(columns, held, deduplicate=deduplicate))


def _multiplicities(rows: float, columns: Sequence[ColumnInfo]) -> list[tuple[float, float]]:
    """Return (number of values, rows of each) for the distinct keys of an index."""
    if len(columns) > 1:
        distinct = math.prod(_distinct(rows, c) for c in columns)
        distinct = max(1.0, min(rows, distinct))
        # Values drawn at random leave some of the possible combinations out.
        seen = distinct * -math.expm1(-rows / distinct) if distinct < rows else rows
        return [(max(1.0, seen), rows / max(1.0, seen))]
    column = columns[0]
    nulls = column.null_fraction or 0.0
    common = [(1.0, rows * f) for f in column.most_common_freqs]
    if nulls:
        common.append((1.0, rows * nulls))
    rest = max(0.0, rows - sum(m for _, m in common))
    values = min(rest, max(1.0, _distinct(rows, column) - len(column.most_common_freqs)))
    return [*common, (values, rest / values)] if rest >= 1 and values else common


def _distinct(rows: float, column: ColumnInfo) -> float:
    """Return the number of distinct values, of many whole numbers by how dense they lie.

    From a sample ANALYZE finds too few of many values, less than half where some are frequent.
    But the width of a histogram's bucket is known, and so is how many rows fell into it: were
    they thrown at random among its whole numbers, so many of these were hit.
    """
    known = column.n_distinct
    if known is None or known == 0:
        return max(1.0, rows)
    sampled = max(1.0, known if known > 0 else -known * rows)
    if sampled < _MANY_DISTINCT or known <= -_NEARLY_UNIQUE or not (widths := _widths(column)):
        return sampled
    common = sum(column.most_common_freqs)
    each = rows * max(0.0, 1 - (column.null_fraction or 0.0) - common) / len(widths)
    hit = sum(-w * math.expm1(-each / w) for w in widths if w > 0)
    found = len(column.most_common_freqs) + hit
    most = min(_MOST_MISSED * sampled, max(1.0, rows), column.most_distinct or math.inf)
    # Where numbers are sparse that is too many: the sample is not wrong by more than so much.
    return max(sampled, min(found, most))


_WHOLE_NUMBERS = ("smallint", "integer", "bigint")


def _widths(column: ColumnInfo) -> list[float]:
    """Return how many whole numbers or days each bucket of the histogram spans."""
    if column.type in _WHOLE_NUMBERS:
        bounds = [float(v) for v in column.histogram_bounds]
    elif column.type == "date" and all(map(_DAY.fullmatch, column.histogram_bounds)):
        bounds = [float(date.fromisoformat(v).toordinal()) for v in column.histogram_bounds]
    else:
        return []
    return [after - before for before, after in pairwise(bounds)]


_DAY = re.compile(r"\d{4}-\d\d-\d\d")


def _value_bytes(multiplicity: float, size: float) -> float:
    """Return the bytes in leaves of one key that so many rows share, line pointers included."""
    if multiplicity <= 1:
        return multiplicity * (size + _LINE_POINTER)
    most = max(2, int((_POSTING_MAX - size) // _TID))
    full, rest = divmod(multiplicity, most)
    whole = full * (_aligned(size + most * _TID) + _LINE_POINTER)
    return whole + (_posting_bytes(rest, size) if rest else 0.0)


def _posting_bytes(rows: float, size: float) -> float:
    def exact(count: int) -> float:
        if count <= 1:
            return count * (size + _LINE_POINTER)
        return _aligned(size + count * _TID) + _LINE_POINTER

    low = math.floor(rows)
    return exact(low) + (rows - low) * (exact(low + 1) - exact(low))


def _tuple_bytes(columns: Sequence[ColumnInfo]) -> float:
    """Return the average size of an index tuple, aligned as PostgreSQL aligns it.

    The chances of every length are followed through the columns, because alignment makes
    the size of the average other than the average size.
    """
    chances = {0: 1.0}
    for column in columns:
        step = _alignment(_FIXED.get(column.type, 0))
        longer: dict[int, float] = defaultdict(float)
        for offset, chance in chances.items():
            if nulls := _null_share(column, columns):
                longer[offset] += chance * nulls  # a NULL takes no room but its bit
            for length, share in _lengths(column).items():
                start = -(-offset // step) * step
                longer[start + length] += chance * share * (1.0 - nulls)
        chances = longer
    size = sum(chance * _aligned(_TUPLE_HEADER + n) for n, chance in chances.items())
    if len(columns) == 1:
        return max(16.0, size)
    nulls = 1.0 - math.prod(1.0 - (c.null_fraction or 0.0) for c in columns)
    return size + nulls * 8  # the null bitmap, where there is a null


def _null_share(column: ColumnInfo, columns: Sequence[ColumnInfo]) -> float:
    # The keys of a single column are told apart before, its NULLs among them.
    return (column.null_fraction or 0.0) if len(columns) > 1 else 0.0


def _lengths(column: ColumnInfo) -> dict[int, float]:
    """Return the chance of each stored length of a value that is not null."""
    if column.type in _FIXED:
        return {_FIXED[column.type]: 1.0}
    shares: dict[int, float] = defaultdict(float)
    if _TEXT.match(column.type) and (column.most_common_freqs or column.histogram_bounds):
        rest = max(0.0, 1.0 - (column.null_fraction or 0.0) - sum(column.most_common_freqs))
        for value, share in zip(column.most_common_values, column.most_common_freqs, strict=False):
            shares[len(value.encode()) + 1] += share
        for value in column.histogram_bounds:
            shares[len(value.encode()) + 1] += rest / len(column.histogram_bounds)
        whole = sum(shares.values())
        return {length: share / whole for length, share in shares.items()}
    width = column.avg_width_bytes or _DEFAULT_WIDTH
    if width <= 8:
        return {width: 1.0}
    return dict.fromkeys(range(width - 3, width + 5), 1 / 8)


def _alignment(width: int) -> int:
    return 8 if width == 8 else width if width in (2, 4) else 1


def _aligned(size: float) -> float:
    return math.ceil(size / 8) * 8.0


def _is_bytewise_unequal(column: ColumnInfo) -> bool:
    if column.deduplicates is not None:
        return not column.deduplicates
    return column.type.startswith(_NOT_DEDUPLICATED) or column.type.endswith("[]")


def key_column(table: TableInfo, expression: str, *, is_expression: bool = True) -> ColumnInfo:
    """Return the column, or for an expression the widest column in it as a stand-in.

    Raises PerfcoreError for a column that the table does not have.
    """
    column = table.column(expression)
    if column is not None:
        return column
    if not is_expression:
        raise PerfcoreError(f"{table.qualified_name} has no column {expression!r}")
    if (inner := member(table, expression)) is not None:
        return inner
    if made := _made(expression):
        return made
    words = set(re.findall(r"[^\W\d]\w*", expression))
    used = [c for c in table.columns if c.name in words]
    widest = max(used, key=lambda c: c.avg_width_bytes or 0, default=None)
    return widest or ColumnInfo(expression, "text", False, _DEFAULT_WIDTH)


_CAST = re.compile(r"CAST\((.+) AS (\w[\w ]*)\)|(.+)::(\w[\w ]*)", re.IGNORECASE)
_MEMBER = re.compile(r"\"?(\w+)\"?((?: *->>? *'[^']+')+)")


def member_of(expression: str) -> tuple[str, tuple[str, ...], str] | None:
    """Return the column, the keys to the member of its documents and the type it is cast to.

    >>> member_of("(doc ->> 'a')"), member_of("CAST((doc -> 'a' ->> 'b') AS INT)")
    (('doc', ('a',), 'text'), ('doc', ('a', 'b'), 'integer'))
    """
    text, kind = _bare(expression), "text"
    if cast := _CAST.fullmatch(text):
        text, kind = _bare(cast[1] or cast[3]), (cast[2] or cast[4]).lower()
    match = _MEMBER.fullmatch(text)
    if match is None or "->>" not in match[2]:
        return None
    return match[1], tuple(re.findall(r"'([^']+)'", match[2])), _ALIASES.get(kind, kind)


_ALIASES = {"int": "integer", "int8": "bigint", "int4": "integer", "timestamptz": _FULL_TIME}


def _bare(text: str) -> str:
    """Return an expression without the brackets around it."""
    text = text.strip()
    while text.startswith("(") and text.endswith(")") and "(" not in text[1:-1]:
        text = text[1:-1].strip()
    return text


def member(table: TableInfo, expression: str) -> ColumnInfo | None:
    """Return what a member of documents is like in the values of the column that ANALYZE kept."""
    found = member_of(expression)
    column = table.column(found[0]) if found else None
    if found is None or column is None or column.type not in ("jsonb", "json"):
        return None
    _, path, kind = found
    texts = [*column.most_common_values, *column.histogram_bounds]
    values = [str(v) for v in (_at(path, json.loads(t)) for t in texts) if v is not None]
    if not values:
        return None
    counts = Counter(values)
    once = sum(1 for n in counts.values() if n == 1)
    rows = max(row_count(table), len(values))
    distinct = len(values) * len(counts) / (len(values) - once + once * len(values) / rows)
    return ColumnInfo(
        expression,
        kind,
        False,
        avg_width_bytes=round(sum(map(len, values)) / len(values)) + 1,
        null_fraction=1 - len(values) / len(texts),
        n_distinct=min(distinct, rows),
        # Bounds tell lengths; the values are not sorted, which nobody asks for here.
        histogram_bounds=tuple(values),
    )


def _at(path: Sequence[str], document: object) -> object:
    for key in path:
        document = document.get(key) if isinstance(document, dict) else None
    return document


def _gist_key(column: ColumnInfo, operator_class: str) -> ColumnInfo:
    """Return the column with the width of what GiST keeps of it in a leaf."""
    width = column.avg_width_bytes or _DEFAULT_WIDTH
    if "trgm" in operator_class:
        width = 5 + 3 * width  # three bytes a trigram
    elif column.type == "tsvector":
        width = 8 + 4 * max(1, width // 12)  # a hash a word
    elif column.type == "point":
        width = 32  # as a box
    else:
        return column
    return replace(column, type="", avg_width_bytes=width)


def _made(expression: str) -> ColumnInfo | None:
    """Return a stand-in for an expression whose values are not those of its column."""
    if re.match(r"date_trunc\(", expression, re.IGNORECASE):
        return ColumnInfo(expression, "timestamp with time zone", False, 8)
    if re.search(r"->>|#>>", expression):  # a member of a document, as text
        return ColumnInfo(expression, "text", False, _MEMBER_WIDTH)
    return None


def _brin_pages(
    table: TableInfo, columns: Sequence[ColumnInfo], pages_per_range: int | None
) -> int:
    ranges = math.ceil(table.table_bytes / PAGE / (pages_per_range or _BRIN_PAGES_PER_RANGE))
    summary = 16 + 2 * sum(c.avg_width_bytes or _DEFAULT_WIDTH for c in columns)
    return 2 + math.ceil(ranges * summary / PAGE) + ranges // 1360


def _gin_pages(
    table: TableInfo, index: IndexDefinition, columns: Sequence[ColumnInfo], rows: float
) -> int:
    measured = gin_parts(table, index, rows)
    if measured is not None:
        return measured.pages
    return 2 + math.ceil(rows * sum(map(_gin_bytes_per_row, columns)) / PAGE)


def gin_parts(table: TableInfo, index: IndexDefinition, rows: float) -> GinSize | None:
    """Return what a GIN index would be made of, None where no sample of its values tells."""
    if any(k.is_expression for k in index.keys):
        return None
    keys = [(key_column(table, k.expression), k.operator_class) for k in index.keys]
    heap_pages = max(1.0, table.table_bytes / PAGE)
    return gin_size(rows, max(1.0, row_count(table) / heap_pages), keys)


def _gin_bytes_per_row(column: ColumnInfo) -> float:
    """Guess the size from the elements of a value (a posting of about three bytes each)."""
    width = column.avg_width_bytes or _DEFAULT_WIDTH
    if column.type.endswith("[]"):
        return max(1.0, (width - 20) / 8) * 3
    if column.type == "jsonb":
        return max(1.0, width / 14) * 2.5
    if column.type == "tsvector":
        return max(1.0, width / 10) * 3
    return (width + 1) * 1.5  # trigrams: about one per letter, each in many rows


_NULL_TEST = re.compile(r'"?(\w+)"? IS (NOT )?NULL', re.IGNORECASE)
_EQUALITY = re.compile(r"\"?(\w+)\"?(?:::text)? = '?([^']*?)'?(?:::[\w ]+)?")


def _fraction(table: TableInfo, predicate: str) -> float:
    """Return the share of rows a partial index holds: exact for simple tests, else a guess."""
    share = 1.0
    for part in re.split(r"\s+AND\s+", predicate, flags=re.IGNORECASE) if predicate else ():
        share *= _share(table, part.strip().strip("()"))
    return share


def _share(table: TableInfo, test: str) -> float:
    if m := _NULL_TEST.fullmatch(test):
        column = table.column(m.group(1))
        nulls = column.null_fraction if column is not None else None
        if nulls is not None:
            return 1.0 - nulls if m.group(2) else nulls
    if m := _EQUALITY.fullmatch(test):
        column = table.column(m.group(1))
        if column is not None and m.group(2) in column.most_common_values:
            at = column.most_common_values.index(m.group(2))
            return column.most_common_freqs[at]
    return 1 / 3
