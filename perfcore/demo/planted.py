"""What is wrong with the shop on purpose, for the tests and for docs/demo.md."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sqlalchemy import TextClause

from perfcore.demo import statements as sql


@dataclass(frozen=True, slots=True)
class Fault:
    """One planted fault: what it is, whom it hurts and what cures it.

    `remedy` is the DDL where an index or its removal is the cure, else a sentence.
    `parameters` are an example of the statement's, as literals.
    """

    name: str
    endpoints: tuple[str, ...]
    statement: TextClause | None
    remedy: str
    parameters: tuple[str, ...] = ()


INDEX_FAULTS = (
    Fault(
        "missing single-column index",
        ("GET /shipments/{tracking_code}",),
        sql.SHIPMENT,
        "CREATE INDEX ON shipments (tracking_code)",
        ("PC-c4ca4238a0b9",),
    ),
    Fault(
        "missing composite index with ORDER BY and LIMIT",
        ("GET /customers/{id}/orders",),
        sql.CUSTOMER_ORDERS,
        "CREATE INDEX ON orders (customer_id, status, created_at DESC)",
        ("7", "delivered"),
    ),
    Fault(
        "missing join index",
        ("GET /invoices/{number}", "GET /orders/{id}"),
        sql.INVOICE,
        "CREATE INDEX ON order_items (order_id)",
        ("INV-000000042",),
    ),
    Fault(
        "only an expression index serves",
        ("GET /customers/by-email",),
        sql.CUSTOMER_BY_EMAIL,
        "CREATE INDEX ON customers (lower(email))",
        ("shopper7@mail.example",),
    ),
    Fault(
        "only a GIN index serves",
        ("GET /products/filter",),
        sql.PRODUCTS_BY_ATTRIBUTES,
        "CREATE INDEX ON products USING gin (attributes)",
        ('{"color": "teal", "brand": 8}',),
    ),
    Fault(
        "only a trigram index serves",
        ("GET /search",),
        sql.PRODUCTS_BY_TEXT,
        "CREATE INDEX ON products USING gin (description gin_trgm_ops)",
        ("%walnut teapot%",),
    ),
    Fault(
        "a partial index serves best",
        ("GET /fulfilment/queue",),
        sql.FULFILMENT_QUEUE,
        "CREATE INDEX ON orders (created_at) WHERE closed_at IS NULL",
    ),
)
OTHER_FAULTS = (
    Fault(
        "N+1",
        ("GET /categories/{id}/products",),
        sql.PRODUCT_RATING,
        "one statement with GROUP BY product_id for all 25 products of the page",
        ("7",),
    ),
    Fault(
        "deep OFFSET pagination",
        ("GET /reviews",),
        sql.REVIEWS_PAGE,
        "continue after the last row seen: WHERE (created_at, id) < (?, ?)",
        ("150000",),
    ),
    Fault(
        "NOT IN over a nullable column",
        ("GET /reports/unwished-products",),
        sql.UNWISHED_PRODUCTS,
        "NOT EXISTS (SELECT FROM wishlist_items w WHERE w.product_id = products.id)",
    ),
    Fault(
        "a sort that spills",
        ("GET /reports/customer-value",),
        sql.CUSTOMER_VALUE,
        "SET work_mem = '32MB' for the reports",
        ("2000-01-01",),
    ),
    Fault(
        "a hot read that a cache would absorb",
        ("GET /categories",),
        sql.CATEGORY_COUNTS,
        "keep the answer for a minute: it is the same for every visitor",
    ),
    Fault(
        "stale statistics",
        ("GET /warehouses/{id}/suppliers",),
        sql.WAREHOUSE_SUPPLIERS,
        "ANALYZE stock_movements",
        ("5",),
    ),
    Fault(
        "an unused index",
        ("POST /orders",),
        sql.ADD_ORDER,
        "DROP INDEX orders_source_idx",
    ),
    Fault(
        "a duplicate index",
        ("POST /products/{id}/reviews",),
        sql.ADD_REVIEW,
        "DROP INDEX reviews_product_idx",
    ),
)
FAULTS = INDEX_FAULTS + OTHER_FAULTS


def numbered(statement: TextClause) -> str:
    """Return a statement's text with $1, $2 … for its named parameters, in order of appearance.

    >>> numbered(sql.SHIPMENT).split("WHERE")[1]
    ' tracking_code = $1'
    """
    names: list[str] = []

    def number(match: re.Match[str]) -> str:
        if match.group(1) not in names:
            names.append(match.group(1))
        return f"${names.index(match.group(1)) + 1}"

    return re.sub(r"(?<!:):(\w+)", number, " ".join(statement.text.split()))
