"""What differs between two plans is found by what the steps read, and said in words."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from perfcore import plan_charts
from perfcore.db import connect
from perfcore.plan import Plan, parse_plan
from perfcore.plan_compare import Comparison, compare_plans
from perfcore.server.embedded import Cluster
from tests import plan_samples

EXAMPLES = Path(plan_charts.__file__).parent / "ui" / "plan_examples"


def example(name: str) -> Plan:
    return parse_plan((EXAMPLES / f"{name}.json").read_text())


def scan(name: str, rows: float = 10, **properties: Any) -> dict[str, Any]:
    return {"Node Type": "Seq Scan", "Relation Name": name, "Alias": name, "Plan Rows": rows,
            "Total Cost": 100.0, **properties}  # fmt: skip


def join(kind: str, *children: dict[str, Any], **properties: Any) -> dict[str, Any]:
    return {"Node Type": kind, "Join Type": "Inner", "Plan Rows": 10, "Total Cost": 300.0,
            "Plans": list(children), **properties}  # fmt: skip


def compare(before: dict[str, Any], after: dict[str, Any]) -> Comparison:
    return compare_plans(parse_plan([{"Plan": before}]), parse_plan([{"Plan": after}]))


def said(found: Comparison) -> list[str]:
    return [d.summary for d in found.differences]


def test_an_index_in_place_of_a_scan_and_a_sort() -> None:
    found = compare_plans(example("seq_scan_sort"), example("index_scan"))
    first, second = found.differences
    assert first.summary.startswith(
        "Seq Scan on orders became Index Scan using orders_status_created_at_idx on orders; "
    )
    assert (first.kind, first.before, first.after) == ("access", 2, 1)
    assert second.summary == "Sort by created_at DESC is gone"
    assert (second.before, second.after) == (1, None)
    assert found.ms_before is not None and found.ms_after is not None
    assert found.ms_after < found.ms_before
    assert not found.is_same_shape


def test_a_plan_does_not_differ_from_itself() -> None:
    found = compare_plans(example("hash_spill"), example("hash_spill"))
    assert found.differences == ()
    assert found.pairs == tuple((n, n) for n in range(6))
    assert found.is_same_shape


@pytest.fixture
def shop(cluster18: Cluster) -> Iterator[str]:
    with plan_samples.database(cluster18, "compare_shop") as dsn:
        plan_samples.make_shop(dsn)
        yield dsn


def test_real_plans_with_an_index_less_and_another_join(shop: str) -> None:
    before = parse_plan(plan_samples.explain(shop, "nested_loop", "FORMAT JSON"))
    with connect(shop, autocommit=True) as connection:
        connection.execute("DROP INDEX orders_customer_id_idx")
        connection.execute("ALTER DATABASE compare_shop SET enable_nestloop = off")
    sample = plan_samples.SAMPLES["nested_loop"].sql
    with connect(shop) as connection:
        row = connection.execute(f"EXPLAIN (FORMAT JSON) {sample}").fetchone()
    assert row is not None
    words = "\n".join(said(compare_plans(before, parse_plan(row[0]))))
    assert (
        "Index Scan using orders_customer_id_idx on orders became Seq Scan on orders; cost" in words
    )
    assert "Nested Loop of c and o became Hash Join" in words


def test_a_changed_join_keeps_its_place() -> None:
    hashed = {"Node Type": "Hash", "Plan Rows": 10, "Total Cost": 100.0, "Plans": [scan("b")]}
    found = compare(
        join("Hash Join", scan("a"), hashed, **{"Hash Cond": "(a.id = b.id)"}),
        join("Nested Loop", scan("a"), scan("b"), **{"Total Cost": 12.0}),
    )
    assert said(found) == ["Hash Join of a and b became Nested Loop; cost 300 → 12"]


def test_another_order_of_joins_names_what_is_joined_first() -> None:
    found = compare(
        join("Nested Loop", join("Nested Loop", scan("a"), scan("b")), scan("c")),
        join("Nested Loop", join("Nested Loop", scan("a"), scan("c")), scan("b")),
    )
    assert said(found) == ["the joins are in another order: a and b were joined first, now a and c"]


def test_the_same_table_twice_is_told_apart_by_alias() -> None:
    one, two = scan("t", Alias="x"), scan("t", Alias="y")
    fast = {**two, "Node Type": "Index Scan", "Index Name": "t_idx"}
    found = compare(join("Nested Loop", one, two), join("Nested Loop", fast, one))
    assert said(found)[0].startswith("Seq Scan on t became Index Scan using t_idx on t")
    assert len(found.differences) == 1


def test_an_estimate_matters_from_twice_on() -> None:
    assert said(compare(scan("a", 10), scan("a", 19))) == []
    (told,) = said(compare(scan("a", 10), scan("a", 5000)))
    assert told == "10 rows were expected of Seq Scan on a, now 5,000"
    assert compare(scan("a", 10), scan("a", 5000)).is_same_shape


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("(customer_id = 7)", "(customer_id = $1)"),
        ("(note = 'it''s (a) b'::text)", "(note = $2)"),
        ("(a = (InitPlan 1).col1)", "(a = $0)"),
        ("(x.id = y.id)", "(y.id = x.id)"),
    ],
)
def test_other_values_are_no_difference(before: str, after: str) -> None:
    assert said(compare(scan("a", Filter=before), scan("a", Filter=after))) == []


def test_another_condition_is_one() -> None:
    (told,) = said(compare(scan("a", Filter="(b = 1)"), scan("a", Filter="(c = 1)")))
    assert told == "Filter of Seq Scan on a was (b = 1), now (c = 1)"
    (gone,) = said(compare(scan("a", Filter="(b = 1)"), scan("a")))
    assert gone == "Seq Scan on a has no Filter any more, it was (b = 1)"


def test_a_bitmap_scan_is_told_with_its_index() -> None:
    bitmap = {
        **scan("a"), "Node Type": "Bitmap Heap Scan",
        "Plans": [{"Node Type": "Bitmap Index Scan", "Index Name": "a_idx", "Total Cost": 4.0}],
    }  # fmt: skip
    (told,) = said(compare(scan("a"), bitmap))
    assert told == "Seq Scan on a became Bitmap Heap Scan using a_idx on a; cost 100 → 100"


def test_partitions_and_a_missing_side() -> None:
    append = {"Node Type": "Append", "Total Cost": 9.0, "Plan Rows": 9,
              "Plans": [scan("p1"), scan("p2")]}  # fmt: skip
    found = compare(append, scan("p1"))
    assert said(found) == ["Append is gone", "Seq Scan on p2 is gone"]
