"""Measure a Quart application: the middleware, and a function that leaves the route's template."""

from __future__ import annotations

from typing import Any

from quart import Quart, request, websocket

from perfcore.collect.middleware import PerfcoreMiddleware
from perfcore.collect.routes import ROUTE, rule_template


def instrument(app: Quart, service: str = "application", **options: Any) -> None:
    """Measure the application's requests; `options` are those of PerfcoreMiddleware."""
    # The first of these functions: one that answers by itself keeps the others from running.
    app.before_request_funcs[None].insert(0, _leave)
    app.before_websocket_funcs[None].insert(0, _leave_websocket)
    app.asgi_app = PerfcoreMiddleware(app.asgi_app, service, **options)  # type: ignore


async def _leave() -> None:
    _write_down(request)


async def _leave_websocket() -> None:
    _write_down(websocket)


def _write_down(connection: Any) -> None:
    """Leave the template in the scope, an empty one when no route matched."""
    rule = connection.url_rule
    connection.scope[ROUTE] = rule_template(rule.rule) if rule is not None else ""
