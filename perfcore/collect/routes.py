"""Name an endpoint: method and route template, never a raw path.

Every framework has its own place and its own syntax for the template of a request; here all end
as `/orders/{id}`. A framework that leaves it nowhere gets an adapter that puts it under
`perfcore.route`, and so may any application: an empty text says that no route matched.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, MutableMapping
from functools import lru_cache
from typing import Any

Scope = MutableMapping[str, Any]

ROUTE = "perfcore.route"  # the key of a scope or environ under which a template is left
UNMATCHED = "(unmatched)"
HEALTH_CHECKS = frozenset({"/health", "/healthz", "/livez", "/readyz", "/ping"})
METHODS = frozenset("GET HEAD POST PUT PATCH DELETE OPTIONS TRACE CONNECT QUERY".split())
_INSIDE = "/{path}"  # what a mounted application without routes of its own serves

# <name>, <converter:name>, <converter(arguments):name>; Django allows blanks in none of them
_ANGLED = re.compile(r"<(?:[a-zA-Z_]\w*(?:\(.*?\))?:)?([a-zA-Z_]\w*)>")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)


def method_of(given: str) -> str:
    """Return a request's method, "OTHER" for one that HTTP does not know."""
    return given if given in METHODS else "OTHER"


def endpoint_of(scope: Scope, prefix: str = "") -> str:
    """Return "GET /orders/{id}" from what the router left in the scope.

    `prefix` is the root_path before routing, what a proxy has cut off: no part of the name.
    """
    return f"{method_of(scope.get('method', ''))} {_template(scope, prefix)}"


def _template(scope: Scope, prefix: str) -> str:
    path = _inner(scope)
    return UNMATCHED if path is None else _mounts(scope, prefix) + path or "/"


def _inner(scope: Scope) -> str | None:
    """Return the template below the mounts that root_path shows, None when nothing matched."""
    left = scope.get(ROUTE)
    if left is not None:
        return str(left) or None
    handler = scope.get("route_handler")
    if handler is None:
        return _starlette(scope)
    if not getattr(handler, "is_mount", False):
        return str(scope["path_template"])
    # Litestar names the root in place of a mount, and leaves root_path as it was.
    mount = _litestar_mount(scope, handler)
    if scope.get("app") is scope.get("litestar_app"):
        return mount + _INSIDE
    inside = _starlette(scope)
    return None if inside is None else mount + inside


def _litestar_mount(scope: Scope, handler: Any) -> str:
    paths = [
        str(route.path_format)
        for route in scope["litestar_app"].routes
        if getattr(route, "route_handler", None) is handler
    ]
    raw = scope.get("raw_path", b"").decode("latin-1")
    return next((p for p in paths if f"{raw}/".startswith(f"{p}/")), paths[0]).rstrip("/")


def _starlette(scope: Scope) -> str | None:
    route = _matched(scope, scope.get("endpoint"))
    path = getattr(route, "path_format", getattr(route, "path", None))
    inner = getattr(route, "routes", None)
    if path is None or inner is None:
        return path
    # A mount was the last that matched: files and foreign applications have no routes of
    # their own, in a router it means that nothing matched inside.
    return None if inner else _INSIDE


def _matched(scope: Scope, endpoint: Any) -> Any:
    """Return the route that was matched last: the one whose endpoint is the scope's."""
    included, route = scope.get("fastapi", {}).get("effective_route_context"), scope.get("route")
    if included is not None:
        # FastAPI's include_router(prefix=...) leaves the route as it was; this knows the prefix.
        included = included.starlette_route or included
        if _serves(included) is endpoint:
            return included
    if route is not None and (endpoint is None or _serves(route) is endpoint):
        return route
    if endpoint is None:
        return None
    # FastAPI names only its own routes, and older Starlette none.
    rest = str(scope.get("path", "")).removeprefix(scope.get("root_path", ""))
    return _search(_routes(scope.get("app")), endpoint, rest)


def _routes(router: Any) -> Iterable[Any]:
    return getattr(router, "routes", ())


