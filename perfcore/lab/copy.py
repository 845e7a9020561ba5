"""Copy the tables that a trial needs from a target into a lab database of their own.

All is read in one REPEATABLE READ, READ ONLY snapshot and streamed as binary COPY, so the
target does no more than one sequential read of each table. The schema comes whole, as the
twin reads it; rows only of the tables asked for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo
from psycopg.rows import TupleRow, class_row

from perfcore import db
from perfcore.errors import TrialFailed
from perfcore.target import connect_target

Connection = psycopg.Connection[TupleRow]
Report = Callable[[float, str], None]

# Whoever copies into a lab database or measures in it holds this lock there.
LAB_LOCK_KEY = 0x70657266_6C616230
MAX_AGE = timedelta(hours=1)
COPY_TIMEOUT_MS = 3_600_000
ROWS_TOLERANCE = 0.05
# Definitions up to here are needed before rows, the others are cheaper after them.
_TABLE_STEP = 4
_MB = 1_000_000

_LEDGER = """
CREATE SCHEMA IF NOT EXISTS perfcore_lab;
CREATE TABLE IF NOT EXISTS perfcore_lab.copies (
    schema_name text, table_name text, shape text NOT NULL, row_count double precision NOT NULL,
    copied_rows bigint NOT NULL, copied_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (schema_name, table_name))
"""


def _silent(fraction: float, message: str) -> None:
    pass


@dataclass(frozen=True, slots=True)
class CopiedTable:
    """A table in the lab."""

    schema: str
    name: str
    rows: int
    copied_at: datetime
    is_reused: bool  # copied for an earlier trial

    @property
    def qualified_name(self) -> str:
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True, slots=True)
class SettingDifference:
    """A planner setting that the lab could not take over."""

    name: str
    target: str
    lab: str


@dataclass(frozen=True, slots=True)
class LabDescription:
    """Where a trial ran, and how that differs from production."""

    server_version: str
    target_version: str
    tables: tuple[CopiedTable, ...]
    differences: tuple[SettingDifference, ...]
    copied_bytes: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Table:
    schema: str
    name: str
    table_bytes: int
    rows: float
    shape: str
    is_readable: bool
    root: str  # the partitioned table that it was asked for with, else the table itself
    is_partitioned: bool  # its partitions hold its rows

    @property
    def qualified_name(self) -> str:
        return f"{self.schema}.{self.name}"

    @property
    def is_root(self) -> bool:
        return self.root == self.qualified_name


def ensure_lab(lab_server_dsn: str, target_name: str) -> str:
    """Return the DSN of the target's lab database on that server, made when missing."""
    name = f"lab_{target_name}"
    try:
        with db.connect(lab_server_dsn, autocommit=True) as connection:
            known = connection.execute(
                "SELECT FROM pg_catalog.pg_database WHERE datname = %s", (name,)
            ).fetchone()
            if known is None:
                with suppress(psycopg.errors.DuplicateDatabase):
                    connection.execute(
                        sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(
                            sql.Identifier(name)
                        )
                    )
    except psycopg.Error as error:
        raise TrialFailed(
            f"no lab database {name} on {db.redact(lab_server_dsn)}: {error}",
            hint="PERFCORE_LAB needs a server where databases may be created",
        ) from error
    return make_conninfo(db.libpq_dsn(lab_server_dsn), dbname=name)


def copy_tables(
    target_dsn: str,
    lab_dsn: str,
    tables: Iterable[str],
    *,
    max_bytes: int,
    progress: Report = _silent,
    max_bytes_per_s: float | None = None,
    now: datetime | None = None,
) -> LabDescription:
    """Bring the tables ("schema.table") into the lab database and describe it.

    A partitioned table is copied with all its partitions. A copy is used again when it is under
    an hour old, has the same columns and indexes and the target's rows changed by at most 5 %.
    Raises TrialFailed for tables that are missing, unreadable or together larger than
    `max_bytes`, with the sizes.
    """
    wanted = sorted(set(tables))
    try:
        with _snapshot(target_dsn) as target, db.connect(lab_dsn, autocommit=True) as lab:
            lab.execute("SELECT pg_catalog.pg_advisory_lock(%s)", (LAB_LOCK_KEY,))
            lab.execute(_LEDGER.encode())
            settings = _settings(target)
            found = _read_sizes(target, wanted)
            _check(found, wanted, max_bytes)
            fresh = _fresh(lab, found, now or datetime.now(UTC))
            # Dropping a partitioned table takes its partitions along: all are copied, or none.
            fresh -= {t.qualified_name for t in found if _is_torn(t, found, fresh)}
            stale = [t for t in found if t.qualified_name not in fresh]
            notes: list[str] = []
            if stale:
                _copy(target, lab, stale, progress, max_bytes_per_s, notes)
            return _describe(target, lab, wanted, fresh, stale, notes, settings)
    except psycopg.Error as error:
        raise TrialFailed(
            f"the tables could not be copied: {error.diag.message_primary or error}",
            hint="the target's role needs SELECT on them, the lab's must own its database",
        ) from error


