"""The routes: from a request to an operation's answer, every refusal as JSON."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import sqlalchemy
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from perfcore.api.answers import Question
from perfcore.api.document import openapi
from perfcore.api.encoding import encode
from perfcore.api.operations import OPERATIONS, Operation
from perfcore.api.parameters import RequestRefused, read_parameters
from perfcore.db import redact
from perfcore.errors import ConfigurationError, MigrationError, PerfcoreError, StoreUnavailable

EngineFactory = Callable[[], sqlalchemy.Engine]
Clock = Callable[[], datetime]


def routes(engine_factory: EngineFactory, clock: Clock | None = None) -> list[Route]:
    """Return the routes of the API, the last of which answers every other /api path with 404.

    `engine_factory` is called per request, in a worker thread; let it return one engine.
    """
    now = clock or (lambda: datetime.now(UTC))
    made = [
        Route(path, _Endpoint(_answering(operation, engine_factory, now)))
        for operation in OPERATIONS
        for path in operation.paths
    ]
    document = openapi()

    async def describe(request: Request) -> Any:
        return document

    async def missing(request: Request) -> Any:
        raise RequestRefused(
            "there is nothing at this path",
            field="path",
            hint="GET /api/openapi.json lists what there is",
            status=404,
        )

    return [
        *made,
        Route("/api/openapi.json", _Endpoint(describe)),
        Route("/api", _Endpoint(missing, any_method=True)),
        Route("/api/{path:path}", _Endpoint(missing, any_method=True)),
    ]


def exception_handlers() -> dict[Any, Any]:
    """Return what turns errors beneath /api into JSON, for the application that mounts routes."""
    return {HTTPException: _http_error, PerfcoreError: _error_response}


class _Endpoint:
    """An ASGI application that answers GET (and HEAD) with JSON, errors included."""

    def __init__(
        self, answer: Callable[[Request], Awaitable[Any]], *, any_method: bool = False
    ) -> None:
        self._answer = answer
        self._any_method = any_method

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._respond(Request(scope, receive))
        await response(scope, receive, send)

    async def _respond(self, request: Request) -> Response:
        try:
            if not self._any_method and request.method not in ("GET", "HEAD"):
                raise RequestRefused(
                    f"{request.method} is not allowed here",
                    field="method",
                    hint="use GET",
                    status=405,
                )
            return _json(await self._answer(request))
        except (RequestRefused, StoreUnavailable, ConfigurationError, MigrationError) as error:
            return _error_response(request, error)


def _answering(
    operation: Operation, engine_factory: EngineFactory, clock: Clock
) -> Callable[[Request], Awaitable[Any]]:
    async def answer(request: Request) -> Any:
        now = clock()
        values = read_parameters(
            operation.parameters, request.path_params, request.query_params.multi_items(), now
        )
        return await run_in_threadpool(
            lambda: operation.answer(engine_factory(), Question(values, now))
        )

    return answer


def _http_error(request: Request, error: HTTPException) -> Response:
    if not request.url.path.startswith("/api"):
        return PlainTextResponse(error.detail, error.status_code, headers=error.headers)
    return _json(
        {"error": error.detail, "field": "request", "hint": "see /api/openapi.json"},
        error.status_code,
    )


def _error_response(request: Request, error: PerfcoreError) -> Response:
    status = error.status if isinstance(error, RequestRefused) else 503
    field = error.field if isinstance(error, RequestRefused) else "store"
    body = {"error": redact(str(error)), "field": field, "hint": redact(error.hint)}
    headers = {"Allow": "GET, HEAD"} if status == 405 else {}
    if status == 503:
        headers["Retry-After"] = "5"
    return _json(body, status, headers)


def _json(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    always = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    return Response(
        encode(body),
        status,
        headers=always | dict(headers or {}),
        media_type="application/json",
    )
