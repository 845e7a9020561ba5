from __future__ import annotations

import psycopg
import pytest

from perfcore.db import connect
from perfcore.demo import words
from perfcore.demo.seed import ROWS, create_shop, read_steps
from perfcore.errors import ServerError

_SMALL = 0.002


def _one(dsn: str, query: str) -> object:
    with connect(dsn) as connection:
        row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


def test_has_nine_tables_or_more_and_a_million_rows_at_full_size(shop_dsn: str) -> None:
    tables = _one(
        shop_dsn,
        "SELECT count(*) FROM pg_class WHERE relkind = 'r' "
        "AND relnamespace = 'public'::regnamespace",
    )
    assert tables == 13
    assert max(ROWS.values()) >= 1_000_000


@pytest.mark.parametrize("table", sorted(set(ROWS) - {"categories", "suppliers"}))
def test_row_counts_follow_the_scale(shop_dsn: str, table: str) -> None:
    # At least, for other tests add to the same shop.
    assert _one(shop_dsn, f"SELECT count(*) >= {ROWS[table] // 100} FROM {table}") is True


def test_every_order_has_items_and_the_same_number_as_any_other(dsn: str) -> None:
    create_shop(dsn, scale=_SMALL)
    per_order = "SELECT count(*) AS items FROM order_items GROUP BY order_id"
    assert _one(dsn, f"SELECT max(items) - min(items) <= 1 FROM ({per_order}) AS o") is True
    assert _one(dsn, "SELECT count(*) FROM orders WHERE closed_at IS NULL") == 4


def test_favourites_are_bought_far_more_often(dsn: str) -> None:
    create_shop(dsn, scale=_SMALL)
    lowest = "product_id <= (SELECT max(id) / 10 FROM products)"
    assert _one(dsn, f"SELECT avg(({lowest})::int) > 0.25 FROM order_items") is True


def test_is_the_same_each_time(dsn: str) -> None:
    signature = (
        "SELECT md5(string_agg(customer_id || status || total_cents, ',' ORDER BY id)) FROM orders"
    )
    create_shop(dsn, scale=_SMALL)
    first = _one(dsn, signature)
    create_shop(dsn, scale=_SMALL * 2)
    create_shop(dsn, scale=_SMALL)
    assert _one(dsn, signature) == first


def test_a_complete_shop_is_left_as_it_is(dsn: str) -> None:
    create_shop(dsn, scale=_SMALL)
    with connect(dsn, autocommit=True) as connection:
        connection.execute("DELETE FROM cart_items")
        connection.execute("CREATE INDEX tried ON shipments (tracking_code)")
    told: list[str] = []
    create_shop(dsn, scale=_SMALL, progress=lambda fraction, message: told.append(message))
    assert told == []
    assert _one(dsn, "SELECT count(*) FROM cart_items") == 0
    assert _one(dsn, "SELECT to_regclass('tried') IS NOT NULL") is True


def test_a_half_made_shop_is_made_anew(dsn: str) -> None:
    class Stopped(Exception):
        pass

    def stop_at_half(fraction: float, message: str) -> None:
        if fraction > 0.5:
            raise Stopped

    with pytest.raises(Stopped):
        create_shop(dsn, scale=_SMALL, progress=stop_at_half)
    create_shop(dsn, scale=_SMALL)
    assert _one(dsn, "SELECT count(*) FROM order_items") == 2800


def test_progress_rises_to_one(dsn: str) -> None:
    told: list[float] = []
    create_shop(dsn, scale=_SMALL, progress=lambda fraction, message: told.append(fraction))
    assert told == sorted(told)
    assert told[0] == 0 and told[-1] == 1


def test_refuses_a_database_with_other_tables(dsn: str) -> None:
    with connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE precious (id int)")
    with pytest.raises(ServerError, match="'precious'"):
        create_shop(dsn, scale=_SMALL)
    assert _one(dsn, "SELECT count(*) FROM precious") == 0


def test_a_database_with_extensions_only_counts_as_empty(dsn: str) -> None:
    with connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION pg_stat_statements")
    create_shop(dsn, scale=_SMALL)
    assert _one(dsn, "SELECT count(*) > 0 FROM pg_stat_statements") is True


def test_codes_computed_here_are_the_ones_in_the_tables(shop_dsn: str) -> None:
    with connect(shop_dsn) as connection:
        for query, expected in (
            ("SELECT email FROM customers WHERE id = 7", words.email(7)),
            ("SELECT number FROM invoices WHERE order_id = 7", words.invoice_number(7)),
            ("SELECT tracking_code FROM shipments WHERE order_id = 7", words.tracking_code(7)),
        ):
            assert connection.execute(query.encode()).fetchone() == (expected,)


def test_new_rows_get_new_ids(shop_dsn: str) -> None:
    with connect(shop_dsn) as connection:
        connection.execute("INSERT INTO customers (email, name, country) VALUES ('a@b', 'A', 'PT')")
        connection.rollback()


def test_the_step_files_hold_one_statement_each(shop_dsn: str) -> None:
    for name in ("schema.sql", "seed.sql", "keys.sql"):
        for step in read_steps(name):
            without_comments = [
                line for line in step.statement.splitlines() if not line.startswith("--")
            ]
            assert "\n".join(without_comments).count(";") == 1, step.statement


def test_statistics_are_fresh_everywhere_but_where_planted(dsn: str) -> None:
    create_shop(dsn, scale=_SMALL)
    with psycopg.connect(dsn) as connection:
        stale = connection.execute(
            "SELECT relname FROM pg_stat_user_tables "
            "WHERE n_mod_since_analyze > 0 OR last_analyze IS NULL"
        ).fetchall()
        known = connection.execute(
            "SELECT most_common_vals::text FROM pg_stats "
            "WHERE tablename = 'stock_movements' AND attname = 'warehouse_id'"
        ).fetchone()
    assert stale == [("stock_movements",)]
    assert known is not None and not set("456") & set(known[0])
