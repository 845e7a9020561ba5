"""Whose statement it was, and how much of a request's time its statements took together."""

from __future__ import annotations

import asyncio
import contextvars
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import create_async_engine
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from perfcore.collect import PerfcoreMiddleware, Recorder, watch
from perfcore.collect.busy import BusyTime
from tests.collect.conftest import Rows
from tests.collect.test_middleware import Client

_REQUESTS = 10_000
_ENDPOINTS = 20


@pytest.mark.fault(38)
def test_no_statement_is_attributed_to_a_foreign_request(
    make_recorder: Callable[..., Recorder], rows: Rows
) -> None:
    """Ten thousand requests over a pool of threads, half of which lose their context."""
    recorder = make_recorder()
    engine = sa.create_engine("sqlite://", poolclass=sa.SingletonThreadPool)
    watch(engine, recorder)

    def ask(number: int) -> None:
        with engine.connect() as connection:
            connection.exec_driver_sql(f"SELECT 1 AS of_endpoint_{number}")

    def of(number: int) -> Callable[[Request], Any]:
        async def endpoint(request: Request) -> Response:
            loop = asyncio.get_running_loop()
            if "lost" in request.query_params:
                await loop.run_in_executor(threads, ask, number)
            else:
                context = contextvars.copy_context()
                await loop.run_in_executor(threads, context.run, ask, number)
            return PlainTextResponse("")

        return endpoint

    routes = [Route(f"/{number}", of(number)) for number in range(_ENDPOINTS)]
    app = PerfcoreMiddleware(Starlette(routes=routes), recorder=recorder)

    async def all_at_once() -> None:
        await asyncio.gather(*(_call(app, n % _ENDPOINTS, n % 3 == 0) for n in range(_REQUESTS)))

    with ThreadPoolExecutor(8) as threads:
        asyncio.run(all_at_once())
    assert recorder.flush(60)
    expected: Counter[tuple[str, str]] = Counter()
    for n in range(_REQUESTS):
        name = "(unattributed)" if n % 3 == 0 else f"GET /{n % _ENDPOINTS}"
        expected[name, f"SELECT ? AS of_endpoint_{n % _ENDPOINTS}"] += 1
    found = rows(
        "SELECT endpoint, text, sum(calls)::int FROM endpoint_statements "
        "JOIN statement_texts USING (fingerprint) GROUP BY 1, 2"
    )
    assert {(endpoint, text): calls for endpoint, text, calls in found} == expected
    assert recorder.accounting().missing == 0


async def _call(app: Any, number: int, is_lost: bool) -> None:
    scope: dict[str, Any] = {
        "type": "http", "method": "GET", "path": f"/{number}", "headers": [], "root_path": "",
        "query_string": b"lost=1" if is_lost else b"", "scheme": "http", "server": ("x", 80),
    }  # fmt: skip

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        pass

    await app(scope, receive, send)


@pytest.mark.fault(39)
def test_statements_at_the_same_time_count_once_on_the_wall_clock(
    dsn: str, recorder: Recorder, rows: Rows
) -> None:
    engine = create_async_engine(dsn, pool_size=5)
    watch(engine, recorder)

    async def ask() -> None:
        async with engine.connect() as connection:
            await connection.execute(sa.text("SELECT pg_sleep(0.5)"))

    async def gathers(request: Request) -> Response:
        await asyncio.gather(*(ask() for _ in range(5)))
        return PlainTextResponse("")

    app = Starlette(routes=[Route("/", gathers)])
    app.add_middleware(PerfcoreMiddleware, recorder=recorder)
    client = Client(app)

    async def once() -> None:
        async with client.open() as http:
            await http.get("/")
        await engine.dispose()

    asyncio.run(once())
    recorder.flush(20)
    sums: dict[str, float] = dict(
        rows(
            "SELECT metric_type, sum FROM metric_rollups JOIN series USING (series_id) "
            "WHERE metric_name = 'GET /'"
        )
    )
    [(together_ms,)] = rows("SELECT sum(duration_ms) FROM endpoint_statements")
    assert together_ms >= 2500
    assert 500 <= sums["database_time"] <= sums["api_endpoint"]
    assert sums["database_time"] < together_ms


_SPANS = st.lists(st.tuples(st.integers(0, 300), st.integers(0, 60)), max_size=400)


@pytest.mark.fault(39)
@given(_SPANS, st.integers(0, 50), st.integers(50, 400))
def test_the_union_is_exact_for_few_gaps_and_never_too_long(
    spans: list[tuple[int, int]], start: int, end: int
) -> None:
    busy = BusyTime()
    covered: set[int] = set()
    for begin, length in spans:
        busy.add(begin, begin + length)
        covered |= set(range(begin, begin + length))
    inside = {moment for moment in covered if start <= moment < end}
    total = busy.total_ns(start, end)
    assert total <= end - start
    gaps = sum(moment not in covered for moment in range(min(covered, default=0), 361))
    if gaps < 32 and len(spans) < 128:
        assert total == len(inside)
    else:
        assert total <= len(covered)


@pytest.mark.fault(39)
def test_a_request_of_very_many_statements_takes_a_bounded_amount_of_memory() -> None:
    busy = BusyTime()
    for number in range(100_000):
        busy.add(10 * number, 10 * number + 4)
    assert busy.total_ns(0, 1_000_000) == 400_000
    assert len(busy._spans) <= 128
