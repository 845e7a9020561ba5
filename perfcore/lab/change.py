"""Create and drop indexes on a target, so that every crash point has a way out.

The intent is in the store before anything happens on the target. An index of ours carries
the comment "perfcore change <id>"; only such an index is ever taken back. A build that
fails leaves an INVALID index which every write must keep up: it is dropped at once, and
`reconcile` does so for a build whose worker was killed.
"""

from __future__ import annotations

import contextlib
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import psycopg
from psycopg import sql
from psycopg.rows import class_row

from perfcore import db
from perfcore.errors import ChangeRefused, StoreUnavailable, TargetUnavailable
from perfcore.lab import ledger
from perfcore.lab.ledger import Change, read_change
from perfcore.lab.preflight import (
    Connection,
    ExistingIndex,
    check_drop,
    check_new,
    check_table,
    probe,
    read_indexes,
    read_table,
)
from perfcore.target import connect_target
from perfcore.types import IndexDefinition

Report = Callable[[float, str], None]

_DROP_ATTEMPTS = 3
_POLL_S = 0.3


def _silent(fraction: float, message: str) -> None:
    pass


@dataclass(frozen=True, slots=True)
class BuildProgress:
    """One running index build."""

    pid: int
    schema: str
    table: str
    index: str
    phase: str
    blocks_total: int
    blocks_done: int
    tuples_total: int
    tuples_done: int
    blocked_by_pid: int | None

    @property
    def fraction(self) -> float:
        """Return how much is done, from 0 to 1, by the weight each phase usually has."""
        for prefix, start, length in _PHASES:
            if self.phase.startswith(prefix):
                return start + length * self._done_in_phase()
        return 0.0

    def _done_in_phase(self) -> float:
        if self.blocks_total:
            return min(1.0, self.blocks_done / self.blocks_total)
        return min(1.0, self.tuples_done / self.tuples_total) if self.tuples_total else 0.0

    @property
    def message(self) -> str:
        """Return the phase in PostgreSQL's words, and which process it waits for."""
        blocked = f", which is process {self.blocked_by_pid}" if self.blocked_by_pid else ""
        return self.phase + blocked


_PHASES = (
    ("initializing", 0.0, 0.0),
    ("waiting for writers before build", 0.02, 0.0),
    ("building index", 0.05, 0.55),
    ("waiting for writers before validation", 0.6, 0.0),
    ("index validation: scanning index", 0.65, 0.1),
    ("index validation: sorting", 0.75, 0.05),
    ("index validation: scanning table", 0.8, 0.15),
    ("waiting for old snapshots", 0.95, 0.0),
)


def build_progress(connection: Connection) -> list[BuildProgress]:
    """Return the index builds that run in the connection's database, ours or not."""
    with connection.cursor(row_factory=class_row(BuildProgress)) as cursor:
        return cursor.execute(db.query("lab_build_progress")).fetchall()


def apply_index(
    store_dsn: str,
    apply_dsn: str,
    target_id: int,
    index: IndexDefinition,
    *,
    suggestion_id: str | None = None,
    fingerprints: Sequence[int] = (),
    change_id: str | None = None,
    lock_timeout_s: float = 30.0,
    deadline_s: float = 3600.0,
    progress: Report = _silent,
) -> Change:
    """Create the index concurrently and return the change, applied.

    Raises ChangeRefused where it must not be made as things stand, and where PostgreSQL
    gave up; then the change is in the ledger as failed and nothing is left on the target.
    """
    change_id = change_id or str(uuid.uuid4())
    with _connect_store(store_dsn) as store:
        ledger.intend(
            store,
            change_id,
            target_id,
            "create_index",
            f"{index.schema}.{index.name}",
            ddl=index.ddl(),
            undo=index.undo(),
            suggestion_id=suggestion_id,
            fingerprints=fingerprints,
            index=index,
        )
        with _failure_recorded(store, change_id), _connect_target(apply_dsn) as target:
            with _table_lock(target, index.schema, index.table):
                name = _preflight(target, index)
                progress(0.0, "building")
                ledger.update(
                    store,
                    change_id,
                    state="running",
                    object_name=f"{index.schema}.{name}",
                    ddl=index.ddl(name=name),
                    undo=index.undo(name=name),
                )
                _limit(target, lock_timeout_s, deadline_s)
                ddl = index.ddl(name=name)
                _build(store, target, apply_dsn, change_id, ddl, lock_timeout_s, progress)
                return _adopt(store, target, read_change(store, change_id))


