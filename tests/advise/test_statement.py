"""What is read out of a statement's text."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from perfcore.advise.statement import (
    Operator,
    StatementShape,
    Unparsable,
    first_word,
    plannable,
    read_statement,
)
from perfcore.types import Catalog, ColumnInfo, TableInfo, ViewInfo


def _table(name: str, **columns: str) -> TableInfo:
    infos = tuple(ColumnInfo(n, t.replace("_", " "), False) for n, t in columns.items())
    return TableInfo(0, "public", name, 1e6, 10**8, infos)


CATALOG = Catalog(
    180000,
    "shop",
    datetime(2026, 1, 1, tzinfo=UTC),
    (
        _table(
            "orders", id="integer", customer_id="integer", status="text", at="date", n="integer"
        ),
        _table("customers", id="integer", email="text", attrs="jsonb", tags="text[]", on="boolean"),
        _table("items", id="integer", order_id="integer", product_id="integer"),
    ),
)


def shape(text: str) -> StatementShape:
    return read_statement(text, CATALOG)


def predicates(text: str, table: str = "orders") -> list[tuple[str, str]]:
    (use,) = shape(text).uses_of(f"public.{table}")
    return [(p.key.expression, p.operator.value) for p in use.predicates]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("customer_id = $1", [("customer_id", "=")]),
        ("$1 = customer_id", [("customer_id", "=")]),
        ("customer_id = $1 AND n > $2", [("customer_id", "="), ("n", "range")]),
        ("n BETWEEN $1 AND $2", [("n", "range")]),
        ("customer_id IN ($1 /*, ... */)", [("customer_id", "in")]),
        ("customer_id = ANY ($1::int[])", [("customer_id", "in")]),
        ("(at, id) < ($1,$2)", [("at", "range")]),
        ("lower(status) = lower($1)", [("lower(status)", "=")]),
        ("status ILIKE $1", [("status", "ilike")]),
        ("status NOT LIKE $1", []),
        ("at IS NULL", [("at", "is null")]),
        ("at IS NOT NULL", [("at", "is not null")]),
        ("n <> $1", [("n", "<>")]),
        ("n NOT IN (1, 2)", [("n", "<>")]),
        ("NOT n < 5", [("n", "range")]),
        ("(n, at) = (1, $1)", [("n", "="), ("at", "=")]),
        ("n + $1 = $2", []),  # what is added is not known, so neither is the expression
        ("at > now() - interval $1", [("at", "range")]),
        ("n = n", []),
    ],
)
def test_predicates(where: str, expected: list[tuple[str, str]]) -> None:
    assert predicates(f"SELECT * FROM orders WHERE {where}") == expected


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("attrs @> $1::jsonb", ("attrs", "json contains")),
        ("attrs ? $1", ("attrs", "json exists")),
        ("tags @> $1", ("tags", "overlap")),
        ("tags && ARRAY[$1 /*, ... */]", ("tags", "overlap")),
        ("NOT c.on", ("on", "=")),
        (
            "to_tsvector('simple', email) @@ to_tsquery($1)",
            ("to_tsvector('simple', email)", "text search"),
        ),
    ],
)
def test_predicates_of_other_types(where: str, expected: tuple[str, str]) -> None:
    assert predicates(f"SELECT * FROM customers c WHERE {where}", "customers") == [expected]


def test_a_join_is_seen_from_both_sides() -> None:
    read = shape("SELECT 1 FROM orders o JOIN customers c ON c.id = o.customer_id")
    joins = {u.table: (u.joins[0].key.expression, u.joins[0].other_table) for u in read.uses}
    assert joins == {
        "orders": ("customer_id", "public.customers"),
        "customers": ("id", "public.orders"),
    }


@pytest.mark.parametrize(
    "text",
    [
        "SELECT * FROM orders JOIN items i USING (id)",
        "SELECT * FROM orders WHERE id IN (SELECT order_id FROM items)",
        "SELECT * FROM orders o WHERE EXISTS (SELECT FROM items WHERE order_id = o.id)",
        "SELECT (SELECT max(i.id) FROM items i WHERE i.order_id = o.id) FROM orders o",
        "SELECT 1 FROM orders o, LATERAL (SELECT 1 FROM items i WHERE i.order_id = o.id LIMIT 1) x",
        "DELETE FROM orders USING items WHERE items.order_id = orders.id",
    ],
)
def test_other_ways_to_join(text: str) -> None:
    assert [u.joins[0].other_table for u in shape(text).uses_of("public.items")] == [
        "public.orders"
    ]


def test_conditions_reach_through_derived_tables_and_ctes() -> None:
    text = "WITH c AS (SELECT * FROM orders) SELECT * FROM (SELECT id, n FROM c) d WHERE d.n = $1"
    assert predicates(text) == [("n", "=")]
    stopped = "SELECT * FROM (SELECT id, n FROM orders LIMIT $1) d WHERE d.n = $2"
    assert predicates(stopped) == []


def test_a_name_that_a_derived_table_makes_is_not_looked_for_outside() -> None:
    text = (
        "SELECT * FROM (SELECT o.*, row_number() OVER (PARTITION BY n ORDER BY at) AS rn "
        "FROM orders o WHERE n > 1) x WHERE rn = 1 AND at > $1"
    )
    assert ("n", "range") in predicates(text)


def test_order_limit_and_output_names() -> None:
    (use,) = shape("SELECT at AS day, n FROM orders ORDER BY day DESC NULLS LAST, 2 LIMIT $1").uses
    assert [(o.key.expression, o.descending, o.nulls_first) for o in use.order_by] == [
        ("at", True, False),
        ("n", False, None),
    ]
    assert use.has_limit
    assert use.columns == ("at", "n")
    assert not use.reads_all_columns


def test_an_extreme_is_an_order_with_a_limit() -> None:
    (use,) = shape("SELECT max(at) FROM orders WHERE customer_id = $1").uses
    assert use.order_by[0].descending and use.has_limit


def test_an_or_keeps_its_branches() -> None:
    (use,) = shape("SELECT * FROM orders WHERE n = $1 OR (customer_id = $2 AND at > $3)").uses
    assert [[p.operator for p in branch] for branch in use.alternatives] == [
        [Operator.EQUAL],
        [Operator.EQUAL, Operator.RANGE],
    ]
    (use,) = shape("SELECT * FROM orders WHERE n = $1 OR n + id > $2").uses
    assert use.predicates == ()


def test_writes_name_their_table_and_columns() -> None:
    read = shape("UPDATE orders SET status = $1, n = n + $2 WHERE id = $3")
    assert (read.command, read.written_table) == ("update", "public.orders")
    assert read.written_columns == ("n", "status")
    assert shape("INSERT INTO orders (id) VALUES ($1)").written_table == "public.orders"


def test_what_is_no_table_is_named() -> None:
    assert shape("SELECT * FROM pg_catalog.pg_class").unknown_relations == ("pg_catalog.pg_class",)
    assert shape("BEGIN").command == "other"


@pytest.mark.parametrize("text", ["SELECT FROM WHERE (", "SELECT 1; SELECT 2", "WITH"])
def test_nonsense_is_refused(text: str) -> None:
    with pytest.raises(Unparsable):
        shape(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SELECT '$1', \"$2\", $3 LIMIT $4", "SELECT '$1', \"$2\", $1 LIMIT 7"),
        ("SELECT a FETCH FIRST $1 ROWS ONLY", "SELECT a FETCH FIRST 7 ROWS ONLY"),
        ("SELECT a LIMIT $1 OFFSET $2", "SELECT a LIMIT 7 OFFSET 0"),
        ("SELECT extract($1 FROM at)", "SELECT pg_catalog.extract($1, at)"),
        ("SELECT inet $1, time with time zone $2", "SELECT $1::inet, $2::time with time zone"),
        ("SELECT $2, $2, $5", "SELECT $1, $1, $2"),
    ],
)
def test_texts_are_made_plannable(text: str, expected: str) -> None:
    assert plannable(text, limit_rows=7) == expected


def test_the_first_word_is_found_behind_comments() -> None:
    assert first_word("/* app */ -- x\n (select 1)") == "select"
    assert first_word("") == ""


# What is inside of views and writes

VIEWED = replace(
    CATALOG,
    views=(
        ViewInfo(
            "public",
            "open_orders",
            "SELECT o.id, o.customer_id, o.at FROM public.orders o WHERE o.status = 'open'::text;",
        ),
        ViewInfo(
            "public", "newest", "SELECT id, customer_id FROM public.open_orders WHERE at > $1"
        ),
    ),
)


def found_in(text: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for use in read_statement(text, VIEWED).uses:
        keys = {p.key.expression for p in use.predicates} | {j.key.expression for j in use.joins}
        found.setdefault(use.table, set()).update(keys)
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SELECT * FROM open_orders WHERE customer_id = $1", {"orders": {"customer_id", "status"}}),
        (
            "SELECT * FROM newest n WHERE n.customer_id = 3",
            {"orders": {"customer_id", "status", "at"}},
        ),
        (
            "WITH gone AS (DELETE FROM items WHERE product_id = 7 RETURNING id) "
            "SELECT count(*) FROM gone",
            {"items": {"product_id"}},
        ),
        ("INSERT INTO items SELECT * FROM items WHERE order_id = $1", {"items": {"order_id"}}),
        (
            "MERGE INTO orders o USING items i ON o.id = i.order_id "
            "WHEN MATCHED THEN UPDATE SET n = 1 WHEN NOT MATCHED THEN DO NOTHING",
            {"orders": {"id"}, "items": {"order_id"}},
        ),
        ("SELECT * FROM orders WHERE (customer_id, status) IN ((5, 'a'), (7, 'b'))",
         {"orders": {"customer_id", "status"}}),
    ],
)  # fmt: skip
def test_what_is_read_inside(text: str, expected: dict[str, set[str]]) -> None:
    assert found_in(text) == expected


def test_a_list_of_constants_is_kept() -> None:
    (use,) = shape("SELECT * FROM orders WHERE status IN ('open', 'late') AND n IN ($1, 2)").uses
    assert [p.literals for p in use.predicates] == [("'open'", "'late'"), ()]


def test_both_ends_of_a_column_are_an_order() -> None:
    (use,) = shape("SELECT min(at), max(at) FROM orders").uses
    assert [o.key.expression for o in use.order_by] == ["at"] and use.has_limit
    (apart,) = shape("SELECT min(at), max(n) FROM orders").uses
    assert not apart.order_by


def test_a_unit_of_time_stays_as_it_is_spelled() -> None:
    text = "SELECT * FROM orders WHERE date_trunc('month', at) = $1"
    assert predicates(text) == [("date_trunc('month', at)", "=")]
