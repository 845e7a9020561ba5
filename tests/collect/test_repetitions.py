"""N+1: counted per request by both settings, with the place in the code that sends it."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from perfcore.collect import PerfcoreMiddleware, Recorder, callers, configure, watch
from perfcore.collect.batching import Batcher, Limits
from perfcore.collect.buffer import CURRENT, DONE, Buffer, RequestContext
from perfcore.collect.callers import caller, sight
from perfcore.store.ingest import Batch, Repetition
from tests.collect.conftest import Rows
from tests.collect.test_middleware import Client

_REPEATED = """
    SELECT endpoint, text, location, sum(requests)::int, sum(calls)::int, max(max_calls),
           sum(duration_ms)
    FROM repetitions JOIN statement_texts USING (fingerprint)
    GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
"""
_HERE = "test_repetitions.py"


def _batch(limits: Limits, *requests: list[tuple[str, float]]) -> Batch | None:
    """Return the batch of requests that executed these texts, each taking so many ms."""
    recorder = Recorder("shop", "")
    buffer, batcher = Buffer(), Batcher("shop", "p", limits)
    for executed in requests:
        context = RequestContext(recorder)
        for text, duration_ms in executed:
            values = text, 10**9, int(duration_ms * 1e6), DONE, context, None, None, None
            buffer.add(buffer.statements, values)
        buffer.add(buffer.requests, ("GET /", "GET", 0, 10**9, 200, context))
    return batcher.take(buffer)


def _repetitions(limits: Limits, *requests: list[tuple[str, float]]) -> list[Repetition]:
    batch = _batch(limits, *requests)
    return list(batch.repetitions) if batch else []


def test_both_halves_of_the_definition_must_hold() -> None:
    limits = Limits(n_plus_one_calls=5, n_plus_one_ms=50)
    found = _repetitions(
        limits,
        [("SELECT 1", 10.0)] * 4 + [("SELECT 2", 0.0)],  # too few
        [("SELECT 1", 9.0)] * 5,  # too short
        [("SELECT 1", 10.0)] * 5,
        [("SELECT 7", 10.0)] * 3 + [("SELECT  8", 25.0)] * 4,  # one statement
    )
    [repetition] = found
    assert (repetition.requests, repetition.calls, repetition.max_calls) == (2, 12, 7)
    assert repetition.duration_ms == pytest.approx(180.0)
    assert repetition.location == ""


@given(
    st.lists(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 40)), max_size=30), max_size=8),
    st.integers(0, 8),
    st.integers(0, 100),
)
def test_each_request_is_counted_by_what_it_ran_itself(
    requests: list[list[tuple[int, int]]], calls: int, ms: int
) -> None:
    """Against a plain count, for any settings: a single call repeats nothing."""
    expected: dict[str, list[float]] = {}
    for executed in requests:
        for number in {n for n, _ in executed}:
            times = [float(t) for n, t in executed if n == number]
            if len(times) >= max(calls, 2) and sum(times) >= ms:
                sums = expected.setdefault(f"SELECT a{number}", [0, 0, 0])
                sums[0] += 1
                sums[1] += len(times)
                sums[2] += sum(times)
    limits = Limits(n_plus_one_calls=calls, n_plus_one_ms=ms)
    batch = _batch(limits, *([(f"SELECT a{n}", float(t)) for n, t in e] for e in requests))
    texts = dict(batch.texts) if batch else {}
    found = {
        texts[r.fingerprint]: [r.requests, r.calls, pytest.approx(r.duration_ms)]
        for r in (batch.repetitions if batch else ())
    }
    assert found == expected


def test_the_application_reads_both_settings(store: str) -> None:
    environ = {"PERFCORE_N_PLUS_ONE_CALLS": "3", "PERFCORE_N_PLUS_ONE_MS": "7.5"}
    recorder = configure("shop", store, environ=environ, strict=True)
    assert recorder._limits == Limits(n_plus_one_calls=3, n_plus_one_ms=7.5)


# Where it was sent from


def _look_up(run: Callable[[int], Any]) -> None:
    for number in range(6):
        run(number)


async def _look_up_soon(run: Callable[[int], Any]) -> None:
    for number in range(6):
        await run(number)


@pytest.fixture
def eager(make_recorder: Callable[..., Recorder]) -> Recorder:
    """A recorder that takes five calls for an N+1 however quick they are."""
    return make_recorder(limits=Limits(n_plus_one_ms=0))


@pytest.fixture
def async_engine(dsn: str) -> Iterator[AsyncEngine]:
    engine = create_async_engine(dsn.replace("postgresql:", "postgresql+psycopg:"))
    watch(engine)
    yield engine


def _ask(app: Any, recorder: Recorder, *paths: str) -> None:
    """Ask twice: the flusher asks for the place once it has seen a repetition."""
    client = Client(PerfcoreMiddleware(app, recorder=recorder))
    for _ in range(2):
        for path in paths:
            client.get(path)
        assert recorder.flush(20)
    assert recorder.self_errors.value == 0
    assert recorder.accounting().missing == 0


def _places(rows: Rows) -> dict[str, str]:
    """Return the place of each endpoint's repetition, which both requests repeated."""
    assert {r[3:6] for r in rows(_REPEATED)} == {(1, 6, 6)}
    return {r[0]: r[2] for r in rows(_REPEATED) if r[2]}