def apply_drop(
    store_dsn: str,
    apply_dsn: str,
    target_id: int,
    schema: str,
    name: str,
    *,
    suggestion_id: str | None = None,
    change_id: str | None = None,
    lock_timeout_s: float = 30.0,
    deadline_s: float = 3600.0,
) -> Change:
    """Drop an index that serves nobody; the ledger keeps the DDL that makes it anew.

    Never one that is unique or backs a constraint. Raises ChangeRefused, as `apply_index`.
    """
    change_id = change_id or str(uuid.uuid4())
    full_name = f"{schema}.{name}"
    ddl = "DROP INDEX CONCURRENTLY " + sql.Identifier(schema, name).as_string(None)
    with _connect_store(store_dsn) as store:
        ledger.intend(
            store,
            change_id,
            target_id,
            "drop_index",
            full_name,
            ddl=ddl,
            undo="",
            suggestion_id=suggestion_id,
            fingerprints=(),
            index=None,
        )
        with _failure_recorded(store, change_id), _connect_target(apply_dsn) as target:
            table = _table_of(target, schema, name)
            if table is None:
                raise ChangeRefused(f"there is no index {full_name}: it is gone already")
            with _table_lock(target, *table):
                index = _find(target, schema, name)
                if index is None:
                    raise ChangeRefused(f"there is no index {full_name}: it is gone already")
                check_table(read_table(target, *table), ".".join(table))
                check_drop(index, full_name)
                undo = re.sub(r" INDEX ", " INDEX CONCURRENTLY ", index.definition, count=1)
                ledger.update(
                    store,
                    change_id,
                    state="running",
                    undo=undo,
                    index_oid=index.oid,
                    index_bytes=index.index_bytes,
                )
                _limit(target, lock_timeout_s, deadline_s)
                _drop(target, schema, name)
                return _record_drop(store, read_change(store, change_id))


def revert(store_dsn: str, apply_dsn: str, change_id: str) -> Change:
    """Take a change back and return it, reverted; a second time nothing happens.

    An index is dropped only if it is the one we made, by OID and comment. Raises
    ChangeRefused where somebody replaced it, or where the change was never applied.
    """
    with _connect_store(store_dsn) as store:
        change = read_change(store, change_id)
        if change.state == "reverted":
            return change
        if change.state != "applied":
            raise ChangeRefused(
                f"the change of {change.object_name} is {change.state}, not applied: there is "
                "nothing to take back"
            )
        ledger.request_revert(store, change_id)
        with _connect_target(apply_dsn) as target:
            _limit(target, 60.0, 3600.0)
            if change.kind == "drop_index":
                _restore(target, change)
            else:
                _remove_ours(target, change)
        return _record_revert(store, change)


def reconcile(store_dsn: str, apply_dsns: Mapping[str, str]) -> list[Change]:
    """Finish what a killed worker left, per target name, and return what was finished.

    A build that the server completed without us is adopted, an INVALID index is dropped,
    an intent that never began is failed, an interrupted drop is carried to its end. What
    another session still works on is left alone.
    """
    finished = []
    with _connect_store(store_dsn) as store:
        rows = store.execute(db.query("lab_unfinished_changes")).fetchall()
        for change_id, target_name in rows:
            if target_name not in apply_dsns:
                continue
            with contextlib.suppress(ChangeRefused, TargetUnavailable, psycopg.Error):
                if _reconcile_one(store, apply_dsns[target_name], change_id):
                    finished.append(read_change(store, change_id))
    return finished


def _reconcile_one(store: Connection, apply_dsn: str, change_id: str) -> bool:
    change = read_change(store, change_id)
    with _connect_target(apply_dsn) as target:
        _limit(target, 30.0, 3600.0)
        table = _change_table(target, change)
        if table is None:
            return change.is_unfinished and _finish_without_index(store, change)
        with _table_lock(target, *table):
            # Its worker may have ended it since it was found unfinished: then it stands.
            change = read_change(store, change_id)
            return change.is_unfinished and _finish_with_table(store, target, change, table)


