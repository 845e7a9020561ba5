"""What Django lacks for the middlewares: the route in the environ or scope, and a lifespan.

Django keeps what its resolver found in the request, which neither a WSGI environ nor an ASGI scope
holds. Put `perfcore.collect.django.name_routes` first in MIDDLEWARE: it sees every answer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import iscoroutinefunction

from perfcore.collect.routes import ROUTE, django_template
from perfcore.collect.sql_hooks import current_recorder


def name_routes(get_response: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return Django's middleware, a coroutine function where the next one is."""
    if iscoroutinefunction(get_response):

        async def respond_async(request: Any) -> Any:
            response = await get_response(request)
            _leave(request)
            return response

        return respond_async

    def respond(request: Any) -> Any:
        response = get_response(request)
        _leave(request)
        return response

    return respond


name_routes.sync_capable = name_routes.async_capable = True  # type: ignore[attr-defined]


def _leave(request: Any) -> None:
    """Write the template down, an empty one when no route matched; nothing leaves from here."""
    try:
        match = request.resolver_match
        scope = request.scope if hasattr(request, "scope") else request.META
        scope[ROUTE] = django_template(str(match.route)) if match is not None else ""
    except Exception:
        recorder = current_recorder()
        if recorder is not None:
            recorder.self_errors.add()


def with_lifespan(application: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """Return the ASGI application with the lifespan that Django refuses to have.

    uvicorn ends by the signal that stopped it, and nothing runs at exit: the end of the
    lifespan is the only moment at which the last second can be sent.
    """

    def live(scope: Any, receive: Any, send: Any) -> Awaitable[None]:
        if scope["type"] == "lifespan":
            return _live(receive, send)
        return application(scope, receive, send)

    return live


async def _live(receive: Any, send: Any) -> None:
    kind = ""
    while kind != "lifespan.shutdown":
        kind = (await receive())["type"]
        await send({"type": f"{kind}.complete"})