def _serves(route: Any) -> Any:
    """Return what a route of Starlette calls: its endpoint, or the application mounted there."""
    return getattr(route, "endpoint", None) or getattr(route, "app", None)


def _search(routes: Iterable[Any], endpoint: Any, rest: str) -> Any:
    """Return the route of an endpoint, among these and what is mounted below them."""
    for route in routes:
        inner = getattr(route, "routes", None)
        if _serves(route) is endpoint and (inner is not None or route.path_regex.match(rest)):
            return route
        below = _search(inner, endpoint, rest) if inner else None
        if below is not None:
            return below
    return None


def _mounts(scope: Scope, prefix: str) -> str:
    """Return the paths of the mounts around, with parameters named instead of filled in."""
    mounted = str(scope.get("root_path", "")).removeprefix(prefix)
    if not mounted:
        return ""
    found = _mount_templates(_routes(scope.get("router")), mounted)
    if found is not None:
        return found
    parameters = scope.get("path_params") or {}
    own = getattr(scope.get("route"), "param_convertors", ())
    names = {str(v): "{" + k + "}" for k, v in parameters.items() if k not in own}
    return "/".join(names.get(part, part) for part in mounted.split("/"))


def _mount_templates(routes: Iterable[Any], mounted: str) -> str | None:
    for route in routes:
        match = route.path_regex.match(mounted + "/") if _is_mount(route) else None
        if match is None:
            continue
        head: str = route.path_format.removesuffix(_INSIDE)
        rest = match["path"].rstrip("/")
        below = _mount_templates(route.routes, "/" + rest) if rest else ""
        if below is not None:
            return head + below
    return None


def _is_mount(route: Any) -> bool:
    return hasattr(route, "routes") and hasattr(route, "path_regex")


@lru_cache(maxsize=4096)
def rule_template(rule: str) -> str:
    """Return the template of a rule of Werkzeug, as Flask and Quart have them.

    >>> rule_template("/orders/<int(min=1):id>/<path:rest>")
    '/orders/{id}/{rest}'
    """
    return _ANGLED.sub(r"{\1}", rule)


@lru_cache(maxsize=4096)
def django_template(route: str) -> str:
    r"""Return the template of Django's ResolverMatch.route: paths, regular expressions or both.

    >>> django_template("shop/<slug:name>/")
    '/shop/{name}/'
    >>> django_template(r"^archive/(?P<year>[0-9]{4})(?:/(?P<month>(0[1-9]|1[0-2])))?/(\d+)\.html$")
    '/archive/{year}/{month}/{arg}.html'
    """
    text = _ANGLED.sub(r"{\1}", _without_groups(route))
    text = re.sub(r"^\^|\\[AZb]|(?<!\\)\$$", "", text)
    return "/" + _ESCAPE.sub(r"\1", text).lstrip("/")


def _without_groups(route: str) -> str:
    """Return a route with every capturing group of an expression as "{name}" or "{arg}".

    Groups may hold groups, so brackets are counted; what does not capture keeps its content.
    """
    out, position = [], 0
    for start, end in _groups(route):
        body = route[start + 1 : end - 1]
        named = re.match(r"\?P<(\w+)>", body)
        if named:
            text = "{" + named[1] + "}"
        elif body.startswith("?"):
            text = _without_groups(body[2:]) if body.startswith("?:") else ""
        else:
            text = "{arg}"
        out += [route[position:start], text]
        position = end + (route[end : end + 1] in {"?", "*", "+"} and end < len(route))
    return "".join(out) + route[position:]


def _groups(route: str) -> Iterable[tuple[int, int]]:
    """Yield start and end of the outermost bracketed groups, leaving out escaped brackets."""
    depth = start = 0
    for token in re.finditer(r"\\.|\[\^?\]?(?:\\.|[^\]])*\]|[()]", route, re.DOTALL):
        if token[0] == "(":
            start = start if depth else token.start()
            depth += 1
        elif token[0] == ")" and depth:
            depth -= 1
            if not depth:
                yield start, token.end()
