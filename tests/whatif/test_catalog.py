import psycopg
import pytest

from perfcore.db import connect
from perfcore.errors import TargetUnavailable
from perfcore.types import Catalog, IndexDefinition, IndexKey
from perfcore.whatif.catalog import read_catalog
from perfcore.whatif.size import estimate_index_bytes

SCHEMA = """
CREATE TABLE orders (
    id int PRIMARY KEY, "Customer" int NOT NULL, status text, tags text[], payload jsonb
);
INSERT INTO orders
    SELECT i, i % 50, CASE WHEN i % 10 = 0 THEN 'open' ELSE 'done' END, ARRAY['a', 'b, "c"'], '{}'
    FROM generate_series(1, 1000) AS i;
CREATE INDEX orders_mixed ON orders ("Customer" DESC, lower(status) text_pattern_ops)
    INCLUDE (payload) WHERE status <> 'gone';
ALTER TABLE orders DROP COLUMN tags;
ANALYZE orders;
CREATE SCHEMA other;
CREATE TABLE other.never_analysed (a int);
CREATE VIEW a_view AS SELECT 1 AS one;
"""


def check(catalog: Catalog) -> None:
    assert {t.qualified_name for t in catalog.tables} == {"public.orders", "other.never_analysed"}
    orders = catalog.table("orders")
    assert orders is not None
    assert orders.row_count == 1000
    assert orders.table_bytes > 8192 * 4
    assert [c.name for c in orders.columns] == ["id", "Customer", "status", "payload"]
    status = orders.column("status")
    assert status is not None
    assert status.most_common_values == ("done", "open")
    assert status.most_common_freqs == pytest.approx((0.9, 0.1))
    assert status.n_distinct == 2
    number = orders.column("id")
    assert number is not None and number.type == "integer" and number.not_null
    assert number.n_distinct == -1 and number.correlation == 1 and len(number.histogram_bounds) > 9
    other = catalog.table("never_analysed")
    assert other is not None and other.row_count == -1
    assert other.columns[0].n_distinct is None


@pytest.mark.parametrize("server", ["dsn", "dsn15"])
def test_reads_tables_columns_and_indexes(request: pytest.FixtureRequest, server: str) -> None:
    with connect(request.getfixturevalue(server), autocommit=True) as connection:
        connection.execute(SCHEMA)
        catalog = read_catalog(connection)
    check(catalog)
    orders = catalog.table("orders")
    assert orders is not None
    mixed, primary = orders.indexes
    assert primary.is_primary and primary.is_constraint and primary.keys == ("id",)
    assert mixed.keys == ("Customer", "lower(status)")
    assert mixed.include == ("payload",)
    assert mixed.predicate == "status <> 'gone'::text"
    assert mixed.descending == (True, False)
    assert mixed.opclasses == ("", "text_pattern_ops")
    assert mixed.method == "btree" and mixed.is_valid and mixed.index_bytes > 0
    assert not mixed.is_constraint and "CREATE INDEX orders_mixed" in mixed.definition


def test_a_monitoring_role_reads_everything_but_the_statistics(dsn: str) -> None:
    with connect(dsn, autocommit=True) as connection:
        connection.execute(SCHEMA)
        connection.execute("CREATE ROLE watcher")
        try:
            connection.execute("GRANT pg_monitor TO watcher")
            connection.execute("SET ROLE watcher")
            catalog = read_catalog(connection)
        finally:
            connection.execute("RESET ROLE")
            connection.execute("DROP ROLE watcher")
    orders = catalog.table("orders")
    assert orders is not None and orders.row_count == 1000
    assert len(orders.indexes) == 2 and orders.columns[0].n_distinct is None


def test_a_locked_table_is_left_out_and_nothing_waits(dsn: str) -> None:
    with connect(dsn, autocommit=True) as connection, connect(dsn) as other:
        connection.execute(SCHEMA)
        other.execute("LOCK TABLE orders IN ACCESS EXCLUSIVE MODE")
        assert [t.name for t in read_catalog(connection).tables] == ["never_analysed"]


def test_leaves_the_callers_transaction_as_it_was(dsn: str) -> None:
    with connect(dsn) as connection:
        connection.execute("CREATE TABLE mine (a int)")
        read_catalog(connection)
        connection.execute("INSERT INTO mine VALUES (1)")
        row = connection.execute("SHOW statement_timeout").fetchone()
    assert row == ("0",)


def test_a_failed_read_names_the_database(dsn: str) -> None:
    with connect(dsn) as connection:
        with pytest.raises(psycopg.Error):
            connection.execute("SELECT 1/0")
        with pytest.raises(TargetUnavailable, match="cannot be read"):
            read_catalog(connection)


PARTITIONED = """
CREATE TABLE parts (id int NOT NULL, day date NOT NULL, word text) PARTITION BY RANGE (day);
CREATE TABLE parts_old PARTITION OF parts FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE TABLE parts_rest PARTITION OF parts DEFAULT PARTITION BY HASH (id);
CREATE TABLE parts_rest_0 PARTITION OF parts_rest FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE parts_rest_1 PARTITION OF parts_rest FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE INDEX parts_word ON parts (word);
INSERT INTO parts SELECT i, date '2026-01-01' + i % 300, 'w' || i % 7
    FROM generate_series(1, 3000) AS i;
CREATE TABLE base (id int);
CREATE TABLE heir (more int) INHERITS (base);
CREATE MATERIALIZED VIEW counts AS SELECT day, count(*) AS n FROM parts GROUP BY day;
"""


@pytest.mark.parametrize("server", ["dsn", "dsn15"])
def test_a_partitioned_table_is_the_sum_of_its_partitions(
    request: pytest.FixtureRequest, server: str
) -> None:
    with connect(request.getfixturevalue(server), autocommit=True) as connection:
        connection.execute(PARTITIONED)
        for leaf in ("parts_old", "parts_rest_0", "parts_rest_1", "counts"):
            connection.execute(f"ANALYZE {leaf}".encode())
        unknown = read_catalog(connection)
        connection.execute("ANALYZE")
        known = read_catalog(connection)
    for catalog in (unknown, known):
        parents = {t.name: t.parent for t in catalog.tables if t.parent}
        assert parents == {
            "parts_old": "public.parts", "parts_rest": "public.parts", "heir": "public.base",
            "parts_rest_0": "public.parts_rest", "parts_rest_1": "public.parts_rest",
        }  # fmt: skip
        parts = catalog.table("parts")
        assert parts is not None and parts.kind == "p" and parts.row_count == 3000
        leaves = catalog.leaves(parts)
        assert {t.name for t in leaves} == {"parts_old", "parts_rest_0", "parts_rest_1"}
        assert parts.table_bytes == sum(t.table_bytes for t in leaves)
        (whole,) = parts.indexes
        assert whole.index_bytes == sum(i.index_bytes for t in leaves for i in t.indexes) > 0
        assert {i.parent for t in leaves for i in t.indexes} == {
            "public.parts_word", "public.parts_rest_word_idx"
        }  # fmt: skip
        word = parts.column("word")
        assert word is not None and word.n_distinct == 7
        counts = catalog.table("counts")
        assert counts is not None and counts.kind == "m" and counts.row_count == 300
    parts = unknown.table("parts")
    assert parts is not None
    number = parts.column("id")
    assert number is not None and number.n_distinct == -1  # as in its largest partition
    index = IndexDefinition("public", "parts", (IndexKey("word"),))
    assert estimate_index_bytes(known, index) == sum(
        estimate_index_bytes(known, IndexDefinition("public", t.name, index.keys))
        for t in known.leaves(parts)
    )
