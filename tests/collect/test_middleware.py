"""Requests through real applications: one sample each, by template, and nothing else changes."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket

from perfcore.collect import PerfcoreMiddleware, PerfcoreWSGIMiddleware, Recorder
from perfcore.collect.buffer import CURRENT
from perfcore.collect.routes import endpoint_of
from tests.collect.conftest import Rows


class Client:
    """Sends requests straight into an ASGI application."""

    def __init__(self, app: Any, *, raises: bool = False) -> None:
        self._transport = httpx.ASGITransport(app, raise_app_exceptions=raises)

    def request(self, method: str, path: str) -> httpx.Response:
        async def ask() -> httpx.Response:
            async with self.open() as http:
                return await http.request(method, path)

        return asyncio.run(ask())

    def open(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=self._transport, base_url="http://app")

    def get(self, path: str) -> httpx.Response:
        return self.request("GET", path)


async def _order(request: Request) -> Response:
    return PlainTextResponse(f"order {request.path_params['id']}")


async def _boom(request: Request) -> Response:
    raise RuntimeError("boom")


async def _unavailable(request: Request) -> Response:
    return PlainTextResponse("no", status_code=503)


async def _stream(request: Request) -> Response:
    async def pieces() -> AsyncIterator[bytes]:
        for piece in (b"a", b"b", b"c"):
            yield piece
            await asyncio.sleep(0.01)

    return StreamingResponse(pieces())


async def _with_background(request: Request) -> Response:
    return PlainTextResponse("ok", background=BackgroundTask(asyncio.sleep, 0.3))


async def _talk(socket: WebSocket) -> None:
    await socket.accept()
    await socket.send_text("hello")
    await socket.close()


def _app(recorder: Recorder | None = None, **options: Any) -> Starlette:
    inside = Starlette(routes=[Route("/items/{item:int}", _order_item)])
    app = Starlette(
        routes=[
            Route("/orders/{id:int}", _order, methods=["GET", "POST"]),
            Route("/boom", _boom),
            Route("/unavailable", _unavailable),
            Route("/stream", _stream),
            Route("/background", _with_background),
            Route("/health", _unavailable),
            WebSocketRoute("/ws", _talk),
            Mount("/tenants/{tenant}", inside),
        ]
    )
    app.add_middleware(PerfcoreMiddleware, service="shop", recorder=recorder, **options)
    return app


async def _order_item(request: Request) -> Response:
    return PlainTextResponse("item")


@pytest.fixture
def client(recorder: Recorder) -> Client:
    return Client(_app(recorder))


_COUNTS = """
    SELECT metric_name, sum(count)::int, sum(error_count)::int
    FROM metric_rollups JOIN series USING (series_id)
    WHERE metric_type = 'api_endpoint' GROUP BY 1 ORDER BY 1
