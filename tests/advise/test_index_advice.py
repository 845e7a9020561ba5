"""What is said of the chosen indexes, of the others and of statements that got nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from perfcore.advise.advisor import advise
from perfcore.codec import to_json
from perfcore.types import IndexDefinition, IndexKey, Rejection, SilenceReason
from perfcore.whatif.catalog import read_catalog
from perfcore.whatif.twin import Twin
from tests.advise.conftest import BuildingPlanner, Shop, index_suggestions, statement

REFERENCE = "SELECT * FROM orders WHERE reference = $1"
NEWEST = "SELECT id, note FROM orders WHERE customer_id = $1 ORDER BY created_at DESC LIMIT $2"


def reasons(rejections: tuple[Rejection, ...]) -> dict[str, str]:
    return {", ".join(k.expression for k in r.index.keys): r.reason for r in rejections}


def test_a_candidate_whose_work_another_does_says_which(shop: Shop) -> None:
    said = reasons(shop.advise(NEWEST).rejections)
    assert said["customer_id"] == "orders (customer_id, created_at DESC) does its work."


def test_a_candidate_that_saves_too_little_says_how_little(shop: Shop) -> None:
    half = statement("SELECT count(note) FROM orders WHERE total > 700", rows=600)
    said = shop.advise(half).rejections
    assert any("less than 20 %" in r.reason or "does not use it" in r.reason for r in said)
    assert all(half.fingerprint in r.fingerprints for r in said)


def test_what_the_budget_leaves_out_is_named_with_its_cost(shop: Shop) -> None:
    everything = {s.title: s for s in index_suggestions(shop.advise(NEWEST, REFERENCE))}
    smallest = min(s.index_bytes or 0 for s in everything.values())
    advice = shop.advise(NEWEST, REFERENCE, storage_budget_bytes=round(smallest * 1.2))
    assert len(index_suggestions(advice)) == 1
    (silence,) = advice.silences
    assert silence.reason is SilenceReason.OUTBID
    assert "would take its cost from" in silence.detail and "the budget of" in silence.detail


def test_the_number_of_indexes_is_kept(shop: Shop) -> None:
    advice = shop.advise(NEWEST, REFERENCE, max_indexes=1)
    assert len(index_suggestions(advice)) == 1
    assert any("Only 1 indexes a round" in r.reason for r in advice.rejections)


def test_no_set_saves_more_than_the_bound(shop: Shop) -> None:
    advice = shop.advise(NEWEST, REFERENCE)
    assert advice.bound_ms_per_hour is not None
    assert 0 < advice.saved_ms_per_hour <= advice.bound_ms_per_hour * 1.0001


def test_a_whole_round_has_a_json_form(shop: Shop) -> None:
    printed = json.loads(json.dumps(to_json(shop.advise(NEWEST, REFERENCE))))
    assert len(printed["weighed"]) == 2 and printed["plans"] and printed["rejections"]


def test_an_index_that_cannot_exist_harms_no_other(shop: Shop) -> None:
    text = (
        "SELECT * FROM orders WHERE date_trunc('day', created_at) = $1 AND reference = $2 "
        "AND customer_id = $3"
    )
    (found,) = index_suggestions(shop.advise(text))
    assert found.title == "Index orders (reference)"
    said = reasons(shop.advise(text).rejections)
    assert any(r.startswith("It cannot be planned:") and "IMMUTABLE" in r for r in said.values())


def test_a_walk_to_few_rows_that_may_lie_anywhere_is_no_answer(shop: Shop) -> None:
    text = "SELECT id FROM customers WHERE name LIKE $1 AND bio = $2 ORDER BY email LIMIT $3"
    (found,) = shop.indexes(statement(text, rows=600))
    assert found.startswith("customers (bio")


def test_what_is_replaced_may_go_once_the_new_one_is_there(shop: Shop) -> None:
    connection = shop.planner.connection
    connection.execute("CREATE INDEX narrow ON orders (customer_id)")
    try:
        catalog = read_catalog(connection)
        again = Shop(catalog, BuildingPlanner(connection, catalog))
        text = "SELECT sum(total) FROM orders WHERE customer_id BETWEEN $1 AND $2"
        watched = again.advise(text)
        assert "replaced_index" not in [s.finding.kind for s in watched.suggestions]
        advice = again.advise(text, is_timed=False)
        drop = next(s for s in advice.suggestions if s.finding.kind == "replaced_index")
        assert drop.ddl == 'DROP INDEX CONCURRENTLY "public"."narrow"'
        assert drop.undo.startswith("CREATE INDEX CONCURRENTLY narrow ON public.orders")
    finally:
        connection.execute("DROP INDEX narrow")


@pytest.mark.parametrize(
    ("before", "stays"),
    [
        # As good as what would be chosen anew.
        ((IndexKey("customer_id"), IndexKey("created_at")), True),
        ((IndexKey("total"),), False),
        ((IndexKey("no_such_column"),), False),
    ],
)
def test_what_was_suggested_before_stays_while_it_is_as_good(
    shop: Shop, before: tuple[IndexKey, ...], stays: bool
) -> None:
    standing = IndexDefinition("public", "orders", before)
    advice = advise(shop.catalog, [statement(NEWEST)], shop.planner, standing=[standing])
    (found,) = index_suggestions(advice)
    assert (found.index == standing) is stays


@pytest.fixture
def parted(shop: Shop, shop_dsn: str, work_folder: Path) -> Iterator[Twin]:
    """A twin of the shop with a partitioned table."""
    connection = shop.planner.connection
    connection.execute(
        """
        CREATE TABLE readings (device integer NOT NULL, at date NOT NULL, value text NOT NULL)
            PARTITION BY RANGE (at);
        CREATE TABLE readings_1 PARTITION OF readings
            FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
        CREATE TABLE readings_2 PARTITION OF readings
            FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
        INSERT INTO readings SELECT n % 1000, date '2026-01-01' + n % 50, repeat('z', 60)
        FROM generate_series(1, 40000) AS n;
        ANALYZE readings;
        """
    )
    try:
        with Twin.build(shop_dsn, work_folder) as twin:
            yield twin
    finally:
        connection.execute("DROP TABLE readings")


def test_a_partitioned_table_gets_its_index_as_postgresql_takes_it(
    shop: Shop, parted: Twin
) -> None:
    asked = statement("SELECT * FROM readings WHERE device = $1")
    advice = advise(read_catalog(shop.planner.connection), [asked], parted.planner)
    (found,) = index_suggestions(advice)
    assert found.ddl == (
        'CREATE INDEX "readings_device_idx" ON "public"."readings" USING btree ("device")'
    )
    assert found.undo == 'DROP INDEX "public"."readings_device_idx"'
    assert "ON ONLY" in " ".join(found.caveats) and "ATTACH PARTITION" in " ".join(found.caveats)
    with shop.planner.connection.transaction(force_rollback=True):
        shop.planner.connection.execute(found.ddl.encode())
        shop.planner.connection.execute(found.undo.encode())
