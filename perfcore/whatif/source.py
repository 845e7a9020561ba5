"""What the twin copies from a target: schema, sizes, statistics and planner settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import psycopg
from psycopg.rows import TupleRow

from perfcore import db
from perfcore.errors import TargetUnavailable
from perfcore.target import connect_target
from perfcore.types import Catalog
from perfcore.whatif.catalog import read_catalog, read_only


@dataclass(frozen=True, slots=True)
class Definition:
    """A statement of the target's schema; steps follow each other."""

    step: int
    what: str
    ddl: str
    relation: str = ""  # schema.table whose plans are others without it


@dataclass(frozen=True, slots=True)
class Relation:
    """A table or an index with its present size."""

    schema: str
    name: str
    kind: str  # as pg_class.relkind
    pages: int  # when it was last analysed
    rows: float
    all_visible_pages: int
    size_bytes: int
    method: str
    readable: bool

    @property
    def key(self) -> tuple[str, str]:
        return self.schema, self.name

    @property
    def is_index(self) -> bool:
        return self.kind in "iI"


@dataclass(frozen=True, slots=True)
class ColumnStatistics:
    """A row of pg_stats; arrays stay text, as PostgreSQL wrote them."""

    schema: str
    relation: str
    column: str | None
    number: int | None
    inherited: bool
    null_fraction: float
    width: int
    distinct: float
    common_values: str | None
    common_freqs: str | None
    bounds: str | None
    correlation: float | None
    elements: str | None
    element_freqs: str | None
    element_counts: str | None
    range_lengths: str | None
    range_empty: float | None
    range_bounds: str | None

    def parameters(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Source:
    """A target at one instant, as far as plans depend on it."""

    server_version: int
    byte_order: bool  # text sorts by byte: a plain index serves LIKE 'x%'
    collation: str
    role: str
    settings: tuple[tuple[str, str], ...]
    schema: tuple[Definition, ...]
    relations: tuple[Relation, ...]
    statistics: tuple[ColumnStatistics, ...]
    catalog: Catalog
    skipped: tuple[str, ...]

    @property
    def unreadable(self) -> tuple[Relation, ...]:
        """Return the tables with rows whose statistics this role may not see."""
        return tuple(r for r in self.relations if not r.readable and r.rows > 0)

    def relation(self, schema: str, name: str) -> Relation | None:
        return next((r for r in self.relations if r.key == (schema, name)), None)


def read_source(dsn: str) -> Source:
    """Read a target over a short connection, read-only.

    Raises TargetUnavailable when it cannot be reached, or when its role may read no table's
    statistics, with the GRANT that changes that.
    """
    try:
        with connect_target(dsn) as connection:
            source = _read(connection)
    except psycopg.Error as error:
        raise TargetUnavailable(f"{db.redact(dsn)} cannot be reached: {error}") from error
    if source.unreadable and not any(
        r.readable and r.rows > 0 and not r.is_index for r in source.relations
    ):
        raise TargetUnavailable(
            f"the role {source.role!r} may not read the statistics of any table of "
            f"{source.catalog.database!r}",
            hint=grant(source.role, source.unreadable),
        )
    return source


def grant(role: str, tables: Sequence[Relation]) -> str:
    """Return the statement that lets the role see the tables' statistics."""
    schemas = sorted({t.schema for t in tables})
    return (
        f'GRANT SELECT ON ALL TABLES IN SCHEMA {", ".join(schemas)} TO "{role}" '
        "(and BYPASSRLS where row level security keeps rows from it)"
    )


def _read(connection: psycopg.Connection[TupleRow]) -> Source:
    catalog = read_catalog(connection)
    version = catalog.server_version
    with read_only(connection):
        database = connection.execute(db.query("twin_read_database", version), {}).fetchone()
        assert database is not None
        settings = connection.execute(db.query("twin_read_settings", version), {}).fetchall()
        # Now every name in a definition comes out with its schema.
        connection.execute("SET LOCAL search_path = pg_catalog")
        schema = connection.execute(
            db.query("twin_read_schema", version), {"rowless": True}
        ).fetchall()
        relations = connection.execute(db.query("twin_read_relations", version), {}).fetchall()
        statistics = connection.execute(db.query("twin_read_statistics", version), {}).fetchall()
        ranges = _ranges(connection, version)
        losses = connection.execute(db.query("twin_read_losses", version), {}).fetchall()
    views, skipped = _views(connection, version)
    return Source(
        server_version=version,
        byte_order=database[1],
        collation=database[2],
        role=database[3],
        settings=tuple((name, value) for name, value in settings),
        schema=tuple(Definition(*row) for row in [*schema, *views]),
        relations=tuple(Relation(*row) for row in relations),
        statistics=tuple(_with_ranges(ColumnStatistics(*row), ranges) for row in statistics),
        catalog=catalog,
        skipped=(*skipped, *(f"{what}: {words}" for what, words in losses)),
    )


_Ranges = dict[tuple[str, str, str | None, bool], TupleRow]


def _ranges(connection: psycopg.Connection[TupleRow], version: int) -> _Ranges:
    """Return statistics of ranges where pg_stats has none and the role may read them all."""
    if version >= 170000:
        return {}
    may = "SELECT pg_catalog.has_table_privilege('pg_catalog.pg_statistic', 'SELECT')"
    if connection.execute(may).fetchone() != (True,):
        return {}
    rows = connection.execute(db.query("twin_read_range_statistics", version), {}).fetchall()
    return {(row[0], row[1], row[2], row[3]): row[4:] for row in rows}


def _with_ranges(known: ColumnStatistics, ranges: _Ranges) -> ColumnStatistics:
    found = ranges.get((known.schema, known.relation, known.column, known.inherited))
    if found is None:
        return known
    return replace(known, range_lengths=found[0], range_empty=found[1], range_bounds=found[2])


def _views(
    connection: psycopg.Connection[TupleRow], version: int
) -> tuple[list[TupleRow], tuple[str, ...]]:
    try:
        with read_only(connection):
            connection.execute("SET LOCAL search_path = pg_catalog")
            return connection.execute(db.query("twin_read_views", version), {}).fetchall(), ()
    except TargetUnavailable as error:
        return [], (f"views: {error}",)
