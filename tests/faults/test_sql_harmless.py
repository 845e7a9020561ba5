"""What a hook must never do: change a result, an error, the wire, or the memory of its host."""

from __future__ import annotations

import ast
import asyncio
import gc
import inspect
import itertools
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from types import FrameType, ModuleType
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from perfcore.collect import (
    Recorder,
    buffer,
    django_hooks,
    measured,
    psycopg_hooks,
    sql_hooks,
    sqlalchemy_hooks,
    unwatch,
    watch,
)
from perfcore.collect import recorder as recorder_module
from perfcore.collect.batching import Batcher, Limits
from perfcore.collect.sql_hooks import Hook
from perfcore.db import connect
from perfcore.normalise import fingerprint, fingerprint_hex
from tests.collect.conftest import Rows
from tests.faults.wire import Wire

_OURS: list[ModuleType] = [
    buffer, django_hooks, psycopg_hooks, recorder_module, sql_hooks, sqlalchemy_hooks,
]  # fmt: skip
# Calls that hand over to the driver: what fails there is the driver's own.
_DRIVER = {"run", "execute", "batch if many else single"}
_KINDS = """
    SELECT metric_type, text, unit, sum(count)::int, sum(sum) FROM metric_rollups
    JOIN series USING (series_id)
    JOIN statement_texts ON metric_name = lpad(to_hex(fingerprint), 16, '0')
    WHERE metric_type LIKE 'database%' GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
"""

_Scenario = Callable[[], list[Any]]


class _Injected(Exception):
    pass


@cache
def _lines(module: ModuleType) -> set[int]:
    """Return the lines that can raise: not `try:`, names and constants, and the driver's call."""
    found: set[int] = set()
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(node, ast.stmt) and not isinstance(node, ast.Try) and not _is_safe(node):
            found.add(node.lineno)
    return found


def _is_safe(node: ast.stmt) -> bool:
    value = getattr(node, "value", None)
    if isinstance(node, ast.Return | ast.Assign) and value is not None:
        value = value.value if isinstance(value, ast.Await) else value
        if isinstance(value, ast.Call):
            return ast.unparse(value.func) in _DRIVER
        parts = value.elts if isinstance(value, ast.Tuple) else [value]
        return all(isinstance(part, ast.Name | ast.Constant) for part in parts)
    return isinstance(node, ast.Raise)


