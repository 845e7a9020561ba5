"""Litestar: handlers, controllers and routers, and ASGI applications mounted in it."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from litestar import Controller, Litestar, Router, asgi, get
from litestar.params import FromPath
from litestar.types import Receive, Scope, Send
from sqlalchemy.ext.asyncio import create_async_engine
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route

from perfcore.collect import PerfcoreMiddleware, Recorder, watch
from tests.collect.conftest import Rows
from tests.frameworks.asking import asgi as ask_of
from tests.frameworks.asking import assert_same, counts, statements

_LINES = [
    "/", "/orders/7", "/orders/7/", "/orders/x", "/api/shop/acme/files/a/b", "/boom", "/health",
    "/nowhere", "/inner/things/5/", "/other/things/5/", "/inner/nothing/", "/api/foreign/x",
    "POST /orders/7", "BREW /orders/7",
]  # fmt: skip


@get("/")
async def _root() -> str:
    return "root"


@get("/orders/{id:int}")
async def _order(id: FromPath[int]) -> str:
    return f"order {id}"


@get("/boom")
async def _boom() -> str:
    raise RuntimeError("boom")


@get("/health")
async def _health() -> str:
    return "fine"


class _Shop(Controller):
    path = "/shop/{tenant:str}"

    @get("/files/{name:path}")
    async def file(self, tenant: FromPath[str], name: FromPath[str]) -> str:
        return f"{tenant} {name}"


async def _thing(request: Request) -> Response:
    return PlainTextResponse("thing")


_STARLETTE = Starlette(routes=[Route("/things/{id:int}/", _thing)])


@asgi(["/inner", "/other"], is_mount=True, copy_scope=False)
async def _inner(scope: Scope, receive: Receive, send: Send) -> None:
    await _STARLETTE(scope, receive, send)  # type: ignore[arg-type]


@asgi("/foreign", is_mount=True, copy_scope=True)
async def _foreign(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("foreign")(scope, receive, send)  # type: ignore[arg-type]


def _bare(*more: Any) -> Any:
    api = Router("/api", route_handlers=[_Shop, _foreign])
    return Litestar([_root, _order, _boom, _health, api, _inner, *more])


def test_requests_are_named_by_their_template(recorder: Recorder, rows: Rows) -> None:
    measured = PerfcoreMiddleware(_bare(), recorder=recorder)
    assert_same(ask_of(measured), ask_of(_bare()), _LINES)
    recorder.flush(20)
    assert counts(rows) == {
        "GET /": (1, 0),
        "GET /orders/{id}": (2, 0),
        "GET /api/shop/{tenant}/files/{name}": (1, 0),
        "GET /boom": (1, 1),
        "GET /inner/things/{id}/": (1, 0),
        "GET /other/things/{id}/": (1, 0),
        "GET /api/foreign/{path}": (1, 0),
        "GET (unmatched)": (3, 0),
        "POST (unmatched)": (1, 0),
        "OTHER (unmatched)": (1, 0),
    }
    assert recorder.accounting().self_errors == 0


@pytest.mark.fault(11)
def test_a_mounted_application_keeps_its_place(recorder: Recorder, rows: Rows) -> None:
    outer = Starlette(routes=[Mount("/of/{tenant}", _bare())])
    outer.add_middleware(PerfcoreMiddleware, recorder=recorder)
    for line in ("/of/acme/orders/3", "/of/3/orders/3", "/of/acme/nothing"):
        ask_of(outer)(line)
    recorder.flush(20)
    assert counts(rows) == {"GET /of/{tenant}/orders/{id}": (2, 0), "GET (unmatched)": (1, 0)}


def test_statements_belong_to_their_request(recorder: Recorder, rows: Rows, dsn: str) -> None:
    @get("/numbers/{times:int}")
    async def numbers(times: FromPath[int]) -> list[int]:
        engine = create_async_engine(dsn.replace("postgresql:", "postgresql+psycopg:"))
        async with engine.connect() as connection:
            watch(engine, recorder)  # the dialect has asked the server what it wants to know
            found = [await connection.scalar(sa.text("SELECT 5")) for _ in range(times)]
        await engine.dispose()
        return found

    ask = ask_of(PerfcoreMiddleware(_bare(numbers), recorder=recorder))
    assert ask("/numbers/3").body == b"[5,5,5]"
    ask("/numbers/2")
    recorder.flush(20)
    assert statements(rows) == {"GET /numbers/{times}": (5, 2)}