def _is_torn(table: _Table, found: Sequence[_Table], fresh: set[str]) -> bool:
    return any(t.root == table.root and t.qualified_name not in fresh for t in found)


@contextmanager
def _snapshot(dsn: str) -> Iterator[Connection]:
    """A connection to the target that sees one instant, and may take as long as a copy takes."""
    with connect_target(
        dsn,
        autocommit=False,
        statement_timeout_ms=COPY_TIMEOUT_MS,
        idle_timeout_ms=COPY_TIMEOUT_MS,
    ) as target:
        target.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        target.read_only = True
        yield target
        target.rollback()


def _read_sizes(target: Connection, wanted: Sequence[str]) -> list[_Table]:
    with target.cursor(row_factory=class_row(_Table)) as cursor:
        return cursor.execute(db.query("lab_table_sizes"), {"tables": wanted}).fetchall()


def _check(found: Sequence[_Table], wanted: Sequence[str], max_bytes: int) -> None:
    missing = set(wanted) - {t.qualified_name for t in found}
    if missing:
        raise TrialFailed(
            f"{', '.join(sorted(missing))}: no table of the target",
            hint="views and foreign tables are not copied",
        )
    closed = [t.qualified_name for t in found if not t.is_readable]
    if closed:
        raise TrialFailed(
            f"the target's role may not read {', '.join(closed)}",
            hint=f"GRANT SELECT ON {', '.join(closed)} TO the role in PERFCORE_TARGETS",
        )
    total = sum(t.table_bytes for t in found)
    if total > max_bytes:
        sizes = ", ".join(f"{name} {size / _MB:.0f} MB" for name, size in _sizes(found).items())
        raise TrialFailed(
            f"{total / _MB:.0f} MB to copy ({sizes}), {max_bytes / _MB:.0f} MB are allowed",
            hint="raise PERFCORE_LAB_MAX_MB",
        )


def _sizes(found: Sequence[_Table]) -> dict[str, int]:
    """Return the bytes of each table, those of a partitioned one together."""
    sizes: dict[str, int] = {}
    for table in found:
        sizes[table.root] = sizes.get(table.root, 0) + table.table_bytes
    return sizes


def _fresh(lab: Connection, found: Sequence[_Table], now: datetime) -> set[str]:
    rows = lab.execute(
        "SELECT schema_name || '.' || table_name, shape, row_count, copied_at "
        "FROM perfcore_lab.copies"
    ).fetchall()
    known = {name: (shape, count, at) for name, shape, count, at in rows}
    fresh = set()
    for table in found:
        shape, count, at = known.get(table.qualified_name, ("", -1.0, now - 2 * MAX_AGE))
        alike = abs(table.rows - count) <= ROWS_TOLERANCE * max(count, 1.0)
        if shape == table.shape and alike and now - at < MAX_AGE:
            fresh.add(table.qualified_name)
    return fresh


def _copy(
    target: Connection,
    lab: Connection,
    stale: Sequence[_Table],
    progress: Report,
    max_bytes_per_s: float | None,
    notes: list[str],
) -> None:
    progress(0.0, "copying the schema")
    target.execute("SET LOCAL search_path = pg_catalog")
    definitions = target.execute(db.query("twin_read_schema"), {"rowless": False}).fetchall()
    for table in stale:
        lab.execute(
            sql.SQL("DROP TABLE IF EXISTS {} CASCADE").format(
                sql.Identifier(table.schema, table.name)
            )
        )
    lab.execute("SET check_function_bodies = off")
    notes += _define(lab, [d for d in definitions if d[0] <= _TABLE_STEP])
    stream = _Stream(progress, sum(t.table_bytes for t in stale), max_bytes_per_s)
    copied = {t.qualified_name: stream.copy(target, lab, t) for t in stale if not t.is_partitioned}
    for table in stale:
        rows = sum(copied.get(t.qualified_name, 0) for t in stale if _is_part(t, table))
        _note_copy(lab, table, rows)
    progress(0.8, "building the existing indexes")
    notes += _define(lab, [d for d in definitions if d[0] > _TABLE_STEP])
    progress(0.95, "gathering statistics")
    for table in stale:
        if table.is_root:  # it includes its partitions
            name = sql.Identifier(table.schema, table.name)
            lab.execute(sql.SQL("VACUUM (ANALYZE) {}").format(name))


def _is_part(table: _Table, whole: _Table) -> bool:
    """Say whether the rows of a table count as the other's."""
    return table is whole or (whole.is_root and table.root == whole.qualified_name)