def _finish_without_index(store: Connection, change: Change) -> bool:
    """The table, or the index to be dropped, is gone."""
    if change.state == "applied":
        _record_revert(store, change)
    elif change.kind == "drop_index" and change.state == "running":
        _record_drop(store, change)
    else:
        _fail_clean(store, change, "interrupted; nothing of it is on the target")
    return True


def _finish_with_table(
    store: Connection, target: Connection, change: Change, table: tuple[str, str]
) -> bool:
    index = _find(target, change.schema, change.index_name)
    if change.state == "applied":  # its revert was asked for
        if change.kind == "drop_index":
            _restore(target, change)
        elif index is not None:
            _remove_ours(target, change)
        _record_revert(store, change)
    elif index is None:
        return _finish_without_index(store, change)
    elif change.kind == "drop_index":
        _finish_drop(store, target, change, index)
    elif not _is_what_we_build(target, change, index):
        _fail_clean(store, change, f"interrupted; {change.object_name} is not the one planned")
    elif index.is_whole:
        _adopt(store, target, change)
    else:
        _drop(target, change.schema, change.index_name)
        _fail_clean(store, change, "interrupted; its INVALID remains were dropped")
    return True


def _finish_drop(
    store: Connection, target: Connection, change: Change, index: ExistingIndex
) -> None:
    # An interrupted DROP CONCURRENTLY leaves it INVALID: no reader uses it, every writer pays.
    if index.is_valid or index.oid != change.index_oid:
        _fail_clean(store, change, "interrupted before the index was dropped")
        return
    _drop(target, change.schema, change.index_name)
    _record_drop(store, change)


def _is_what_we_build(target: Connection, change: Change, found: ExistingIndex) -> bool:
    if change.index is None:
        return False
    if found.comment:
        return found.comment == change.comment
    return found.equals(probe(target, change.index))


def _change_table(target: Connection, change: Change) -> tuple[str, str] | None:
    """Return (schema, table) of a change where the table exists still."""
    if change.index is None:
        return _table_of(target, change.schema, change.index_name)
    table = (change.index.schema, change.index.table)
    return table if read_table(target, *table) else None


def _preflight(target: Connection, index: IndexDefinition) -> str:
    """Return the name the index may have, or raise ChangeRefused with the reason."""
    name = f"{index.schema}.{index.table}"
    state = check_table(read_table(target, index.schema, index.table), name)
    existing = read_indexes(target, state.table_oid)
    for each in existing:
        if each.name == index.name and not each.is_whole:
            raise ChangeRefused(
                f"{name} has an INVALID index {each.name}: every write pays for it and no "
                "search uses it",
                hint=f"drop it first: {index.undo()}",
            )
    check_new(probe(target, index), existing, name)
    return _free_name(target, index)


def _free_name(target: Connection, index: IndexDefinition) -> str:
    stem = index.name.removesuffix("_idx").encode()[:44].decode(errors="ignore")
    for name in (index.name, f"{stem}_{index.digest[:12]}_idx"):
        given = {"schema": index.schema, "name": name}
        if target.execute(db.query("lab_name_taken"), given).fetchone() is None:
            return name
    raise ChangeRefused(
        f"{index.schema} has other relations named {index.name} and {name} already",
        hint="rename one of them",
    )


def _build(
    store: Connection,
    target: Connection,
    apply_dsn: str,
    change_id: str,
    ddl: str,
    lock_timeout_s: float,
    progress: Report,
) -> None:
    """Run the build in a thread of its own while the progress is reported."""
    errors: list[psycopg.Error] = []

    def build() -> None:
        try:
            target.execute(ddl.encode())
        except psycopg.Error as error:
            errors.append(error)

    builder = threading.Thread(target=build, name="perfcore-build", daemon=True)
    pid = target.info.backend_pid
    builder.start()
    _watch(store, apply_dsn, change_id, builder, pid, progress)
    if errors:
        left = _clean_up(store, apply_dsn, change_id, lock_timeout_s)
        words = _reason(errors[0])
        raise ChangeRefused(f"PostgreSQL gave up: {words}{left}", hint=_advice(errors[0]))


