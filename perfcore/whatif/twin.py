"""The twin: a throw-away PostgreSQL with a target's schema, statistics and file sizes, no rows.

Its planner prices real indexes of every access method as the target's would, while nothing
is locked or written on the target: indexes are created on empty tables, then tables and
indexes are made as long as the real ones by sparse files. Only EXPLAIN runs in it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import shutil
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import quote

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow

from perfcore import db
from perfcore.errors import PlanningFailed, TargetUnavailable
from perfcore.plan import Plan
from perfcore.server.embedded import THROWAWAY_SETTINGS, Cluster, wheel_binaries
from perfcore.target import connect_target, use_default_search_path
from perfcore.types import Catalog, IndexDefinition
from perfcore.whatif import size, sparse
from perfcore.whatif.explain import alike, explain, with_index_names
from perfcore.whatif.expressions import expression_statistics
from perfcore.whatif.planner import CachedPlanner, family, reading_part, tables_of, with_partitions
from perfcore.whatif.safety import check_plannable
from perfcore.whatif.source import Definition, Relation, Source, grant, read_source

_ROLE = "perfcore_planner"
_DATABASE = "twin"
_PREFIX = "perfcore_whatif_"
_SETTINGS = {
    **THROWAWAY_SETTINGS,
    "autovacuum": "off",
    "jit": "off",
    "max_parallel_maintenance_workers": "0",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_connections": "10",
    # Pages are written into the files of indexes, and nothing is ever read for its rows.
    "ignore_checksum_failure": "on",
    "log_min_messages": "error",
    "client_min_messages": "error",
}
_EXTENSION_STEP = 1

# For twin_evict_relation.sql; in a schema that no target has.
_EVICTION = (
    Definition(_EXTENSION_STEP, "perfcore_twin", "CREATE SCHEMA perfcore_twin"),
    Definition(
        _EXTENSION_STEP, "pg_buffercache", "CREATE EXTENSION pg_buffercache SCHEMA perfcore_twin"
    ),
)
# What is tried out even where the target has yet to create it: the advice says so.
_EXTRA_EXTENSIONS = tuple(
    Definition(_EXTENSION_STEP, name, f"CREATE EXTENSION IF NOT EXISTS {name} SCHEMA public")
    for name in ("pg_trgm",)
)

# Costs that differ by less are the same: a page more or less decides nothing.
_SAME_SHARE, _SAME_COST = 0.02, 1.0
_BATCH = 200  # statements in a transaction, each with its locks
_Item = TypeVar("_Item")

Progress = Callable[[float, str], None]


@dataclass(frozen=True, slots=True)
class _Lack:
    """Something of the target that the twin could not make, without which plans are others."""

    what: str
    words: str
    tables: frozenset[str]  # the bare names of those whose plans it may change


def _silent(share: float, what: str) -> None:
    """Report progress to nobody."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far the twin's plan of a statement is the target's own, with no index added."""

    target_cost: float
    twin_cost: float
    same_shape: bool
    advisory: str = ""  # why the twin may differ, in words

    @property
    def ratio(self) -> float:
        return self.twin_cost / self.target_cost if self.target_cost else float("inf")

    @property
    def agrees(self) -> bool:
        """Say whether the twin may be trusted: the same plan at a cost within two percent."""
        apart = abs(self.twin_cost - self.target_cost)
        return self.same_shape and apart <= max(_SAME_SHARE * self.target_cost, _SAME_COST)