def _note_copy(lab: Connection, table: _Table, copied: int) -> None:
    lab.execute(
        "INSERT INTO perfcore_lab.copies VALUES (%s, %s, %s, %s, %s) ON CONFLICT "
        "(schema_name, table_name) DO UPDATE SET shape = excluded.shape, "
        "row_count = excluded.row_count, copied_rows = excluded.copied_rows, "
        "copied_at = now()",
        (table.schema, table.name, table.shape, table.rows, copied),
    )


def _define(lab: Connection, definitions: Sequence[TupleRow]) -> list[str]:
    """Run definitions, again while any that failed for want of another succeeds."""
    pending = list(definitions)
    while True:
        failed: list[tuple[TupleRow, str]] = []
        for definition in pending:
            try:
                lab.execute(definition[2].encode())
            except psycopg.Error as error:
                if not _is_no_loss(error):
                    failed.append((definition, error.diag.message_primary or str(error)))
        if len(failed) in (0, len(pending)):
            return [f"{definition[1]} is not in the lab: {words}" for definition, words in failed]
        pending = [definition for definition, _ in failed]


def _is_no_loss(error: psycopg.Error) -> bool:
    """Say whether what was to be made is there already, or refers to rows nobody asked for."""
    # 42P16 is a second primary key, 23503 a foreign key to a table that was not copied.
    if "already a partition" in (error.diag.message_primary or ""):
        return True
    return (error.sqlstate or "") in ("42P06", "42P07", "42710", "42723", "42P16", "23503")


class _Stream:
    """The copying of several tables, with one progress and one rate over all of them."""

    def __init__(self, progress: Report, total: int, max_bytes_per_s: float | None) -> None:
        self._progress = progress
        self._total = max(1, total)
        self._limit = max_bytes_per_s
        self._done = 0
        self._began = time.monotonic()
        self._said = 0.0

    def copy(self, target: Connection, lab: Connection, table: _Table) -> int:
        """Stream a table's rows and return their number."""
        name = sql.Identifier(table.schema, table.name)
        out = sql.SQL("COPY (SELECT * FROM {}) TO STDOUT (FORMAT BINARY)").format(name)
        into = sql.SQL("COPY {} FROM STDIN (FORMAT BINARY)").format(name)
        with target.cursor() as reader, lab.cursor() as writer:
            with reader.copy(out) as source, writer.copy(into) as sink:
                for block in source:
                    sink.write(block)
                    self._step(len(block), table)
            return writer.rowcount

    def _step(self, size: int, table: _Table) -> None:
        self._done += size
        elapsed_s = time.monotonic() - self._began
        if self._limit and self._done / self._limit > elapsed_s:
            time.sleep(min(1.0, self._done / self._limit - elapsed_s))
        if elapsed_s - self._said >= 0.25:
            self._said = elapsed_s
            words = f"copying {table.qualified_name}: {self._done / _MB:.0f} MB"
            self._progress(min(0.8, 0.8 * self._done / self._total), words)


def _describe(
    target: Connection,
    lab: Connection,
    wanted: Sequence[str],
    fresh: set[str],
    stale: Sequence[_Table],
    notes: Sequence[str],
    settings: Mapping[str, str],
) -> LabDescription:
    rows = lab.execute(
        "SELECT schema_name, table_name, copied_rows, copied_at FROM perfcore_lab.copies "
        "WHERE schema_name || '.' || table_name = ANY (%s) ORDER BY 1, 2",
        (list(wanted),),
    ).fetchall()
    return LabDescription(
        _version(lab),
        _version(target),
        tuple(
            CopiedTable(schema, name, count, at, f"{schema}.{name}" in fresh)
            for schema, name, count, at in rows
        ),
        _take_over(lab, settings),
        sum(t.table_bytes for t in stale),
        tuple(notes),
    )


def _version(connection: Connection) -> str:
    row = connection.execute("SELECT pg_catalog.current_setting('server_version')").fetchone()
    return str(row[0]) if row else ""


def _settings(connection: Connection) -> dict[str, str]:
    rows = connection.execute(db.query("twin_read_settings"), {}).fetchall()
    return {str(name): str(value) for name, value in rows}


def _take_over(lab: Connection, wanted: Mapping[str, str]) -> tuple[SettingDifference, ...]:
    """Give the lab database the target's planner settings; return those it cannot take."""
    present = _settings(lab)
    database = sql.Identifier(lab.info.dbname)
    differences = []
    for name, value in wanted.items():
        if present.get(name) == value:
            continue
        # A search path is a list of names already; as a literal it would be one name.
        shown = sql.SQL(value) if name == "search_path" else sql.Literal(value)
        try:
            lab.execute(
                sql.SQL("ALTER DATABASE {} SET {} = {}").format(
                    database, sql.Identifier(name), shown
                )
            )
        except psycopg.Error:
            differences.append(SettingDifference(name, value, present.get(name, "absent")))
    return tuple(differences)
