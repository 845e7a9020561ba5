"""What a statement gets, by kind of index, and the reason when it gets nothing."""

from __future__ import annotations

import itertools
from dataclasses import replace

from perfcore.advise.advisor import advise
from perfcore.advise.workload import EndpointUse, Options, Repetition
from perfcore.errors import TargetUnavailable
from perfcore.plan import Plan, parse_plan
from perfcore.types import SilenceReason
from perfcore.whatif.catalog import read_catalog
from tests.advise.conftest import BuildingPlanner, Shop, index_suggestions, kinds, statement

NEWEST = (
    "SELECT id, total, note FROM orders WHERE customer_id = $1 ORDER BY created_at DESC LIMIT $2"
)


def test_equality_and_order_make_one_composite_index(shop: Shop) -> None:
    found = shop.assert_suggests(NEWEST, "orders (customer_id, created_at DESC)")
    assert found.finding.kind == "seq_scan"
    assert "60,000 rows of orders" in found.finding.summary
    assert found.ddl.startswith("CREATE INDEX CONCURRENTLY")
    assert found.undo.startswith("DROP INDEX CONCURRENTLY")
    assert found.index_bytes and found.saved_ms_per_hour > 20_000


def test_a_suggestion_comes_with_both_plans_of_its_most_saving_statement(shop: Shop) -> None:
    slow, fast = (
        statement(f"SELECT {what} FROM orders WHERE customer_id = $1", mean_ms=ms)
        for what, ms in (("note", 80.0), ("id", 20.0))
    )
    advice = shop.advise(slow, fast)
    (suggestion,) = index_suggestions(advice)
    (plans,) = advice.plans
    assert (plans.suggestion_id, plans.fingerprint) == (
        suggestion.suggestion_id, slow.fingerprint
    )  # fmt: skip
    before, after = parse_plan(plans.before), parse_plan(plans.after)
    gain = suggestion.statements[0]
    assert (before.total_cost, after.total_cost) == (gain.cost_before, gain.cost_after)
    assert suggestion.index is not None and after.uses_index(suggestion.index.name)
    assert not before.uses_index(suggestion.index.name)


def test_a_single_column(shop: Shop) -> None:
    shop.assert_suggests("SELECT * FROM orders WHERE reference = $1", "orders (reference)")


def test_equality_comes_before_range(shop: Shop) -> None:
    text = "SELECT * FROM orders WHERE total BETWEEN $1 AND $2 AND customer_id = $3"
    found = shop.indexes(text)
    assert found in (["orders (customer_id, total)"], ["orders (customer_id)"])


def test_a_join_column(shop: Shop) -> None:
    text = (
        "SELECT o.note, i.quantity FROM orders o JOIN order_items i ON i.order_id = o.id "
        "WHERE o.id = $1"
    )
    assert shop.indexes(text) in (
        ["order_items (order_id)"],
        ["order_items (order_id) including quantity"],
    )


def test_an_expression(shop: Shop) -> None:
    text = "SELECT * FROM customers WHERE lower(email) = lower($1)"
    shop.assert_suggests(text, "customers (lower(email))")


def test_a_document(shop: Shop) -> None:
    text = "SELECT * FROM customers WHERE attributes @> CAST($1 AS jsonb)"
    found = shop.assert_suggests(text, "customers using gin (attributes jsonb_path_ops)")
    assert any("GIN" in c for c in found.caveats)


def test_an_array(shop: Shop) -> None:
    shop.assert_suggests("SELECT * FROM customers WHERE tags && $1", "customers using gin (tags)")


def test_words(shop: Shop) -> None:
    text = "SELECT * FROM customers WHERE words @@ to_tsquery($1, $2)"
    shop.assert_suggests(text, "customers using gin (words)")


def test_a_pattern(shop: Shop) -> None:
    text = "SELECT * FROM customers WHERE bio ILIKE $1 LIMIT $2"
    shop.assert_suggests(text, "customers using gin (bio gin_trgm_ops)")


def test_rows_without_a_value_get_a_partial_index(shop: Shop) -> None:
    text = "SELECT * FROM orders WHERE closed_at IS NULL ORDER BY created_at LIMIT $1"
    shop.assert_suggests(text, "orders (created_at) where closed_at IS NULL")


