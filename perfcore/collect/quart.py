"""Measure a Quart application: the middleware, and a function that leaves the route's template."""

from __future__ import annotations

from typing import Any

from quart import Quart, request

from perfcore.collect.middleware import PerfcoreMiddleware
from perfcore.collect.routes import ROUTE, rule_template


def instrument(app: Quart, service: str = "application", **options: Any) -> None:
    """Measure the application's requests; `options` are those of PerfcoreMiddleware."""
    # The first of these functions: one that answers by itself keeps the others from running.
    app.before_request_funcs[None].insert(0, _leave)
    app.asgi_app = PerfcoreMiddleware(app.asgi_app, service, **options)  # type: ignore


async def _leave() -> None:
    """Write the template down, an empty one when no route matched."""
    rule = request.url_rule
    request.scope[ROUTE] = rule_template(rule.rule) if rule is not None else ""  # type: ignore
