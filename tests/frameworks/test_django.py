"""Django over WSGI and ASGI: paths, regular expressions and include(), named by the adapter."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any

import django
import pytest
import sqlalchemy as sa
from django import conf
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.test import override_settings
from django.urls import include, path, re_path
from starlette.applications import Starlette
from starlette.routing import Mount

from perfcore.collect import PerfcoreMiddleware, PerfcoreWSGIMiddleware, Recorder, watch
from tests.collect.conftest import Rows
from tests.frameworks.asking import asgi, assert_same, counts, statements, wsgi

_LINES = [
    "/orders/7/", "/orders/x/", "/shop/acme/items/5/", "/shop/acme/old/2026/03.html",
    "/shop/acme/old/2026.html", "/boom/", "/guarded/", "/stream/", "/async/4/", "/health",
    "/nowhere", "/orders/7", "POST /orders/7/", "BREW /orders/7/",
]  # fmt: skip


def _order(request: HttpRequest, **found: Any) -> HttpResponse:
    return HttpResponse(f"order {found}")


async def _async(request: HttpRequest, id: int) -> HttpResponse:
    return HttpResponse(f"async {id}")


def _boom(request: HttpRequest) -> HttpResponse:
    raise RuntimeError("boom")


def _stream(request: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(piece for piece in ("a", "b", "c"))


def _guard(get_response: Any) -> Any:
    """Return a middleware that answers some requests before their route is known."""

    def guarded(request: HttpRequest) -> HttpResponse:
        if request.path == "/guarded/":
            return HttpResponse("who are you?", status=401)
        answer: HttpResponse = get_response(request)
        return answer

    return guarded


_SHOP = [
    path("items/<int:id>/", _order),
    re_path(r"^old/(?P<year>[0-9]{4})(?:/(?P<month>(0[1-9]|1[0-2])))?\.html$", _order),
]
_URLS: Any = types.ModuleType("shop_urls")
_URLS.urlpatterns = [
    path("orders/<int:id>/", _order),
    path("shop/<slug:tenant>/", include(_SHOP)),
    path("boom/", _boom),
    path("guarded/", _order),
    path("stream/", _stream),
    path("async/<int:id>/", _async),
    path("health", _order),
]
_BARE = ["django.middleware.common.CommonMiddleware", f"{__name__}._guard"]
_NAMED = ["perfcore.collect.django.name_routes", *_BARE]


@pytest.fixture(autouse=True)
def _project() -> Iterator[None]:
    if not conf.settings.configured:
        conf.settings.configure(SECRET_KEY="of the tests")
        django.setup()
    with override_settings(ROOT_URLCONF=_URLS, ALLOWED_HOSTS=["*"], MIDDLEWARE=_BARE):
        yield


_EXPECTED = {
    "GET /orders/{id}/": (1, 0),
    "POST /orders/{id}/": (1, 0),
    "OTHER /orders/{id}/": (1, 0),
    "GET /shop/{tenant}/items/{id}/": (1, 0),
    "GET /shop/{tenant}/old/{year}/{month}.html": (2, 0),
    "GET /boom/": (1, 1),
    "GET /stream/": (1, 0),
    "GET /async/{id}/": (1, 0),
    "GET (unmatched)": (4, 0),  # no such path twice, the redirect, and the guard's own answer
}


def test_requests_over_wsgi_are_named_by_their_route(recorder: Recorder, rows: Rows) -> None:
    bare = WSGIHandler()
    with override_settings(MIDDLEWARE=_NAMED):
        measured = PerfcoreWSGIMiddleware(WSGIHandler(), recorder=recorder)
    assert_same(wsgi(measured), wsgi(bare), _LINES)
    recorder.flush(20)
    assert counts(rows) == _EXPECTED
    assert recorder.accounting().self_errors == 0


@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume synchronous iterators")
def test_requests_over_asgi_are_named_by_their_route(recorder: Recorder, rows: Rows) -> None:
    bare = ASGIHandler()
    with override_settings(MIDDLEWARE=_NAMED):
        measured = PerfcoreMiddleware(ASGIHandler(), recorder=recorder)
    assert_same(asgi(measured), asgi(bare), _LINES)
    recorder.flush(20)
    assert counts(rows) == _EXPECTED
    assert recorder.accounting().self_errors == 0


@pytest.mark.fault(11)
def test_a_mounted_application_keeps_its_place(recorder: Recorder, rows: Rows) -> None:
    with override_settings(MIDDLEWARE=_NAMED):
        outer = Starlette(routes=[Mount("/of/{tenant}", ASGIHandler())])
    outer.add_middleware(PerfcoreMiddleware, recorder=recorder)
    assert asgi(outer)("/of/acme/orders/3/").body == b"order {'id': 3}"
    assert asgi(outer)("/of/acme/nothing").status == 404
    recorder.flush(20)
    assert counts(rows) == {"GET /of/{tenant}/orders/{id}/": (1, 0), "GET (unmatched)": (1, 0)}


def test_statements_belong_to_their_request(recorder: Recorder, rows: Rows, dsn: str) -> None:
    engine = sa.create_engine(dsn.replace("postgresql:", "postgresql+psycopg:"))
    engine.connect().close()  # the dialect asks the server a few things, once
    watch(engine, recorder)

    def numbers(request: HttpRequest, times: int) -> StreamingHttpResponse:
        def pieces() -> Iterator[str]:
            with engine.connect() as connection:
                for _ in range(times):
                    yield str(connection.scalar(sa.text("SELECT 5")))

        return StreamingHttpResponse(pieces())

    urls: Any = types.ModuleType("more_urls")
    urls.urlpatterns = [path("numbers/<int:times>/", numbers)]
    with override_settings(MIDDLEWARE=_NAMED, ROOT_URLCONF=urls):
        ask = wsgi(PerfcoreWSGIMiddleware(WSGIHandler(), recorder=recorder))
        assert ask("/numbers/3/").body == b"555"
        assert ask("/numbers/2/").body == b"55"
    engine.dispose()
    recorder.flush(20)
    assert statements(rows) == {"GET /numbers/{times}/": (5, 2)}
