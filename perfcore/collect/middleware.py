"""Measure requests: pure ASGI and WSGI, nothing of the messages is read but the status.

What a request costs more: two clock reads, a context object and an append. No exception of ours
reaches the application, and no exception of the application is held back.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterable, Iterator, MutableMapping
from time import perf_counter_ns
from typing import Any

from perfcore.collect.buffer import CURRENT, RequestContext
from perfcore.collect.flusher import Recorder

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

UNMATCHED = "(unmatched)"
HEALTH_CHECKS = frozenset({"/health", "/healthz", "/livez", "/readyz", "/ping"})
_METHODS = frozenset("GET HEAD POST PUT PATCH DELETE OPTIONS TRACE CONNECT QUERY".split())
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


def endpoint_of(scope: Scope, prefix: str = "") -> str:
    """Return "GET /orders/{id}" from what the router left in the scope.

    `prefix` is the root_path before routing, what a proxy has cut off: no part of the name.
    """
    method = scope.get("method", "")
    if method not in _METHODS:
        method = "OTHER"
    template = _template(scope, prefix)
    return f"{method} {template}"


def _template(scope: Scope, prefix: str) -> str:
    route = scope.get("route")
    path = getattr(route, "path_format", getattr(route, "path", None))
    if path is None:
        return UNMATCHED
    inner = getattr(route, "routes", None)
    if inner is None:
        own = getattr(route, "param_convertors", {})
        return _mounts(scope, prefix, own) + path or "/"
    # A mount was the last that matched: files and foreign applications have no routes of
    # their own, in a router it means that nothing matched inside.
    return UNMATCHED if inner else _mounts(scope, prefix, ()) + "/{path}"


def _mounts(scope: Scope, prefix: str, own: Iterable[str]) -> str:
    """Return the mounts' paths with their parameters named instead of filled in.

    `own` are the parameters of the route inside, which are not the mounts'.
    """
    root: str = scope.get("root_path", "")
    mounted = root.removeprefix(prefix)
    parameters = scope.get("path_params") or {}
    names = {str(v): "{" + k + "}" for k, v in parameters.items() if k not in own}
    return "/".join(names.get(part, part) for part in mounted.split("/"))


def _is_client_gone(error: Exception) -> bool:
    """Return whether the client left: nobody's mistake, and no error of the endpoint."""
    return isinstance(error, ConnectionError) or type(error).__name__ == "ClientDisconnect"


def _flush(recorder: Recorder) -> None:
    try:
        recorder.flush(_FLUSH_AT_SHUTDOWN_S)
    except Exception:
        recorder.self_errors.add()


class PerfcoreWSGIMiddleware:
    """WSGI middleware; `route` tells the template of a request from its environ.

    By default Flask's rule is found; other frameworks need `route`, because WSGI itself
    knows no templates and a raw path is never a name.
    """

    def __init__(
        self,
        app: Callable[..., Iterable[bytes]],
        service: str = "application",
        *,
        store: str | None = None,
        recorder: Recorder | None = None,
        exclude: Iterable[str] = HEALTH_CHECKS,
        route: Callable[[dict[str, Any]], str | None] | None = None,
    ) -> None:
        from perfcore.collect import configure

        self.app = app
        self.recorder = recorder or configure(service, store)
        self._exclude = frozenset(exclude)
        self._route = route or _flask_route

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        if not self.recorder.is_enabled or environ.get("PATH_INFO") in self._exclude:
            return self.app(environ, start_response)
        context = RequestContext(self.recorder)
        started_ns = perf_counter_ns()
        status = [0]

        def observed(line: str, *rest: Any, **options: Any) -> Any:
            status[0] = int(line[:3]) if line[:3].isdigit() else 0
            return start_response(line, *rest, **options)

        def end(is_error: bool) -> None:
            try:
                if not context.is_over:
                    method = environ.get("REQUEST_METHOD", "")
                    method = method if method in _METHODS else "OTHER"
                    context.endpoint = f"{method} {self._route(environ) or UNMATCHED}"
                    self.recorder.request(context, started_ns, is_error or status[0] >= 500)
            except Exception:
                self.recorder.self_errors.add()

        CURRENT.set(context)
        try:
            body = self.app(environ, observed)
        except BaseException as error:
            end(isinstance(error, Exception))
            CURRENT.set(None)
            raise
        return _Body(body, end)


class _Body:
    """The application's answer, passed on piece by piece; its end is the request's end."""

    def __init__(self, body: Iterable[bytes], end: Callable[[bool], None]) -> None:
        self._body = body
        self._end = end

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._body
        except Exception:
            self._end(True)
            raise

    def close(self) -> None:
        try:
            close = getattr(self._body, "close", None)
            if close is not None:
                close()
        finally:
            self._end(False)
            CURRENT.set(None)


def _flask_route(environ: dict[str, Any]) -> str | None:
    rule = getattr(environ.get("werkzeug.request"), "url_rule", None)
    return getattr(rule, "rule", None)
