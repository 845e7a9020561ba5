"""The demo shop: an ordinary ASGI application over PostgreSQL, watched by Perfcore's two lines."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy
import uvicorn
from sqlalchemy import Connection, Engine, TextClause
from sqlalchemy.exc import IntegrityError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

import perfcore.collect
from perfcore.collect import PerfcoreMiddleware
from perfcore.demo import statements as sql
from perfcore.demo.words import invoice_number, tracking_code
from perfcore.server.supervisor import die_with_parent

Row = dict[str, Any]
# The payment provider answers all but one of so many calls.
_PAYMENTS_PER_FAILURE = 13


class ShopJSON(JSONResponse):
    """JSON in which times and numerics are written as text."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content, default=str, separators=(",", ":")).encode()


class ProviderTimeout(Exception):
    """The payment provider did not answer in time."""


def create_app(dsn: str, *, middleware: bool = True) -> Starlette:
    """Return the shop over the database of `dsn`; without `middleware` nothing watches it."""
    engine = _engine(dsn)
    app = Starlette(
        routes=ROUTES,
        lifespan=_lifespan,
        exception_handlers={
            HTTPException: _refused,
            ProviderTimeout: _failed,
            IntegrityError: _conflict,
        },
    )
    app.state.engine = engine
    app.state.payments = itertools.count(1)
    if middleware:
        app.add_middleware(PerfcoreMiddleware, service="shop")
        perfcore.collect.watch(engine)
    return app


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve the shop of SHOP_DSN on a port of the loopback interface until told to stop."""
    parser = argparse.ArgumentParser(prog="python -m perfcore.demo.shop", description=__doc__)
    parser.add_argument("--port", type=int, required=True, help="port on 127.0.0.1")
    port = parser.parse_args(arguments).port
    dsn = os.environ.get("SHOP_DSN", "")
    if not dsn:
        parser.error("SHOP_DSN is not set: give the shop's database, postgresql://…")
    die_with_parent()
    uvicorn.run(
        create_app(dsn),
        host="127.0.0.1",
        port=port,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=3,
    )


def _engine(dsn: str) -> Engine:
    return sqlalchemy.create_engine(
        re.sub(r"^postgres(ql)?(\+\w+)?://", "postgresql+psycopg://", dsn),
        pool_size=8,
        max_overflow=4,
        connect_args={"application_name": "shop", "connect_timeout": 5},
    )


@asynccontextmanager
async def _lifespan(app: Starlette) -> AsyncIterator[None]:
    yield
    app.state.engine.dispose()


def _refused(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return ShopJSON({"error": error.detail}, error.status_code)


def _failed(request: Request, error: Exception) -> JSONResponse:
    return ShopJSON({"error": str(error)}, 500)


def _conflict(request: Request, error: Exception) -> JSONResponse:
    return ShopJSON({"error": "a customer or product of this request does not exist"}, 409)


# Reading a request


def _id(request: Request, name: str = "id") -> int:
    """Return a number of the path; what cannot be an id is not found."""
    value = request.path_params[name]
    if not re.fullmatch(r"[0-9]{1,18}", value):
        raise HTTPException(404, f"no {name} {value[:40]!r}")
    return int(value)


def _number(request: Request, name: str, default: int, most: int) -> int:
    value = request.query_params.get(name, str(default))
    if not re.fullmatch(r"[0-9]{1,9}", value) or int(value) > most:
        raise HTTPException(400, f"{name} is {value[:40]!r}: give a number from 0 to {most}")
    return int(value)


def _word(request: Request, name: str) -> str:
    value = request.query_params.get(name, "").strip()
    if not value or "\0" in value:
        raise HTTPException(400, f"{name} is missing: add ?{name}=…")
    return value[:200]


async def _body(request: Request) -> Row:
    try:
        body = await request.json()
    except ValueError as error:
        raise HTTPException(400, f"the body is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise HTTPException(400, "the body is not a JSON object")
    return body


def _field(body: Row, name: str, least: int = 1) -> int:
    value = body.get(name)
    if not isinstance(value, int) or not least <= value < 2**31:
        raise HTTPException(422, f"{name} is {value!r}: give a number from {least} up")
    return value


# Talking to the database


def _rows(connection: Connection, statement: TextClause, **parameters: Any) -> list[Row]:
    return [dict(row) for row in connection.execute(statement, parameters).mappings()]


def _row(connection: Connection, what: str, statement: TextClause, **parameters: Any) -> Row:
    found = _rows(connection, statement, **parameters)
    if not found:
        raise HTTPException(404, f"no such {what}")
    return found[0]


def _answer(request: Request, statement: TextClause, **parameters: Any) -> JSONResponse:
    engine: Engine = request.app.state.engine
    with engine.connect() as connection:
        return ShopJSON(_rows(connection, statement, **parameters))


async def _write(request: Request, work: Callable[[Connection, Row], Any]) -> JSONResponse:
    """Do one transaction's work in a thread, with the request's body."""
    body, engine = await _body(request), request.app.state.engine

    def transaction() -> Any:
        with engine.begin() as connection:
            return work(connection, body)

    return ShopJSON(await run_in_threadpool(transaction), 201)


# Endpoints


def health(request: Request) -> JSONResponse:
    return ShopJSON({"status": "ok"})


def sitemap(request: Request) -> JSONResponse:
    with request.app.state.engine.connect() as connection:
        return ShopJSON(_rows(connection, sql.NEWEST_IDS)[0])


def categories(request: Request) -> JSONResponse:
    return _answer(request, sql.CATEGORY_COUNTS)


def category_products(request: Request) -> JSONResponse:
    category_id = _id(request)
    with request.app.state.engine.connect() as connection:
        category = _row(connection, "category", sql.CATEGORY, id=category_id)
        products = _rows(connection, sql.CATEGORY_PRODUCTS, category_id=category_id)
        for product in products:
            product |= _rows(connection, sql.PRODUCT_RATING, product_id=product["id"])[0]
    return ShopJSON(category | {"products": products})


def product(request: Request) -> JSONResponse:
    product_id = _id(request)
    with request.app.state.engine.connect() as connection:
        found = _row(connection, "product", sql.PRODUCT, id=product_id)
        return ShopJSON(found | _rows(connection, sql.PRODUCT_RATING, product_id=product_id)[0])


def filter_products(request: Request) -> JSONResponse:
    wanted: Row = {
        name: request.query_params[name][:40]
        for name in ("color", "material", "size")
        if name in request.query_params
    }
    if "brand" in request.query_params:
        wanted["brand"] = _number(request, "brand", 1, 10**9)
    if not wanted:
        raise HTTPException(400, "no filter: give color, material, size or brand")
    return _answer(request, sql.PRODUCTS_BY_ATTRIBUTES, attributes=json.dumps(wanted))


def search(request: Request) -> JSONResponse:
    return _answer(request, sql.PRODUCTS_BY_TEXT, pattern=f"%{_word(request, 'q')}%")


def reviews(request: Request) -> JSONResponse:
    return _answer(request, sql.REVIEWS_PAGE, offset=20 * _number(request, "page", 0, 10**7))


async def add_review(request: Request) -> JSONResponse:
    product_id = _id(request)

    def work(connection: Connection, body: Row) -> Row:
        return _row(
            connection,
            "product",
            sql.ADD_REVIEW,
            product_id=product_id,
            customer_id=_field(body, "customer_id"),
            rating=min(5, _field(body, "rating")),
            body=str(body.get("body", ""))[:2000],
        )

    return await _write(request, work)


def customer(request: Request) -> JSONResponse:
    with request.app.state.engine.connect() as connection:
        return ShopJSON(_row(connection, "customer", sql.CUSTOMER, id=_id(request)))


def customer_by_email(request: Request) -> JSONResponse:
    email = _word(request, "email")
    with request.app.state.engine.connect() as connection:
        return ShopJSON(_row(connection, "customer", sql.CUSTOMER_BY_EMAIL, email=email))


async def add_customer(request: Request) -> JSONResponse:
    def work(connection: Connection, body: Row) -> Row:
        fields = {name: str(body.get(name, ""))[:200] for name in ("email", "name", "country")}
        if "@" not in fields["email"]:
            raise HTTPException(422, f"email is {fields['email']!r}: give an address")
        added = _rows(connection, sql.ADD_CUSTOMER, **fields)
        if not added:
            raise HTTPException(409, "a customer with this email exists")
        return added[0]

    return await _write(request, work)


def customer_orders(request: Request) -> JSONResponse:
    customer_id, status = _id(request), request.query_params.get("status", "delivered")
    with request.app.state.engine.connect() as connection:
        _row(connection, "customer", sql.CUSTOMER, id=customer_id)
        orders = _rows(connection, sql.CUSTOMER_ORDERS, customer_id=customer_id, status=status)
    return ShopJSON(orders)


def cart(request: Request) -> JSONResponse:
    return _answer(request, sql.CART, customer_id=_id(request))


async def add_to_cart(request: Request) -> JSONResponse:
    customer_id = _id(request)

    def work(connection: Connection, body: Row) -> list[Row]:
        connection.execute(
            sql.ADD_TO_CART,
            {
                "customer_id": customer_id,
                "product_id": _field(body, "product_id"),
                "quantity": min(10, _field(body, "quantity")),
            },
        )
        return _rows(connection, sql.CART, customer_id=customer_id)

    return await _write(request, work)


def empty_cart(request: Request) -> JSONResponse:
    with request.app.state.engine.begin() as connection:
        connection.execute(sql.EMPTY_CART, {"customer_id": _id(request)})
    return ShopJSON([])


def order(request: Request) -> JSONResponse:
    order_id = _id(request)
    with request.app.state.engine.connect() as connection:
        found = _row(connection, "order", sql.ORDER, id=order_id)
        return ShopJSON(found | {"items": _rows(connection, sql.ORDER_ITEMS, order_id=order_id)})


async def add_order(request: Request) -> JSONResponse:
    def work(connection: Connection, body: Row) -> Row:
        customer_id, items = _field(body, "customer_id"), _items(body)
        _row(connection, "customer", sql.CUSTOMER, id=customer_id)
        return {"id": _place_order(connection, customer_id, items)}

    return await _write(request, work)


def _items(body: Row) -> dict[int, int]:
    """Return product id -> quantity, in the order of the ids so that two orders cannot deadlock."""
    items = body.get("items")
    if not isinstance(items, list) or not 1 <= len(items) <= 50:
        raise HTTPException(422, "items is not a list of 1 to 50 entries")
    if not all(isinstance(item, dict) for item in items):
        raise HTTPException(422, "an entry of items is not an object")
    return dict(sorted((_field(i, "product_id"), _field(i, "quantity")) for i in items))


def _place_order(connection: Connection, customer_id: int, items: dict[int, int]) -> int:
    prices = {r["id"]: r["price_cents"] for r in _rows(connection, sql.PRICES, ids=list(items))}
    unknown = [product_id for product_id in items if product_id not in prices]
    if unknown:
        raise HTTPException(404, f"no product {unknown[0]}")
    total = sum(prices[product_id] * quantity for product_id, quantity in items.items())
    order_id = int(
        connection.execute(
            sql.ADD_ORDER,
            {
                "customer_id": customer_id,
                "status": "pending",
                "source": "web",
                "total_cents": total,
            },
        ).scalar_one()
    )
    connection.execute(
        sql.ADD_ORDER_ITEM,
        [
            {
                "order_id": order_id,
                "product_id": product_id,
                "quantity": quantity,
                "unit_price_cents": prices[product_id],
            }
            for product_id, quantity in items.items()
        ],
    )
    connection.execute(sql.TAKE_STOCK, [{"id": p, "quantity": q} for p, q in items.items()])
    connection.execute(sql.ADD_INVOICE, {"order_id": order_id, "number": invoice_number(order_id)})
    connection.execute(
        sql.ADD_PAYMENT,
        {"order_id": order_id, "provider": "card", "state": "open", "amount_cents": total},
    )
    return order_id


def pay_order(request: Request) -> JSONResponse:
    order_id = _id(request)
    with request.app.state.engine.begin() as connection:
        _row(connection, "order", sql.ORDER, id=order_id)
        if next(request.app.state.payments) % _PAYMENTS_PER_FAILURE == 0:
            raise ProviderTimeout("the payment provider did not answer in time")
        connection.execute(sql.PAY, {"order_id": order_id, "state": "paid"})
    return ShopJSON({"id": order_id, "state": "paid"})


def ship_order(request: Request) -> JSONResponse:
    order_id = _id(request)
    with request.app.state.engine.begin() as connection:
        _row(connection, "order", sql.ORDER, id=order_id)
        closed = connection.execute(sql.CLOSE_ORDER, {"id": order_id, "status": "shipped"})
        if not closed.rowcount:
            raise HTTPException(409, f"order {order_id} is closed already")
        code = tracking_code(order_id)
        connection.execute(
            sql.ADD_SHIPMENT,
            {"order_id": order_id, "tracking_code": code, "carrier": "courier"},
        )
    return ShopJSON({"tracking_code": code})


def invoice(request: Request) -> JSONResponse:
    number = request.path_params["number"]
    with request.app.state.engine.connect() as connection:
        lines = _rows(connection, sql.INVOICE, number=number.replace("\0", ""))
    if not lines:
        raise HTTPException(404, "no such invoice")
    return ShopJSON({"number": number, "lines": lines})


def shipment(request: Request) -> JSONResponse:
    code = request.path_params["tracking_code"].replace("\0", "")
    with request.app.state.engine.connect() as connection:
        return ShopJSON(_row(connection, "shipment", sql.SHIPMENT, tracking_code=code))


def fulfilment_queue(request: Request) -> JSONResponse:
    return _answer(request, sql.FULFILMENT_QUEUE)


def customer_value(request: Request) -> JSONResponse:
    since = datetime.now(UTC) - timedelta(days=_number(request, "days", 180, 10_000))
    return _answer(request, sql.CUSTOMER_VALUE, since=since)


def unwished_products(request: Request) -> JSONResponse:
    return _answer(request, sql.UNWISHED_PRODUCTS)


def warehouse_suppliers(request: Request) -> JSONResponse:
    warehouse_id = _id(request)
    if warehouse_id >= 2**31:
        raise HTTPException(404, f"no warehouse {warehouse_id}")
    return _answer(request, sql.WAREHOUSE_SUPPLIERS, warehouse_id=warehouse_id)


def _route(method: str, path: str, endpoint: Callable[..., Any]) -> Route:
    return Route(path, endpoint, methods=[method])


ROUTES: Sequence[Route] = (
    _route("GET", "/health", health),
    _route("GET", "/sitemap", sitemap),
    _route("GET", "/categories", categories),
    _route("GET", "/categories/{id}/products", category_products),
    _route("GET", "/products/filter", filter_products),
    _route("GET", "/products/{id}", product),
    _route("POST", "/products/{id}/reviews", add_review),
    _route("GET", "/search", search),
    _route("GET", "/reviews", reviews),
    _route("POST", "/customers", add_customer),
    _route("GET", "/customers/by-email", customer_by_email),
    _route("GET", "/customers/{id}", customer),
    _route("GET", "/customers/{id}/orders", customer_orders),
    _route("GET", "/customers/{id}/cart", cart),
    _route("POST", "/customers/{id}/cart", add_to_cart),
    _route("DELETE", "/customers/{id}/cart", empty_cart),
    _route("POST", "/orders", add_order),
    _route("GET", "/orders/{id}", order),
    _route("POST", "/orders/{id}/payment", pay_order),
    _route("POST", "/orders/{id}/shipment", ship_order),
    _route("GET", "/invoices/{number}", invoice),
    _route("GET", "/shipments/{tracking_code}", shipment),
    _route("GET", "/fulfilment/queue", fulfilment_queue),
    _route("GET", "/reports/customer-value", customer_value),
    _route("GET", "/reports/unwished-products", unwished_products),
    _route("GET", "/warehouses/{id}/suppliers", warehouse_suppliers),
)


def endpoints(routes: Iterable[Route] = ROUTES) -> tuple[str, ...]:
    """Return the shop's endpoints as Perfcore names them.

    >>> "GET /orders/{id}" in endpoints()
    True
    """
    return tuple(
        f"{method} {route.path}"
        for route in routes
        for method in sorted(route.methods or ())
        if method != "HEAD"
    )


if __name__ == "__main__":
    main()
