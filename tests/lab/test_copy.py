from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from perfcore.db import connect
from perfcore.errors import TrialFailed
from perfcore.lab.copy import copy_tables, ensure_lab
from perfcore.server.embedded import Cluster
from tests.lab.conftest import PARTITIONED, Connection

MB = 1_000_000


@pytest.fixture
def lab(cluster18: Cluster) -> Iterator[str]:
    name = uuid.uuid4().hex[:8]
    yield ensure_lab(cluster18.dsn(), name)
    with connect(cluster18.dsn(), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE lab_{name} WITH (FORCE)".encode())


def test_rows_indexes_types_and_keys_arrive_and_the_target_keeps_writing(
    target: Connection, dsn: str, lab: str
) -> None:
    target.execute(
        """
        CREATE EXTENSION pg_trgm;
        CREATE TYPE mood AS ENUM ('fine', 'poor');
        CREATE TABLE customers (id int PRIMARY KEY, mood mood NOT NULL,
                                initial text GENERATED ALWAYS AS ('x') STORED);
        INSERT INTO customers SELECT n, 'fine' FROM generate_series(0, 5000) n;
        ALTER TABLE orders ADD FOREIGN KEY (customer_id) REFERENCES customers;
        CREATE INDEX words ON orders USING gin (note gin_trgm_ops);
        SET random_page_cost = 1.5
        """
    )
    seen: list[float] = []
    made = copy_tables(
        dsn, lab, ["public.orders"], max_bytes=100 * MB, progress=lambda done, _: seen.append(done)
    )
    assert [(t.qualified_name, t.rows, t.is_reused) for t in made.tables] == [
        ("public.orders", 20000, False)
    ]
    assert seen == sorted(seen)
    # The customers were not asked for, so their rows and the key to them are absent.
    assert made.notes == ()
    with connect(lab) as connection:
        for count, table in ((20000, "orders"), (0, "customers")):
            row = connection.execute(f"SELECT count(*) FROM {table}".encode()).fetchone()
            assert row == (count,)
        names = connection.execute(
            "SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = 'orders'::regclass "
            "ORDER BY 1"
        ).fetchall()
    assert names == [("orders_pkey",), ("words",)]


def test_a_young_copy_of_an_unchanged_table_is_used_again(
    target: Connection, dsn: str, lab: str
) -> None:
    copy_tables(dsn, lab, ["public.orders"], max_bytes=100 * MB)
    again = copy_tables(dsn, lab, ["public.orders"], max_bytes=100 * MB)
    assert again.tables[0].is_reused and again.copied_bytes == 0
    later = datetime.now(UTC) + timedelta(hours=2)
    assert (
        not copy_tables(dsn, lab, ["public.orders"], max_bytes=100 * MB, now=later)
        .tables[0]
        .is_reused
    )
    target.execute("CREATE INDEX fresh ON orders (status)")
    assert not copy_tables(dsn, lab, ["public.orders"], max_bytes=100 * MB).tables[0].is_reused


def test_what_cannot_be_copied_is_said_with_its_size(
    target: Connection, dsn: str, lab: str
) -> None:
    with pytest.raises(TrialFailed, match=r"\d MB to copy \(public.orders \d+ MB\), 1 MB are"):
        copy_tables(dsn, lab, ["public.orders"], max_bytes=MB)
    with pytest.raises(TrialFailed, match="public.absent: no table"):
        copy_tables(dsn, lab, ["public.absent"], max_bytes=MB)


def test_a_partitioned_table_comes_with_its_partitions(
    target: Connection, dsn: str, lab: str
) -> None:
    target.execute(PARTITIONED)
    for _ in range(2):  # the second time the schema is there already
        made = copy_tables(dsn, lab, ["public.events", "public.orders"], max_bytes=100 * MB)
        assert [(t.qualified_name, t.rows) for t in made.tables] == [
            ("public.events", 9000), ("public.orders", 20000),
        ]  # fmt: skip
        assert made.notes == ()
        with connect(lab) as connection:
            row = connection.execute(
                "SELECT count(*), count(DISTINCT tableoid) FROM events"
            ).fetchone()
            assert row == (9000, 3)
            keys = connection.execute(
                "SELECT count(*) FROM pg_partition_tree('events_pkey')"
            ).fetchone()
            assert keys == (5,)
        target.execute("CREATE INDEX ON events_late_b (kind)")  # the whole is copied anew
    assert copy_tables(dsn, lab, ["public.events"], max_bytes=100 * MB).tables[0].is_reused is False
    with pytest.raises(TrialFailed, match=r"\d MB to copy \(public.events \d MB\)"):
        copy_tables(dsn, lab, ["public.events"], max_bytes=10)