def _nearest(places: dict[str, str]) -> dict[str, str]:
    return {endpoint: place.partition(" ← ")[0] for endpoint, place in places.items()}


def test_sqlalchemy_tells_the_line_of_the_loop(dsn: str, eager: Recorder, rows: Rows) -> None:
    engine = sa.create_engine(dsn.replace("postgresql:", "postgresql+psycopg:"))
    watch(engine)

    def orders(request: Request) -> Response:
        with engine.connect() as connection:
            _look_up(lambda n: connection.execute(sa.text("SELECT :n + 2"), {"n": n}))
        return PlainTextResponse("")

    _ask(Starlette(routes=[Route("/orders", orders)]), eager, "/orders")
    [place] = _places(rows).values()
    here, loop, view = place.split(" ← ")
    line = orders.__code__.co_firstlineno + 2
    assert here.endswith(f"{_HERE}:{line} in {orders.__qualname__}.<locals>.<lambda>")
    assert loop.endswith(f"{_HERE}:{_look_up.__code__.co_firstlineno + 2} in _look_up")
    assert view.endswith(f"{_HERE}:{line} in {orders.__qualname__}")
    assert not place.startswith("/")
    engine.dispose()


def test_the_async_engine_tells_who_awaits_it(
    async_engine: AsyncEngine, eager: Recorder, rows: Rows
) -> None:
    """SQLAlchemy drives the driver from a greenlet; the application is on its parent's stack."""

    async def orders(request: Request) -> Response:
        async with async_engine.connect() as connection:
            for number in range(6):
                await connection.execute(sa.text("SELECT :n + 2"), {"n": number})
        return PlainTextResponse("")

    async def once() -> None:
        async with client.open() as http:
            await http.get("/orders")
        await async_engine.dispose()

    client = Client(
        PerfcoreMiddleware(Starlette(routes=[Route("/orders", orders)]), recorder=eager)
    )
    for _ in range(2):
        asyncio.run(once())
        assert eager.flush(20)
    [place] = {r[2] for r in rows(_REPEATED) if r[2]}
    assert place.endswith(f"{_HERE}:{orders.__code__.co_firstlineno + 3} in {orders.__qualname__}")
    assert eager.self_errors.value == 0


def test_psycopg_alone_tells_it_too(dsn: str, eager: Recorder, rows: Rows) -> None:
    def blocking(request: Request) -> Response:
        with psycopg.connect(dsn) as connection:
            watch(connection)
            _look_up(lambda n: connection.execute("SELECT %s + 2", [n]))
        return PlainTextResponse("")

    async def awaiting(request: Request) -> Response:
        async with await psycopg.AsyncConnection.connect(dsn) as connection:
            watch(connection)
            await _look_up_soon(lambda n: connection.execute("SELECT %s + 3", [n]))
        return PlainTextResponse("")

    app = Starlette(routes=[Route("/blocking", blocking), Route("/awaiting", awaiting)])
    _ask(app, eager, "/blocking", "/awaiting")
    places = _nearest(_places(rows))
    assert places["GET /blocking"].endswith(f"in {blocking.__qualname__}.<locals>.<lambda>")
    # The lambda has returned its coroutine; who awaits that is the loop.
    assert places["GET /awaiting"].endswith("in _look_up_soon")


def test_each_endpoint_has_a_place_of_its_own(eager: Recorder, rows: Rows) -> None:
    """One statement, repeated by two endpoints, and sent once by a third."""
    engine = sa.create_engine("sqlite://", poolclass=sa.SingletonThreadPool)
    watch(engine)

    def run(number: int) -> None:
        with engine.connect() as connection:
            connection.exec_driver_sql("SELECT 1")

    def first(request: Request) -> Response:
        for number in range(6):
            run(number)
        return PlainTextResponse("")

    class Second:
        def get(self) -> None:
            with engine.connect() as connection:
                for _ in range(6):
                    connection.exec_driver_sql("SELECT 1")

    def second(request: Request) -> Response:
        Second().get()
        return PlainTextResponse("")

    def once(request: Request) -> Response:
        run(0)
        return PlainTextResponse("")

    routes = [Route("/first", first), Route("/second", second), Route("/once", once)]
    _ask(Starlette(routes=routes), eager, *["/once"] * 9, "/first", "/second")
    places = _nearest(_places(rows))
    assert places["GET /first"].endswith("<locals>.run")
    assert places["GET /second"].endswith("Second.get")
    assert "GET /once" not in places


