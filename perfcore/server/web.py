"""What pages and API stand in: start-up, shutdown, and the headers that Streamlit leaves out."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import ipaddress
import os
from collections.abc import AsyncIterator
from functools import cache
from typing import Any

import sqlalchemy
import streamlit
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from perfcore import db
from perfcore.config import load_config
from perfcore.errors import ConfigurationError
from perfcore.server.launch import Background
from perfcore.server.supervisor import SUPERVISED, die_with_parent

_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"same-origin"),
    (b"content-security-policy", b"frame-ancestors 'none'; object-src 'none'; base-uri 'self'"),
)
_REFUSAL = (
    b"Perfcore has no authentication yet and answers this machine only: "
    b"use a tunnel or an authenticating proxy."
)
_WARM = ("pandas", "plotly.graph_objects", "perfcore.charts", "perfcore.store.read")


@contextlib.asynccontextmanager
async def lifespan(app: Any) -> AsyncIterator[dict[str, Any]]:
    """Start the embedded store and the collector unless somebody else runs them.

    Raises ConfigurationError when the address is not a loopback one: there is no
    authentication yet, and an open dashboard would show every query to the network.
    """
    refuse_open_address(str(streamlit.get_option("server.address") or ""))
    die_with_parent()
    background = None
    if os.environ.get(SUPERVISED) != "1":
        background = Background(load_config())
        os.environ.update(await asyncio.to_thread(background.start))
    await asyncio.to_thread(_warm)
    try:
        yield {}
    finally:
        if background is not None:
            await asyncio.to_thread(background.stop)


@cache
def store_engine() -> sqlalchemy.Engine:
    """Return the API's engine on the store, made when first asked for: the lifespan names it.

    Raises ConfigurationError while no store is named.
    """
    dsn = os.environ.get("PERFCORE_STORE", "")
    if not dsn:
        raise ConfigurationError(
            "no store is configured", hint="set PERFCORE_STORE to a PostgreSQL DSN"
        )
    return db.engine(dsn)


def refuse_open_address(address: str) -> None:
    """Raise ConfigurationError for an address that other machines can reach.

    >>> refuse_open_address("127.0.0.1")
    >>> refuse_open_address("0.0.0.0")
    Traceback (most recent call last):
    perfcore.errors.ConfigurationError: will not listen on '0.0.0.0': ...
    """
    if not _is_loopback(address):
        raise ConfigurationError(
            f"will not listen on {address or 'every address'!r}: pages and API have no "
            "authentication yet; use --server.address 127.0.0.1 and a tunnel or an "
            "authenticating proxy"
        )


def _is_loopback(address: str) -> bool:
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def _warm() -> None:
    """Import what the first page would wait for, and keep it out of later collections.

    Streamlit collects all generations after every rerun, and with pandas and Plotly
    loaded that costs more than most pages.
    """
    for name in _WARM:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()


class SecurityHeaders:
    """Add the headers that keep the pages out of foreign frames, and close Streamlit's metrics."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if scope["path"] == "/_stcore/metrics":
            await send({"type": "http.response.start", "status": 404, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), *_HEADERS]}
            await send(message)

        await self.app(scope, receive, send_with_headers)


class LoopbackOnly:
    """Answer nobody from another machine, whichever server runs the application.

    `uvicorn app:app --host 0.0.0.0` passes by Streamlit's own address, so the one that the
    start refuses is not the last word.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        client = scope.get("client")
        if client is None or _is_loopback(client[0]):
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            headers = [(b"content-type", b"text/plain; charset=utf-8")]
            await send({"type": "http.response.start", "status": 403, "headers": headers})
            await send({"type": "http.response.body", "body": _REFUSAL})
