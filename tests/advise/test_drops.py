"""Drops are taken back where a statement of the workload would suffer."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from perfcore.advise.drops import Asked, harmless
from perfcore.types import Catalog, Evidence, Finding, IndexInfo, Suggestion
from perfcore.whatif.catalog import read_catalog
from tests.advise.conftest import BuildingPlanner, Shop

NEEDS = Asked("SELECT * FROM orders WHERE customer_id = 17", frozenset({"public.orders"}))
ELSEWHERE = Asked("SELECT * FROM customers WHERE id = 17", frozenset({"public.customers"}))


@pytest.fixture
def twice(shop: Shop) -> Iterator[Shop]:
    """The shop with two indexes that do the same work."""
    connection = shop.planner.connection
    connection.execute("CREATE INDEX one ON orders (customer_id)")
    connection.execute("CREATE INDEX other ON orders (customer_id)")
    try:
        catalog = read_catalog(connection)
        yield Shop(catalog, BuildingPlanner(connection, catalog))
    finally:
        connection.execute("DROP INDEX one, other")


def found(catalog: Catalog, name: str) -> IndexInfo:
    return next(i for t in catalog.tables for i in t.indexes if i.name == name)


def drop(name: str, summary: str = "Nobody used it.") -> Suggestion:
    return Suggestion(
        name, 1, "drop_index", f"Drop {name}", "", Finding("unused_index", summary),
        Evidence.ESTIMATED, 0.0, ddl=f'DROP INDEX CONCURRENTLY "public"."{name}"',
    )  # fmt: skip


def kept(shop: Shop, statements: list[Asked], *drops: Suggestion, in_time: bool = True) -> set[str]:
    stay = harmless(drops, statements, shop.planner, shop.catalog, (), lambda: in_time)
    return {s.suggestion_id for s in stay}


def test_of_two_that_do_the_same_one_stays(twice: Shop) -> None:
    assert len(kept(twice, [NEEDS], drop("one"), drop("other"))) == 1


def test_what_no_statement_needs_may_go(twice: Shop) -> None:
    assert kept(twice, [ELSEWHERE], drop("one"), drop("other")) == {"one", "other"}


def test_the_one_that_a_drop_relies_on_stays(twice: Shop) -> None:
    relying = drop("one", "Whatever it serves, other serves as well.")
    assert kept(twice, [], relying, drop("other")) in ({"one"}, {"other"})


def test_other_suggestions_and_unasked_ones_pass(twice: Shop) -> None:
    analyze = Suggestion(
        "analyze", 1, "maintenance", "", "", Finding("stale", ""), Evidence.ESTIMATED, 0.0
    )
    assert kept(twice, [NEEDS], analyze) == {"analyze"}
    assert kept(twice, [NEEDS], drop("one"), drop("other"), in_time=False) == {"one", "other"}


def test_a_definition_is_built_anew_while_writes_go_on(twice: Shop) -> None:
    assert found(twice.catalog, "one").rebuild().startswith("CREATE INDEX CONCURRENTLY one ON ")
    assert found(twice.catalog, "orders_pkey").rebuild().startswith("CREATE UNIQUE INDEX CONCURR")
