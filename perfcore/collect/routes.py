"""Name an endpoint: method and route template, never a raw path."""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]

UNMATCHED = "(unmatched)"
HEALTH_CHECKS = frozenset({"/health", "/healthz", "/livez", "/readyz", "/ping"})
_METHODS = frozenset("GET HEAD POST PUT PATCH DELETE OPTIONS TRACE CONNECT QUERY".split())


def method_of(given: str) -> str:
    """Return a request's method, "OTHER" for one that HTTP does not know."""
    return given if given in _METHODS else "OTHER"


def endpoint_of(scope: Scope, prefix: str = "") -> str:
    """Return "GET /orders/{id}" from what the router left in the scope.

    `prefix` is the root_path before routing, what a proxy has cut off: no part of the name.
    """
    return f"{method_of(scope.get('method', ''))} {_template(scope, prefix)}"


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
