"""Which of the planner's promises count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from perfcore.advise.costs import CostBook, ranges_with_nulls, walked_whole
from perfcore.plan import Plan, parse_plan
from perfcore.types import IndexDefinition, IndexKey

INDEX = IndexDefinition("public", "orders", (IndexKey("customer_id"), IndexKey("created_at")))
WALK = {"Node Type": "Index Scan", "Index Name": INDEX.name, "Total Cost": 700.0}


def plan(*above: str, leaf: dict[str, Any] = WALK) -> Plan:
    """Return the plan in which these nodes, outermost first, stand above a scan."""
    node = leaf
    for name in reversed(above):
        node = {"Node Type": name, "Total Cost": leaf["Total Cost"], "Plans": [node]}
    return parse_plan({"Plan": node})


def walked(found: Plan) -> set[str]:
    return set(walked_whole(found, [INDEX]))


def test_a_walk_through_a_whole_table_is_found() -> None:
    assert walked(plan("WindowAgg")) == {INDEX.name}
    assert walked(plan("Limit", "Sort", "WindowAgg")) == {INDEX.name}
    later_key = WALK | {"Index Cond": "(created_at >= $1)"}
    assert walked(plan("WindowAgg", leaf=later_key)) == {INDEX.name}


def test_a_merge_join_walks_an_index_without_nulls_to_its_end() -> None:
    some = replace(INDEX, predicate='"customer_id" IS NOT NULL')
    leaf = WALK | {"Index Name": some.name}
    assert walked_whole(plan("Merge Join", leaf=leaf), [some]) == {some.name}
    assert not walked_whole(plan("Hash Join", leaf=leaf), [some])
    assert not walked_whole(plan("Merge Join", leaf=leaf | {"Index Cond": "(id = 1)"}), [some])


def test_few_rows_by_a_later_key_are_skipped_to_but_not_under_a_limit() -> None:
    rare = WALK | {"Index Cond": "(created_at = $1)", "Plan Rows": 5, "Relation Name": "orders"}
    assert not walked_whole(plan("Sort", leaf=rare), [INDEX], {"orders": 1000.0})
    assert walked_whole(plan("Limit", leaf=rare), [INDEX], {"orders": 1000.0})


def test_a_walk_that_ends_early_or_seeks_is_none() -> None:
    assert not walked(plan("Limit", "WindowAgg"))
    assert not walked(plan("Sort", leaf=WALK | {"Index Cond": "(customer_id = $1)"}))
    assert not walked(plan("Aggregate", leaf=WALK | {"Node Type": "Index Only Scan"}))
    assert not walked_whole(plan("WindowAgg"), [replace(INDEX, predicate="closed_at IS NULL")])


def test_ranges_of_pages_are_not_asked_for_nulls() -> None:
    brin = IndexDefinition("public", "orders", (IndexKey("closed_at"),), "brin")
    scan = {"Node Type": "Bitmap Index Scan", "Index Name": brin.name, "Total Cost": 7.0}
    nulls = plan("Bitmap Heap Scan", leaf=scan | {"Index Cond": "(closed_at IS NULL)"})
    assert ranges_with_nulls(nulls, [brin, INDEX]) == {brin.name}
    later = plan("Bitmap Heap Scan", leaf=scan | {"Index Cond": "(closed_at > $1)"})
    assert not ranges_with_nulls(later, [brin])


@dataclass
class Promising:
    """A planner that finds walking through the index cheaper than sorting the table."""

    name: str = "promising"
    calls: int = 0
    advisory: str = ""

    def plan(
        self,
        statement: str,
        parameters: Sequence[str | None] | None = None,
        *,
        indexes: Sequence[IndexDefinition] = (),
        hidden: Sequence[str] = (),
    ) -> Plan:
        if not indexes:
            return plan("Sort", leaf={"Node Type": "Seq Scan", "Total Cost": 1000.0})
        return plan("WindowAgg")

    def index_bytes(self, index: IndexDefinition) -> int:
        return 8192


def test_such_a_walk_earns_nothing() -> None:
    book = CostBook(Promising(), 10.0)
    assert book.cost("SELECT 1") == 1000.0
    assert book.cost("SELECT 1", [INDEX]) == 1000.0
