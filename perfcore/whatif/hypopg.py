"""HypoPG as a planner: hypothetical indexes in a session on the target itself."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import LiteralString

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import TupleRow

from perfcore import db
from perfcore.errors import PlanningFailed, TargetUnavailable
from perfcore.plan import Plan
from perfcore.target import connect_target, use_default_search_path
from perfcore.types import IndexDefinition
from perfcore.whatif.catalog import read_catalog
from perfcore.whatif.explain import explain, with_index_names
from perfcore.whatif.planner import reading_part, tables_of, with_partitions
from perfcore.whatif.safety import check_plannable
from perfcore.whatif.size import estimate_index_bytes

METHODS = ("btree", "brin", "hash", "bloom")
# The extension counts them in sixteen bits and slows down long before these end.
MAX_INDEXES = 200
_RECOVERY_S = 30.0


class HypoPG:
    """Plans on the target with indexes that exist in one session only, over its own connection.

    Its sizes are our own estimates: HypoPG's are up to four times too large. A context
    manager; raises PlanningFailed with what to install where the extension is missing.
    A question that ends in a crash of the server is the last one: from then on HypoPG is
    refused for that target, by a note in `data_dir`, until an admin removes the note.
    """

    name = "hypopg"
    advisory = ""

    def __init__(self, dsn: str, data_dir: Path | None = None) -> None:
        self.calls = 0
        self._dsn = dsn
        self._lock = threading.Lock()
        self._crash = ""
        self._note = None if data_dir is None else note_of_crash(dsn, data_dir)
        self._check_note()
        try:
            self._connection = connect_target(dsn)
        except psycopg.Error as error:
            raise TargetUnavailable(f"{db.redact(dsn)} cannot be reached: {error}") from error
        try:
            self._catalog = read_catalog(self._connection)
            state = self._connection.execute(db.query("hypopg_read_state"), {}).fetchone()
            self._began = _now(self._connection)
            if state is None:
                raise self._missing()
        except BaseException:
            self._connection.close()
            raise
        self._schema: str = state[0]
        self._can_hide: bool = state[1]
        self._connection.execute("SET jit = off")
        use_default_search_path(self._connection)

    def __enter__(self) -> HypoPG:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the session, and with it every hypothetical index."""
        self._connection.close()

    def plan(
        self,
        statement: str,
        parameters: Sequence[str | None] | None = None,
        *,
        indexes: Sequence[IndexDefinition] = (),
        hidden: Sequence[str] = (),
    ) -> Plan:
        """Return the plan as if the indexes existed and the hidden ones did not.

        See `Planner.plan`. Refused in words: methods that HypoPG does not know, hiding
        before its version 1.4, and a partial index for a statement that reads a view,
        which can crash the server.
        """
        check_plannable(statement)
        self._check_enabled()
        if words := self.cannot(statement, indexes, hidden):
            raise PlanningFailed(f"HypoPG cannot say: {words}", hint="ask the twin instead")
        with self._lock:
            try:
                return self._plan(statement, parameters, indexes, hidden)
            except (psycopg.Error, PlanningFailed) as error:
                if not self._connection.broken:
                    raise
                raise self._lost(error) from error

    def _plan(
        self,
        statement: str,
        parameters: Sequence[str | None] | None,
        indexes: Sequence[IndexDefinition],
        hidden: Sequence[str],
    ) -> Plan:
        with self._clean():
            names = {name: i.name for i in indexes for name in self._create_all(i)}
            self._hide(hidden)
            self.calls += 1
            return with_index_names(explain(self._connection, statement, parameters), names)

    def index_bytes(self, index: IndexDefinition) -> int:
        """Return the estimated size."""
        return estimate_index_bytes(self._catalog, index)

    def cannot(
        self,
        statement: str,
        indexes: Sequence[IndexDefinition] = (),
        hidden: Sequence[str] = (),
    ) -> str:
        """Return in words why this question is none for HypoPG, empty where it is one."""
        if crash := self._crashed():
            return crash
        unknown = next((i.method for i in indexes if i.method not in METHODS), "")
        if unknown:
            return f"it knows no {unknown} indexes, only {', '.join(METHODS)}"
        count = sum(len(self._tables(i)) for i in indexes)
        if count > MAX_INDEXES:
            return f"{count} hypothetical indexes at once, at most {MAX_INDEXES} are asked of it"
        if hidden and not self._can_hide:
            return "this one cannot hide an existing index; that came with its version 1.4"
        if not _only_reads(statement):
            return "planning a statement that writes or locks rows locks them on the target"
        if any(i.predicate for i in indexes) and self._may_read_a_view(statement):
            return (
                "a partial hypothetical index with a statement that reads a view can crash "
                "the server"
            )
        return ""

    def _check_enabled(self) -> None:
        self._check_note()
        if self._connection.closed:
            raise TargetUnavailable(
                f"the connection to {db.redact(self._dsn)} was lost", hint="connect anew"
            )

    def _check_note(self) -> None:
        if crash := self._crashed():
            where = "connect anew" if self._note is None else f"remove {self._note}"
            raise PlanningFailed(
                f"HypoPG is not asked on {db.redact(self._dsn)} any more: {crash}",
                hint=f"the twin answers instead; to enable it again, update HypoPG, then {where}",
            )

    def _crashed(self) -> str:
        """Return in words what an earlier question did to the server, empty if nothing."""
        if self._note is None:
            return self._crash
        return self._note.read_text() if self._note.exists() else ""

    def _lost(self, error: Exception) -> TargetUnavailable:
        """Return what to say of a lost connection; note it where the server had crashed."""
        if not _is_ended_by_an_admin(error) and self._has_crashed():
            self._crash = "its session ended in a crash of the server"
            if self._note is not None:
                self._note.parent.mkdir(parents=True, exist_ok=True)
                self._note.write_text(self._crash)
        return TargetUnavailable(
            f"the connection to {db.redact(self._dsn)} was lost while HypoPG was asked: {error}",
            hint="after a crash HypoPG is not asked again; ask the twin instead",
        )

    def _has_crashed(self) -> bool:
        """Say whether all sessions ended since ours began; if nobody can tell, they did."""
        deadline = time.monotonic() + _RECOVERY_S
        while time.monotonic() < deadline:
            try:
                with connect_target(self._dsn, patience_s=1.0) as connection:
                    row = connection.execute(
                        db.query("hypopg_read_restart"), {"since": self._began}
                    ).fetchone()
                return row is None or row[0] is not False
            except (psycopg.Error, TargetUnavailable):
                time.sleep(0.5)
        return True

    def _may_read_a_view(self, statement: str) -> bool:
        tables = tables_of(statement)
        return tables is None or not tables <= {t.name for t in self._catalog.tables}

    @contextmanager
    def _clean(self) -> Iterator[None]:
        """Forget hypothetical indexes before and after: they survive a rollback."""
        self._reset()
        try:
            yield
        finally:
            if not self._connection.broken:
                self._reset()

    def _reset(self) -> None:
        self._connection.execute(self._call("hypopg_reset", ""))
        if self._can_hide:
            self._connection.execute(self._call("hypopg_unhide_all_indexes", ""))

    def _tables(self, index: IndexDefinition) -> list[tuple[str, str]]:
        table = self._catalog.table(index.table, index.schema)
        leaves = () if table is None else self._catalog.leaves(table)
        return [(t.schema, t.name) for t in leaves] or [(index.schema, index.table)]

    def _create_all(self, index: IndexDefinition) -> list[str]:
        """Create the index, on each partition where it has them; return the names in plans."""
        return [
            self._create(replace(index, schema=schema, table=table))
            for schema, table in self._tables(index)
        ]

    def _create(self, index: IndexDefinition) -> str:
        """Create the hypothetical index; return the name it goes by in plans."""
        ddl = index.ddl(concurrently=False)
        try:
            row = self._connection.execute(
                self._call("hypopg_create_index", "%s"), [ddl]
            ).fetchone()
        except psycopg.Error as error:
            words = error.diag.message_primary or str(error)
            raise PlanningFailed(f"HypoPG refused the index: {words}: {ddl}") from error
        return self._understood(row, ddl)

    @staticmethod
    def _understood(row: TupleRow | None, ddl: str) -> str:
        """Return the name of what was created; for what it passes over HypoPG returns no row."""
        if row is None:
            raise PlanningFailed(f"HypoPG did not understand the index: {ddl}")
        return str(row[1])

    def _hide(self, names: Sequence[str]) -> None:
        if not names:
            return
        rows = self._connection.execute(
            db.query("hypopg_read_indexes"), {"names": with_partitions(self._catalog, names)}
        ).fetchall()
        for (oid,) in rows:
            self._connection.execute(self._call("hypopg_hide_index", "%s"), [oid])

    def _call(self, function: str, argument: LiteralString) -> sql.Composed:
        return sql.SQL("SELECT * FROM {}(" + argument + ")").format(
            sql.Identifier(self._schema, function)
        )

    def _missing(self) -> PlanningFailed:
        major = self._catalog.server_version // 10000
        return PlanningFailed(
            f"the extension HypoPG is not installed in {self._catalog.database!r}",
            hint=f"apt-get install postgresql-{major}-hypopg, then CREATE EXTENSION hypopg "
            "(or use the twin, which needs nothing on the target)",
        )


def note_of_crash(dsn: str, data_dir: Path) -> Path:
    """Return the file whose presence keeps HypoPG from being asked on a target."""
    parts = conninfo_to_dict(dsn)
    where = f"{parts.get('host')}:{parts.get('port')}/{parts.get('dbname')}"
    return data_dir / "hypopg" / f"{hashlib.sha256(where.encode()).hexdigest()[:12]}.crashed"


def _now(connection: psycopg.Connection[TupleRow]) -> datetime:
    row = connection.execute("SELECT pg_catalog.clock_timestamp()").fetchone()
    assert row is not None
    moment: datetime = row[0]
    return moment


def _only_reads(statement: str) -> bool:
    try:
        return reading_part(statement) == statement
    except PlanningFailed:
        return False


def _is_ended_by_an_admin(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, psycopg.errors.AdminShutdown):
            return True
        error = error.__cause__
    return False