def test_a_rare_value_gets_a_partial_index_that_says_what_it_serves(shop: Shop) -> None:
    text = "SELECT id, note FROM orders WHERE status = $1 ORDER BY total LIMIT $2"
    found = shop.assert_suggests(text, "orders (total) where status = 'pending'")
    assert "serves only status = 'pending', " in found.caveats[0]


def test_a_block_range_index_where_rows_lie_in_order(shop: Shop) -> None:
    text = "SELECT count(payload) FROM events WHERE at BETWEEN $1 AND $2"
    found = shop.indexes(statement(text, rows=600))
    assert found in (["events using brin (at)"], ["events (at)"])


def test_a_covering_index_where_it_saves_a_share_of_the_whole(shop: Shop) -> None:
    shop.assert_suggests(
        "SELECT sum(total) FROM orders WHERE customer_id BETWEEN $1 AND $2",
        "orders (customer_id) including total",
    )


def test_an_order_is_no_answer_where_matches_are_guessed(shop: Shop) -> None:
    text = "SELECT id FROM customers WHERE attributes @> CAST($1 AS jsonb) ORDER BY name LIMIT $2"
    shop.assert_suggests(text, "customers using gin (attributes jsonb_path_ops)")


def test_what_becomes_redundant_is_named(shop: Shop) -> None:
    shop.planner.connection.execute("CREATE INDEX narrow ON orders (customer_id)")
    try:
        catalog = read_catalog(shop.planner.connection)
        again = Shop(catalog, BuildingPlanner(shop.planner.connection, catalog))
        text = "SELECT sum(total) FROM orders WHERE customer_id BETWEEN $1 AND $2"
        found = again.assert_suggests(text, "orders (customer_id) including total")
        assert "It makes narrow redundant: drop that one afterwards." in found.caveats
        assert again.assert_no_suggestion(
            "SELECT note FROM orders WHERE customer_id = $1", SilenceReason.SERVED
        )
    finally:
        shop.planner.connection.execute("DROP INDEX narrow")


def test_stale_statistics_come_before_any_index(shop: Shop) -> None:
    tables = tuple(
        replace(t, modified_since_analyze=50_000) if t.name == "orders" else t
        for t in shop.catalog.tables
    )
    stale = Shop(replace(shop.catalog, tables=tables), shop.planner)
    advice = stale.advise(NEWEST)
    (found,) = advice.suggestions
    assert (found.kind, found.ddl) == ("maintenance", 'ANALYZE "public"."orders"')
    assert found.statements[0].text == NEWEST


def test_a_planner_that_is_gone_ends_no_round(shop: Shop) -> None:
    class Gone(BuildingPlanner):
        def plan(self, *args: object, **more: object) -> Plan:
            raise TargetUnavailable("the twin is gone")

    gone = Gone(shop.planner.connection, shop.catalog)
    advice = Shop(shop.catalog, gone).advise(NEWEST)
    assert [s.reason for s in advice.silences] == [SilenceReason.PLANNING_FAILED]
    assert advice.silences[0].detail == "the twin is gone"


def test_both_branches_of_an_or(shop: Shop) -> None:
    text = "SELECT * FROM orders WHERE reference = $1 OR customer_id = $2"
    found = index_suggestions(shop.advise(text))
    assert {s.title for s in found} == {"Index orders (reference)", "Index orders (customer_id)"}
    assert all(any("only together" in c for c in s.caveats) for s in found)


def test_an_update_is_searched_like_a_select(shop: Shop) -> None:
    shop.assert_suggests("UPDATE orders SET status = $1 WHERE reference = $2", "orders (reference)")


def test_an_interval_parameter_is_planned(shop: Shop) -> None:
    text = "SELECT * FROM orders WHERE customer_id = $1 AND created_at > now() - interval $2"
    assert shop.indexes(text)[0].startswith("orders (customer_id")


def test_one_index_serves_two_statements(shop: Shop) -> None:
    other = "SELECT count(*) FROM orders WHERE customer_id = $1"
    advice = shop.advise(NEWEST, other)
    found = index_suggestions(advice)
    assert [s.title for s in found] == ["Index orders (customer_id, created_at DESC)"]
    assert len(found[0].statements) == 2