def _watch(
    store: Connection,
    apply_dsn: str,
    change_id: str,
    builder: threading.Thread,
    pid: int,
    progress: Report,
) -> None:
    builder.join(_POLL_S)
    if not builder.is_alive():
        return
    # Losing sight of the build is no reason to give it up.
    with contextlib.suppress(psycopg.Error), connect_target(apply_dsn) as monitor:
        while builder.is_alive():
            for build in build_progress(monitor):
                if build.pid == pid:
                    progress(build.fraction, build.message)
                    ledger.update(store, change_id, progress=build.fraction, message=build.message)
            builder.join(_POLL_S)
    builder.join()


def _clean_up(store: Connection, apply_dsn: str, change_id: str, lock_timeout_s: float) -> str:
    """Drop what a failed build left; return what remains to be said of it."""
    # Recorded first: an OID on a failed change is what the reconciler looks for.
    ledger.update(store, change_id, index_oid=0)
    change = read_change(store, change_id)
    try:
        with connect_target(apply_dsn) as target:
            _limit(target, lock_timeout_s, 600.0)
            index = _find(target, change.schema, change.index_name)
            left = index is not None and not index.is_valid
            if left:
                _drop(target, change.schema, change.index_name, attempts=1)
    except (psycopg.Error, ChangeRefused):
        return f"; {change.object_name} may remain INVALID until the next round drops it"
    ledger.forget_index(store, change_id)
    return "; its INVALID remains were dropped" if left else ""


def _adopt(store: Connection, target: Connection, change: Change) -> Change:
    """Verify a finished build, mark it as ours and write it down."""
    index = _find(target, change.schema, change.index_name)
    if index is None or not index.is_whole:
        raise ChangeRefused(f"{change.object_name} is not valid after its build")
    target.execute(
        sql.SQL("COMMENT ON INDEX {} IS {}").format(
            sql.Identifier(change.schema, change.index_name), sql.Literal(change.comment)
        )
    )
    with store.transaction():
        ledger.update(
            store,
            change.change_id,
            state="applied",
            message="free disk space was not checked: PostgreSQL does not tell it",
            progress=1.0,
            index_oid=index.oid,
            index_bytes=index.index_bytes,
        )
        ledger.mark(store, change, f"Index {change.index_name} created")
        ledger.settle_suggestion(store, change, "applied", f"change {change.change_id}")
    return read_change(store, change.change_id)


def _record_drop(store: Connection, change: Change) -> Change:
    with store.transaction():
        ledger.update(store, change.change_id, state="applied", message="", progress=1.0)
        ledger.mark(store, change, f"Index {change.index_name} dropped")
        ledger.settle_suggestion(store, change, "applied", f"change {change.change_id}")
    return read_change(store, change.change_id)


def _record_revert(store: Connection, change: Change) -> Change:
    undone = "dropped" if change.kind == "create_index" else "made anew"
    with store.transaction():
        ledger.update(store, change.change_id, state="reverted", message="")
        ledger.mark(store, change, f"Index {change.index_name} {undone}")
        state = ledger.state_after_revert(change)
        ledger.settle_suggestion(store, change, state, f"reverted: {change.verdict or 'by hand'}")
    return read_change(store, change.change_id)


def _remove_ours(target: Connection, change: Change) -> None:
    index = _find(target, change.schema, change.index_name)
    if index is None:
        return
    if index.oid != change.index_oid or index.comment != change.comment:
        raise ChangeRefused(
            f"{change.object_name} is not the index this change made: it was replaced",
            hint="drop it by hand if it is not wanted",
        )
    _drop(target, change.schema, change.index_name)


def _restore(target: Connection, change: Change) -> None:
    index = _find(target, change.schema, change.index_name)
    if index is not None and index.is_whole:
        return
    if index is not None:  # what an interrupted attempt left
        _drop(target, change.schema, change.index_name)
    try:
        target.execute(change.undo.encode())
    except psycopg.Error as error:
        left = _find(target, change.schema, change.index_name)
        if left is not None and not left.is_valid:
            _drop(target, change.schema, change.index_name)
        raise ChangeRefused(
            f"{change.object_name} was not made anew: {_reason(error)}", hint=_advice(error)
        ) from error