class _Faults:
    """Raises at the n-th line of ours that a scenario reaches; `seen` says how many it had."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.seen = 0
        self._lines = {module.__file__: _lines(module) for module in _OURS}

    def __enter__(self) -> _Faults:
        sys.settrace(self._enter)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def _enter(self, frame: FrameType, event: str, arg: Any) -> Any:
        return self._line if frame.f_code.co_filename in self._lines else None

    def _line(self, frame: FrameType, event: str, arg: Any) -> Any:
        if event == "line" and frame.f_lineno in self._lines[frame.f_code.co_filename]:
            self.seen += 1
            if self.seen == self.at:
                raise _Injected(f"{frame.f_code.co_name}:{frame.f_lineno}")
        return self._line


@contextmanager
def _by_sqlalchemy(dsn: str, recorder: Recorder | None) -> Iterator[_Scenario]:
    engine = sa.create_engine(dsn, poolclass=sa.StaticPool)
    if recorder is not None:
        watch(engine, recorder)

    def scenario() -> list[Any]:
        found: list[Any] = []
        insert = sa.text("INSERT INTO t VALUES (:a)")
        with engine.begin() as connection:
            connection.execute(sa.text("DELETE FROM t"))
            connection.execute(insert, {"a": 1})
            connection.execute(insert, [{"a": 2}, {"a": 3}])
            found += connection.execute(sa.text("SELECT a FROM t ORDER BY 1")).all()
            found += connection.exec_driver_sql(
                "SELECT 7", execution_options={"no_parameters": True}
            ).all()
        try:
            with engine.begin() as connection:
                connection.execute(sa.text("SELECT 1 / :n"), {"n": 0})
        except sa.exc.DataError as error:
            found += [str(error), type(error.orig), error.__context__ is error.orig]
        return found

    yield scenario
    engine.dispose()


@contextmanager
def _by_psycopg(dsn: str, recorder: Recorder | None) -> Iterator[_Scenario]:
    connection = psycopg.connect(dsn, autocommit=True)
    if recorder is not None:
        watch(connection, recorder)

    def scenario() -> list[Any]:
        cursor = connection.cursor()
        cursor.execute("DELETE FROM t")
        cursor.execute("INSERT INTO t VALUES (%s)", (1,))
        cursor.executemany("INSERT INTO t VALUES (%s)", [(2,), (3,)])
        found: list[Any] = cursor.execute(b"SELECT a FROM t ORDER BY 1").fetchall()
        try:
            cursor.execute("SELECT 1 / %s", (0,))
        except psycopg.Error as error:
            found += [str(error), type(error), error.__context__]
        return found

    yield scenario
    connection.close()


@contextmanager
def _by_async_psycopg(dsn: str, recorder: Recorder | None) -> Iterator[_Scenario]:
    factory: Any = psycopg.AsyncCursor
    if recorder is not None:
        factory = measured(factory, recorder)

    async def run() -> list[Any]:
        async with await psycopg.AsyncConnection.connect(
            dsn, autocommit=True, cursor_factory=factory
        ) as connection:
            cursor = connection.cursor()
            await cursor.execute("DELETE FROM t")
            await cursor.executemany("INSERT INTO t VALUES (%s)", [(2,), (3,)])
            await cursor.execute("SELECT a FROM t ORDER BY 1")
            found: list[Any] = await cursor.fetchall()
            try:
                await cursor.execute("SELECT 1 / %s", (0,))
            except psycopg.Error as error:
                found += [str(error), type(error), error.__context__]
            return found

    yield lambda: asyncio.run(run())


@contextmanager
def _by_django(dsn: str, recorder: Recorder | None) -> Iterator[_Scenario]:
    from tests.collect.test_django_hooks import handler_of

    connection = handler_of(dsn)["default"]
    connection.ensure_connection()
    if recorder is not None:
        watch(connection, recorder)

    def scenario() -> list[Any]:
        with connection.cursor() as cursor:
            cursor.execute("DELETE FROM t")
            cursor.executemany("INSERT INTO t VALUES (%s)", [(2,), (3,)])
            cursor.execute("SELECT a FROM t ORDER BY 1")
            found: list[Any] = cursor.fetchall()
            try:
                cursor.execute("SELECT 1 / %s", [0])
            except Exception as error:
                found += [str(error), type(error), type(error.__cause__)]
            return found

    yield scenario
    unwatch(connection)
    connection.close()


_LIBRARIES = {
    "sqlalchemy": _by_sqlalchemy,
    "psycopg": _by_psycopg,
    "async psycopg": _by_async_psycopg,
    "django": _by_django,
}


@pytest.fixture
def table(dsn: str) -> str:
    with connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE t (a int)")
    return dsn


@pytest.mark.fault(27)
@pytest.mark.parametrize("library", _LIBRARIES)
def test_a_fault_at_any_line_of_ours_changes_no_result(
    table: str, make_recorder: Callable[..., Recorder], library: str
) -> None:
    with _LIBRARIES[library](table, None) as bare:
        expected = bare()
    recorder = make_recorder(slow_query_ms=0)
    recorder.metric("starts the thread", 1, "")
    with _LIBRARIES[library](table, recorder) as scenario:
        for at in itertools.count(1):
            before = recorder.self_errors.value
            with _Faults(at) as faults:
                assert scenario() == expected, at
            if faults.seen < at:
                break
            assert recorder.self_errors.value == before + 1, at
    assert at > 60


@pytest.mark.fault(40)
@pytest.mark.parametrize("library", _LIBRARIES)
def test_nothing_is_added_to_the_applications_connections(
    table: str, recorder: Recorder, library: str
) -> None:
    said = []
    for chosen in (None, recorder):
        wire = Wire(table)
        with _LIBRARIES[library](wire.dsn, chosen) as scenario:
            scenario()
        said.append(wire.said())
        wire.close()
    assert recorder.accounting().generated > 0
    assert sum(map(len, said[0])) > 8
    assert said[0] == said[1]


@pytest.mark.fault(41)
def test_the_stores_own_statements_are_never_recorded(
    store: str, make_recorder: Callable[..., Recorder], rows: Rows
) -> None:
    """The application lives in the store's database, and everything of it is watched."""
    recorder = make_recorder()
    engine = sa.create_engine(store, pool_size=1, max_overflow=0)
    borrowed: list[int] = []
    sa.event.listen(engine, "checkout", lambda *_: borrowed.append(1))
    watch(engine, recorder)
    with engine.connect() as connection:  # holds the only connection of the pool
        for _ in range(3):
            connection.exec_driver_sql("SELECT 'mine'")
            assert recorder.flush(20)
    assert len(borrowed) == 1
    texts = {text for (text,) in rows("SELECT text FROM statement_texts")}
    assert "SELECT ?" in texts
    assert not [text for text in texts if "perfcore" in text or "COPY" in text]
    engine.dispose()


