"""Empty space in tables and B-trees, estimated from statistics: nothing is read but the catalogue.

A table's size is estimated as ioguix' well-known bloat queries do it
(https://github.com/ioguix/pgsql-bloat-estimation): the rows that VACUUM or ANALYZE last counted,
times the width of a row by pg_stats, header and alignment included, over the room of a page at the
table's fillfactor. Here the alignment follows the order of the columns, which those queries guess.
A B-tree is compared with what `whatif.size` says that a fresh one would take, deduplication
included. Both leave out what they cannot know and say so; pgstattuple measures it exactly, reading
every page.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from psycopg import sql

from perfcore.advise.candidates import is_stale
from perfcore.advise.server_state import MB, ServerState, TableState, is_true
from perfcore.advise.upkeep import size_words, suggest, table_sql
from perfcore.advise.workload import Options
from perfcore.errors import PerfcoreError
from perfcore.types import (
    Catalog,
    ColumnInfo,
    Finding,
    IndexDefinition,
    IndexInfo,
    IndexKey,
    Suggestion,
    TableInfo,
)
from perfcore.whatif.size import estimate_index_bytes

PAGE = 8192
MIN_WASTED_BYTES = 32 * MB
TABLE_SHARE = 0.4
INDEX_SHARE = 0.5  # a B-tree that grew by itself is a third empty, and rightly so
_PAGE_HEADER = 24
_LINE_POINTER = 4
_TUPLE_HEADER = 23
_FRESH_FILLFACTOR = 90  # of B-trees, which whatif.size reckons with
_ALIGNMENTS = {
    "bigint": 8, "double precision": 8, "timestamp with time zone": 8, "interval": 8, "money": 8,
    "timestamp without time zone": 8, "time without time zone": 8, "time with time zone": 8,
    "integer": 4, "real": 4, "date": 4, "oid": 4, "smallint": 2,
    "boolean": 1, '"char"': 1, "uuid": 1, "name": 1,
}  # fmt: skip
_LENGTHS = {
    "bigint": 8, "double precision": 8, "timestamp with time zone": 8, "interval": 16, "money": 8,
    "timestamp without time zone": 8, "time without time zone": 8, "time with time zone": 12,
    "integer": 4, "real": 4, "date": 4, "oid": 4, "smallint": 2,
    "boolean": 1, '"char"': 1, "uuid": 16, "name": 64,
}  # fmt: skip
_SHORT_VARLENA = 127  # longer values have a header of four bytes, aligned


@dataclass(frozen=True, slots=True)
class Bloat:
    """How large something is and would be if it were written anew."""

    present_bytes: float
    fresh_bytes: float

    @property
    def wasted_bytes(self) -> float:
        return max(self.present_bytes - self.fresh_bytes, 0.0)

    @property
    def share(self) -> float:
        return self.wasted_bytes / self.present_bytes if self.present_bytes else 0.0


def bloat_advice(server: ServerState, catalog: Catalog, options: Options) -> Iterator[Suggestion]:
    """Yield the tables and B-trees of which a good part is empty, each with its remedy's lock."""
    for table in catalog.tables:
        state = server.tables.get(table.qualified_name)
        if state is None or is_stale(table):
            continue  # of these no width and no count can be believed
        found = table_bloat(table, state)
        if found and found.share >= TABLE_SHARE and found.wasted_bytes >= MIN_WASTED_BYTES:
            yield _table(table, found, catalog, options)
            continue  # writing the table anew does its indexes, too
        for index in table.indexes:
            tree = index_bloat(catalog, index, server.index_options.get(index.oid, ()))
            if tree and tree.share >= INDEX_SHARE and tree.wasted_bytes >= MIN_WASTED_BYTES:
                yield _index(index, table, tree, options)