def _drop(target: Connection, schema: str, name: str, attempts: int = _DROP_ATTEMPTS) -> None:
    """Drop an index concurrently, again where it was interrupted, until it is gone."""
    drop = sql.SQL("DROP INDEX CONCURRENTLY {}").format(sql.Identifier(schema, name))
    for attempt in range(1, attempts + 1):
        try:
            target.execute(drop)
            return
        except psycopg.errors.UndefinedObject:
            return
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected) as error:
            if attempt == attempts:
                raise ChangeRefused(
                    f"{schema}.{name} could not be dropped yet: {_reason(error)}",
                    hint=_advice(error),
                ) from error
            time.sleep(attempt)
        except psycopg.errors.QueryCanceled as error:
            raise ChangeRefused(f"the drop of {schema}.{name} was cancelled") from error


def _find(target: Connection, schema: str, name: str) -> ExistingIndex | None:
    found = target.execute(db.query("lab_find_index"), {"schema": schema, "name": name}).fetchone()
    if found is None:
        return None
    return next((i for i in read_indexes(target, found[0]) if i.name == name), None)


def _table_of(target: Connection, schema: str, name: str) -> tuple[str, str] | None:
    found = target.execute(db.query("lab_find_index"), {"schema": schema, "name": name}).fetchone()
    return (found[1], found[2]) if found else None


@contextlib.contextmanager
def _table_lock(target: Connection, schema: str, table: str) -> Iterator[None]:
    """Hold the right to change a table's indexes; two concurrent builds would deadlock.

    The lock belongs to the session that builds: when our process dies and the server goes
    on building, the table stays taken until that build ends.
    """
    name = f"{schema}.{table}"
    row = target.execute(db.query("lab_lock_table"), {"table": name}).fetchone()
    if row is None or not row[0]:
        raise ChangeRefused(f"another index change is running on {name}", hint="wait for it")
    yield  # the caller closes the connection, which ends the lock


@contextlib.contextmanager
def _failure_recorded(store: Connection, change_id: str) -> Iterator[None]:
    try:
        yield
    except (ChangeRefused, TargetUnavailable) as error:
        _fail(store, change_id, str(error))
        raise
    except psycopg.Error as error:
        _fail(store, change_id, _reason(error))
        raise ChangeRefused(_reason(error), hint=_advice(error)) from error


def _fail(store: Connection, change_id: str, message: str) -> None:
    ledger.update(store, change_id, state="failed", message=message)


def _fail_clean(store: Connection, change: Change, message: str) -> None:
    """End a change of which nothing is left on the target; the first message stays."""
    if change.state != "failed":
        _fail(store, change.change_id, message)
    ledger.forget_index(store, change.change_id)


def _limit(target: Connection, lock_timeout_s: float, deadline_s: float) -> None:
    for name, seconds in (("lock_timeout", lock_timeout_s), ("statement_timeout", deadline_s)):
        target.execute("SELECT set_config(%s, %s, false)", (name, f"{seconds * 1000:.0f}"))


def _connect_store(dsn: str) -> Connection:
    try:
        return db.connect(dsn, autocommit=True)
    except psycopg.OperationalError as error:
        raise StoreUnavailable(
            f"cannot reach the store: {error}", hint="check PERFCORE_STORE"
        ) from error


def _connect_target(dsn: str) -> Connection:
    try:
        return connect_target(dsn)
    except psycopg.OperationalError as error:
        raise TargetUnavailable(
            f"cannot reach {db.redact(dsn)}: {error}", hint="check PERFCORE_APPLY_DSNS"
        ) from error


def _reason(error: psycopg.Error) -> str:
    parts = [error.diag.message_primary or str(error).strip(), error.diag.message_detail]
    return ": ".join(p for p in parts if p)


def _advice(error: psycopg.Error) -> str:
    if isinstance(error, psycopg.errors.LockNotAvailable):
        return "a transaction holds the table: try again when it has ended"
    if isinstance(error, psycopg.errors.QueryCanceled):
        return "it was cancelled or ran into its deadline: try again in a quiet hour"
    if isinstance(error, psycopg.errors.UniqueViolation):
        return "the rows are not unique: remove the duplicates or make the index not unique"
    if isinstance(error, psycopg.OperationalError):
        return "the connection broke: the next round finishes or removes the index"
    return ""