def test_endpoints_gain_by_calls_per_request(shop: Shop) -> None:
    asked = statement(NEWEST)
    use = EndpointUse("shop", "GET /customers/{id}", 2.0, 300.0)
    advice = shop.advise(asked, endpoints={asked.fingerprint: [use]})
    gain = index_suggestions(advice)[0].endpoints[0]
    assert gain.endpoint == "GET /customers/{id}"
    assert 60 < gain.saved_ms_per_request <= 80


# Silence


def test_the_primary_key_serves(shop: Shop) -> None:
    detail = shop.assert_no_suggestion("SELECT * FROM orders WHERE id = $1", SilenceReason.SERVED)
    assert "orders_pkey" in detail


def test_a_small_table_is_read_whole(shop: Shop) -> None:
    text = "SELECT * FROM countries WHERE code = $1"
    assert "200 rows" in shop.assert_no_suggestion(text, SilenceReason.SMALL_TABLE)


def test_an_insert_has_nothing_to_search(shop: Shop) -> None:
    text = "INSERT INTO countries (id, code) VALUES ($1, $2)"
    shop.assert_no_suggestion(text, SilenceReason.NOT_A_SELECT)


def test_no_predicate_no_candidate(shop: Shop) -> None:
    text = "SELECT avg(total) FROM orders"
    shop.assert_no_suggestion(statement(text, calls=300), SilenceReason.NO_CANDIDATE)


def test_half_the_table_is_not_worth_an_index(shop: Shop) -> None:
    text = "SELECT * FROM orders WHERE total > $1"
    detail = shop.assert_no_suggestion(statement(text, rows=600 * 20000), SilenceReason.NO_GAIN)
    assert "orders (total)" in detail


def test_a_fast_and_rare_statement_is_left_alone(shop: Shop) -> None:
    quick = statement("SELECT * FROM orders WHERE reference = $1", calls=5, mean_ms=0.1)
    shop.assert_no_suggestion(quick, SilenceReason.FAST)


def test_the_catalogue_is_not_ours_to_index(shop: Shop) -> None:
    shop.assert_no_suggestion(
        "SELECT * FROM pg_class WHERE relname = $1", SilenceReason.CATALOG_ONLY
    )


def test_what_cannot_be_parsed_says_so(shop: Shop) -> None:
    shop.assert_no_suggestion("SELECT FROM WHERE (", SilenceReason.UNPARSABLE)


def test_what_cannot_be_planned_says_the_planners_words(shop: Shop) -> None:
    text = "SELECT no_such_function(total) FROM orders WHERE reference = $1"
    assert "no_such_function" in shop.assert_no_suggestion(text, SilenceReason.PLANNING_FAILED)


# The whole workload


def test_a_table_that_is_only_written_is_left_alone(shop: Shop) -> None:
    read = statement("SELECT * FROM orders WHERE reference = $1", calls=5, mean_ms=6.0)
    write = statement(
        "INSERT INTO orders VALUES ($1, $2, $3, $4, $5, $6, $7, $8)", calls=500_000, rows=500_000
    )
    assert shop.indexes(read) == ["orders (reference)"] or shop.indexes(read) == []
    assert shop.indexes(read, write) == []


def test_the_write_cost_is_said_in_numbers(shop: Shop) -> None:
    write = statement(
        "INSERT INTO orders VALUES ($1, $2, $3, $4, $5, $6, $7, $8)", calls=100, rows=100
    )
    found = index_suggestions(shop.advise(NEWEST, write))[0]
    assert "100 entries an hour (100 inserts" in found.write_cost


def test_a_budget_is_kept(shop: Shop) -> None:
    texts = (NEWEST, "SELECT * FROM orders WHERE reference = $1")
    everything = index_suggestions(shop.advise(*texts))
    assert len(everything) == 2
    smallest = min(s.index_bytes or 0 for s in everything)
    within = index_suggestions(shop.advise(*texts, storage_budget_bytes=smallest))
    assert sum(s.index_bytes or 0 for s in within) <= smallest


def test_the_same_workload_gives_the_same_advice(shop: Shop) -> None:
    texts = (NEWEST, "SELECT * FROM orders WHERE reference = $1 OR customer_id = $2")
    first, second = shop.advise(*texts), shop.advise(*reversed(texts))
    assert first.suggestions == second.suggestions
    assert first.silences == second.silences