class Twin:
    """A running twin of one target; a context manager, and a Planner itself.

    `skipped` names in words what of the target's schema the twin could not take over.
    """

    name = "twin"

    def __init__(self, target_dsn: str, data_dir: Path) -> None:
        self.target_dsn = target_dsn
        self.calls = 0
        self.skipped: tuple[str, ...] = ()
        self._data_dir = data_dir
        self._lock = threading.RLock()
        self._stack = contextlib.ExitStack()
        self._created: dict[str, IndexDefinition] = {}
        self._parts: dict[str, tuple[str, ...]] = {}
        self._lacking: tuple[_Lack, ...] = ()

    @classmethod
    def build(cls, target_dsn: str, data_dir: Path, *, progress: Progress = _silent) -> Twin:
        """Make the twin of a target; it takes a few seconds, most of them for a new cluster.

        Raises TargetUnavailable when the target cannot be read, ServerError when the
        throw-away server cannot be started.
        """
        twin = cls(target_dsn, data_dir)
        try:
            progress(0.0, "reading the target's catalogue")
            twin._fill(read_source(target_dsn), progress)
        except BaseException:
            twin.close()
            raise
        progress(1.0, "ready")
        return twin

    def __enter__(self) -> Twin:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop the twin's server and remove its folder."""
        with self._lock:
            self._stack.close()

    @property
    def advisory(self) -> str:
        target, own = self.source.server_version // 10000, self._cluster.binaries.major
        if target == own:
            return ""
        return (
            f"the target is PostgreSQL {target}, the twin plans as PostgreSQL {own}: "
            "take its costs as advice"
        )

    @property
    def planner(self) -> CachedPlanner:
        """Return this twin behind a cache, which is emptied when `refresh` finds a change."""
        return self._cached

    def plan(
        self,
        statement: str,
        parameters: Sequence[str | None] | None = None,
        *,
        indexes: Sequence[IndexDefinition] = (),
        hidden: Sequence[str] = (),
    ) -> Plan:
        """Return the plan as if the indexes existed and the hidden ones did not.

        See `Planner.plan`. An index is really created in the twin when it is first asked
        for, and only hidden afterwards, so that a later question costs one EXPLAIN.
        """
        check_plannable(statement)
        self._check_statistics(statement)
        with self._lock:
            for index in indexes:
                if _internal(index) not in self._created:
                    self._create(index)
            names = {n: i.name for i in indexes for n in self._parts[_internal(i)]}
            self._show(list(names), with_partitions(self.source.catalog, hidden))
            plan = self._explain(statement, parameters)
            self._check_complete(statement, plan, hidden)
            return with_index_names(plan, names)

    def index_bytes(self, index: IndexDefinition) -> int:
        """Return the estimated size; the rows of a partial index are the planner's estimate."""
        return size.estimate_index_bytes(self.source.catalog, index, rows=self._rows(index))

    def self_check(self, statement: str) -> Agreement:
        """Compare the generic plan on the target, asked read-only, with the twin's.

        Of a statement that writes or locks rows it is the plan of what it reads, because
        planning the whole would lock what is written. Raises PlanningFailed where that part
        cannot be told.
        """
        statement = reading_part(statement)
        twin = self.plan(statement)
        try:
            with connect_target(self.target_dsn) as connection:
                connection.execute("SET jit = off")
                use_default_search_path(connection)
                target = explain(connection, statement)
        except psycopg.Error as error:
            raise TargetUnavailable(
                f"{db.redact(self.target_dsn)} cannot be asked for a plan: {error}"
            ) from error
        return Agreement(target.total_cost, twin.total_cost, alike(target, twin), self.advisory)

    def refresh(self, *, progress: Progress = _silent) -> bool:
        """Take over what changed on the target since; say whether anything did."""
        source = read_source(self.target_dsn)
        with self._lock:
            old = self.source
            unchanged = (source.schema, source.settings) == (old.schema, old.settings)
            if unchanged and (source.relations, source.statistics) == (
                old.relations,
                old.statistics,
            ):
                return False
            if unchanged:
                self._take_over(source)
            else:
                self._stack.close()
                self._fill(source, progress)
        return True

    # Building

    def _fill(self, source: Source, progress: Progress) -> None:
        self._forget()
        progress(0.2, "starting a throw-away PostgreSQL")
        folder = self._stack.enter_context(_folder(self._data_dir / "twins"))
        self._cluster = Cluster(folder, wheel_binaries(self._data_dir), _SETTINGS, durable=False)
        self._stack.callback(self._cluster.stop)
        self._cluster.start()
        self._password = secrets.token_urlsafe(24)
        self.skipped = source.skipped + self._make_database(source)
        progress(0.6, "copying the schema")
        failed = self._make_schema(source.schema)
        self.skipped += tuple(f"{d.what}: {words}" for d, words in failed)
        self._lacking = tuple(_lack(source.catalog, d, words) for d, words in failed if d.relation)
        progress(0.8, "copying statistics and sizes")
        self._restore(source, None)
        self._stretch(source)
        self._open(source)

    def _forget(self) -> None:
        self._created.clear()
        self._parts.clear()

    def _take_over(self, source: Source) -> None:
        old = self.source
        self._close_connections()
        with self._superuser() as connection:
            for name, index in self._created.items():
                connection.execute(
                    sql.SQL("DROP INDEX {}").format(sql.Identifier(index.schema, name))
                )
        self._forget()
        self._restore(source, old)
        self._stretch(source)
        self._open(source)

    def _make_database(self, source: Source) -> tuple[str, ...]:
        """Create the role that plans, and a database that sorts text as the target does."""
        role = sql.Identifier(_ROLE)
        with db.connect(self._cluster.dsn(), autocommit=True) as connection:
            connection.execute(
                sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(role, self._password)
            )
            connection.execute(
                sql.SQL("GRANT pg_read_all_data, pg_write_all_data TO {}").format(role)
            )
            tried = ["LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8' LOCALE 'C'"]
            if not source.byte_order:
                locales = (source.collation, "C.UTF-8", "en_US.UTF-8")
                tried = [
                    sql.SQL("LOCALE_PROVIDER libc LOCALE {}").format(x).as_string()
                    for x in locales
                    if x not in ("C", "POSIX")
                ] + tried
            for how in tried:
                with contextlib.suppress(psycopg.Error):
                    connection.execute(
                        sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE template0 {}").format(
                            sql.Identifier(_DATABASE), role, sql.SQL(how)
                        )
                    )
                    break
        if not source.byte_order and how == tried[-1]:
            return (
                f"collation {source.collation}: this machine has no such locale, so LIKE 'x%' "
                "may seem to use a plain index",
            )
        return ()

    def _make_schema(self, definitions: Sequence[Definition]) -> list[tuple[Definition, str]]:
        """Run the definitions, again while any that failed for want of another succeeds."""
        with self._superuser() as connection:
            connection.execute("SET check_function_bodies = off")
            pending = [d for d in definitions if d.step < _EXTENSION_STEP]
            failed = self._attempt(connection, pending, _ROLE)
            pending = [d for d in definitions if d.step == _EXTENSION_STEP]
            failed += self._attempt(connection, [*_EVICTION, *pending], "")
            self._attempt(connection, _EXTRA_EXTENSIONS, "")
            rest = [d for d in definitions if d.step > _EXTENSION_STEP]
            while True:
                again = self._attempt(connection, rest, _ROLE)
                if len(again) in (0, len(rest)):
                    break
                rest = [d for d, _ in again]
        return failed + again

    def _attempt(
        self,
        connection: psycopg.Connection[TupleRow],
        definitions: Sequence[Definition],
        role: str,
    ) -> list[tuple[Definition, str]]:
        failed = []
        connection.execute(
            sql.SQL("SET ROLE {}").format(sql.Identifier(role)) if role else "RESET ROLE"
        )
        for batch in _batches(definitions):
            text = ";\n".join(d.ddl for d in batch)
            try:
                connection.execute(text.encode())  # in one transaction
            except psycopg.Error:
                failed += self._attempt_each(connection, batch)
        connection.execute("RESET ROLE")
        return failed

    def _attempt_each(
        self, connection: psycopg.Connection[TupleRow], definitions: Sequence[Definition]
    ) -> list[tuple[Definition, str]]:
        failed = []
        for definition in definitions:
            try:
                connection.execute(definition.ddl.encode())
            except psycopg.Error as error:
                failed.append((definition, error.diag.message_primary or str(error)))
        return failed

    def _restore(self, source: Source, old: Source | None) -> None:
        """Copy row counts and column statistics, of an older state only what differs."""
        known: set[object] = set() if old is None else {*old.relations, *old.statistics}
        relations = [_relation(r) for r in source.relations if r not in known]
        columns = [c.parameters() for c in source.statistics if c not in known]
        with self._superuser() as connection:
            for name, rows in (
                ("twin_restore_relation", relations),
                ("twin_restore_column", columns),
            ):
                for batch in _batches(rows):
                    _run_each(connection, db.query(name), batch)

    def _stretch(self, source: Source) -> None:
        """Make every file as long as the target's, while the server is stopped."""
        with self._superuser() as connection:
            rows = connection.execute(db.query("twin_read_files"), {}).fetchall()
        self._cluster.stop()
        sizes = {r.key: r for r in source.relations}
        heights = _heights(source)
        self._files: dict[tuple[str, str], Path] = {}
        for schema, name, path in rows:
            relation = sizes.get((schema, name))
            if relation is None:
                continue
            file = self._cluster.data_directory / path
            self._files[schema, name] = file
            sparse.resize(file, max(relation.size_bytes, sparse.PAGE * relation.is_index))
            if relation.method == "btree" and relation.is_index:
                sparse.write_btree_levels(file, heights.get(relation.key, 0))
        self._cluster.start()

    def _open(self, source: Source) -> None:
        self.source = source
        self._cached = CachedPlanner(self, source.catalog)
        self._shown: tuple[object, ...] = ()
        self._connections = self._stack.enter_context(contextlib.ExitStack())
        self._planning = self._connections.enter_context(self._connect(source.settings))
        # This one sees tables only while they are emptied: it never learns of their further
        # segments, which an open file would keep it believing in.
        paths = [s for s in source.settings if s[0] == "search_path"]
        self._building = self._connections.enter_context(self._connect(paths))
        self._super = self._connections.enter_context(self._superuser())

    def _close_connections(self) -> None:
        self._connections.close()

    def _superuser(self) -> psycopg.Connection[TupleRow]:
        return db.connect(self._cluster.dsn(_DATABASE), autocommit=True)

    def _connect(self, settings: Sequence[tuple[str, str]]) -> psycopg.Connection[TupleRow]:
        host = f"127.0.0.1:{self._cluster.port}"
        dsn = f"postgresql://{_ROLE}:{quote(self._password)}@{host}/{_DATABASE}"
        connection = db.connect(dsn, autocommit=True)
        for name, value in settings:
            # A setting that 18 no longer has, or that the target's version bounds otherwise.
            with contextlib.suppress(psycopg.Error):
                connection.execute("SELECT set_config(%s, %s, false)", [name, value])
        return connection

    # Planning

    def _check_statistics(self, statement: str) -> None:
        named = tables_of(statement)
        missing = [t for t in self.source.unreadable if named is None or t.name in named]
        if missing:
            raise PlanningFailed(
                f"the statistics of {missing[0].schema}.{missing[0].name} may not be read by "
                f"the role {self.source.role!r}, so its costs cannot be known",
                hint=grant(self.source.role, missing),
            )

    def _explain(self, statement: str, parameters: Sequence[str | None] | None) -> Plan:
        self.calls += 1
        try:
            return explain(self._planning, statement, parameters)
        except PlanningFailed as error:
            error.hint = error.hint or self._lacks(statement)
            raise

    def _lacks(self, text: str) -> str:
        """Return in words what the twin lacks, what the text names first."""
        named = set(re.findall(r"\w+", text.lower()))

        def is_named(entry: str) -> bool:
            what = entry.partition(": ")[0]
            return what.rpartition(".")[2].strip('"').lower() in named

        lost = sorted(self.skipped, key=is_named, reverse=True)
        return "the twin lacks " + "; ".join(lost[:5]) if lost else ""

    def _check_complete(self, statement: str, plan: Plan, hidden: Sequence[str]) -> None:
        """Refuse a plan that may be another for want of what the twin could not make."""
        tables = {node.relation for _, node in plan.root.walk()} | (tables_of(statement) or set())
        for lack in self._lacking:
            bare = lack.what.rpartition(".")[2].strip('"')
            if lack.tables & tables and not {bare, lack.what.replace('"', "")} & set(hidden):
                raise PlanningFailed(
                    f"the twin lacks {lack.what}, so its costs are not the target's: {lack.words}",
                    hint="the twin has what PostgreSQL and its contrib modules bring; "
                    "ask HypoPG on the target instead",
                )

    def _create(self, index: IndexDefinition) -> None:
        name = _internal(index)
        table = self.source.catalog.table(index.table, index.schema)
        leaves = () if table is None else self.source.catalog.leaves(table)
        heaps = [self._files.get((leaf.schema, leaf.name)) for leaf in leaves]
        if table is None or None in heaps:
            raise PlanningFailed(
                f"there is no table {index.schema}.{index.table} in the twin",
                hint=self._lacks(index.table),
            )
        self.index_bytes(index)  # raises in words for a column that is not there
        try:
            with contextlib.ExitStack() as stack:
                for heap in filter(None, heaps):
                    stack.enter_context(_emptied(heap))
                self._building.execute(index.ddl(concurrently=False, name=name).encode())
        except psycopg.errors.UndefinedObject as error:
            raise self._unknown(index, error) from error
        except psycopg.Error as error:
            words = error.diag.message_primary or str(error)
            raise PlanningFailed(f"the index cannot exist: {words}: {index.ddl()}") from error
        self._created[name] = index
        self._parts[name] = tuple(self._described_parts(index, name))

    def _unknown(self, index: IndexDefinition, error: psycopg.Error) -> PlanningFailed:
        """Return what to say of an index whose method, type or operator class is not there."""
        words = error.diag.message_primary or str(error)
        return PlanningFailed(
            f"the twin cannot price this index: {words}: {index.ddl()}",
            hint=self._lacks(index.ddl())
            or "the target has none either: create the extension that brings it there",
        )

    def _described_parts(self, index: IndexDefinition, name: str) -> Iterator[str]:
        """Describe a new index, or each one that a partitioned table's is made of; yield names."""
        parts = self._super.execute(
            db.query("twin_read_index_parts"), {"schema": index.schema, "index": name}
        ).fetchall()
        for number, (schema, part, table, is_partitioned) in enumerate(parts):
            own = f"{name}_{number}" if number else name
            if number:
                self._super.execute(
                    sql.SQL("ALTER INDEX {} RENAME TO {}").format(
                        sql.Identifier(schema, part), sql.Identifier(own)
                    )
                )
            if not is_partitioned:
                self._describe(replace(index, schema=schema, table=table), own)
            yield own

    def _describe(self, index: IndexDefinition, name: str) -> None:
        """Give a new index its estimated size and rows, and its table its own back."""
        table = self.source.relation(index.schema, index.table)
        assert table is not None
        # Asked first: a question reads pages of the new index, which must be out when it changes.
        rows, estimate = self._rows(index), self.index_bytes(index)
        rows = max(0.0, table.rows) if rows is None else rows
        row = self._super.execute(
            db.query("twin_evict_relation"), {"schema": index.schema, "relation": name}
        ).fetchone()
        assert row is not None
        path = self._cluster.data_directory / row[0]
        pages = estimate // sparse.PAGE
        sparse.resize(path, max(estimate, path.stat().st_size))
        height = size.index_height(self.source.catalog, index, pages, rows)
        sparse.write_btree_levels(path, height)
        self._write_gin(index, path, rows)
        for relation in (
            Relation(index.schema, name, "i", pages, rows, 0, estimate, index.method, True),
            table,
        ):
            self._super.execute(db.query("twin_restore_relation"), _relation(relation))
        self._tell_of_expressions(index, name)

    def _tell_of_expressions(self, index: IndexDefinition, name: str) -> None:
        for number, key in enumerate(index.keys, start=1):
            known = expression_statistics(self.source, index.schema, index.table, name, number, key)
            if known is not None:
                self._super.execute(db.query("twin_restore_column"), known.parameters())

    def _write_gin(self, index: IndexDefinition, path: Path, rows: float) -> None:
        table = self.source.catalog.table(index.table, index.schema)
        if index.method != "gin" or table is None:
            return
        parts = size.gin_parts(table, index, rows)
        if parts is not None:
            sparse.write_gin_counts(path, parts.entries, parts.entry_pages, parts.data_pages)

    def _rows(self, index: IndexDefinition) -> float | None:
        """Return the planner's estimate of the rows in a partial index, None for a whole one."""
        if not index.predicate:
            return None
        text = sql.SQL("SELECT 1 FROM {} WHERE {}").format(
            sql.Identifier(index.schema, index.table), sql.SQL(index.predicate)
        )
        with self._lock:
            plan = explain(self._planning, text.as_string(None))
            # A parallel plan's top node already adds up its workers.
            return plan.root.plan_rows

    def _show(self, shown: Sequence[str], hidden: Sequence[str]) -> None:
        state = (frozenset(shown), frozenset(hidden), len(self._created))
        if state == self._shown:
            return
        parameters = {"shown": list(shown), "hidden": list(hidden)}
        try:
            self._super.execute(db.query("twin_hide_indexes"), parameters)
        except psycopg.OperationalError as error:
            raise PlanningFailed(
                f"the twin of {db.redact(self.target_dsn)} has ended: {error}",
                hint="build it anew",
            ) from error
        self._shown = state


