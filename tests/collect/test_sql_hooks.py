"""Statements on real engines: measured once, attributed to their request, results unchanged."""

from __future__ import annotations

import asyncio
import gc
import math
import time
import weakref
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from perfcore.collect import PerfcoreMiddleware, Recorder, unwatch, watch
from perfcore.collect.sql_hooks import describe
from perfcore.normalise import fingerprint, fingerprint_hex
from tests.collect.conftest import Rows
from tests.collect.test_middleware import Client

_ATTRIBUTED = """
    SELECT endpoint, text, sum(calls)::int, sum(requests)::int, sum(repeated_requests)::int,
           max(max_calls)
    FROM endpoint_statements JOIN statement_texts USING (fingerprint) GROUP BY 1, 2 ORDER BY 1, 2
"""


@pytest.fixture
def engine(dsn: str, recorder: Recorder) -> Iterator[sa.Engine]:
    engine = sa.create_engine(dsn.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE items (id int PRIMARY KEY, name text)")
    watch(engine, recorder)
    yield engine
    engine.dispose()


def test_each_execution_is_one_sample_whatever_its_outcome(
    engine: sa.Engine, recorder: Recorder, rows: Rows
) -> None:
    watch(engine, recorder)  # a second time changes nothing
    insert = sa.text("INSERT INTO items VALUES (:id, :name)")
    with engine.begin() as connection:
        connection.execute(insert, [{"id": n, "name": "x"} for n in range(3)])
        found = connection.execute(sa.text("SELECT name FROM items WHERE id = :id"), {"id": 1})
        assert found.scalar() == "x"
        connection.exec_driver_sql("SELECT 1", execution_options={"no_parameters": True})
    with pytest.raises(sa.exc.IntegrityError), engine.begin() as connection:
        connection.execute(insert, {"id": 1, "name": "again"})
    recorder.flush(20)
    measured = {
        text: (count, errors)
        for text, count, errors in rows(
            "SELECT text, sum(count)::int, sum(error_count)::int FROM metric_rollups "
            "JOIN series USING (series_id) JOIN statement_texts "
            "ON metric_name = lpad(to_hex(fingerprint), 16, '0') "
            "WHERE metric_type = 'database_query' GROUP BY 1"
        )
    }
    assert measured == {
        "INSERT INTO items VALUES (?)": (1, 1),  # and one executemany
        "SELECT name FROM items WHERE id = ?": (1, 0),
        "SELECT ?": (1, 0),
    }
    assert rows("SELECT DISTINCT endpoint FROM endpoint_statements") == [("(unattributed)",)]


def test_unwatch_ends_it_and_nothing_keeps_the_engine_alive(
    engine: sa.Engine, recorder: Recorder
) -> None:
    unwatch(engine)
    unwatch(engine)
    with engine.connect() as connection:
        connection.exec_driver_sql("SELECT 1")
    assert recorder.accounting().generated == 0
    forgotten = sa.create_engine("sqlite://")
    watch(forgotten, recorder)
    reference = weakref.ref(forgotten.dialect)
    del forgotten
    gc.collect()
    assert reference() is None


def test_statements_belong_to_the_request_that_sent_them(
    dsn: str, recorder: Recorder, rows: Rows
) -> None:
    """Twenty requests at once over one event loop, each of two endpoints."""
    engine = create_async_engine(dsn.replace("postgresql:", "postgresql+psycopg:"))
    watch(engine)

    async def few(request: Request) -> Response:
        async with engine.connect() as connection:
            await connection.execute(sa.text("SELECT 'few', pg_sleep(0.01)"))
        return PlainTextResponse("few")

    async def many(request: Request) -> Response:
        async with engine.connect() as connection:
            for number in range(6):
                await connection.execute(sa.text("SELECT :n + 1"), {"n": number})
                await asyncio.sleep(0)
        return PlainTextResponse("many")

    app = Starlette(routes=[Route("/few", few), Route("/many/{id}", many)])
    app.add_middleware(PerfcoreMiddleware, recorder=recorder)
    client = Client(app)

    async def all_at_once() -> None:
        async with client.open() as http:
            await asyncio.gather(*(http.get("/few" if n % 2 else f"/many/{n}") for n in range(20)))
        await engine.dispose()

    asyncio.run(all_at_once())
    assert recorder.flush(20)
    # The engine's own first questions to the server have no parameters.
    assert [r for r in rows(_ATTRIBUTED) if "?" in r[1]] == [
        ("GET /few", "SELECT ?, pg_sleep(?)", 10, 10, 0, 1),
        ("GET /many/{id}", "SELECT ? + ?", 60, 10, 10, 6),
    ]
    assert recorder.accounting().missing == 0


def test_slow_executions_are_kept_without_their_values(
    engine: sa.Engine, make_recorder: Callable[..., Recorder], rows: Rows
) -> None:
    unwatch(engine)
    recorder = make_recorder(slow_query_ms=20)
    watch(engine, recorder)
    statement = sa.text("SELECT pg_sleep(:s), :name")

    def slow(request: Request) -> Response:
        with engine.connect() as connection:
            connection.execute(statement, {"name": "secret!", "s": 0.03})
        return PlainTextResponse("slow")

    app = Starlette(routes=[Route("/slow", slow)])
    app.add_middleware(PerfcoreMiddleware, recorder=recorder)
    Client(app).get("/slow")
    recorder.flush(20)
    [(endpoint, fp, duration_ms, parameters)] = rows(
        "SELECT endpoint, fingerprint, duration_ms, parameters FROM slow_queries"
    )
    assert (endpoint, parameters) == (
        "GET /slow",
        [{"type": "float"}, {"type": "str", "length": 7}],
    )
    assert duration_ms >= 30
    assert rows(f"SELECT count(*) FROM statement_texts WHERE fingerprint = {fp}") == [(1,)]


def test_parameters_are_described_in_the_servers_order() -> None:
    text = "SELECT * FROM t WHERE b = %(b)s AND a = %(a)s AND b2 = %(b)s"
    values = {"a": Decimal("1.5"), "b": "x\0y"}
    assert describe(text, values, keep_values=True) == ("x\ufffdy", "1.5")
    assert describe(text, values, keep_values=False) == (
        {"type": "str", "length": 3},
        {"type": "Decimal"},
    )
    assert describe("?", (None, True, 3, "y" * 999), keep_values=True)[3] == "y" * 200


def test_a_fault_of_our_own_never_changes_a_result(
    engine: sa.Engine, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: Any) -> None:
        raise ValueError("ours")

    monkeypatch.setattr(recorder, "statement", broken)
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT 42").scalar() == 42
    assert recorder.self_errors.value > 0


def test_texts_without_end_are_bounded(make_recorder: Callable[..., Recorder], rows: Rows) -> None:
    from perfcore.collect.batching import Limits

    recorder = make_recorder(limits=Limits(statements=5))
    for number in range(50):
        recorder.statement(f"SELECT a{number}", time.perf_counter_ns(), 10, False, None, None)
    recorder.flush(20)
    assert rows("SELECT count(*) FROM statement_texts") == [(6,)]
    assert rows("SELECT sum(count)::int FROM metric_rollups") == [(50,)]


def test_the_series_of_a_statement_is_named_by_its_fingerprint(
    engine: sa.Engine, recorder: Recorder, rows: Rows
) -> None:
    with engine.connect() as connection:
        connection.exec_driver_sql("SELECT count(*) FROM items WHERE id > 7")
    recorder.flush(20)
    expected = fingerprint_hex(fingerprint("SELECT count(*) FROM items WHERE id > $1"))
    names = rows("SELECT metric_name FROM series WHERE metric_type = 'database_query'")
    assert (expected,) in names
    assert math.isfinite(rows("SELECT max(max) FROM metric_rollups")[0][0])
