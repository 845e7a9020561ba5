"""Read a target's catalogue: tables, columns with their statistics, indexes and counters."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import groupby
from typing import Any

import psycopg
from psycopg.rows import TupleRow

from perfcore import db
from perfcore.errors import TargetUnavailable
from perfcore.types import Catalog, ColumnInfo, IndexInfo, TableInfo, ViewInfo

STATEMENT_TIMEOUT_MS = 30_000
LOCK_TIMEOUT_MS = 1_000


def read_catalog(connection: psycopg.Connection[TupleRow]) -> Catalog:
    """Return what the target's catalogue says now, read-only and within timeouts.

    Any role may read names, sizes and counters; a column's statistics come only with
    SELECT on its table and are None without it. Tables under an exclusive lock are left
    out. Raises TargetUnavailable when the target does not answer in time.
    """
    with read_only(connection):
        version, database, read_at, stats_since, extensions = _one(connection)
        tables = connection.execute(db.query("catalog_read_tables", version), {}).fetchall()
        wanted = {"tables": [row[0] for row in tables]}
        columns = connection.execute(db.query("catalog_read_columns", version), wanted).fetchall()
        indexes = connection.execute(db.query("catalog_read_indexes", version), wanted).fetchall()
        views = connection.execute(db.query("catalog_read_views", version), {}).fetchall()
    columns_of = _grouped(columns)
    indexes_of = _grouped(indexes)
    found = [_table(row, columns_of.get(row[0], ()), indexes_of.get(row[0], ())) for row in tables]
    return Catalog(
        server_version=version,
        database=database,
        read_at=read_at,
        tables=with_partitions_summed(found),
        stats_since=stats_since,
        extensions=tuple(extensions),
        views=tuple(ViewInfo(*row) for row in views),
    )


@contextmanager
def read_only(connection: psycopg.Connection[TupleRow]) -> Iterator[None]:
    """Run a block read-only with timeouts on a target, and roll back whatever happens.

    psycopg's errors come out as TargetUnavailable with PostgreSQL's own words.
    """
    try:
        with connection.transaction(force_rollback=True):
            connection.execute(f"SET TRANSACTION READ ONLY {db.MARKER}".encode())
            connection.execute(
                f"SET LOCAL statement_timeout = {STATEMENT_TIMEOUT_MS} {db.MARKER}".encode()
            )
            connection.execute(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS} {db.MARKER}".encode())
            yield
    except psycopg.Error as error:
        raise TargetUnavailable(
            f"the catalogue of {connection.info.dbname!r} on {connection.info.host} "
            f"cannot be read: {error}",
            hint="the role needs pg_monitor and SELECT on the tables",
        ) from error


def _one(connection: psycopg.Connection[TupleRow]) -> TupleRow:
    row = connection.execute(db.query("catalog_read_server"), {}).fetchone()
    assert row is not None
    return row


def _grouped(rows: Sequence[TupleRow]) -> dict[int, tuple[TupleRow, ...]]:
    return {oid: tuple(group) for oid, group in groupby(rows, key=lambda row: int(row[0]))}


def _table(row: TupleRow, columns: Sequence[TupleRow], indexes: Sequence[TupleRow]) -> TableInfo:
    return TableInfo(
        oid=row[0],
        schema=row[1],
        name=row[2],
        row_count=row[3],
        table_bytes=row[4],
        columns=tuple(_column(c) for c in columns),
        indexes=tuple(_index(i) for i in indexes),
        live_rows=row[5],
        dead_rows=row[6],
        modified_since_analyze=row[7],
        seq_scans=row[8],
        idx_scans=row[9],
        rows_inserted=row[10],
        rows_updated=row[11],
        rows_hot_updated=row[12],
        rows_deleted=row[13],
        blocks_hit=row[14],
        blocks_read=row[15],
        last_analyze=row[16],
        kind=row[17],
        parent=row[18],
    )


def _column(row: TupleRow) -> ColumnInfo:
    return ColumnInfo(
        name=row[1],
        type=row[2],
        not_null=row[3],
        avg_width_bytes=row[4],
        null_fraction=row[5],
        n_distinct=row[6],
        correlation=row[7],
        most_common_values=_tuple(row[8]),
        most_common_freqs=_tuple(row[9]),
        histogram_bounds=_tuple(row[10]),
        deduplicates=row[11],
        most_distinct=row[12],
    )


def _index(row: TupleRow) -> IndexInfo:
    key_count = row[8]
    return IndexInfo(
        oid=row[1],
        schema=row[2],
        table=row[3],
        name=row[4],
        definition=row[5],
        method=row[6],
        keys=tuple(row[7][:key_count]),
        include=tuple(row[7][key_count:]),
        predicate=row[9],
        is_unique=row[10],
        is_primary=row[11],
        is_constraint=row[12],
        is_replica_identity=row[13],
        is_valid=row[14],
        index_bytes=row[15],
        scans=row[16],
        descending=tuple(row[17]),
        nulls_first=tuple(row[18]),
        opclasses=tuple(row[19]),
        parent=row[20],
    )


_SUMMED = (
    "table_bytes", "live_rows", "dead_rows", "modified_since_analyze", "seq_scans", "idx_scans",
    "rows_inserted", "rows_updated", "rows_hot_updated", "rows_deleted", "blocks_hit",
    "blocks_read",
)  # fmt: skip


def with_partitions_summed(tables: Sequence[TableInfo]) -> tuple[TableInfo, ...]:
    """Return the tables with each partitioned one as large and as busy as its partitions.

    Autovacuum never analyses a partitioned table, so one without statistics of its own gets
    those of its largest partition.
    """
    children: dict[str, list[TableInfo]] = defaultdict(list)
    for table in tables:
        children[table.parent].append(table)

    def whole(table: TableInfo) -> TableInfo:
        if table.kind != "p":
            return table
        return _summed(table, [whole(child) for child in children[table.qualified_name]])

    return tuple(whole(table) for table in tables)


def _summed(table: TableInfo, parts: Sequence[TableInfo]) -> TableInfo:
    known = [p.row_count for p in parts if p.row_count >= 0]
    analysed = [p.last_analyze for p in parts if p.last_analyze is not None]
    largest = max(parts, key=lambda p: p.row_count, default=table)
    sums = {name: sum(getattr(p, name) for p in parts) for name in _SUMMED}
    return replace(
        table,
        row_count=sum(known) if known else -1.0,
        columns=tuple(_described(c, largest) for c in table.columns),
        indexes=tuple(_whole_index(i, parts) for i in table.indexes),
        last_analyze=table.last_analyze or min(analysed, default=None),
        **sums,
    )


def _described(column: ColumnInfo, partition: TableInfo) -> ColumnInfo:
    if column.avg_width_bytes is not None:
        return column
    other = partition.column(column.name)
    return column if other is None else replace(other, not_null=column.not_null)


def _whole_index(index: IndexInfo, parts: Sequence[TableInfo]) -> IndexInfo:
    own = f"{index.schema}.{index.name}"
    found = [i for p in parts for i in p.indexes if i.parent == own]
    return replace(
        index, index_bytes=sum(i.index_bytes for i in found), scans=sum(i.scans for i in found)
    )


def _tuple(value: Sequence[Any] | None) -> tuple[Any, ...]:
    return tuple(value or ())
