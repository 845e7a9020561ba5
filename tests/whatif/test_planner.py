from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from perfcore.errors import PlanningFailed
from perfcore.plan import Plan, parse_plan
from perfcore.types import Catalog, IndexDefinition, IndexInfo, IndexKey, TableInfo
from perfcore.whatif.planner import CachedPlanner, family, reading_part, tables_of

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
        ("SELECT * FROM orders WHERE id IN ($1,$2)", {"orders"}),
        ("WITH orders AS (SELECT 1) SELECT * FROM orders, public.orders", {"orders"}),
    ],
)
def test_names_the_tables_of_a_statement(text: str, tables: set[str]) -> None:
    assert tables_of(text) == frozenset(tables)


def test_knows_what_it_cannot_parse() -> None:
    assert tables_of("SELECT * FROM (") is None


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("SELECT a FROM t WHERE x = ANY ($1::int[])", None),
        ("(SELECT 1) UNION SELECT 2", None),
        ("VALUES (1)", None),
        ("SELECT * FROM t WHERE id = $1 FOR NO KEY UPDATE", "SELECT * FROM t WHERE id = $1"),
        ("INSERT INTO t SELECT * FROM u WHERE a = $1", "SELECT * FROM u WHERE a = $1"),
        ("INSERT INTO t (a, b) VALUES ($1,$2)", "VALUES ($1, $2)"),
        (
            "UPDATE t SET a = 1 FROM u JOIN v ON v.i = u.i WHERE t.x = u.x",
            "SELECT 1, t.ctid FROM t, u JOIN v ON v.i = u.i WHERE t.x = u.x",
        ),
        ("DELETE FROM s.t AS x WHERE x.id = $1", "SELECT x.ctid FROM s.t AS x WHERE x.id = $1"),
    ],
)
def test_reads_without_locking(text: str, part: str | None) -> None:
    assert reading_part(text) == (part or text)


@pytest.mark.parametrize(
    "text",
    [
        "WITH d AS (DELETE FROM t RETURNING *) SELECT * FROM d",
        "WITH x AS (SELECT 1) UPDATE t SET a = 1",
        "MERGE INTO t USING u ON t.id = u.id WHEN MATCHED THEN DO NOTHING",
        "INSERT INTO t DEFAULT VALUES",
        "UPDATE t SET (",
    ],
)
def test_knows_what_cannot_be_read_without_locking(text: str) -> None:
    with pytest.raises(PlanningFailed, match="planning it whole would lock"):
        reading_part(text)