def _internal(index: IndexDefinition) -> str:
    return f"{_PREFIX}{index.digest}{'u' if index.unique else ''}"


def _batches(items: Sequence[_Item]) -> Iterator[Sequence[_Item]]:
    """Yield the items in parts: a commit for each of ten thousand would take a minute."""
    for start in range(0, len(items), _BATCH):
        yield items[start : start + _BATCH]


def _run_each(
    connection: psycopg.Connection[TupleRow], statement: str, rows: Sequence[Any]
) -> None:
    """Run a statement for each row, without those that fail.

    What the twin could not create, it cannot be told about either.
    """
    try:
        with connection.transaction(), connection.cursor() as cursor:
            cursor.executemany(statement.encode(), rows)
    except psycopg.Error:
        for row in rows:
            with contextlib.suppress(psycopg.Error):
                connection.execute(statement.encode(), row)


def _lack(catalog: Catalog, definition: Definition, words: str) -> _Lack:
    name = definition.relation.rpartition(".")[2]
    return _Lack(definition.what, words, family(catalog, name) | {name})


def _relation(relation: Relation) -> dict[str, object]:
    return {
        "schema": relation.schema,
        "relation": relation.name,
        "pages": relation.pages,
        "rows": relation.rows,
        "visible": relation.all_visible_pages,
    }