def test_the_applications_own_listeners_still_run(recorder: Recorder) -> None:
    engine = sa.create_engine("sqlite://")
    seen: list[str] = []

    def handles(cursor: Any, statement: str, parameters: Any, context: Any) -> bool:
        seen.append(statement)
        return False

    sa.event.listen(engine, "do_execute", handles)
    watch(engine, recorder)
    with engine.connect() as connection:
        connection.exec_driver_sql("SELECT 1")
    assert seen == ["SELECT 1"]
    assert recorder.accounting().generated == 1


@pytest.mark.fault(33)
def test_an_engine_is_measured_once_whatever_stands_for_it(dsn: str, recorder: Recorder) -> None:
    engine = create_async_engine(dsn, poolclass=sa.NullPool)
    for stands in (engine, engine.sync_engine, engine.execution_options(logging_token="x")):
        watch(stands, recorder)

    async def ask() -> None:
        async with engine.connect() as connection:
            await connection.execute(sa.text("SELECT 'once'"))

    asyncio.run(ask())
    texts = recorder.buffer.statements[:: buffer.STATEMENT_WIDTH]
    assert texts.count("SELECT 'once'") == 1
    unwatch(engine)
    assert (
        not {"do_execute", "do_executemany", "do_execute_no_params"} & vars(engine.dialect).keys()
    )


@pytest.mark.fault(33)
def test_ten_thousand_engines_leave_nothing_behind(recorder: Recorder) -> None:
    """An engine that is used and then forgotten takes its hooks with it."""
    before = _hooks()
    dialects = weakref.WeakSet[Any]()
    for number in range(10_000):
        engine = sa.create_engine("sqlite://", poolclass=sa.StaticPool)
        watch(engine, recorder)
        dialects.add(engine.dialect)
        if number % 100 == 0:
            with engine.connect() as connection:
                connection.exec_driver_sql("SELECT 1")
            engine.dispose()
    del engine, connection
    gc.collect()
    assert len(dialects) == 0
    assert _hooks() == before


def _hooks() -> int:
    gc.collect()
    return sum(isinstance(found, Hook) for found in gc.get_objects())


@pytest.mark.fault(33)
def test_ten_thousand_connections_share_their_cursor_classes(dsn: str, recorder: Recorder) -> None:
    with psycopg.connect(dsn) as connection:
        for _ in range(10_000):
            watch(connection, recorder)
            unwatch(connection)
        watch(connection, recorder)
        with psycopg.connect(dsn) as other:
            watch(other, recorder)
            assert other.cursor_factory is connection.cursor_factory


@pytest.mark.fault(28)
def test_failing_statements_take_a_bounded_amount_of_memory(recorder: Recorder) -> None:
    """Each with a text of its own, while nothing is flushed; the errors are not kept either."""
    recorder.buffer.limit = 500
    engine = sa.create_engine("sqlite://")
    watch(engine, recorder)
    with engine.connect() as connection:
        for number in range(10_000):
            with pytest.raises(sa.exc.OperationalError):
                connection.exec_driver_sql(f"SELECT nothing FROM absent_{number}")
    assert len(recorder.buffer) == 500
    assert set(recorder.buffer.statements[3 :: buffer.STATEMENT_WIDTH]) == {buffer.FAILED}
    totals = recorder.accounting()
    assert (totals.generated, totals.dropped) == (10_000, {"buffer_full": 9_500})
    assert totals.missing == 0
    gc.collect()
    kept = [e for e in gc.get_objects() if isinstance(e, sa.exc.OperationalError)]
    assert len(kept) <= 1


