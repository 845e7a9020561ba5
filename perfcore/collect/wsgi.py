"""Measure requests of WSGI applications, to the end of their bodies.

The server sees the application's own body whenever its type means something: a sequence, whose
length some servers send, and a `wsgi.file_wrapper`, which they pass to sendfile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from time import perf_counter_ns
from typing import Any

from perfcore.collect.buffer import CURRENT, RequestContext
from perfcore.collect.recorder import Recorder
from perfcore.collect.routes import HEALTH_CHECKS, ROUTE, UNMATCHED, method_of, rule_template

Environ = dict[str, Any]
_MARK = "perfcore.request"


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
        self.route = route or _left_route
        self._exclude = frozenset(exclude)

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        request = self._begin(environ, start_response)
        if request is None:
            return self.app(environ, start_response)
        try:
            body = self.app(environ, request.start)
        except BaseException as error:
            request.end(isinstance(error, Exception))
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
        self._context = RequestContext(middleware.recorder)
        CURRENT.set(self._context)
        self._started_ns = perf_counter_ns()

    def start(self, line: str, *rest: Any, **options: Any) -> Any:
        """Take the place of start_response; the last one that the server takes counts."""
        write = self._start_response(line, *rest, **options)
        try:
            self._status = int(line[:3]) if line[:3].isdigit() else 0
            # Now, because Flask forgets the request before it returns the body.
            self._template = self._find()
        except Exception:
            self._middleware.recorder.self_errors.add()
        return write

    def follow(self, body: Iterable[bytes]) -> Iterable[bytes]:
        """Return what the server may have of the body: itself, or this around it."""
        try:
            if hasattr(body, "__len__"):  # all of it is there
                self.end(False)
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
            self.end(False)
            self.leave()
        return body  # type: ignore[no-any-return]

    def __iter__(self) -> Iterator[bytes]:
        # Not `yield from`: it would close the body once more when a server stops half way.
        try:
            for piece in self._body:  # noqa: UP028
                yield piece
        except Exception:
            self.end(True)
            raise
        self.end(False)

    def close(self) -> None:
        self._close(getattr(self._body, "close", None))

    def _close(self, close: Callable[[], None] | None) -> None:
        try:
            if close is not None:
                close()
        except Exception:
            self.end(True)
            raise
        finally:
            self.end(False)
            self.leave()

    def end(self, is_error: bool) -> None:
        """Record the request unless that was done; whatever goes wrong here stays here."""
        try:
            context, recorder = self._context, self._middleware.recorder
            if not context.is_over:
                method = method_of(self._environ.get("REQUEST_METHOD", ""))
                context.endpoint = f"{method} {self._template or self._find() or UNMATCHED}"
                recorder.request(context, self._started_ns, is_error or self._status >= 500)
        except Exception:
            self._middleware.recorder.self_errors.add()

    def _find(self) -> str:
        """Return the template, with the place of a mounted application, "" without a route."""
        environ = self._environ
        template = self._middleware.route(environ)
        if not template:
            return ""
        # A dispatcher has moved its part of the path here, since the request came in.
        mounted: str = environ.get("SCRIPT_NAME", "").removeprefix(self._prefix)
        return mounted + template

    def leave(self) -> None:
        """Let the next statements of the thread belong to no request."""
        try:
            CURRENT.set(None)
        except Exception:
            self._middleware.recorder.self_errors.add()


def _is_file(body: Any, wrapper: Any) -> bool:
    # A server whose wrapper is a function, as uWSGI's, knows the file by its identity.
    return isinstance(body, wrapper) if isinstance(wrapper, type) else hasattr(body, "read")


def _left_route(environ: Environ) -> str | None:
    left = environ.get(ROUTE)
    if left is not None:
        return str(left)
    rule = getattr(environ.get("werkzeug.request"), "url_rule", None)
    return None if rule is None else rule_template(rule.rule)
