"""Flask: rules of the application, of blueprints, and of applications mounted by a dispatcher."""

from __future__ import annotations

from typing import Any

import flask
import pytest
import sqlalchemy as sa
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from perfcore.collect import PerfcoreWSGIMiddleware, Recorder, watch
from tests.collect.conftest import Rows
from tests.frameworks.asking import assert_same, counts, statements, wsgi

_LINES = [
    "/orders/7", "POST /orders/7", "/orders/seven", "/shop/acme/files/a/b", "/boom", "/refused",
    "/health", "/nowhere", "/slash", "/reports/2026/", "BREW /orders/7",
]  # fmt: skip


def _app(recorder: Recorder | None) -> Any:
    app = flask.Flask("shop")
    shop = flask.Blueprint("shop", "shop", url_prefix="/shop/<tenant>")

    @app.get("/orders/<int(min=1):id>")
    def order(id: int) -> str:
        return f"order {id}"

    @app.route("/reports/<string(length=4):year>/", methods=["GET"])
    @app.route("/slash/")
    def report(year: str = "") -> str:
        return year

    @shop.get("/files/<path:name>")
    def file(tenant: str, name: str) -> str:
        return f"{tenant} {name}"

    @app.get("/boom")
    def boom() -> str:
        raise RuntimeError("boom")

    @app.get("/refused")
    def refused() -> tuple[str, int]:
        return "busy", 503

    app.add_url_rule("/health", view_func=lambda: "fine", endpoint="health")
    app.register_blueprint(shop)
    if recorder is not None:
        app.wsgi_app = PerfcoreWSGIMiddleware(  # type: ignore[method-assign]
            app.wsgi_app, service="shop", recorder=recorder
        )
    return app


def test_requests_are_named_by_their_rule(recorder: Recorder, rows: Rows) -> None:
    assert_same(wsgi(_app(recorder)), wsgi(_app(None)), _LINES)
    recorder.flush(20)
    assert counts(rows) == {
        "GET /orders/{id}": (1, 0),
        "GET /shop/{tenant}/files/{name}": (1, 0),
        "GET /boom": (1, 1),
        "GET /refused": (1, 1),
        "GET /reports/{year}/": (1, 0),
        "GET (unmatched)": (3, 0),  # a text for a number, no such path, the redirect
        "POST (unmatched)": (1, 0),
        "OTHER (unmatched)": (1, 0),
    }
    assert recorder.accounting().self_errors == 0


def test_an_exception_that_flask_lets_pass_is_the_same_and_an_error(
    recorder: Recorder, rows: Rows
) -> None:
    app = _app(recorder)
    app.config["PROPAGATE_EXCEPTIONS"] = True
    with pytest.raises(RuntimeError, match="boom"):
        wsgi(app)("/boom")
    recorder.flush(20)
    # Flask has forgotten the rule by then; it lets exceptions pass in debug mode only.
    assert counts(rows) == {"GET (unmatched)": (1, 1)}


def test_a_mounted_application_keeps_its_place_and_a_proxys_prefix_is_none(
    recorder: Recorder, rows: Rows
) -> None:
    outer = DispatcherMiddleware(_app(None), {"/inner": _app(recorder)})
    ask = wsgi(PerfcoreWSGIMiddleware(outer, recorder=recorder))
    assert ask("/inner/orders/3").body == b"order 3"
    assert ask("/orders/3").body == b"order 3"

    def behind_a_proxy(environ: dict[str, Any], start_response: Any) -> Any:
        environ["SCRIPT_NAME"] = "/api/v1"
        return _app(recorder)(environ, start_response)

    assert wsgi(behind_a_proxy)("/orders/3").body == b"order 3"
    recorder.flush(20)
    assert counts(rows) == {"GET /inner/orders/{id}": (1, 0), "GET /orders/{id}": (2, 0)}


def test_statements_belong_to_their_request(recorder: Recorder, rows: Rows, dsn: str) -> None:
    engine = sa.create_engine(dsn.replace("postgresql:", "postgresql+psycopg:"))
    engine.connect().close()  # the dialect asks the server a few things, once
    watch(engine, recorder)
    app = _app(recorder)

    def number(times: int) -> str:
        with engine.connect() as connection:
            return str([connection.scalar(sa.text("SELECT 5")) for _ in range(times)])

    app.add_url_rule("/numbers/<int:times>", view_func=number)
    assert wsgi(app)("/numbers/3").body == b"[5, 5, 5]"
    assert wsgi(app)("/numbers/2").body == b"[5, 5]"
    engine.dispose()
    recorder.flush(20)
    assert statements(rows) == {"GET /numbers/{times}": (5, 2)}


@pytest.mark.fault(13, 15)
def test_methods_and_paths_of_strangers_never_become_names(recorder: Recorder, rows: Rows) -> None:
    ask = wsgi(_app(recorder))
    for line in (
        "B" * 10_000 + " /orders/1", "BREW /nowhere", "/shop/acme/files/a%00b%0D%0Ac",
        "/shop/%E2%80%AEevil/files/%FF%FE", "/%ED%A0%80", "/" + "x" * 65_536, "/orders/1?secret=1",
    ):  # fmt: skip
        ask(line)
    recorder.flush(20)
    assert counts(rows) == {
        "OTHER (unmatched)": (2, 0),
        "GET /shop/{tenant}/files/{name}": (1, 0),
        "GET (unmatched)": (3, 0),  # a rule matches no line break
        "GET /orders/{id}": (1, 0),
    }
    assert recorder.accounting().missing == 0