def _heights(source: Source) -> dict[tuple[str, str], int]:
    """Return how many levels each existing B-tree has above its leaves."""
    heights = {}
    for table in source.catalog.tables:
        for index in table.indexes:
            columns = [size.key_column(table, k) for k in index.keys]
            deduplicate = not index.is_unique and not index.include
            fanout = size.btree_fanout(columns, size.row_count(table), deduplicate=deduplicate)
            pages = index.index_bytes // sparse.PAGE
            heights[index.schema, index.name] = size.btree_height(pages, fanout)
    return heights


@contextlib.contextmanager
def _emptied(heap: Path) -> Iterator[None]:
    """Let a table look empty for the time of a block.

    PostgreSQL stops counting at a first segment that is not full, so only that one changes.
    """
    length = heap.stat().st_size
    os.truncate(heap, 0)
    try:
        yield
    finally:
        os.truncate(heap, length)


@contextlib.contextmanager
def _folder(parent: Path) -> Iterator[Path]:
    """Yield a folder of its own, removed afterwards, as are those of processes that died."""
    parent.mkdir(parents=True, exist_ok=True)
    for other in parent.iterdir():
        _remove_if_abandoned(other)
    folder = parent / uuid.uuid4().hex[:12]
    with _held(parent / f"{folder.name}.lock"):
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _held(lock: Path) -> Iterator[None]:
    with lock.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def _remove_if_abandoned(lock: Path) -> None:
    if lock.suffix != ".lock":
        return
    with contextlib.suppress(OSError), lock.open("r+") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
        lock.unlink(missing_ok=True)