# Bounded, and harmless


@pytest.mark.fault(129)
def test_only_a_few_executions_are_looked_at() -> None:
    buffer, context = Buffer(), RequestContext(Recorder("shop", ""))
    buffer.wanted["SELECT 1"] = 3
    for _ in range(10):
        sight(buffer, context, "SELECT 1")
    assert len(buffer.sightings) == 3 and not buffer.wanted
    buffer.wanted["SELECT 1"] = 10**9
    for _ in range(5_000):
        sight(buffer, context, "SELECT 1")
    assert len(buffer.sightings) == callers._MAX_SIGHTINGS and not buffer.wanted


@pytest.mark.fault(129)
def test_what_nobody_repeats_any_more_is_not_asked_for_without_end() -> None:
    recorder = Recorder("shop", "")
    buffer, batcher = Buffer(), Batcher("shop", "p", Limits(n_plus_one_ms=0))
    context = RequestContext(recorder)
    for _ in range(6):
        buffer.add(buffer.statements, ("SELECT 1", 9, 9, DONE, context, None, None, None))
    buffer.add(buffer.requests, ("GET /", "GET", 0, 9, 200, context))
    asked = 0
    for _ in range(150):
        batcher.take(buffer)
        asked += bool(buffer.wanted)
    assert asked == 100 and not buffer.wanted


@pytest.mark.fault(27)
def test_a_stack_that_cannot_be_read_costs_the_place_alone(
    eager: Recorder, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> str:
        raise RecursionError("ours")

    monkeypatch.setattr(callers, "caller", broken)
    engine = sa.create_engine("sqlite://", poolclass=sa.SingletonThreadPool)
    watch(engine)

    def orders(request: Request) -> Response:
        with engine.connect() as connection:
            _look_up(lambda n: connection.exec_driver_sql("SELECT 1"))
        return PlainTextResponse("")

    _ask(Starlette(routes=[Route("/orders", orders)]), eager, "/orders")
    assert [r[2:6] for r in rows(_REPEATED)] == [("", 2, 12, 6)]


def test_a_deep_stack_is_not_walked_to_its_end() -> None:
    # Frames of nobody's file, as a library's own recursion is.
    source = "def deep(n, call):\n    return deep(n - 1, call) if n else call()\n"
    scope: dict[str, Any] = {}
    exec(compile(source, "<generated>", "exec"), scope)
    assert scope["deep"](50, caller).endswith("test_a_deep_stack_is_not_walked_to_its_end")
    assert scope["deep"](450, caller) == ""


@pytest.mark.parametrize(
    ("file", "kind"),
    [
        ("/srv/shop/views.py", "application"),
        ("/srv/.venv/lib/python3.11/site-packages/sqlalchemy/engine/base.py", ""),
        ("/usr/lib/python3/dist-packages/django/db/models/query.py", ""),
        ("/srv/.venv/lib/python3.11/site-packages/shop/views.py", "installed"),
        ("/srv/.venv/lib/python3.11/site-packages/six.py", "installed"),
        (threading.__file__, ""),
        (callers.__file__, ""),
        ("<string>", ""),
        ("<frozen runpy>", ""),
    ],
)
def test_whose_file_it_is(file: str, kind: str) -> None:
    assert callers._kind(file) == kind


def test_an_installed_application_is_found_where_nothing_else_is(tmp_path: Path) -> None:
    scope: dict[str, Any] = {"caller": caller}
    folder = tmp_path / "site-packages" / "shop"
    exec(compile("def view():\n    return caller()\n", str(folder / "views.py"), "exec"), scope)
    found: list[str] = []
    # In a thread of its own: this very file is on the stack of every other.
    ran: dict[str, Any] = {"view": scope["view"], "found": found}
    exec(compile("def run():\n    found.append(view())\n", "<generated>", "exec"), ran)
    thread = threading.Thread(target=ran["run"])
    thread.start()
    thread.join()
    assert found == ["site-packages/shop/views.py:2 in view"]


def test_a_template_has_no_line_of_its_own() -> None:
    scope: dict[str, Any] = {"caller": caller}
    exec(compile("def root():\n    return caller()\n", "/srv/templates/orders.html", "exec"), scope)
    here, *_ = scope["root"]().split(" ← ")
    assert here == "srv/templates/orders.html in root"


def test_without_a_request_nothing_is_looked_at(eager: Recorder) -> None:
    eager.buffer.wanted["SELECT 1"] = 5
    assert CURRENT.get() is None
    eager.statement("SELECT 1", time.perf_counter_ns(), 10, DONE, None, None)
    assert eager.buffer.wanted == {"SELECT 1": 5} and not eager.buffer.sightings
    assert "greenlet" in sys.modules
