"""Measure requests of WSGI applications, to the end of their bodies."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from time import perf_counter_ns
from typing import Any

from perfcore.collect.buffer import CURRENT, RequestContext
from perfcore.collect.recorder import Recorder
from perfcore.collect.routes import HEALTH_CHECKS, UNMATCHED, method_of


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
                    method = method_of(environ.get("REQUEST_METHOD", ""))
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
