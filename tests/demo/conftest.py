"""A shop at a hundredth of its size, and the shop served over real HTTP."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette

from perfcore.db import connect
from perfcore.demo.seed import create_shop
from perfcore.demo.shop import create_app
from perfcore.server.embedded import Cluster

SCALE = 0.01
Serve = Callable[[Starlette], str]


@pytest.fixture(scope="session")
def shop_dsn(cluster18: Cluster) -> Iterator[str]:
    with connect(cluster18.dsn(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE demo_shop")
        create_shop(cluster18.dsn("demo_shop"), scale=SCALE)
        yield cluster18.dsn("demo_shop")
        connection.execute("DROP DATABASE demo_shop WITH (FORCE)")


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serve an application on a free port until the test ends; returns its URL."""
    with ExitStack() as running:
        yield lambda app: running.enter_context(serving(app))


@pytest.fixture
def client(shop_dsn: str, serve: Serve) -> Iterator[httpx.Client]:
    url = serve(create_app(shop_dsn, middleware=False))
    with httpx.Client(base_url=url, timeout=30, trust_env=False) as client:
        yield client


@contextmanager
def serving(app: Starlette) -> Iterator[str]:
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        deadline = time.monotonic() + 30
        while not server.started:
            assert thread.is_alive() and time.monotonic() < deadline, "the shop did not start"
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(10)
