"""Who may ask, and what stands around every answer."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.types import Message

from perfcore.errors import ConfigurationError
from perfcore.server.web import LoopbackOnly, SecurityHeaders, refuse_open_address


def _app() -> SecurityHeaders:
    routes = [Route("/", lambda request: PlainTextResponse("page"))]
    return SecurityHeaders(Starlette(routes=routes))


async def _get(app: Any, path: str, client: str) -> httpx.Response:
    transport = httpx.ASGITransport(app, client=(client, 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://perfcore") as asking:
        return await asking.get(path)


def test_another_machine_is_refused_in_words() -> None:
    app = LoopbackOnly(_app())
    for local in ("127.0.0.1", "::1"):
        assert asyncio.run(_get(app, "/", local)).text == "page"
    answer = asyncio.run(_get(app, "/", "192.0.2.1"))
    assert (answer.status_code, "tunnel" in answer.text) == (403, True)


def test_another_machine_gets_no_websocket() -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        raise AssertionError("nothing is read from a stranger")

    scope = {"type": "websocket", "path": "/_stcore/stream", "client": ("192.0.2.1", 1)}
    asyncio.run(LoopbackOnly(_app())(scope, receive, send))
    assert sent == [{"type": "websocket.close", "code": 1008}]


@pytest.mark.parametrize("address", ["0.0.0.0", "", "::", "192.168.1.2", "perfcore.example"])
def test_an_open_address_is_refused_with_the_remedy(address: str) -> None:
    with pytest.raises(ConfigurationError, match="tunnel"):
        refuse_open_address(address)


def test_headers_keep_pages_out_of_foreign_frames() -> None:
    answer = asyncio.run(_get(_app(), "/", "127.0.0.1"))
    assert answer.headers["x-frame-options"] == "DENY"
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert asyncio.run(_get(_app(), "/_stcore/metrics", "127.0.0.1")).status_code == 404
