"""HypoPG as a planner: hypothetical indexes in a session on the target itself."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import LiteralString

import psycopg
from psycopg import sql

from perfcore import db
from perfcore.errors import PlanningFailed, TargetUnavailable
from perfcore.plan import Plan
from perfcore.target import connect_target, use_default_search_path
from perfcore.types import IndexDefinition
from perfcore.whatif.catalog import read_catalog
from perfcore.whatif.explain import explain, with_index_names
from perfcore.whatif.planner import tables_of
from perfcore.whatif.safety import check_plannable
from perfcore.whatif.size import estimate_index_bytes

METHODS = ("btree", "brin", "hash", "bloom")


class HypoPG:
    """Plans on the target with indexes that exist in one session only, over its own connection.

    Its sizes are our own estimates: HypoPG's are up to four times too large. A context
    manager; raises PlanningFailed with what to install where the extension is missing.
    """

    name = "hypopg"
    advisory = ""

    def __init__(self, dsn: str) -> None:
        self.calls = 0
        self._lock = threading.Lock()
        try:
            self._connection = connect_target(dsn)
        except psycopg.Error as error:
            raise TargetUnavailable(f"{db.redact(dsn)} cannot be reached: {error}") from error
        try:
            self._catalog = read_catalog(self._connection)
            state = self._connection.execute(db.query("hypopg_read_state"), {}).fetchone()
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
        self._check(statement, indexes, hidden)
        with self._lock, self._clean():
            names = {self._create(index): index.name for index in indexes}
            self._hide(hidden)
            self.calls += 1
            return with_index_names(explain(self._connection, statement, parameters), names)

    def index_bytes(self, index: IndexDefinition) -> int:
        """Return the estimated size."""
        return estimate_index_bytes(self._catalog, index)

    def _check(
        self, statement: str, indexes: Sequence[IndexDefinition], hidden: Sequence[str]
    ) -> None:
        for index in indexes:
            if index.method not in METHODS:
                raise PlanningFailed(
                    f"HypoPG knows no {index.method} indexes, only {', '.join(METHODS)}",
                    hint="ask the twin instead",
                )
        if hidden and not self._can_hide:
            raise PlanningFailed(
                "this HypoPG cannot hide an existing index; that came with its version 1.4",
                hint="ALTER EXTENSION hypopg UPDATE, or ask the twin instead",
            )
        if any(i.predicate for i in indexes) and self._may_read_a_view(statement):
            raise PlanningFailed(
                "a partial hypothetical index with a statement that reads a view can crash "
                "the server",
                hint="ask the twin instead",
            )

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
        if row is None:
            raise PlanningFailed(f"HypoPG did not understand the index: {ddl}")
        return str(row[1])

    def _hide(self, names: Sequence[str]) -> None:
        if not names:
            return
        rows = self._connection.execute(
            db.query("hypopg_read_indexes"), {"names": list(names)}
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
