"""Measure requests: pure ASGI, nothing of the messages is read but the status.

An ordinary request costs two clock reads, a function in the place of `send`, and an append. It
ends when the application hands over the last message of its answer: what a slow client makes of
it, and background tasks, are no part of it. What is not ordinary goes through slower methods.

No exception of ours reaches the application, and no exception of the application is held back.
`receive` is passed on as it is, and `send` returns what the server's own returns.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from time import perf_counter_ns
from typing import Any

from perfcore.collect.buffer import CURRENT, HOOKS, Ending, RequestContext
from perfcore.collect.recorder import Recorder
from perfcore.collect.routes import HEALTH_CHECKS, METHODS, ROUTE, endpoint_of
from perfcore.collect.websocket import Talk

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

log = logging.getLogger("perfcore.collect")

_MARK = "perfcore.request"
_FLUSH_AT_SHUTDOWN_S = 2.0
_MAX_NAMES = 2_000
_MAX_CLASS_NAME = 100
_METHODS = {name: name for name in METHODS}
# By name, because none of the libraries is ours to import.
_CLIENT_GONE = {"ClientDisconnect", "ClientDisconnected", "RequestAborted"}
_OVER: Message = {}
# Equal to the server's word and yet our own: it marks a request that is measured already, and
# the scope does not grow by it.
_HTTP = "".join(("ht", "tp"))


class _Stream:
    """An answer in pieces. It is false, because it does not end as an ordinary answer does."""

    __slots__ = ("first_byte_ns", "is_endless", "status")

    def __init__(self, start: Message) -> None:
        self.status = start["status"]
        self.first_byte_ns = perf_counter_ns()
        self.is_endless = any(
            name.lower() == b"content-type" and value.startswith(b"text/event-stream")
            for name, value in start.get("headers", ())
        )

    def __bool__(self) -> bool:
        return False


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
        self._names: dict[tuple[int, int, int, str, str], tuple[str, Any, Any, Any]] = {}
        self._has_told_of_two = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        observed: Send | None = None
        answer: Any = None  # then the message that began it or a _Stream, and at last _OVER
        token = context = None
        try:
            recorder = self.recorder
            started_ns = perf_counter_ns()
            if (
                scope["type"] == "http"
                and scope["type"] is not _HTTP
                and recorder.is_enabled
                and scope["path"] not in self._exclude
            ):
                scope["type"] = _HTTP
                if HOOKS.exist:
                    context = RequestContext(recorder)
                    token = CURRENT.set(context)

                # Arguments instead of a closure's cells: they cost half.
                def observed(
                    message: Message,
                    send: Send = send,
                    scope: Scope = scope,
                    started_ns: int = started_ns,
                    recorder: Recorder = recorder,
                    context: RequestContext | None = context,
                ) -> Awaitable[None]:
                    nonlocal answer
                    try:
                        if "status" in message:
                            answer = message
                        elif answer and "more_body" not in message:
                            ended_ns = perf_counter_ns()
                            route = scope.get("route")
                            if (
                                route is None
                                or "fastapi" in scope
                                or "app_root_path" in scope
                                or "route_handler" in scope
                                or ROUTE in scope
                            ):
                                route = self._name(scope)
                            method = _METHODS.get(scope["method"], "OTHER")
                            status = answer["status"]
                            answer = _OVER
                            if context is not None and not context.is_used:
                                context.endpoint, context.method = route, method
                                context.is_counted = True
                                context = None
                            buffer = recorder.buffer
                            if next(buffer.generated.numbers) < buffer.room:
                                buffer.requests.extend(
                                    (route, method, started_ns, ended_ns, status, context)
                                )
                            else:
                                buffer.dropped.add()
                            if not recorder._is_started:
                                recorder._start()
                        else:
                            answer = self._follow(answer, message, scope, started_ns, context)
                    except Exception:
                        self.recorder.self_errors.add()
                    return send(message)

        except Exception:
            self.recorder.self_errors.add()
        if observed is None:
            await self._pass(scope, receive, send)
            return
        try:
            await self.app(scope, receive, observed)
        except BaseException as error:
            try:
                if answer is not _OVER:
                    self._conclude(answer, scope, started_ns, context, error)
                if token is not None:
                    # A coroutine that is thrown away is closed in another context.
                    with contextlib.suppress(ValueError):
                        CURRENT.reset(token)
            except Exception:
                self.recorder.self_errors.add()
            raise
        try:
            if answer is not _OVER:
                self._conclude(answer, scope, started_ns, context, None)
            if token is not None:
                CURRENT.reset(token)
        except Exception:
            self.recorder.self_errors.add()

    def _follow(
        self,
        answer: Any,
        message: Message,
        scope: Scope,
        started_ns: int,
        context: RequestContext | None,
    ) -> Any:
        """Take in a message that is not of an ordinary answer; return what `answer` is now."""
        if answer is None or answer is _OVER:
            return answer  # an early hint or a trailer
        if message.get("more_body"):
            if answer:
                self.recorder.buffer.streams.opened.add()
                answer = _Stream(answer)
            return answer
        status: Any = answer["status"] if answer else answer.status
        if not answer:
            self.recorder.buffer.streams.closed.add()
            status = _ending("", status, answer)
        self._record(scope, started_ns, status, context)
        return _OVER

    def _conclude(
        self,
        answer: Any,
        scope: Scope,
        started_ns: int,
        context: RequestContext | None,
        error: BaseException | None,
    ) -> None:
        """Record a request whose application ended before its answer did."""
        stream = None
        status: Any = 200
        if type(answer) is _Stream:
            self.recorder.buffer.streams.closed.add()
            stream, status = answer, answer.status
            stream.is_endless = True  # nobody knows how long it would have been
        elif answer is not None:
            status = answer["status"]
        ending = _ending(_outcome(answer, error), status, stream)
        self._record(scope, started_ns, ending, context)

    def _record(
        self, scope: Scope, started_ns: int, status: Any, context: RequestContext | None
    ) -> None:
        ended_ns = perf_counter_ns()
        name = self._name(scope)
        self.recorder.request(name, "", started_ns, ended_ns, status, context)

    def _name(self, scope: Scope) -> str:
        """Return the endpoint's name, found once for each way to reach a route."""
        route, root = scope.get("route"), scope.get("root_path", "")
        prefix = scope.get("app_root_path", root)
        if ROUTE in scope or "route_handler" in scope:
            return sys.intern(endpoint_of(scope, prefix))
        included = scope.get("fastapi", {}).get("effective_route_context")
        endpoint, method = scope.get("endpoint"), str(scope.get("method"))[:10]
        key = id(route), id(included), id(endpoint), method, root
        known = self._names.get(key)
        if known is None:
            known = sys.intern(endpoint_of(scope, prefix)), route, included, endpoint
            # Another route would have been found by the path, which is no part of the key.
            if _leads_to(endpoint, route, included) and len(self._names) < _MAX_NAMES:
                self._names[key] = known
        return known[0]

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what is not an HTTP request, or not to be measured."""
        kind = ""
        try:
            kind = scope["type"]
            self._tell_of_two(scope)
        except Exception:
            self.recorder.self_errors.add()
        if kind == "websocket":
            await self._talk(scope, receive, send)
            return
        try:
            await self.app(scope, receive, send)
        finally:
            if kind == "lifespan":
                _flush(self.recorder)

    async def _talk(self, scope: Scope, receive: Receive, send: Send) -> None:
        talk = None
        try:
            if self.recorder.is_enabled and _MARK not in scope:
                talk = Talk(self.recorder, receive, send)
                scope[_MARK] = True
        except Exception:
            self.recorder.self_errors.add()
        if talk is None:
            await self.app(scope, receive, send)
            return
        try:
            await self.app(scope, talk.receive, talk.send)
        finally:
            try:
                name = endpoint_of({**scope, "method": "GET"}, scope.get("app_root_path", ""))
                talk.end(name.removeprefix("GET "))
            except Exception:
                self.recorder.self_errors.add()

    def _tell_of_two(self, scope: Scope) -> None:
        """Say once that this middleware is there twice: the outer one measures."""
        is_measured = scope["type"] is _HTTP or _MARK in scope
        if not self._has_told_of_two and self.recorder.is_enabled and is_measured:
            self._has_told_of_two = True
            log.warning("perfcore: the middleware is installed twice; the outer one measures")


def _leads_to(endpoint: Any, route: Any, included: Any) -> bool:
    """Return whether it is by this route that the endpoint was found."""
    routes = route, included, getattr(included, "starlette_route", None)
    return any(getattr(r, "endpoint", None) is endpoint for r in routes if r is not None)


def _ending(outcome: str, status: Any, stream: _Stream | None) -> Ending:
    is_valid = type(status) is int and 100 <= status < 600
    is_error = not is_valid or status >= 500 or outcome.startswith(("raised", "aborted"))
    outcome = outcome or ("" if is_valid else "invalid_status")
    if stream is None:
        return Ending(outcome, is_error)
    return Ending(outcome, is_error, stream.first_byte_ns, stream.is_endless)


def _outcome(answer: Any, error: BaseException | None) -> str:
    """Say in a word how a request ended, with the class of the error and never its text."""
    if error is None:
        return "no_response" if answer is None else "client_gone"
    name = type(error).__name__[:_MAX_CLASS_NAME]
    if not isinstance(error, Exception):
        return "cancelled"
    if isinstance(error, ConnectionError) or name in _CLIENT_GONE:
        return "client_gone"
    return f"raised {name}" if answer is None else f"aborted {name}"


def _flush(recorder: Recorder) -> None:
    try:
        recorder.flush(_FLUSH_AT_SHUTDOWN_S)
    except Exception:
        recorder.self_errors.add()
