"""Rewrites as suggestions: only where they gain, with what the gain rests on."""

from __future__ import annotations

from pathlib import Path

import pytest

from perfcore.advise.account import account_json, advise_dsn
from perfcore.advise.advisor import Advice
from perfcore.advise.workload import Options
from perfcore.advise.workload_file import Item
from perfcore.plan import parse_plan
from perfcore.types import Suggestion, WorkloadStatement
from tests.advise.conftest import Shop, statement


def rewrites(advice: Advice) -> list[Suggestion]:
    return [s for s in advice.suggestions if s.kind == "rewrite"]


def only(shop: Shop, text: str | WorkloadStatement) -> Suggestion:
    found = rewrites(shop.advise(text))
    assert len(found) == 1, found
    return found[0]


PAGE = "SELECT id, total FROM orders ORDER BY id LIMIT 20 OFFSET 50000"
ALL = "SELECT DISTINCT id, note FROM orders"
GAINING = (
    ("deep_offset", PAGE),
    ("function_on_column", "SELECT id FROM orders WHERE closed_at::date = $1"),
    ("cast_column", "SELECT note FROM orders WHERE id::text = $1"),
    (
        "correlated_subquery",
        "SELECT c.id, (SELECT sum(o.total) FROM orders o WHERE o.customer_id = c.id) "
        "FROM customers c",
    ),
    (
        "distinct_over_join",
        "SELECT DISTINCT c.id, c.name FROM customers c JOIN orders o ON o.customer_id = c.id",
    ),
    (
        "count_for_existence",
        "SELECT (SELECT count(*) FROM orders WHERE total >= 0) > 0 AS any_order",
    ),
    ("random_order", "SELECT id, note FROM orders ORDER BY random() LIMIT 5"),
    ("needless_distinct", ALL),
    ("distinct_count_of_key", "SELECT status, count(DISTINCT id) FROM orders GROUP BY status"),
    (
        "needless_union",
        "SELECT id, 'order' AS what FROM orders UNION SELECT id, 'item' FROM order_items",
    ),
    ("unseen_order", "SELECT count(*) FROM (SELECT note FROM orders ORDER BY note) AS o"),
    (
        "repeated_subquery",
        "SELECT id, (SELECT note FROM orders WHERE customer_id = c.id ORDER BY total LIMIT 1), "
        "(SELECT status FROM orders WHERE customer_id = c.id ORDER BY total LIMIT 1) "
        "FROM customers c",
    ),
)


@pytest.mark.parametrize(("kind", "text"), GAINING)
def test_what_gains_is_offered_with_both_costs(shop: Shop, kind: str, text: str) -> None:
    found = only(shop, text)
    assert found.finding.kind == kind
    gain = found.statements[0]
    assert gain.cost_after <= 0.8 * gain.cost_before
    assert found.saved_ms_per_hour > 0 and found.rewritten_sql and found.caveats and found.risk
    assert found.verify


def test_a_rewrite_keeps_the_plans_its_costs_come_from(shop: Shop) -> None:
    advice = shop.advise(PAGE)
    (found,) = rewrites(advice)
    (plans,) = (p for p in advice.plans if p.suggestion_id == found.suggestion_id)
    gain = found.statements[0]
    before, after = (parse_plan(p).total_cost for p in (plans.before, plans.after))
    assert (before, after) == (gain.cost_before, gain.cost_after)


@pytest.mark.parametrize(
    "text",
    [
        # The list fits into memory, and a hashed list is as good as an anti-join.
        "SELECT id FROM orders WHERE id NOT IN (SELECT product_id FROM order_items)",
        # PostgreSQL moves the condition itself, and its plans are the same.
        "SELECT status, count(*) FROM orders GROUP BY status HAVING status <> $1",
        # A bitmap of both indexes is as good as two queries.
        "SELECT note FROM orders WHERE id = $1 OR reference = $2",
        # The page lies not deep.
        "SELECT id, total FROM orders ORDER BY id LIMIT 20 OFFSET 20",
        # A trigram index is proposed as such.
        "SELECT id FROM customers WHERE bio LIKE '%abcdef%'",
        "SELECT id FROM customers WHERE lower(email) = $1",
        # Rows are narrow.
        "SELECT * FROM order_items WHERE quantity = 1",
    ],
)
def test_what_gains_nothing_is_not_offered(shop: Shop, text: str) -> None:
    assert rewrites(shop.advise(text)) == []


def test_what_no_cost_shows_is_said_of_slow_statements_alone(shop: Shop) -> None:
    text = "SELECT * FROM events WHERE kind = $1"
    slow, fast = statement(text, mean_ms=40.0), statement(text, mean_ms=2.0)
    found = only(shop, slow)
    assert found.finding.kind == "wide_rows" and found.saved_ms_per_hour == 0
    assert "payload" in found.title and "no time is promised" in found.reason
    assert rewrites(shop.advise(fast)) == []
    few = statement(text, mean_ms=40.0, rows=600)  # one a call: little to send
    assert rewrites(shop.advise(few)) == []


def test_what_an_index_saves_is_not_promised_again(shop: Shop) -> None:
    text = (
        "SELECT c.id, (SELECT sum(o.total) FROM orders o WHERE o.customer_id = c.id) "
        "FROM customers c"
    )
    advice = shop.advise(text)
    indexed = next(s for s in advice.suggestions if s.kind == "index")
    rewritten = rewrites(advice)[0]
    assert "beyond the indexes" in rewritten.finding.summary
    whole = 600 * 40.0  # calls an hour by ms
    assert indexed.saved_ms_per_hour + rewritten.saved_ms_per_hour <= 1.01 * whole


def test_an_index_that_the_new_wording_needs_comes_with_it(shop: Shop) -> None:
    found = only(shop, "SELECT id FROM orders WHERE created_at::date = $1")
    assert found.ddl.startswith("CREATE INDEX CONCURRENTLY") and '("created_at")' in found.ddl
    assert found.undo.startswith("DROP INDEX") and found.index_bytes
    assert "TimeZone" in found.caveats[0] and "condition" in found.risk


def test_endpoints_gain_and_the_worst_statement_comes_first(shop: Shop) -> None:
    small = statement(ALL, calls=10)
    large = statement(PAGE, calls=600)
    found = rewrites(shop.advise(small, large))
    assert [s.finding.kind for s in found] == ["deep_offset", "needless_distinct"]


def test_the_account_prices_rewrites_by_cost(
    shop_dsn: str, tmp_path: Path, work_folder: Path
) -> None:
    items = [
        Item("page", PAGE, 30.0),
        Item("all", ALL, 5.0),
        Item("by_id", "SELECT note FROM orders WHERE id = 5", 900.0),
    ]
    options = Options(storage_budget_bytes=0)
    account = advise_dsn(shop_dsn, items, work_folder / "rewrites", options)
    found = [s for s in account.suggestions if s.suggestion.kind == "rewrite"]
    assert {c.id for s in found for c in s.helped} == {"page", "all"}
    for each in found:
        change = each.helped[0]
        calls = next(i.calls for i in items if i.id == change.id)
        assert each.saved_cost == pytest.approx(calls * (change.cost_before - change.cost_after))
        assert 0 < each.saved_share < 1
    printed = account_json(account)
    assert all(s["rewritten_sql"] for s in printed["suggestions"] if s["kind"] == "rewrite")
    # The totals are of the statements as they are given.
    assert account.cost_after == pytest.approx(account.cost_before)
    assert [s.suggestions for s in account.statements][2] == ()
