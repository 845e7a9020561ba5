"""FastAPI: routers with prefixes, one of them twice; what is mounted; Starlette's own routes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi import APIRouter, FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from perfcore.collect import PerfcoreMiddleware, Recorder, watch
from tests.collect.conftest import Rows
from tests.frameworks.asking import asgi, assert_same, counts, statements

_LINES = [
    "/api/v1/orders/7", "/old/v1/orders/7", "/api/v1/orders/x", "POST /api/v1/orders/7",
    "/api/v1/in/acme/files/a/b", "/sub/acme/things/5", "/sub/acme/nothing", "/added/4",
    "/api/plain/4", "/static/text.txt", "/static/none", "/boom", "/health", "/nowhere",
    "/api/v1/slash", "/openapi.json", "BREW /added/4",
]  # fmt: skip


async def _plain(request: Request) -> Response:
    return PlainTextResponse(f"plain {request.path_params}")


def _app(recorder: Recorder | None, folder: Path) -> FastAPI:
    app, sub, router, inner = FastAPI(), FastAPI(), APIRouter(prefix="/v1"), APIRouter()

    @router.get("/orders/{id}")
    def order(id: int) -> str:
        return f"order {id}"

    @router.get("/slash/")
    @app.get("/health")
    def simple() -> str:
        return "simple"

    @inner.get("/files/{name:path}")
    async def file(tenant: str, name: str) -> str:
        return f"{tenant} {name}"

    @sub.get("/things/{id}")
    def thing(id: int) -> str:
        return f"thing {id}"

    @app.get("/boom")
    def boom() -> None:
        raise RuntimeError("boom")

    router.include_router(inner, prefix="/in/{tenant}")
    app.include_router(router, prefix="/api")
    app.include_router(router, prefix="/old")
    plain = APIRouter()
    plain.add_route("/plain/{id:int}", _plain)
    app.include_router(plain, prefix="/api")
    app.add_route("/added/{id:int}", _plain)
    app.mount("/sub/{tenant}", sub)
    app.mount("/static", StaticFiles(directory=folder))
    if recorder is not None:
        app.add_middleware(PerfcoreMiddleware, service="shop", recorder=recorder)
    return app


_EXPECTED = {
    "GET /api/v1/orders/{id}": (2, 0),  # the second with a text for the number: 422
    "GET /old/v1/orders/{id}": (1, 0),
    "POST /api/v1/orders/{id}": (1, 0),
    "GET /api/v1/in/{tenant}/files/{name}": (1, 0),
    "GET /sub/{tenant}/things/{id}": (1, 0),
    "GET /added/{id}": (1, 0),
    "GET /api/plain/{id}": (1, 0),
    "OTHER /added/{id}": (1, 0),
    "GET /static/{path}": (2, 0),
    "GET /openapi.json": (1, 0),
    "GET /boom": (1, 1),
    "GET (unmatched)": (3, 0),
}


def test_requests_are_named_by_their_whole_template(
    recorder: Recorder, rows: Rows, tmp_path: Path
) -> None:
    (tmp_path / "text.txt").write_text("text")
    measured, bare = _app(recorder, tmp_path), _app(None, tmp_path)
    assert_same(asgi(measured), asgi(bare), _LINES)
    recorder.flush(20)
    assert counts(rows) == _EXPECTED
    assert recorder.accounting().self_errors == 0


@pytest.mark.fault(11)
def test_everything_mounted_keeps_its_place(recorder: Recorder, rows: Rows, tmp_path: Path) -> None:
    inner = Starlette(routes=[Route("/deep/{id}", _plain)])
    app = _app(None, tmp_path)
    app.mount("/star/{id}", inner)
    outer = Starlette(routes=[Mount("/o/{id}", app), Mount("/7", _app(None, tmp_path))])
    outer.add_middleware(PerfcoreMiddleware, recorder=recorder)
    ask = asgi(outer)
    for line in (
        "/o/7/api/v1/orders/7", "/o/7/added/7", "/o/7/sub/7/things/7", "/o/7/static/none",
        "/o/7/star/7/deep/7", "/o/7/nowhere", "/7/added/7", "/7/sub/7/things/7",
    ):  # fmt: skip
        ask(line)
    recorder.flush(20)
    assert counts(rows) == {
        "GET /o/{id}/api/v1/orders/{id}": (1, 0),
        "GET /o/{id}/added/{id}": (1, 0),
        "GET /o/{id}/sub/{tenant}/things/{id}": (1, 0),
        "GET /o/{id}/static/{path}": (1, 0),
        "GET /o/{id}/star/{id}/deep/{id}": (1, 0),
        "GET (unmatched)": (1, 0),
        "GET /7/added/{id}": (1, 0),
        "GET /7/sub/{tenant}/things/{id}": (1, 0),
    }


def test_statements_of_threads_belong_to_their_request(
    recorder: Recorder, rows: Rows, tmp_path: Path, dsn: str
) -> None:
    engine = sa.create_engine(dsn.replace("postgresql:", "postgresql+psycopg:"))
    engine.connect().close()  # the dialect asks the server a few things, once
    watch(engine, recorder)
    app = _app(recorder, tmp_path)

    @app.get("/numbers/{times}")
    def number(times: int) -> Any:  # FastAPI runs it in a thread of its pool
        with engine.connect() as connection:
            return [connection.scalar(sa.text("SELECT 5")) for _ in range(times)]

    ask = asgi(app)
    assert ask("/numbers/3").body == b"[5,5,5]"
    ask("/numbers/2")
    engine.dispose()
    recorder.flush(20)
    assert statements(rows) == {"GET /numbers/{times}": (5, 2)}


@pytest.mark.fault(13, 15)
def test_methods_and_paths_of_strangers_never_become_names(
    recorder: Recorder, rows: Rows, tmp_path: Path
) -> None:
    ask = asgi(_app(recorder, tmp_path))
    for line in (
        "B" * 10_000 + " /added/1", "BREW /nowhere", "/api/v1/in/a%00b/files/%0D%0Ac",
        "/api/v1/in/%E2%80%AEevil/files/%FF%FE", "/%ED%A0%80", "/" + "x" * 60_000,
        "/added/1?secret=1", "/sub/%ED%A0%80%00/things/3",
    ):  # fmt: skip
        ask(line)
    recorder.flush(20)
    assert counts(rows) == {
        "OTHER /added/{id}": (1, 0),
        "OTHER (unmatched)": (1, 0),
        "GET /api/v1/in/{tenant}/files/{name}": (1, 0),
        "GET (unmatched)": (3, 0),  # a path parameter matches no line break
        "GET /added/{id}": (1, 0),
        "GET /sub/{tenant}/things/{id}": (1, 0),
    }
    assert recorder.accounting().missing == 0
