"""The kind of a plan's change, on plans that a real server made with and without the index."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg.rows import TupleRow

from perfcore.db import connect
from perfcore.plan import Plan, parse_plan
from perfcore.plan_change import ORDERED_INDEX, OTHER_CHANGE, SAME_PLAN, plan_change
from perfcore.server.embedded import Cluster

Connection = psycopg.Connection[TupleRow]

_SHOP = """
CREATE TABLE customers (id int PRIMARY KEY, city text NOT NULL);
CREATE TABLE orders (
    id int PRIMARY KEY, customer_id int NOT NULL, status text NOT NULL, note text NOT NULL,
    tags int[] NOT NULL, placed_at timestamptz NOT NULL);
CREATE TABLE events (id int NOT NULL, day date NOT NULL) PARTITION BY RANGE (day);
CREATE TABLE events_2026 PARTITION OF events FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
INSERT INTO customers SELECT n, 'City ' || n % 500 FROM generate_series(1, 5000) n;
INSERT INTO orders
    SELECT n, 1 + (n * 7919) % 5000, CASE WHEN n % 50 = 0 THEN 'open' ELSE 'paid' END,
        repeat('x', 60), ARRAY[n % 3000], timestamptz '2026-01-01' + n * interval '1 minute'
    FROM generate_series(1, 40000) n;
INSERT INTO events SELECT n % 9000, date '2026-01-01' + n % 300 FROM generate_series(1, 20000) n;
VACUUM ANALYZE;
"""


@pytest.fixture(scope="module")
def shop(cluster18: Cluster) -> Iterator[Connection]:
    with connect(cluster18.dsn(), autocommit=True) as admin:
        admin.execute("CREATE DATABASE plan_change")
        with connect(cluster18.dsn("plan_change"), autocommit=True) as connection:
            for statement in filter(None, map(str.strip, _SHOP.split(";"))):
                connection.execute(statement.encode())
            yield connection
        admin.execute("DROP DATABASE plan_change WITH (FORCE)")


def plans(shop: Connection, sql: str, *ddl: str, standing: str = "") -> tuple[Plan, Plan]:
    """Return the plan of the statement without and with the index, really built."""
    with shop.transaction(force_rollback=True):
        if standing:
            shop.execute(standing.encode())
        before = explained(shop, sql)
        for each in ddl:
            shop.execute(each.encode())
        return before, explained(shop, sql)


def explained(shop: Connection, sql: str) -> Plan:
    row = shop.execute(f"EXPLAIN (FORMAT JSON) {sql}".encode()).fetchone()
    assert row is not None
    return parse_plan(row[0])


@pytest.mark.parametrize(
    ("kind", "sql", "index"),
    [
        ("Seq Scan -> Index Scan",
         "SELECT note FROM orders WHERE placed_at = '2026-01-07'", "orders (placed_at)"),
        ("Seq Scan -> Bitmap Heap Scan",
         "SELECT note FROM orders WHERE customer_id = 7", "orders (customer_id)"),
        ("Seq Scan -> Index Only Scan",
         "SELECT count(*) FROM orders WHERE status = 'open'", "orders (status)"),
        ("Seq Scan -> Index Scan",  # the filter is what costs; that the sort ends as well is little
         "SELECT note FROM orders WHERE customer_id = 7 ORDER BY placed_at LIMIT 5",
         "orders (customer_id, placed_at)"),
        (ORDERED_INDEX,
         "SELECT note FROM orders ORDER BY placed_at LIMIT 20", "orders (placed_at)"),
        (f"{ORDERED_INDEX} + filter",
         "SELECT note FROM orders WHERE status = 'open' ORDER BY placed_at LIMIT 20",
         "orders (placed_at)"),
        ("Hash Join -> Nested Loop with index",
         "SELECT o.note FROM customers c JOIN orders o ON o.customer_id = c.id"
         " WHERE c.city = 'City 7'", "orders (customer_id)"),
        (SAME_PLAN, "SELECT note FROM orders WHERE customer_id > 1", "orders (customer_id)"),
    ],
)  # fmt: skip
def test_what_an_index_makes_of_a_plan(shop: Connection, kind: str, sql: str, index: str) -> None:
    before, after = plans(shop, sql, f"CREATE INDEX ON {index}")
    found = plan_change(before, after, "public.orders")
    assert found == kind, f"{before.to_text()}\n{after.to_text()}"


@pytest.mark.parametrize(
    ("method", "sql"),
    [
        ("gin", "SELECT note FROM orders WHERE tags @> ARRAY[7]"),
        ("brin", "SELECT note FROM orders WHERE placed_at < '2026-01-02'"),
    ],
)
def test_an_access_method_other_than_btree_is_named(
    shop: Connection, method: str, sql: str
) -> None:
    column = "tags" if method == "gin" else "placed_at"
    before, after = plans(shop, sql, f"CREATE INDEX ON orders USING {method} ({column})")
    found = plan_change(before, after, "orders", method=method)
    assert found == f"Seq Scan -> Bitmap Heap Scan ({method})", after.to_text()


def test_a_filter_that_a_wider_index_takes_over(shop: Connection) -> None:
    # On three days an index scan reads in the order of the table, so no bitmap is made.
    before, after = plans(
        shop,
        "SELECT note FROM orders"
        " WHERE placed_at BETWEEN '2026-01-02' AND '2026-01-05' AND status = 'open'",
        "CREATE INDEX ON orders (status, placed_at)",
        standing="CREATE INDEX ON orders (placed_at)",
    )
    found = plan_change(before, after, "orders")
    assert found.startswith("Index Scan + filter -> "), before.to_text()
    assert plan_change(after, before, "orders").endswith("-> Index Scan")


def test_a_partition_s_scans_stand_for_their_table(shop: Connection) -> None:
    before, after = plans(
        shop, "SELECT day FROM events WHERE id = 7 AND day = '2026-01-08'",
        "CREATE INDEX ON events (id, day)",
    )  # fmt: skip
    assert plan_change(before, after, "public.events") == "Seq Scan -> Index Only Scan"


def node(kind: str, *children: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"Node Type": kind, "Total Cost": 10.0, "Plans": list(children), **more}


def test_of_two_scans_of_a_table_the_costlier_one_that_changed_is_told() -> None:
    def made(first: str, second: str) -> Plan:
        one = node(first, **{"Relation Name": "t", "Alias": "a", "Total Cost": 5.0})
        two = node(second, **{"Relation Name": "t", "Alias": "b", "Total Cost": 90.0})
        return parse_plan({"Plan": node("Nested Loop", one, two)})

    before = made("Seq Scan", "Seq Scan")
    assert plan_change(before, made("Index Scan", "Seq Scan"), "t") == "Seq Scan -> Index Scan"
    assert (
        plan_change(before, made("Index Scan", "Index Only Scan"), "t")
        == "Seq Scan -> Index Only Scan"
    )


def test_what_reads_as_before_but_works_otherwise_is_another_change() -> None:
    scan = node("Seq Scan", **{"Relation Name": "t", "Alias": "t"})
    plain = parse_plan({"Plan": node("Aggregate", scan)})
    hashed = parse_plan({"Plan": node("Hash", node("Aggregate", scan))})
    assert plan_change(plain, hashed, "t") == OTHER_CHANGE
    assert plan_change(plain, plain, "t") == SAME_PLAN