@pytest.mark.fault(28)
def test_texts_that_never_come_again_take_a_bounded_amount_of_memory(
    make_recorder: Callable[..., Recorder],
) -> None:
    batcher = Batcher("shop", "host:1:1", Limits(statements=50))
    waiting = buffer.Buffer()
    for number in range(3_000):
        text = f"SELECT a{number} " + "x" * 5_000
        waiting.statements += [text, 1, 1, buffer.FAILED, None, None, None, None]
        if number % 100 == 0:
            batcher.take(waiting)
    kept = sum(len(key) for key in batcher._fingerprints)
    assert 0 < kept <= 4_000_000
    assert len(batcher._texts) <= 51


@pytest.mark.fault(28)
def test_the_characters_of_all_known_texts_are_bounded() -> None:
    batcher = Batcher("shop", "host:1:1", Limits())
    waiting = buffer.Buffer()
    for number in range(200):
        text = f"SELECT a{number} " + "x" * 60_000
        waiting.statements += [text, 1, 1, buffer.DONE, None, None, None, None]
    batch = batcher.take(waiting)
    assert batch is not None
    assert sum(rollup.histogram.count for rollup in batch.rollups) == 200
    assert 4_000_000 < sum(len(text) for text in batcher._texts.values()) < 4_200_000


@pytest.mark.fault(29)
@pytest.mark.parametrize("library", ["sqlalchemy", "psycopg"])
def test_a_cancelled_statement_is_recorded_as_such(
    dsn: str, recorder: Recorder, rows: Rows, library: str
) -> None:
    async def ask() -> None:
        if library == "sqlalchemy":
            engine = create_async_engine(dsn, poolclass=sa.NullPool)
            watch(engine, recorder)
            async with engine.connect() as connection:
                await connection.execute(sa.text("SELECT pg_sleep(600)"))
        else:
            async with await psycopg.AsyncConnection.connect(dsn) as plain:
                watch(plain, recorder)
                await plain.execute("SELECT pg_sleep(600)")

    async def cancel() -> None:
        task = asyncio.create_task(ask())
        while not await asyncio.to_thread(_is_running, dsn, "SELECT pg_sleep"):
            assert not task.done(), task.exception()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    recorder.flush(20)
    kinds = [row[:4] for row in rows(_KINDS) if row[1] == "SELECT pg_sleep(?)"]
    assert kinds == [("database_cancelled", "SELECT pg_sleep(?)", "ms", 1)]
    assert recorder.accounting().missing == 0


def _is_running(dsn: str, text: str) -> bool:
    time.sleep(0.02)
    with connect(dsn, autocommit=True) as connection:
        [(count,)] = connection.execute(
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE state = 'active' AND pid <> pg_backend_pid() AND query LIKE %s",
            [text + "%"],
        ).fetchall()
    return bool(count)


@pytest.mark.fault(30)
def test_fetching_rows_is_no_part_of_an_execution(dsn: str, recorder: Recorder) -> None:
    """With a server-side cursor the sample is taken before the first row comes."""
    engine = sa.create_engine(dsn, poolclass=sa.NullPool)
    with engine.connect() as connection:
        watch(engine, recorder)
        streaming = connection.execution_options(stream_results=True, yield_per=10)
        result = streaming.execute(sa.text("SELECT generate_series(1, 1000)"))
        executed = list(recorder.buffer.statements)
        fetching_ns = time.perf_counter_ns()
        assert len(result.all()) == 1000
        assert list(recorder.buffer.statements) == executed
    assert len(executed) == buffer.STATEMENT_WIDTH
    assert executed[1] <= fetching_ns


@pytest.mark.fault(31)
def test_an_executemany_is_one_batch_beside_the_single_executions(
    dsn: str, recorder: Recorder, rows: Rows
) -> None:
    engine = sa.create_engine(dsn, poolclass=sa.NullPool)
    text = "INSERT INTO t VALUES (:a)"
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE t (a int)")
        watch(engine, recorder)
        connection.execute(sa.text(text), {"a": 0})
        connection.execute(sa.text(text), [{"a": n} for n in range(1000)])
    recorder.flush(20)
    named = rows("SELECT metric_type, unit, count, sum FROM metric_rollups JOIN series USING "
                 f"(series_id) WHERE metric_name = '{fingerprint_hex(fingerprint(text))}' "
                 "ORDER BY 1, 2")  # fmt: skip
    assert [row[:3] for row in named] == [
        ("database_batch", "ms", 1),
        ("database_batch", "rows", 1),
        ("database_query", "ms", 1),
    ]
    assert named[1][3] == 1000
    assert recorder.accounting().missing == 0
