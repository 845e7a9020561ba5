"""Read a target's catalogue: tables, columns with their statistics, indexes and counters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Any

import psycopg
from psycopg.rows import TupleRow

from perfcore import db
from perfcore.errors import TargetUnavailable
from perfcore.types import Catalog, ColumnInfo, IndexInfo, TableInfo

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
    columns_of = _grouped(columns)
    indexes_of = _grouped(indexes)
    return Catalog(
        server_version=version,
        database=database,
        read_at=read_at,
        tables=tuple(
            _table(row, columns_of.get(row[0], ()), indexes_of.get(row[0], ())) for row in tables
        ),
        stats_since=stats_since,
        extensions=tuple(extensions),
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
        opclasses=tuple(row[18]),
    )


def _tuple(value: Sequence[Any] | None) -> tuple[Any, ...]:
    return tuple(value or ())
