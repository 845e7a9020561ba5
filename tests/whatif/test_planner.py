from collections.abc import Sequence

import pytest

from perfcore.plan import Plan, parse_plan
from perfcore.types import IndexDefinition, IndexKey
from perfcore.whatif.planner import CachedPlanner, tables_of

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
