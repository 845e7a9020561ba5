"""A target with a table worth an index, registered in a store."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from psycopg.rows import TupleRow

from perfcore.db import connect
from perfcore.types import IndexDefinition, IndexKey

Connection = psycopg.Connection[TupleRow]

# Three leaves, two of them below a partition that is partitioned itself.
PARTITIONED = """
    CREATE TABLE events (id bigint, kind int NOT NULL, body text, PRIMARY KEY (id, kind))
        PARTITION BY RANGE (id);
    CREATE TABLE events_early PARTITION OF events FOR VALUES FROM (0) TO (3001);
    CREATE TABLE events_late PARTITION OF events FOR VALUES FROM (3001) TO (MAXVALUE)
        PARTITION BY LIST (kind);
    CREATE TABLE events_late_a PARTITION OF events_late FOR VALUES IN (0, 1, 2, 3);
    CREATE TABLE events_late_b PARTITION OF events_late DEFAULT;
    INSERT INTO events SELECT n, n % 500, repeat('x', 60) FROM generate_series(1, 9000) n;
    ANALYZE events
"""
ORDERS = IndexDefinition("public", "orders", (IndexKey("customer_id"),))


@pytest.fixture
def target(dsn: str) -> Iterator[Connection]:
    with connect(dsn, autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE orders (id bigint PRIMARY KEY, customer_id int NOT NULL, "
            "status text NOT NULL, email text NOT NULL, attributes jsonb NOT NULL, "
            "note text, placed_at timestamptz NOT NULL)"
        )
        connection.execute(
            "INSERT INTO orders SELECT n, n * 7 %% 5000, "
            "CASE WHEN n %% 50 = 0 THEN 'open' ELSE 'shipped' END, "
            "'User' || n %% 5000 || '@Example.com', "
            "jsonb_build_object('colour', (ARRAY['red', 'green', 'blue'])[n %% 3 + 1], "
            "'sku', 'S' || n %% 4000), "
            "'fine words about order number ' || n, "
            "'2026-01-01Z'::timestamptz + n * interval '1 minute' "
            "FROM generate_series(1, %s) n",
            (20000,),
        )
        connection.execute("ANALYZE orders")
        yield connection


@pytest.fixture
def target_id(store: str) -> int:
    with connect(store, autocommit=True) as connection:
        row = connection.execute(
            "INSERT INTO perfcore.targets (name) VALUES ('shop') RETURNING target_id"
        ).fetchone()
    assert row is not None
    return int(row[0])