"""


_OUTCOMES = _COUNTS.replace("'api_endpoint'", "'api_outcome'")


def test_each_request_is_one_sample_of_its_template(
    client: Client, recorder: Recorder, rows: Rows
) -> None:
    for number in range(3):
        assert client.get(f"/orders/{number}").text == f"order {number}"
    client.request("POST", "/orders/1")
    client.get("/nowhere/else")
    client.request("BREW", "/orders/1")
    client.get("/tenants/acme/items/5")
    client.get("/tenants/acme/nothing")
    client.get("/boom")
    client.get("/unavailable")
    assert client.get("/health").status_code == 503
    assert client.get("/stream").text == "abc"
    assert recorder.flush(20)
    assert rows(_COUNTS) == [
        ("GET (unmatched)", 2, 0),
        ("GET /boom", 1, 1),
        ("GET /orders/{id}", 3, 0),
        ("GET /stream", 1, 0),
        ("GET /tenants/{tenant}/items/{item}", 1, 0),
        ("GET /unavailable", 1, 1),
        ("OTHER /orders/{id}", 1, 0),
        ("POST /orders/{id}", 1, 0),
    ]
    raw = rows("SELECT count(*), sum(weight), count(*) FILTER (WHERE is_error) "
               "FROM performance_metrics WHERE metric_type = 'api_endpoint'")  # fmt: skip
    assert raw == [(11, 11, 2)]
    assert recorder.accounting().missing == 0
    assert recorder.accounting().stored == 11
    assert recorder.self_errors.value == 0


def test_a_stream_is_measured_to_its_end_and_a_background_task_is_not(
    client: Client, recorder: Recorder, rows: Rows
) -> None:
    client.get("/stream")
    client.get("/background")
    recorder.flush(20)
    measured: dict[str, float] = dict(
        rows(
            "SELECT metric_name, value FROM performance_metrics WHERE metric_type = 'api_endpoint'"
        )
    )
    assert measured["GET /stream"] >= 20
    assert measured["GET /background"] < 300


def test_a_mounted_application_that_is_measured_too_counts_once(
    recorder: Recorder, rows: Rows
) -> None:
    outer = Starlette(routes=[Mount("/in", _app(recorder))])
    outer.add_middleware(PerfcoreMiddleware, recorder=recorder)
    Client(outer).get("/in/orders/4")
    recorder.flush(20)
    assert rows(_COUNTS) == [("GET /in/orders/{id}", 1, 0)]


def _call(
    app: Any, scope: dict[str, Any], send: Any = None, first: dict[str, Any] | None = None
) -> list[Any]:
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return first or {"type": "http.disconnect"}

    async def keep(message: Any) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send or keep))
    return sent


def _scope(path: str = "/", **more: Any) -> dict[str, Any]:
    return {"type": "http", "method": "GET", "path": path, "headers": [], **more}


def test_exceptions_and_messages_pass_unchanged(recorder: Recorder) -> None:
    messages = [
        {"type": "http.response.start", "status": 200, "headers": [(b"a", b"b")]},
        {"type": "http.response.body", "body": b"x", "more_body": True},
        {"type": "http.response.body", "body": b"y"},
    ]
    failure = KeyError("mine")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            await send(message)
        raise failure

    measured = PerfcoreMiddleware(app, recorder=recorder)
    sent: list[Any] = []

    async def keep(message: Any) -> None:
        sent.append(message)

    with pytest.raises(KeyError) as caught:
        _call(measured, _scope(), keep)
    assert caught.value is failure
    assert all(a is b for a, b in zip(sent, messages, strict=True))
    assert recorder.accounting().generated == 1
    assert CURRENT.get() is None


@pytest.mark.parametrize("error", [asyncio.CancelledError(), ConnectionResetError("gone")])
def test_a_client_that_leaves_is_one_sample_and_no_error(
    error: BaseException, recorder: Recorder, rows: Rows
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise error

    with pytest.raises(type(error)):
        _call(PerfcoreMiddleware(app, recorder=recorder), _scope())
    recorder.flush(20)
    assert rows(_COUNTS) == [("GET (unmatched)", 1, 0)]
    name = "cancelled" if isinstance(error, asyncio.CancelledError) else "client_gone"
    assert rows(_OUTCOMES) == [(f"GET (unmatched) {name}", 1, 0)]


def test_a_fault_of_our_own_never_reaches_the_application(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: Any) -> None:
        raise ValueError("ours")

    client = Client(_app(recorder))
    monkeypatch.setattr(recorder, "_start", broken)
    assert client.get("/orders/1").text == "order 1"
    assert recorder.self_errors.value > 0


def test_a_websocket_passes_untouched(recorder: Recorder) -> None:
    scope = {"type": "websocket", "path": "/ws", "headers": [], "query_string": b""}
    sent = _call(_app(recorder), scope, first={"type": "websocket.connect"})
    assert [m["type"] for m in sent][:2] == ["websocket.accept", "websocket.send"]
    assert recorder.accounting().generated == 3


def test_without_a_store_the_application_runs_unmeasured(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("PERFCORE_STORE", raising=False)
    assert Client(_app()).get("/orders/1").text == "order 1"
    assert "PERFCORE_STORE" in caplog.text


def test_a_wrong_setting_is_one_line_and_no_crash(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PERFCORE_SLOW_QUERY_MS", "soon")
    assert Client(_app()).get("/orders/1").text == "order 1"
    assert "PERFCORE_SLOW_QUERY_MS" in caplog.text


def test_a_proxys_prefix_is_no_part_of_the_name() -> None:
    route = Route("/orders/{id:int}", _order)
    scope = _scope(route=route, root_path="/api/v1", path_params={"id": 7})
    assert endpoint_of(scope, "/api/v1") == "GET /orders/{id}"
    scope["root_path"] = "/api/v1/7"
    assert endpoint_of(scope, "/api/v1") == "GET /7/orders/{id}"


def test_the_number_of_endpoints_is_bounded(
    make_recorder: Callable[..., Recorder], rows: Rows
) -> None:
    from perfcore.collect.batching import Limits

    recorder = make_recorder(limits=Limits(endpoints=3))
    app = Starlette(routes=[Route(f"/page{n}", _order_item) for n in range(10)])
    app.add_middleware(PerfcoreMiddleware, recorder=recorder)
    client = Client(app)
    for number in range(10):
        client.get(f"/page{number}")
    recorder.flush(20)
    counts = {name: count for name, count, _ in rows(_COUNTS)}
    assert counts == {"GET /page0": 1, "GET /page1": 1, "GET /page2": 1, "(other)": 7}


@contextlib.contextmanager
def _serve(app: Any) -> Iterator[str]:
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan="on"))
    thread = threading.Thread(target=server.run)
    thread.start()
    until = time.monotonic() + 20
    while not server.started and time.monotonic() < until:
        time.sleep(0.02)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(20)


def test_over_real_http_samples_arrive_at_shutdown(recorder: Recorder, rows: Rows) -> None:
    with _serve(_app(recorder)) as url, httpx.Client(base_url=url) as client:
        for number in range(20):
            assert client.get(f"/orders/{number}").text == f"order {number}"
        with client.stream("GET", "/stream") as answer:
            assert answer.status_code == 200  # and leaves before the end
    assert rows(_COUNTS) == [("GET /orders/{id}", 20, 0), ("GET /stream", 1, 0)]
    assert recorder.accounting().missing == 0


def test_wsgi_requests_are_measured_to_the_end_of_their_body(
    recorder: Recorder, rows: Rows
) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("503 No" if environ["PATH_INFO"] == "/bad" else "200 OK", [])
        yield b"a"
        yield b"b"

    measured = PerfcoreWSGIMiddleware(app, recorder=recorder, route=lambda e: e["PATH_INFO"])
    for path in ("/good", "/bad"):
        body = measured({"REQUEST_METHOD": "GET", "PATH_INFO": path}, lambda *a: None)
        assert list(body) == [b"a", b"b"]
        body.close()  # type: ignore[attr-defined]
    recorder.flush(20)
    assert rows(_COUNTS) == [("GET /bad", 1, 1), ("GET /good", 1, 0)]
