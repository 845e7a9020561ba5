"""Every block of docs/instrument.md, run as it stands there on an application that is measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import flask
import psycopg
import pytest
import quart
import sqlalchemy as sa
from fastapi import FastAPI
from litestar import Litestar, get
from litestar.params import FromPath
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from perfcore.collect import current_recorder
from tests.collect.conftest import Rows
from tests.frameworks.asking import Ask, asgi, counts, statements, wsgi
from tests.frameworks.instructions import blocks

_BLOCKS = blocks("python")
Select = Callable[[], Any]


def _starlette(select: Select) -> Any:
    async def order(request: Request) -> Response:
        return PlainTextResponse(str(select()))

    return Starlette(routes=[Route("/orders/{id:int}", order)])


def _fastapi(select: Select) -> Any:
    app = FastAPI()

    @app.get("/orders/{id}")
    def order(id: int) -> Any:
        return select()

    return app


def _litestar(select: Select) -> Any:
    @get("/orders/{id:int}")
    async def order(id: FromPath[int]) -> str:
        return str(select())

    return Litestar([order])


def _quart(select: Select) -> Any:
    app = quart.Quart("shop")

    @app.get("/orders/<int:id>")
    async def order(id: int) -> str:
        return str(select())

    return app


def _flask(select: Select) -> Any:
    app = flask.Flask("shop")

    @app.get("/orders/<int:id>")
    def order(id: int) -> str:
        return str(select())

    return app


@pytest.fixture(autouse=True)
def _environment(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("PERFCORE_STORE", store)
    monkeypatch.setenv("PERFCORE_DATA_DIR", str(tmp_path))
    yield
    recorder = current_recorder()
    if recorder is not None:
        recorder.close()


@pytest.fixture
def engine(dsn: str) -> Iterator[sa.Engine]:
    engine = sa.create_engine(dsn.replace("postgresql:", "postgresql+psycopg:"))
    engine.connect().close()  # the dialect asks the server a few things, once
    yield engine
    engine.dispose()


def _flush() -> None:
    recorder = current_recorder()
    assert recorder is not None
    assert recorder.flush(20)
    assert (recorder.accounting().missing, recorder.accounting().self_errors) == (0, 0)


_CASES: list[tuple[str, Callable[[Select], Any], Callable[[Any], Ask]]] = [
    ("Starlette and FastAPI", _starlette, asgi),
    ("Starlette and FastAPI", _fastapi, asgi),
    ("Litestar", _litestar, asgi),
    ("Quart", _quart, asgi),
    ("Flask", _flask, wsgi),
]


@pytest.mark.parametrize(
    ("heading", "make", "client"), _CASES, ids=[make.__name__[1:] for _, make, _ in _CASES]
)
def test_four_lines_measure_requests_and_their_statements(
    heading: str,
    make: Callable[[Select], Any],
    client: Callable[[Any], Ask],
    engine: sa.Engine,
    rows: Rows,
) -> None:
    def select() -> Any:
        with engine.connect() as connection:
            return connection.scalar(sa.text("SELECT 5"))

    names: dict[str, Any] = {"app": make(select), "engine": engine}
    (block,) = _BLOCKS[heading]
    exec(block, names)
    ask = client(names["app"])
    assert ask("/orders/3").body == b"5"
    assert ask("/nowhere").status == 404
    assert ask("/health").status == 404
    _flush()
    assert counts(rows) == {"GET /orders/{id}": (1, 0), "GET (unmatched)": (1, 0)}
    assert statements(rows) == {"GET /orders/{id}": (1, 1)}


def test_anything_else_and_values_of_its_own(rows: Rows) -> None:
    def bare(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        environ["my.route"] = "/orders/{id}"
        start_response("200 OK", [])
        return [b"x"]

    names: dict[str, Any] = {"app": bare}
    exec(_BLOCKS["Anything else"][0], names)
    assert wsgi(names["app"])("/orders/1").body == b"x"
    for block in _BLOCKS["Values of your own"]:
        exec(block, {})
    _flush()
    assert counts(rows) == {"GET /orders/{id}": (1, 0)}
    assert rows("SELECT metric_name, value, unit FROM performance_metrics "
                "WHERE metric_type = 'custom'") == [("queue.length", 12.0, "jobs")]  # fmt: skip


def test_a_connection_is_watched_and_left(dsn: str) -> None:
    with psycopg.connect(dsn) as connection:
        plain = connection.cursor_factory
        exec(_BLOCKS["Statements"][0], {"connection": connection})
        assert connection.cursor_factory is plain
        watching, _ = _BLOCKS["Statements"][0].split("unwatch(connection)")
        exec(watching, {"connection": connection})
        assert connection.cursor_factory is not plain


def test_every_block_is_run_by_a_test() -> None:
    here = {heading for heading, _, _ in _CASES} | {"Anything else", "Statements"}
    here.add("Values of your own")
    assert set(_BLOCKS) == here | {"Django"}  # that one is in test_servers.py
    assert set(blocks("sh")) == {"Servers"}