def table_bloat(table: TableInfo, state: TableState) -> Bloat | None:
    """Return the table's size and what its rows need, without TOAST; None without statistics."""
    row_bytes = tuple_bytes(table.columns)
    if row_bytes is None or state.tuples < 0:
        return None
    fill = int(state.option("fillfactor") or 100)
    room = (PAGE - _PAGE_HEADER) * fill / 100
    rows_per_page = max(room // (row_bytes + _LINE_POINTER), 1.0)
    return Bloat(state.pages * PAGE, math.ceil(state.tuples / rows_per_page) * PAGE)


def tuple_bytes(columns: tuple[ColumnInfo, ...]) -> float | None:
    """Return the mean bytes of a row with its header, None where a column was never analysed."""
    offset, is_exact, has_nulls = 0.0, True, False
    for column in columns:
        width = _LENGTHS.get(column.type, column.avg_width_bytes)
        if width is None or column.null_fraction is None:
            return None
        filled = 1.0 - column.null_fraction
        has_nulls = has_nulls or filled < 1.0
        offset += filled * (_padding(column, width, offset, is_exact=is_exact) + width)
        is_exact = is_exact and column.type in _LENGTHS and filled in (0.0, 1.0)
    header = _TUPLE_HEADER + (math.ceil(len(columns) / 8) if has_nulls else 0)
    size = _aligned(header) + offset
    return float(_aligned(size)) if is_exact else size + 3.5  # the mean of 0 to 7 bytes


def _padding(column: ColumnInfo, width: float, offset: float, *, is_exact: bool) -> float:
    """Return the bytes before a value: the mean of them, once lengths vary."""
    step = _ALIGNMENTS.get(column.type, 4 if width > _SHORT_VARLENA else 1)
    return -offset % step if is_exact else (step - 1) / 2


def _aligned(size: float) -> int:
    return math.ceil(size / 8) * 8


def index_bloat(catalog: Catalog, index: IndexInfo, storage: tuple[str, ...] = ()) -> Bloat | None:
    """Return a B-tree's size and a fresh one's; None for other methods, or without statistics."""
    table = catalog.table(index.table, index.schema)
    if index.method != "btree" or not index.is_valid or table is None or index.predicate:
        return None  # how many rows a partial index holds is a guess
    used = [table.column(k) for k in (*index.keys, *index.include)]
    if any(c is None or c.avg_width_bytes is None for c in used):
        return None
    try:
        fresh = estimate_index_bytes(catalog, definition_of(index, table))
    except PerfcoreError:
        return None
    pairs = dict(o.partition("=")[::2] for o in storage)
    if "deduplicate_items" in pairs and not is_true(pairs["deduplicate_items"]):
        return None  # it is larger on purpose
    fill = int(pairs.get("fillfactor", _FRESH_FILLFACTOR))
    return Bloat(index.index_bytes, fresh * _FRESH_FILLFACTOR / fill)


def definition_of(index: IndexInfo, table: TableInfo) -> IndexDefinition:
    """Return an existing index as the structure that proposed ones have."""
    descending = (*index.descending, *(False for _ in index.keys))
    turned = tuple(
        None if first is down else first
        for first, down in zip(index.nulls_first, index.descending, strict=False)
    )
    nulls = (*turned, *(None for _ in index.keys))
    classes = (*index.opclasses, *("" for _ in index.keys))
    return IndexDefinition(
        index.schema,
        index.table,
        tuple(
            IndexKey(k, table.column(k) is None, descending=d, nulls_first=n, operator_class=o)
            for k, d, n, o in zip(index.keys, descending, nulls, classes, strict=False)
        ),
        index.method,
        index.include,
        index.predicate,
        index.is_unique,
    )


def _numbers(found: Bloat) -> tuple[tuple[str, str], ...]:
    return (
        ("size", size_words(found.present_bytes)),
        ("needed", f"about {size_words(found.fresh_bytes)}"),
        ("empty", f"about {100 * found.share:.0f} %"),
    )


def _table(table: TableInfo, found: Bloat, catalog: Catalog, options: Options) -> Suggestion:
    name = table_sql(table.schema, table.name)
    literal = sql.Literal(name).as_string(None)
    repack = (
        "pg_repack is installed"
        if "pg_repack" in catalog.extensions
        else "pg_repack, an extension,"
    )
    return suggest(
        options,
        "maintenance",
        f"bloat/{table.qualified_name}",
        f"Write {table.name} anew: about {100 * found.share:.0f} % of it is empty",
        Finding(
            "table_bloat",
            f"{table.name} takes {size_words(found.present_bytes)}; its rows need about "
            f"{size_words(found.fresh_bytes)}.",
            _numbers(found),
        ),
        "Rows that were deleted or updated left room that new ones did not fill. A scan reads it, "
        "and the cache holds it. It need not be given back where the table is about to grow again.",
        ddl=f"VACUUM (FULL, ANALYZE) {name}",
        present=size_words(found.present_bytes),
        proposed=f"about {size_words(found.fresh_bytes)}",
        verify=f"SELECT * FROM pgstattuple({literal}) tells exactly, reading the "
        "whole table (an extension); pg_table_size after it.",
        risk="VACUUM FULL holds an ACCESS EXCLUSIVE lock while it writes the table and its indexes "
        "anew: reads and writes wait. It needs room for the copy.",
        caveats=(
            f"{repack} does the same while reads and writes go on: pg_repack -t "
            f"{shlex.quote(name)}.",
            "Estimated from statistics; look with pgstattuple before a long lock.",
        ),
    )


def _index(index: IndexInfo, table: TableInfo, found: Bloat, options: Options) -> Suggestion:
    name = table_sql(index.schema, index.name)
    literal = sql.Literal(name).as_string(None)
    return suggest(
        options,
        "maintenance",
        f"bloat/{index.schema}.{index.name}",
        f"Build {index.name} anew: about {100 * found.share:.0f} % of it is empty",
        Finding(
            "index_bloat",
            f"{index.name} on {table.name} takes {size_words(found.present_bytes)}; a fresh one "
            f"would take about {size_words(found.fresh_bytes)}.",
            _numbers(found),
        ),
        "Entries that were removed left pages nearly empty, and a B-tree gives back only pages "
        "that are wholly empty. Scans and the cache pay for it.",
        ddl=f"REINDEX INDEX CONCURRENTLY {name}",
        index_bytes=int(found.fresh_bytes),
        present=size_words(found.present_bytes),
        proposed=f"about {size_words(found.fresh_bytes)}",
        verify=f"SELECT avg_leaf_density FROM pgstatindex({literal}), of the "
        "extension pgstattuple; pg_relation_size after it.",
        risk="It reads the table twice and waits for transactions that are open; reads and writes "
        "go on. Cancelled, it leaves an invalid index whose name ends in _ccnew: drop that.",
        caveats=("Estimated from statistics of its columns.",),
    )
