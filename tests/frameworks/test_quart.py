"""Quart: the adapter leaves rules of the application and of blueprints in the scope."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import quart
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine
from starlette.applications import Starlette
from starlette.routing import Mount

from perfcore.collect import PerfcoreMiddleware, Recorder, watch
from perfcore.collect.quart import instrument
from tests.collect.conftest import Rows
from tests.frameworks.asking import asgi, assert_same, counts, statements

_LINES = [
    "/orders/7", "/orders/seven", "/shop/acme/files/a/b", "/boom", "/guarded", "/health",
    "/nowhere", "/slash", "POST /orders/7", "BREW /orders/7",
]  # fmt: skip


def _app(recorder: Recorder | None) -> quart.Quart:
    app = quart.Quart("shop")
    shop = quart.Blueprint("shop", "shop", url_prefix="/shop/<tenant>")

    @app.before_request
    async def guard() -> tuple[str, int] | None:
        return ("who are you?", 401) if quart.request.path == "/guarded" else None

    @app.get("/orders/<int:id>")
    async def order(id: int) -> str:
        return f"order {id}"

    @app.get("/slash/")
    @app.get("/guarded")
    async def simple() -> str:
        return "simple"

    @shop.get("/files/<path:name>")
    async def file(tenant: str, name: str) -> str:
        return f"{tenant} {name}"

    @app.get("/boom")
    async def boom() -> str:
        raise RuntimeError("boom")

    @app.get("/health")
    async def health() -> str:
        return "fine"

    @app.websocket("/ws/<int:id>")
    async def talk(id: int) -> None:
        await quart.websocket.send("hello")

    app.register_blueprint(shop)
    if recorder is not None:
        instrument(app, service="shop", recorder=recorder)
    return app


def test_requests_are_named_by_their_rule(recorder: Recorder, rows: Rows) -> None:
    assert_same(asgi(_app(recorder)), asgi(_app(None)), _LINES)
    recorder.flush(20)
    assert counts(rows) == {
        "GET /orders/{id}": (1, 0),
        "GET /shop/{tenant}/files/{name}": (1, 0),
        "GET /boom": (1, 1),
        "GET /guarded": (1, 0),
        "GET (unmatched)": (3, 0),
        "POST (unmatched)": (1, 0),
        "OTHER (unmatched)": (1, 0),
    }
    assert recorder.accounting().self_errors == 0


@pytest.mark.fault(11)
def test_a_mounted_application_keeps_its_place(recorder: Recorder, rows: Rows) -> None:
    inner: Any = _app(recorder)
    outer = Starlette(routes=[Mount("/of/{tenant}", inner)])
    outer.add_middleware(PerfcoreMiddleware, recorder=recorder)
    assert asgi(outer)("/of/acme/orders/3").body == b"order 3"
    assert asgi(outer)("/of/acme/nothing").status == 404
    recorder.flush(20)
    assert counts(rows) == {"GET /of/{tenant}/orders/{id}": (1, 0), "GET (unmatched)": (1, 0)}


def test_a_websocket_works_as_before_and_has_a_name(recorder: Recorder, rows: Rows) -> None:
    async def talk() -> Any:
        async with _app(recorder).test_client().websocket("/ws/3") as socket:
            return await socket.receive()

    assert asyncio.run(talk()) == "hello"
    recorder.flush(20)
    names = [name for (name,) in rows("SELECT DISTINCT metric_name FROM series")]
    assert names and all(name.startswith("/ws/{id}") for name in names)
    assert recorder.accounting().self_errors == 0


def test_statements_belong_to_their_request(recorder: Recorder, rows: Rows, dsn: str) -> None:
    app = _app(recorder)

    @app.get("/numbers/<int:times>")
    async def number(times: int) -> Any:
        engine = create_async_engine(dsn.replace("postgresql:", "postgresql+psycopg:"))
        async with engine.connect() as connection:
            watch(engine, recorder)  # the dialect has asked the server what it wants to know
            found = [await connection.scalar(sa.text("SELECT 5")) for _ in range(times)]
        await engine.dispose()
        return found

    assert asgi(app)("/numbers/3").body.split() == b"[5,5,5]".split()
    asgi(app)("/numbers/2")
    recorder.flush(20)
    assert statements(rows) == {"GET /numbers/{times}": (5, 2)}
