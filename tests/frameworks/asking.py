"""Send requests to any ASGI or WSGI application, and compare what comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
from werkzeug.test import Client

from tests.collect.conftest import Rows


@dataclass(frozen=True, slots=True)
class Answer:
    """What a client sees of an answer, but for the time of day."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


Ask = Callable[[str], Answer]  # "GET /path", the method may be left out


def _parted(line: str) -> tuple[str, str]:
    method, _, path = line.rpartition(" ")
    return method or "GET", path


def asgi(app: Any) -> Ask:
    """Return a client of an ASGI application; an exception of the application is a 500."""

    async def send(method: str, path: str) -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
            return await client.request(method, path)

    def ask(line: str) -> Answer:
        got = asyncio.run(send(*_parted(line)))
        headers = tuple(h for h in got.headers.multi_items() if h[0] != "date")
        return Answer(got.status_code, headers, got.content)

    return ask


def wsgi(app: Any) -> Ask:
    """Return a client of a WSGI application, which closes the body as a server does."""

    def ask(line: str) -> Answer:
        method, path = _parted(line)
        got = Client(app).open(path, method=method)
        answer = Answer(got.status_code, tuple(got.headers.items()), got.data)
        got.close()
        return answer

    return ask


def assert_same(measured: Ask, bare: Ask, lines: list[str]) -> None:
    """Every request gets the same answer with and without the middleware."""
    for line in lines:
        assert measured(line) == bare(line), line


_COUNTS = """
    SELECT metric_name, sum(count)::int, sum(error_count)::int
    FROM metric_rollups JOIN series USING (series_id)
    WHERE metric_type = 'api_endpoint' GROUP BY 1
"""

_STATEMENTS = """
    SELECT endpoint, sum(calls)::int, sum(requests)::int FROM endpoint_statements GROUP BY 1
"""


def counts(rows: Rows) -> dict[str, tuple[int, int]]:
    """Return (requests, errors) of each endpoint in the store."""
    return {name: (count, errors) for name, count, errors in rows(_COUNTS)}


def statements(rows: Rows) -> dict[str, tuple[int, int]]:
    """Return (calls, requests) of each endpoint that executed a statement."""
    return {name: (calls, requests) for name, calls, requests in rows(_STATEMENTS)}
