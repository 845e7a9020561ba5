from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from perfcore.db import connect
from perfcore.demo import words
from perfcore.demo.shop import ROUTES, create_app, endpoints, main
from perfcore.demo.statements import ORDER, ORDER_ITEMS
from perfcore.normalise import fingerprint, fingerprint_hex

_ORDER = {"customer_id": 3, "items": [{"product_id": 5, "quantity": 2}]}
# One good request for each endpoint: path, query, body.
_REQUESTS: dict[str, tuple[str, dict[str, Any], Any]] = {
    "GET /health": ("/health", {}, None),
    "GET /sitemap": ("/sitemap", {}, None),
    "GET /categories": ("/categories", {}, None),
    "GET /categories/{id}/products": ("/categories/3/products", {}, None),
    "GET /products/filter": ("/products/filter", {"color": "teal", "brand": "8"}, None),
    "GET /products/{id}": ("/products/5", {}, None),
    "POST /products/{id}/reviews": (
        "/products/5/reviews", {}, {"customer_id": 3, "rating": 4, "body": "Fine."}
    ),
    "GET /search": ("/search", {"q": "lamp"}, None),
    "GET /reviews": ("/reviews", {"page": "10"}, None),
    "POST /customers": ("/customers", {}, {"email": "New1@Mail.example", "name": "Ada"}),
    "GET /customers/by-email": ("/customers/by-email", {"email": words.email(9).upper()}, None),
    "GET /customers/{id}": ("/customers/9", {}, None),
    "GET /customers/{id}/orders": ("/customers/9/orders", {"status": "delivered"}, None),
    "GET /customers/{id}/cart": ("/customers/9/cart", {}, None),
    "POST /customers/{id}/cart": ("/customers/9/cart", {}, {"product_id": 5, "quantity": 1}),
    "DELETE /customers/{id}/cart": ("/customers/9/cart", {}, None),
    "POST /orders": ("/orders", {}, _ORDER),
    "GET /orders/{id}": ("/orders/9", {}, None),
    "POST /orders/{id}/payment": ("/orders/9/payment", {}, {}),
    "POST /orders/{id}/shipment": ("/orders/3999/shipment", {}, {}),
    "GET /invoices/{number}": (f"/invoices/{words.invoice_number(9)}", {}, None),
    "GET /shipments/{tracking_code}": (f"/shipments/{words.tracking_code(9)}", {}, None),
    "GET /fulfilment/queue": ("/fulfilment/queue", {}, None),
    "GET /reports/customer-value": ("/reports/customer-value", {}, None),
    "GET /reports/unwished-products": ("/reports/unwished-products", {}, None),
    "GET /warehouses/{id}/suppliers": ("/warehouses/5/suppliers", {}, None),
}  # fmt: skip


def test_offers_a_dozen_endpoints_with_reads_and_writes() -> None:
    assert set(_REQUESTS) == set(endpoints())
    assert len(ROUTES) >= 12
    assert {name.split()[0] for name in endpoints()} == {"GET", "POST", "DELETE"}


@pytest.mark.parametrize("endpoint", sorted(_REQUESTS))
def test_answers_over_http(client: httpx.Client, endpoint: str) -> None:
    path, query, body = _REQUESTS[endpoint]
    answer = client.request(endpoint.split()[0], path, params=query or None, json=body)
    assert answer.status_code in (200, 201), answer.text
    assert answer.json() or endpoint.endswith("/cart"), "the answer is empty"


@pytest.mark.parametrize(
    "path",
    [
        "/products/0", "/products/undefined", "/products/-1", "/products/99999999999999999999",
        "/categories/999/products", "/customers/0", "/customers/0/orders", "/orders/1e9",
        "/orders/999999999", "/invoices/INV-x", "/shipments/none", "/warehouses/x/suppliers",
        "/warehouses/9999999999/suppliers", "/customers/by-email?email=nobody", "/nowhere",
    ],
)  # fmt: skip
def test_what_does_not_exist_is_not_found(client: httpx.Client, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    assert answer.json()["error"]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/orders", {"customer_id": 1}, 422),
        ("/orders", {"customer_id": "1", "items": []}, 422),
        ("/orders", {"customer_id": 1, "items": [5]}, 422),
        ("/orders", {"customer_id": 1, "items": [{"product_id": 10**9, "quantity": 1}]}, 404),
        ("/orders", [1], 400),
        ("/customers", {"email": "nobody"}, 422),
        ("/customers", {"email": words.email(1), "name": "Twice"}, 409),
        ("/products/999999999/reviews", {"customer_id": 1, "rating": 5}, 409),
    ],
)
def test_a_wrong_body_is_refused(
    client: httpx.Client, path: str, body: object, status: int
) -> None:
    answer = client.post(path, json=body)
    assert answer.status_code == status
    assert answer.json()["error"]