def test_a_round_that_runs_out_of_time_says_so(shop: Shop) -> None:
    advice = shop.advise(NEWEST, time_limit_s=-1.0)
    assert advice.stopped_early
    assert not index_suggestions(advice)
    assert "not reached" in advice.silences[0].detail


# What no index answers


def test_n_plus_one(shop: Shop) -> None:
    asked = statement("SELECT name FROM customers WHERE id = $1", calls=25_000, mean_ms=0.05)
    repetition = Repetition(600.0, 25.0, 60.0, 0.6, "shop/orders.py:31 in orders")
    use = EndpointUse("shop", "GET /orders", 15.0, 1_000.0, 1.0, 25, repetition)
    advice = shop.advise(asked, endpoints={asked.fingerprint: [use]})
    found = next(s for s in advice.suggestions if s.finding.kind == "n_plus_one")
    assert "id = ANY(CAST(:keys AS INT[]))" in " ".join(found.rewritten_sql.split())
    assert found.endpoints[0].saved_ms_per_request == 24 * (1.0 - 0.05)
    assert found.endpoints[0].requests_per_hour == 600.0
    assert found.title == "GET /orders sends one statement 25 times a request"
    assert found.finding.summary.endswith(
        "25 times in one request, from shop/orders.py:31 in orders."
    )
    assert ("of those that run it", "60 %") in found.finding.numbers


def test_calls_that_no_request_repeats_long_enough_are_no_n_plus_one(shop: Shop) -> None:
    asked = statement("SELECT name FROM customers WHERE id = $1", calls=25_000, mean_ms=0.05)
    often = EndpointUse("shop", "GET /orders", 25.0, 1_000.0, mean_ms=1.0, max_calls=25)
    rare = replace(often, repetition=Repetition(1.0, 25.0, 60.0, 0.001))
    for use in (often, rare):
        assert "n_plus_one" not in kinds(shop.advise(asked, endpoints={asked.fingerprint: [use]}))


def test_a_deep_offset_becomes_a_keyset(shop: Shop) -> None:
    text = "SELECT id, total FROM orders ORDER BY id DESC LIMIT $1 OFFSET $2"
    found = next(s for s in shop.advise(text).suggestions if s.finding.kind == "deep_offset")
    assert "(id) < (:last_id)" in found.rewritten_sql
    assert "OFFSET" not in found.rewritten_sql


def test_not_in_over_a_nullable_column_becomes_an_anti_join(shop: Shop) -> None:
    text = "SELECT id FROM orders WHERE id NOT IN (SELECT product_id FROM order_items)"
    shop.planner.connection.execute("SET work_mem = '64kB'")
    advice = shop.advise(statement(text, mean_ms=500))
    found = next(s for s in advice.suggestions if s.finding.kind == "not_in_nullable")
    assert "NOT EXISTS" in found.rewritten_sql
    assert "both return the same" in found.caveats[0]
    assert found.saved_ms_per_hour > 0


def test_a_sort_that_spills_asks_for_memory(shop: Shop) -> None:
    spilling = statement("SELECT * FROM orders ORDER BY note, total", temp_blks_written=600 * 2000)
    found = next(s for s in shop.advise(spilling).suggestions if s.kind == "setting")
    assert found.ddl == "SET LOCAL work_mem = '64MB'"


def test_a_hot_read_without_parameters_is_worth_a_cache(shop: Shop) -> None:
    hot = statement("SELECT status, count(*) FROM orders GROUP BY status", calls=6_000, mean_ms=5)
    assert "cacheable" in kinds(shop.advise(hot))
    busy = statement("INSERT INTO orders (id) VALUES ($1)", calls=5_000, rows=5_000)
    assert "cacheable" not in kinds(shop.advise(hot, busy))


def test_many_statements_leave_time_to_weigh_the_heaviest(shop: Shop) -> None:
    seconds = itertools.count()  # one passes whenever somebody looks
    heavy = statement("SELECT * FROM orders WHERE customer_id = $1", mean_ms=500)
    light = [statement(f"SELECT id FROM orders LIMIT {n:07}") for n in range(120)]
    advice = advise(
        shop.catalog,
        [*light, heavy],
        shop.planner,
        options=Options(target_id=1, time_limit_s=300),
        clock=lambda: float(next(seconds)),
    )
    assert advice.stopped_early and advice.planner_calls > 0
    assert any(s.detail == "not reached in 300 s" for s in advice.silences)
