"""Measure requests of WSGI applications, to the end of their bodies.

The server sees the application's own body whenever its type means something: a sequence, whose
length some servers send, and a `wsgi.file_wrapper`, which they pass to sendfile.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from time import perf_counter_ns
from typing import Any

from perfcore.collect.buffer import CURRENT, HOOKS, Ending, RequestContext
from perfcore.collect.recorder import Recorder
from perfcore.collect.routes import HEALTH_CHECKS, ROUTE, UNMATCHED, method_of, rule_template

Environ = dict[str, Any]
_MARK = "perfcore.request"
_MAX_CLASS_NAME = 100


class PerfcoreWSGIMiddleware:
    """WSGI middleware: `app.wsgi_app = PerfcoreWSGIMiddleware(app.wsgi_app, service="shop")`.

    Flask's rules are found, and what `perfcore.collect.django` leaves. Any other application
    leaves its template in `environ["perfcore.route"]`, or passes `route`, which finds it in
    the environ; a raw path is never a name.
    """

    def __init__(
        self,
        app: Callable[..., Iterable[bytes]],
        service: str = "application",
        *,
        store: str | None = None,
        recorder: Recorder | None = None,
        exclude: Iterable[str] = HEALTH_CHECKS,
        route: Callable[[Environ], str | None] | None = None,
    ) -> None:
        from perfcore.collect import configure

        self.app = app
        self.recorder = recorder or configure(service, store)
        self.route = route
        self._exclude = frozenset(exclude)

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        request = self._begin(environ, start_response)
        if request is None:
            return self.app(environ, start_response)
        try:
            body = self.app(environ, request.start)
        except BaseException as error:
            request.fail("raised", error)
            request.leave()
            raise
        return request.follow(body)

    def _begin(self, environ: Environ, start_response: Callable[..., Any]) -> _Request | None:
        """Return the request to measure; None for a health check and inside of another."""
        try:
            if (
                not self.recorder.is_enabled
                or _MARK in environ  # this middleware is there twice: the outer one measures
                or environ.get("PATH_INFO") in self._exclude
            ):
                return None
            environ[_MARK] = True
            return _Request(self, environ, start_response)
        except Exception:
            self.recorder.self_errors.add()
            return None


class _Request:
    """One request, and the body that the server gets: its end is the request's end."""

    __slots__ = (
        "_body", "_context", "_environ", "_middleware", "_prefix", "_start_response", "_started_ns",
        "_status", "_template",
    )  # fmt: skip

    def __init__(
        self,
        middleware: PerfcoreWSGIMiddleware,
        environ: Environ,
        start_response: Callable[..., Any],
    ) -> None:
        self._middleware = middleware
        self._environ = environ
        self._start_response = start_response
        self._prefix = environ.get("SCRIPT_NAME", "")
        self._status = 0
        self._template = ""
        self._context = None
        if HOOKS.exist:  # somebody will ask to which request a statement belongs
            self._context = RequestContext(middleware.recorder)
            CURRENT.set(self._context)
        self._started_ns = perf_counter_ns()

    def start(self, line: str, headers: Any, exc_info: Any = None) -> Any:
        """Take the place of start_response; the last one that the server takes counts."""
        if exc_info is None:
            write = self._start_response(line, headers)
        else:
            write = self._start_response(line, headers, exc_info)
        try:
            self._status = _status_of(line)
            # Now, because Flask forgets the request before it returns the body.
            self._template = self._find()
        except Exception:
            self._middleware.recorder.self_errors.add()
        return write

    def follow(self, body: Iterable[bytes]) -> Iterable[bytes]:
        """Return what the server may have of the body: itself, or this around it."""
        try:
            if hasattr(body, "__len__"):  # all of it is there
                self.end()
                self.leave()
                return body
            wrapper = self._environ.get("wsgi.file_wrapper")
            if wrapper is not None and _is_file(body, wrapper):
                return self._follow_file(body)
            self._body = body
            return self
        except Exception:
            self._middleware.recorder.self_errors.add()
            return body

    def _follow_file(self, body: Any) -> Iterable[bytes]:
        """Learn of the end by the file's close(), where the server's type lets it be set."""
        close = getattr(body, "close", None)

        def closing() -> None:
            self._close(close)

        try:
            body.close = closing
        except (AttributeError, TypeError):
            self.end()
            self.leave()
        return body  # type: ignore[no-any-return]

    def __iter__(self) -> Iterator[bytes]:
        # Not `yield from`: it would close the body once more when a server stops half way.
        try:
            for piece in self._body:  # noqa: UP028
                yield piece
        except Exception as error:
            self.fail("aborted", error)
            raise
        self.end()

    def close(self) -> None:
        self._close(getattr(self._body, "close", None))

    def _close(self, close: Callable[[], None] | None) -> None:
        try:
            if close is not None:
                close()
        except Exception as error:
            self.fail("aborted", error)
            raise
        finally:
            if self._started_ns:
                self.end()
            if self._context is not None:
                self.leave()

    def fail(self, how: str, error: BaseException) -> None:
        """Record a request that ends by an exception, with its class and never its text."""
        try:
            name = type(error).__name__[:_MAX_CLASS_NAME]
            is_error = isinstance(error, Exception)
            self.end(Ending(f"{how} {name}" if is_error else "cancelled", is_error))
        except Exception:
            self._middleware.recorder.self_errors.add()

    def end(self, ending: Ending | None = None) -> None:
        """Record the request unless that was done; whatever goes wrong here stays here."""
        try:
            started_ns, self._started_ns = self._started_ns, 0
            if started_ns:
                ended_ns = perf_counter_ns()
                method = method_of(self._environ.get("REQUEST_METHOD", ""))
                # One object for each name: the flusher groups requests by it.
                name = sys.intern(f"{method} {self._template or self._find() or UNMATCHED}")
                self._middleware.recorder.request(
                    name, "", started_ns, ended_ns, ending or self._status, self._context
                )
        except Exception:
            self._middleware.recorder.self_errors.add()

    def _find(self) -> str:
        """Return the template, with the place of a mounted application, "" without a route."""
        environ, route = self._environ, self._middleware.route
        template = environ.get(ROUTE) if route is None else route(environ)
        if template is None and route is None:
            rule = getattr(environ.get("werkzeug.request"), "url_rule", None)
            template = None if rule is None else rule_template(rule.rule)
        if not template:
            return ""
        # A dispatcher has moved its part of the path here, since the request came in.
        mounted = environ.get("SCRIPT_NAME", "")
        return (
            template if mounted == self._prefix else mounted.removeprefix(self._prefix) + template
        )

    def leave(self) -> None:
        """Let the next statements of the thread belong to no request."""
        try:
            if self._context is not None:
                CURRENT.set(None)
                self._context = None
        except Exception:
            self._middleware.recorder.self_errors.add()


def _is_file(body: Any, wrapper: Any) -> bool:
    # A server whose wrapper is a function, as uWSGI's, knows the file by its identity.
    return isinstance(body, wrapper) if isinstance(wrapper, type) else hasattr(body, "read")


@lru_cache(maxsize=1024)
def _status_of(line: str) -> int:
    """Return the status of "404 Not Found", 0 for what is none."""
    return int(line[:3]) if line[:3].isdigit() else 0
