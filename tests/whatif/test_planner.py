from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from perfcore.plan import Plan, parse_plan
from perfcore.types import Catalog, IndexDefinition, IndexInfo, IndexKey, TableInfo
from perfcore.whatif.planner import CachedPlanner, family, tables_of

ORDERS = IndexDefinition("public", "orders", (IndexKey("customer_id"),))
ITEMS = IndexDefinition("public", "items", (IndexKey("order_id"),))


class Recorder:
    """A planner that remembers what it was asked."""

    name = "recorder"
    advisory = ""

    def __init__(self) -> None:
        self.calls = 0
        self.asked: list[tuple[IndexDefinition, ...]] = []

    def plan(
        self,
        statement: str,
        parameters: Sequence[str | None] | None = None,
        *,
        indexes: Sequence[IndexDefinition] = (),
        hidden: Sequence[str] = (),
    ) -> Plan:
        self.calls += 1
        self.asked.append(tuple(indexes))
        return parse_plan({"Plan": {"Node Type": "Result", "Total Cost": self.calls}})

    def index_bytes(self, index: IndexDefinition) -> int:
        return 8192


def test_asks_once_and_only_for_the_indexes_of_the_statements_tables() -> None:
    recorder = Recorder()
    planner = CachedPlanner(recorder)
    text = "SELECT * FROM orders WHERE customer_id = $1"
    first = planner.plan(text, indexes=[ORDERS])
    assert planner.plan(text, indexes=[ITEMS, ORDERS]) is first
    assert recorder.asked == [(ORDERS,)]
    assert planner.answered_from_cache == 1


def test_other_parameters_indexes_or_hidden_ones_are_other_questions() -> None:
    planner = CachedPlanner(Recorder())
    text = "SELECT * FROM orders WHERE customer_id = $1"
    planner.plan(text)
    planner.plan(text, ["1"])
    planner.plan(text, ["2"])
    planner.plan(text, indexes=[ORDERS])
    planner.plan(text, hidden=["orders_pkey"])
    assert planner.calls == 5


def catalog(*tables: TableInfo) -> Catalog:
    return Catalog(180000, "shop", datetime(2026, 1, 1, tzinfo=UTC), tables)


def table(name: str, *indexes: str, parent: str = "", kind: str = "r") -> TableInfo:
    infos = tuple(
        IndexInfo(
            0, "public", name, i, "", "btree", (), (), "", False, False, False, False, True, 0, 0
        )
        for i in indexes
    )
    return TableInfo(0, "public", name, 1.0, 8192, (), infos, kind=kind, parent=parent)


SHOP = catalog(
    table("orders", "orders_pkey"),
    table("items", "items_pkey"),
    table("days", "days_id", kind="p"),
    table("days_1", "days_1_id", parent="public.days"),
)


def test_hidden_indexes_of_other_tables_are_not_part_of_the_question() -> None:
    planner = CachedPlanner(Recorder(), SHOP)
    text = "SELECT * FROM orders WHERE customer_id = $1"
    planner.plan(text, hidden=["items_pkey"])
    planner.plan(text, hidden=["public.items_pkey"])
    planner.plan(text)
    assert planner.calls == 1
    planner.plan(text, hidden=["public.orders_pkey"])
    planner.plan(text, hidden=["who_knows"])
    assert planner.calls == 3
    planner.plan("SELECT * FROM a_view", hidden=["items_pkey"])
    planner.plan("SELECT * FROM a_view")
    assert planner.calls == 5


def test_a_partitioned_table_and_its_partitions_are_one() -> None:
    planner = CachedPlanner(Recorder(), SHOP)
    part = IndexDefinition("public", "days_1", (IndexKey("id"),))
    assert planner.relevant("SELECT * FROM days", [part, ORDERS]) == (part,)
    assert planner.relevant_hidden("SELECT * FROM days_1", ["days_id"]) == ("days_id",)
    assert family(SHOP, "days_1") == {"days", "days_1"}
    assert family(SHOP, "orders") == frozenset()


def test_counts_calls_hits_and_time() -> None:
    planner = CachedPlanner(Recorder(), SHOP, clock=iter(range(10)).__next__)
    for _ in range(3):
        planner.plan("SELECT * FROM orders")
    planner.plan("SELECT * FROM items")
    assert (planner.calls, planner.answered_from_cache, planner.planning_s) == (2, 2, 2.0)
    assert planner.effort == ("2 plans asked of recorder in 2.0 s, 2 more answered from the cache")


@pytest.mark.parametrize(
    ("text", "tables"),
    [
        ("SELECT 1", set()),
        ("SELECT * FROM Orders o JOIN public.items USING (id)", {"orders", "items"}),
        ("UPDATE orders SET a = $1 WHERE id IN (SELECT id FROM items)", {"orders", "items"}),
        ("DELETE FROM orders WHERE id = ANY($1)", {"orders"}),
        ("WITH orders AS (SELECT 1) SELECT * FROM orders, public.orders", {"orders"}),
    ],
)
def test_names_the_tables_of_a_statement(text: str, tables: set[str]) -> None:
    assert tables_of(text) == frozenset(tables)


def test_knows_what_it_cannot_parse() -> None:
    assert tables_of("SELECT * FROM (") is None