def test_a_body_that_is_not_json_is_refused(client: httpx.Client) -> None:
    assert client.post("/orders", content=b"{").status_code == 400


@pytest.mark.parametrize(
    "query", ["/reviews?page=x", "/search", "/products/filter", "/search?q=%00"]
)
def test_a_wrong_query_is_refused(client: httpx.Client, query: str) -> None:
    assert client.get(query).status_code == 400


def test_an_order_is_placed_shown_paid_and_shipped_once(client: httpx.Client) -> None:
    stock = client.get("/products/5").json()["stock"]
    order_id = client.post("/orders", json=_ORDER).json()["id"]
    order = client.get(f"/orders/{order_id}").json()
    assert [(i["product_id"], i["quantity"]) for i in order["items"]] == [(5, 2)]
    assert order["total_cents"] == 2 * order["items"][0]["unit_price_cents"]
    assert client.get("/products/5").json()["stock"] == stock - 2
    assert client.get(f"/invoices/{words.invoice_number(order_id)}").status_code == 200
    code = client.post(f"/orders/{order_id}/shipment").json()["tracking_code"]
    assert client.get(f"/shipments/{code}").json()["order_id"] == order_id
    assert client.post(f"/orders/{order_id}/shipment").status_code == 409


def test_the_queue_shows_the_oldest_open_orders_first(client: httpx.Client) -> None:
    times = [order["created_at"] for order in client.get("/fulfilment/queue").json()]
    assert times and times == sorted(times)


def test_payments_fail_now_and_then(client: httpx.Client) -> None:
    statuses = [client.post(f"/orders/{n}/payment").status_code for n in range(1, 27)]
    assert statuses.count(500) == 2
    assert statuses.count(200) == 24


def test_a_listing_asks_once_for_each_product(shop_dsn: str, client: httpx.Client) -> None:
    with connect(shop_dsn, autocommit=True) as connection:
        calls = (
            "SELECT coalesce(sum(calls), 0)::int FROM pg_stat_statements "
            "WHERE query LIKE '%avg(rating) AS rating%' AND query NOT LIKE '%pg_stat%' "
            "AND dbid = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
        before = connection.execute(calls).fetchone()
        products = client.get("/categories/1/products").json()["products"]
        after = connection.execute(calls).fetchone()
    assert before is not None and after is not None
    assert after[0] - before[0] == len(products) > 1


def test_its_connections_say_who_they_are(shop_dsn: str, client: httpx.Client) -> None:
    client.get("/sitemap")
    with connect(shop_dsn) as connection:
        row = connection.execute(
            "SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name = 'shop'"
        ).fetchone()
    assert row == (True,)


def test_perfcore_sees_endpoints_and_statements(
    shop_dsn: str,
    store: str,
    serve: Callable[[Starlette], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PERFCORE_STORE", store)
    app = create_app(shop_dsn)
    url = serve(app)
    with httpx.Client(base_url=url, trust_env=False) as client:
        assert [client.get("/orders/9").status_code for _ in range(5)] == [200] * 5
    seen = _wait_for_series(store)
    assert ("api_endpoint", "GET /orders/{id}") in seen
    for statement in (ORDER, ORDER_ITEMS):
        assert ("database_query", fingerprint_hex(fingerprint(statement.text))) in seen


def _wait_for_series(store: str) -> set[tuple[str, str]]:
    deadline = time.monotonic() + 15
    seen: set[tuple[str, str]] = set()
    with connect(store, autocommit=True) as connection:
        while not any(kind == "api_endpoint" for kind, _ in seen):
            assert time.monotonic() < deadline, f"nothing arrived in the store but {seen}"
            time.sleep(0.1)
            rows = connection.execute("SELECT metric_type, metric_name FROM perfcore.series")
            seen = {(kind, name) for kind, name in rows}
    return seen


def test_says_which_variable_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("SHOP_DSN", raising=False)
    with pytest.raises(SystemExit):
        main(["--port", "1"])
    assert "SHOP_DSN is not set" in capsys.readouterr().err
