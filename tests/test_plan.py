"""Plans: where their time goes, what makes two of them the same, and what users paste."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from perfcore.db import connect
from perfcore.errors import PlanUnreadable
from perfcore.plan import MAX_DEPTH, Plan, PlanNode, parse_plan, parse_text_plan, read_plan

SCHEMA = """
CREATE TABLE orders (id int PRIMARY KEY, customer int, total int, note text);
INSERT INTO orders SELECT n, n % 300, n, repeat('x', 90) FROM generate_series(1, 30000) n;
CREATE INDEX orders_customer_idx ON orders (customer);
CREATE TABLE events (at date NOT NULL, kind int) PARTITION BY RANGE (at);
CREATE TABLE events_2026_01 PARTITION OF events FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE TABLE events_2026_02 PARTITION OF events FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
CREATE INDEX events_kind_idx ON events (kind);
INSERT INTO events SELECT '2026-01-01'::date + n % 59, n % 900 FROM generate_series(1, 9000) n;
"""
PARALLEL = (
    "SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; "
    "SET min_parallel_table_scan_size = 0; SET max_parallel_workers_per_gather = 2"
)


@pytest.fixture(params=["18", "15"])
def session(request: pytest.FixtureRequest) -> Iterator[Any]:
    dsn: str = request.getfixturevalue("dsn" if request.param == "18" else "dsn15")
    with connect(dsn, autocommit=True) as connection:
        connection.execute(SCHEMA.encode())
        connection.execute("VACUUM ANALYZE")
        yield connection


def run(session: Any, statement: str) -> Plan:
    explain = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}"
    return parse_plan(session.execute(explain.encode()).fetchone()[0])


def estimate(session: Any, statement: str) -> Plan:
    return parse_plan(session.execute(f"EXPLAIN (FORMAT JSON) {statement}".encode()).fetchone()[0])


def own_ms(plan: Plan) -> float:
    return sum(n.self_ms or 0.0 for _, n in plan.root.walk())


def find(plan: Plan, **attributes: Any) -> PlanNode:
    found = [
        n for _, n in plan.root.walk() if all(getattr(n, k) == v for k, v in attributes.items())
    ]
    assert found, plan.to_text()
    return found[0]


SLOW = "(SELECT max(a.total + b.total) FROM orders a, orders b WHERE a.id < 60 AND b.id < 9000)"


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT count(*) FROM orders a JOIN orders b USING (customer) WHERE a.id < 900",
        f"WITH slow AS MATERIALIZED {SLOW} SELECT * FROM slow a, slow b",
        f"SELECT count(*) FROM orders WHERE total < {SLOW}",
        f"SELECT count(*) FROM (SELECT * FROM orders WHERE total < {SLOW} ORDER BY note) x",
        "SELECT id, (SELECT count(*) FROM orders o WHERE o.customer = x.customer) "
        "FROM orders x WHERE id < 60",
        "SELECT kind FROM events WHERE kind < 50 ORDER BY at LIMIT 9",
    ],
)
def test_no_time_is_counted_twice_and_none_is_negative(session: Any, statement: str) -> None:
    plan = run(session, statement)
    assert plan.root.total_ms is not None
    assert all((n.self_ms or 0.0) >= 0 for _, n in plan.root.walk())
    # Times of a loop are rounded to a microsecond.
    loops = sum(n.loops or 0 for _, n in plan.root.walk())
    assert own_ms(plan) == pytest.approx(plan.root.total_ms, abs=0.001 * loops + 0.05)


def test_a_slow_init_plan_is_not_its_readers_time(session: Any) -> None:
    plan = run(session, f"SELECT count(*) FROM orders WHERE total < {SLOW}")
    init = next(n for _, n in plan.root.walk() if n.subplan_name.startswith("InitPlan"))
    scan = find(plan, node_type="Seq Scan", alias="orders")
    assert init.total_ms is not None
    assert scan.total_ms is not None
    assert scan.self_ms is not None
    assert scan.total_ms > init.total_ms > scan.self_ms
    assert scan.self_ms == pytest.approx(scan.total_ms - init.total_ms)


def test_a_cte_is_paid_for_once(session: Any) -> None:
    plan = run(session, f"WITH slow AS MATERIALIZED {SLOW} SELECT * FROM slow a, slow b")
    cte = next(n for _, n in plan.root.walk() if n.subplan_name == "CTE slow")
    scans = [n for _, n in plan.root.walk() if n.cte_name == "slow"]
    assert len(scans) == 2
    assert cte.total_ms is not None
    assert sum(n.self_ms or 0.0 for n in scans) < cte.total_ms / 10


def test_below_a_gather_the_time_is_that_of_the_clock() -> None:
    plan = parse_text_plan(
        "Gather  (cost=0.00..10.00 rows=9 width=4) (actual time=5.000..100.000 rows=9 loops=1)\n"
        "  Workers Planned: 2\n  Workers Launched: 2\n"
        "  ->  Parallel Seq Scan on orders  (cost=0.00..9.00 rows=4 width=4) "
        "(actual time=0.010..90.000 rows=3 loops=3)\n"
        "        Rows Removed by Filter: 100\n"
    )
    (scan,) = plan.root.children
    assert (plan.root.workers_launched, scan.processes, scan.is_parallel_aware) == (2, 3, True)
    assert (scan.total_ms, scan.self_ms, plan.root.self_ms) == (90.0, 90.0, 10.0)
    assert (scan.rows_out, scan.rows_removed_by_filter) == (9, 300)


def test_a_gather_in_a_loop_counts_its_processes() -> None:
    plan = parse_text_plan(
        "Nested Loop  (cost=0..9 rows=9 width=4) (actual time=0.0..90.0 rows=9 loops=1)\n"
        "  ->  Result  (cost=0..1 rows=2 width=4) (actual time=0.0..1.0 rows=2 loops=1)\n"
        "  ->  Gather  (cost=0..9 rows=9 width=4) (actual time=0.0..40.0 rows=9 loops=2)\n"
        "        ->  Parallel Seq Scan on a  (cost=0..9 rows=9 width=4) "
        "(actual time=0.0..30.0 rows=3 loops=6)\n"
    )
    scan = find(plan, node_type="Seq Scan")
    assert (scan.processes, scan.total_ms) == (3, 60.0)
    assert own_ms(plan) == 90.0


def test_a_parallel_plan_sums_to_its_time(session: Any) -> None:
    session.execute(PARALLEL.encode())
    plan = run(session, "SELECT customer, sum(total) FROM orders GROUP BY 1 ORDER BY 2")
    assert "Gather" in plan.to_text()
    assert plan.root.total_ms is not None
    # The processes do not begin and end together: their mean is below the clock's time.
    assert own_ms(plan) <= plan.root.total_ms * 1.05 + 0.1


def test_what_a_drawing_needs(session: Any) -> None:
    session.execute("SET work_mem = '64kB'")
    plan = run(session, "SELECT * FROM orders WHERE total > 3000 ORDER BY note, total")
    sort = find(plan, node_type="Sort")
    assert sort.sort_is_on_disk
    assert sort.is_spilled
    assert sort.sort_method == "external merge"
    assert sort.sort_space_kb > 1000
    assert sort.temp_written_blocks > 100
    scan = find(plan, node_type="Seq Scan")
    assert scan.rows_removed == 3000
    assert scan.shared_hit_blocks + scan.shared_read_blocks > 100
    assert scan.has_buffers
    assert scan.condition("Filter") == "(total > 3000)"
    assert plan.is_executed
    hashed = run(session, "SELECT * FROM orders a JOIN orders b USING (note, total)")
    assert any(n.is_spilled for _, n in hashed.root.walk())
    assert not estimate(session, "SELECT * FROM orders").is_executed


def test_misestimates_are_per_loop_and_both_ways(session: Any) -> None:
    session.execute("SET enable_hashjoin = off; SET enable_mergejoin = off")
    more = run(session, "SELECT * FROM orders WHERE total % 1 = 0")
    assert more.root.is_underestimated
    assert more.root.misestimate == pytest.approx(30000 / 150)
    less = run(session, "SELECT * FROM orders WHERE total > customer + 40000")
    assert not less.root.is_underestimated
    assert less.root.misestimate == 10000
    assert estimate(session, "SELECT * FROM orders").root.misestimate is None


def test_jit_settings_and_triggers_are_read() -> None:
    plan = parse_text_plan(
        " Seq Scan on a  (cost=0.00..9.00 rows=4 width=4) (actual time=1.0..9.0 rows=3 loops=1)\n"
        " Settings: work_mem = '64kB', search_path = '\"$user\", it''s'\n"
        " Planning:\n   Buffers: shared hit=5\n Planning Time: 0.100 ms\n"
        " JIT:\n   Functions: 7\n"
        "   Options: Inlining false, Optimization false, Expressions true, Deforming true\n"
        "   Timing: Generation 1.5 ms (Deform 0.5 ms), Inlining 0.0 ms, Optimization 2.0 ms, "
        "Emission 3.0 ms, Total 6.5 ms\n"
        " Trigger for constraint a_fkey on a: time=2.500 calls=40\n"
        " Trigger seen: time=0.5 calls=3\n"
        " Execution Time: 20.000 ms\n"
    )
    assert plan.settings == {"work_mem": "64kB", "search_path": '"$user", it\'s'}
    assert plan.jit is not None
    assert (plan.jit.functions, plan.jit.generation_ms, plan.jit.total_ms) == (7, 1.5, 6.5)
    assert plan.jit.options["Inlining"] is False
    assert [(t.name, t.calls, t.total_ms) for t in plan.triggers] == [
        ("a_fkey", 40, 2.5),
        ("seen", 3, 0.5),
    ]
    assert (plan.planning_ms, plan.execution_ms) == (0.1, 20.0)


def test_another_partition_or_worker_is_the_same_plan(session: Any) -> None:
    session.execute("SET enable_seqscan = off; SET enable_bitmapscan = off")
    every, sums = "SELECT * FROM events WHERE kind = 3", "SELECT count(*) FROM events"
    before = [estimate(session, s).shape_hash for s in (every, sums)]
    session.execute(
        "CREATE TABLE events_2026_03 PARTITION OF events "
        "FOR VALUES FROM ('2026-03-01') TO ('2026-04-01')"
    )
    assert [estimate(session, s).shape_hash for s in (every, sums)] == before
    one = estimate(session, f"{every} AND at = '2026-02-03'")
    other = estimate(session, f"{every} AND at = '2026-01-03'")
    assert one.shape_hash == other.shape_hash == before[0], one.to_text()
    session.execute("RESET enable_seqscan; RESET enable_bitmapscan; DROP INDEX events_kind_idx")
    assert estimate(session, every).shape_hash != before[0]
    session.execute(PARALLEL.encode())
    counted = "SELECT count(*) FROM orders"
    two = estimate(session, counted)
    session.execute("SET max_parallel_workers_per_gather = 1")
    assert estimate(session, counted).shape_hash == two.shape_hash
    session.execute("SET max_parallel_workers_per_gather = 0")
    assert estimate(session, counted).shape_hash != two.shape_hash


def test_another_index_or_table_is_another_plan(session: Any) -> None:
    session.execute("SET enable_seqscan = off; SET enable_bitmapscan = off")
    before = estimate(session, "SELECT * FROM orders WHERE customer = 3")
    session.execute("DROP INDEX orders_customer_idx")
    session.execute("CREATE INDEX orders_customer_idx2 ON orders (customer, total)")
    assert estimate(session, "SELECT * FROM orders WHERE customer = 3").shape_hash != (
        before.shape_hash
    )


NODE = "Seq Scan on a  (cost=0.00..9.00 rows=4 width=4)"


@pytest.mark.parametrize(
    ("pasted", "reason"),
    [
        ("", "nothing was pasted"),
        (" \n\t", "nothing was pasted"),
        ("hello", "nothing in it reads like a node"),
        ("SELECT * FROM orders", "this is a statement"),
        ("<explain xmlns=''><Query/></explain>", "XML"),
        ('- Plan: \n    Node Type: "Seq Scan"', "YAML"),
        ('[{"Plan": {"Node Type": "Seq Sc', "breaks off"),
        ('[{"Plan": 3}]', 'no "Plan"'),
        ('{"a": 1}', 'no "Plan"'),
        ('[{"Plan": {"Node Type": "X", "Total Cost": "much"}}]', "much"),
        ('[{"Plan": {"Node Type": "X", "Plan Rows": NaN}}]', "finite"),
        ('[{"Plan": {"Node Type": "X", "Total Cost": [1]}}]', "float"),
        ('[{"Plan": {"Node Type": "X", "Plans": 3}}]', "Plans"),
        (f"{NODE}\n" * 90_000, "4.3 MB were pasted, at most 4 MB"),
        ("[" * 100_000, "nothing in it reads like a node"),
        ('[{"Plan": ' + '{"Plans": [' * 1000, "more than 200 nodes deep"),
        ('[{"Plan": {"a": ' + "[" * 100_000, "more than 200 nodes deep"),
    ],
    ids=range(17),
)
def test_junk_is_refused_with_a_reason_and_a_remedy(pasted: str, reason: str) -> None:
    with pytest.raises(PlanUnreadable, match=reason) as raised:
        read_plan(pasted)
    assert raised.value.hint


@pytest.mark.parametrize(
    "pasted",
    [
        " " * 3_000_000 + "x",
        "\n" * 3_000_000 + "x",
        "\t" * 300_000 + "x",
        "QUERY PLAN\n" + " " * 3_000_000 + "+x",
        ("|" + " " * 900_000 + "x\n") * 3,
        "[ " * 1_000_000,
        '[{"Plan": {"a": "' + '\\"' * 1_000_000,
        '"' + "''" * 1_000_000,
        "-" * 3_000_000 + "x",
        f"{NODE}\n  Sort Key: " + "('" * 1_000_000,
        f"{NODE}\n  Sort Key: " + '"' * 1_000_001,
        f"{NODE}\nTrigger " + " on a for constraint" * 100_000,
        f"{NODE}\n  " + "A" * 3_000_000,
        f"{NODE}" + " (cost=" * 400_000,
        "Seq Scan on " + '"' * 3_000_000,
        "Hash " * 600_000,
    ],
    ids=range(16),
)
def test_hostile_text_takes_no_time_to_speak_of(pasted: str) -> None:
    """Each would take hours, were any part of it read again from each of its positions."""
    with suppress(PlanUnreadable):
        read_plan(pasted)


def test_odd_values_never_end_in_another_error(session: Any) -> None:
    """Whatever stands in a document: it is refused, or all of it can be asked for."""
    document = run(session, "SELECT * FROM orders a JOIN orders b USING (id) ORDER BY 1").document
    odd: list[Any] = [None, "", "x", -1, 1e308, [], {}, [1], {"a": 1}, True, [None], "((", [{}]]
    places = list(_paths(document))
    for number in range(1500):
        changed = json.loads(json.dumps(document))
        *above, last = places[number % len(places)]
        inner = changed
        for key in above:
            inner = inner[key]
        inner[last] = odd[number // len(places) % len(odd)]
        try:
            plan = read_plan(json.dumps([changed]))
        except PlanUnreadable:
            continue
        assert plan.to_text()
        assert plan.shape_hash
        assert plan.jit is None
        for _, node in plan.root.walk():
            for name in dir(node):
                assert name.startswith("_") or getattr(node, name, "") is not ...


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    items: Any = value.items() if isinstance(value, dict) else ()
    for key, inner in enumerate(value) if isinstance(value, list) else items:
        yield from _paths(inner, (*path, key))


def test_deep_plans_are_read_or_refused_and_never_crash() -> None:
    def nested(levels: int) -> tuple[str, str]:
        lines = [NODE] + [f"{' ' * (6 * n + 2)}->  {NODE}" for n in range(levels - 1)]
        node: dict[str, Any] = {"Node Type": "Seq Scan"}
        for _ in range(levels - 1):
            node = {"Node Type": "Limit", "Plans": [node]}
        return "\n".join(lines), json.dumps([{"Plan": node}]) if levels < 300 else ""

    for pasted in nested(MAX_DEPTH):
        plan = read_plan(pasted)
        assert max(depth for depth, _ in plan.root.walk()) == MAX_DEPTH - 1
        assert len(plan.shape_hash) == 16
    for pasted in nested(MAX_DEPTH + 1):
        with pytest.raises(PlanUnreadable, match="more than 200 nodes deep"):
            read_plan(pasted)
    with pytest.raises(PlanUnreadable, match="more than 200 nodes deep"):
        read_plan(nested(1000)[0])


def test_of_two_plans_the_first_is_read_and_junk_around_is_left_out() -> None:
    plan = read_plan(f"EXPLAIN (ANALYZE) SELECT 1;\n{NODE}\nPlanning Time: 1.5 ms\n\n{NODE}\nbye")
    assert (len(list(plan.root.walk())), plan.planning_ms) == (1, 1.5)
