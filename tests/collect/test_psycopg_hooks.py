"""psycopg alone: cursors that measure, with nothing else about them changed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql

from perfcore.collect import Recorder, measured, unwatch, watch
from perfcore.collect.buffer import CURRENT, RequestContext
from perfcore.db import connect
from tests.collect.conftest import Rows

_SERIES = """
    SELECT metric_type, text, unit, sum(count)::int, sum(error_count)::int
    FROM metric_rollups JOIN series USING (series_id)
    JOIN statement_texts ON metric_name = lpad(to_hex(fingerprint), 16, '0')
    WHERE metric_type LIKE 'database%' GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
"""


@pytest.fixture
def connection(dsn: str, recorder: Recorder) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE items (id int PRIMARY KEY, name text)")
        watch(connection, recorder)
        yield connection


def test_each_execution_is_one_sample_and_its_result_the_same(
    connection: psycopg.Connection[Any], recorder: Recorder, rows: Rows
) -> None:
    watch(connection, recorder)  # a second time changes nothing
    cursor = connection.cursor()
    assert isinstance(cursor, psycopg.Cursor)
    assert repr(cursor).startswith("<psycopg.Cursor [no result] [IDLE]")
    assert cursor.execute("INSERT INTO items VALUES (%s, %s)", (1, "x")) is cursor
    cursor.executemany("INSERT INTO items VALUES (%s, %s)", [(n, "y") for n in range(2, 6)])
    cursor.executemany("UPDATE items SET id = id WHERE id = %s", iter([(1,), (2,)]))
    assert cursor.execute(b"SELECT name FROM items WHERE id = %(id)s", {"id": 1}).fetchall() == [
        ("x",)
    ]
    composed = sql.SQL("SELECT {} FROM items WHERE name = {}").format(
        sql.Identifier("id"), sql.Literal("secret")
    )
    assert connection.execute(composed, prepare=True).fetchall() == []
    with pytest.raises(psycopg.errors.UniqueViolation) as raised:
        connection.execute(query="INSERT INTO items VALUES (%s, %s)", params=(1, "x"))
    assert raised.value.__context__ is None
    with connection.transaction(), connection.cursor("named") as server_side:
        assert len(server_side.execute("SELECT * FROM items").fetchall()) == 5
    recorder.flush(20)
    assert rows(_SERIES) == [
        ("database_batch", "INSERT INTO items VALUES (?)", "ms", 1, 0),
        ("database_batch", "INSERT INTO items VALUES (?)", "rows", 1, 0),
        ("database_batch", "UPDATE items SET id = id WHERE id = ?", "ms", 1, 0),
        ("database_query", "INSERT INTO items VALUES (?)", "ms", 2, 1),
        ("database_query", 'SELECT "id" FROM items WHERE name = ?', "ms", 1, 0),
        ("database_query", "SELECT * FROM items", "ms", 1, 0),
        ("database_query", "SELECT name FROM items WHERE id = ?", "ms", 1, 0),
    ]


def test_unwatch_gives_the_plain_cursors_back(
    connection: psycopg.Connection[Any], recorder: Recorder
) -> None:
    unwatch(connection)
    unwatch(connection)
    assert connection.cursor_factory is psycopg.Cursor
    assert connection.server_cursor_factory is psycopg.ServerCursor
    connection.execute("SELECT 1")
    assert recorder.accounting().generated == 0


def test_a_factory_measures_a_connection_from_its_start(dsn: str, recorder: Recorder) -> None:
    """What a pool is given, in its `kwargs`; `configure=watch` is the other way."""
    factory = measured(psycopg.ClientCursor, recorder)
    assert measured(factory, recorder) is factory
    with psycopg.connect(dsn, cursor_factory=factory) as connection:
        assert connection.execute("SELECT %s", ["it's"]).fetchone() == ("it's",)
    assert recorder.accounting().generated == 1


def test_slow_executions_are_attributed_and_kept_without_their_values(
    dsn: str, make_recorder: Callable[..., Recorder], rows: Rows
) -> None:
    recorder = make_recorder(slow_query_ms=0)
    context = RequestContext(recorder)
    context.endpoint = "GET /items/{id}"

    async def ask() -> None:
        CURRENT.set(context)
        async with await psycopg.AsyncConnection.connect(dsn) as connection:
            watch(connection)
            cursor = await connection.execute("SELECT %(b)s::text, %(a)s", {"a": 1, "b": "x"})
            assert await cursor.fetchall() == [("x", 1)]
            async with connection.cursor() as batch:
                await batch.executemany("SELECT %s", [("secret",), ("more",)])
        recorder.request(context.endpoint, "", 0, 1, 200, context)

    asyncio.run(ask())
    recorder.flush(20)
    assert rows("SELECT endpoint, parameters FROM slow_queries ORDER BY parameters::text") == [
        ("GET /items/{id}", [{"type": "str", "length": 1}, {"type": "int"}]),
        ("GET /items/{id}", [{"type": "str", "length": 6}]),
    ]
    assert rows("SELECT DISTINCT endpoint FROM endpoint_statements") == [("GET /items/{id}",)]


@pytest.mark.fault(41)
def test_the_stores_own_connection_is_never_watched(dsn: str, recorder: Recorder) -> None:
    with psycopg.connect(dsn) as connection:
        watch(connection, recorder)
        with connect(dsn) as other:
            other.execute("SELECT 1")
    assert recorder.accounting().generated == 0


def test_anything_else_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match="cannot watch list"):
        watch([])
