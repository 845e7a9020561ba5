"""Measure requests: pure ASGI, nothing of the messages is read but the status.

What a request costs more: two clock reads, a context object and an append. No exception of ours
reaches the application, and no exception of the application is held back.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from time import perf_counter_ns
from typing import Any

from perfcore.collect.buffer import CURRENT, RequestContext
from perfcore.collect.recorder import Recorder
from perfcore.collect.routes import HEALTH_CHECKS, endpoint_of

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

_MARK = "perfcore.request"
_FLUSH_AT_SHUTDOWN_S = 2.0


class PerfcoreMiddleware:
    """ASGI middleware: `app.add_middleware(PerfcoreMiddleware, service="shop")`.

    `store` is the DSN of the store, by default PERFCORE_STORE; without one the application
    runs as if this were not there. `exclude` are paths that are not measured.
    """

    def __init__(
        self,
        app: Application,
        service: str = "application",
        *,
        store: str | None = None,
        recorder: Recorder | None = None,
        exclude: Iterable[str] = HEALTH_CHECKS,
    ) -> None:
        from perfcore.collect import configure

        self.app = app
        self.recorder = recorder or configure(service, store)
        self._exclude = frozenset(exclude)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind == "lifespan":
            await self._live(scope, receive, send)
        elif (
            kind != "http"
            or not self.recorder.is_enabled
            or _MARK in scope  # this middleware is there twice: the outer one measures
            or scope.get("path") in self._exclude
        ):
            await self.app(scope, receive, send)
        else:
            await self._measure(scope, receive, send)

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self.app(scope, receive, send)
        finally:
            _flush(self.recorder)

    async def _measure(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = _Request(self.recorder, scope)
        scope[_MARK] = True
        token = CURRENT.set(request.context)

        async def observed(message: Message) -> None:
            await send(message)
            request.sent(message)

        try:
            await self.app(scope, receive, observed)
        except Exception as error:
            request.end(is_error=not _is_client_gone(error))
            raise
        finally:
            # Without an exception and without a last message: cancelled, or never answered.
            request.end(is_error=request.status >= 500)
            # A coroutine that is thrown away is closed in another context.
            with contextlib.suppress(ValueError):
                CURRENT.reset(token)


class _Request:
    """One request from its first to its last message."""

    __slots__ = ("_prefix", "_scope", "_started_ns", "context", "recorder", "status")

    def __init__(self, recorder: Recorder, scope: Scope) -> None:
        self.recorder = recorder
        self.context = RequestContext(recorder)
        self.status = 0
        self._scope = scope
        self._prefix = scope.get("root_path", "")
        self._started_ns = perf_counter_ns()

    def sent(self, message: Message) -> None:
        """Take the status from the first message, the end from the last."""
        try:
            if message["type"] == "http.response.start":
                self.status = message["status"]
            elif message["type"] == "http.response.body" and not message.get("more_body"):
                # Background tasks run after this; they are no part of the answer.
                self.end(is_error=self.status >= 500)
        except Exception:
            self.recorder.self_errors.add()

    def end(self, *, is_error: bool) -> None:
        """Record the request unless that was done; whatever goes wrong here stays here."""
        try:
            if not self.context.is_over:
                self.context.endpoint = endpoint_of(self._scope, self._prefix)
                self.recorder.request(self.context, self._started_ns, is_error)
        except Exception:
            self.recorder.self_errors.add()


def _is_client_gone(error: Exception) -> bool:
    """Return whether the client left: nobody's mistake, and no error of the endpoint."""
    return isinstance(error, ConnectionError) or type(error).__name__ == "ClientDisconnect"


def _flush(recorder: Recorder) -> None:
    try:
        recorder.flush(_FLUSH_AT_SHUTDOWN_S)
    except Exception:
        recorder.self_errors.add()
