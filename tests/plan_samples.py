"""Plans of every kind, from a small shop on a real server: what the drawing is tried on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from perfcore.db import connect
from perfcore.server.embedded import Cluster

_SHOP = """
CREATE TABLE customers (id int PRIMARY KEY, email text NOT NULL, city text NOT NULL);
CREATE TABLE orders (
    id int PRIMARY KEY, customer_id int NOT NULL, status text NOT NULL,
    total_cents int NOT NULL, created_at timestamptz NOT NULL);
CREATE TABLE order_items (order_id int NOT NULL, product_id int NOT NULL, quantity int NOT NULL);
CREATE INDEX orders_customer_id_idx ON orders (customer_id);
INSERT INTO customers
    SELECT n, 'user' || n || '@example.com', 'City ' || n % 50 FROM generate_series(1, 5000) n;
INSERT INTO orders
    SELECT n, 1 + (n * 7919) % 5000, CASE WHEN n % 200 = 0 THEN 'returned' ELSE 'paid' END,
        n % 90000, timestamptz '2026-11-01' - n * interval '1 minute'
    FROM generate_series(1, {orders}) n;
INSERT INTO order_items
    SELECT 1 + n % {orders}, n % 800, 1 + n % 4 FROM generate_series(1, 2 * {orders}) n;
ANALYZE customers, orders, order_items;
"""


@dataclass(frozen=True, slots=True)
class Sample:
    """A statement and the settings under which it gets the plan that its name says."""

    sql: str
    settings: Sequence[str] = ()


SAMPLES = {
    "seq_scan_sort": Sample(
        "SELECT * FROM orders WHERE status = 'returned' AND total_cents > 100"
        " ORDER BY created_at DESC LIMIT 20",
    ),
    "sort_spill": Sample(
        "SELECT * FROM orders ORDER BY total_cents, created_at", ("work_mem = '128kB'",)
    ),
    "nested_loop": Sample(
        "SELECT c.email, o.total_cents FROM customers c JOIN orders o ON o.customer_id = c.id"
        " WHERE c.city = 'City 7'",
        ("enable_hashjoin = off", "enable_mergejoin = off", "enable_bitmapscan = off"),
    ),
    "hash_spill": Sample(
        "SELECT o.status, sum(i.quantity) FROM orders o JOIN order_items i ON i.order_id = o.id"
        " WHERE lower(o.status) = 'paid' GROUP BY o.status",
        ("work_mem = '128kB'",),
    ),
    "parallel": Sample(
        "SELECT status, count(*) FROM orders WHERE total_cents % 7 = 3 GROUP BY status",
        (
            "parallel_setup_cost = 0",
            "parallel_tuple_cost = 0",
            "min_parallel_table_scan_size = 0",
            "max_parallel_workers_per_gather = 2",
        ),
    ),
    "cte_and_subplans": Sample(
        "WITH big AS MATERIALIZED (SELECT customer_id, sum(total_cents) AS spent FROM orders"
        " GROUP BY customer_id) SELECT c.email, b.spent, (SELECT max(o.created_at) FROM orders o"
        " WHERE o.customer_id = c.id) FROM customers c JOIN big b ON b.customer_id = c.id"
        " WHERE b.spent > (SELECT avg(spent) FROM big) ORDER BY b.spent DESC LIMIT 10",
    ),
    "never_executed": Sample(
        "SELECT * FROM customers c JOIN orders o ON o.customer_id = c.id WHERE c.id = -1",
    ),
}
ANALYZED = "ANALYZE, BUFFERS, SETTINGS, FORMAT JSON"


def make_shop(dsn: str, orders: int = 60_000) -> None:
    """Create the tables that the samples read."""
    with connect(dsn) as connection:
        connection.execute(_SHOP.replace("{orders}", str(orders)))


def explain(dsn: str, name: str, options: str = ANALYZED) -> Any:
    """Return the server's answer to EXPLAIN of a sample: JSON as Python values, text as lines."""
    sample = SAMPLES[name]
    with connect(dsn) as connection:
        for setting in sample.settings:
            connection.execute(f"SET LOCAL {setting}")
        rows = connection.execute(f"EXPLAIN ({options}) {sample.sql}").fetchall()
        connection.rollback()
    return rows[0][0] if "JSON" in options else "\n".join(str(row[0]) for row in rows)


@contextmanager
def database(cluster: Cluster, name: str, template: str = "template1") -> Iterator[str]:
    """Make a database for the length of the block."""
    with connect(cluster.dsn(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        yield cluster.dsn(name)
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
