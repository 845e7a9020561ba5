"""Each finding on a plan that has it and on one that has not, executed on 18 and 15.

The plans are executed without a clock (TIMING OFF, SUMMARY OFF): rows, loops, blocks and spills
are measured, shares are those of the planner's costs. So no test depends on the machine's speed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from perfcore.advise.plan_findings import MAX_FINDINGS, plan_findings
from perfcore.db import connect
from perfcore.plan import Plan, parse_plan, parse_text_plan
from perfcore.types import Catalog, PlanFinding
from perfcore.whatif.catalog import read_catalog

SCHEMA = """
CREATE TABLE customers (id int PRIMARY KEY, email text NOT NULL, code varchar(20), region int);
CREATE INDEX customers_email_idx ON customers (email);
CREATE INDEX customers_code_idx ON customers (code);
INSERT INTO customers SELECT n, 'u' || n || '@x.org', 'c' || n, n % 50
  FROM generate_series(1, 60000) n;
CREATE TABLE orders (id int PRIMARY KEY, customer int, status text, placed timestamptz,
                     city int, zip int, note text);
CREATE INDEX orders_customer_idx ON orders (customer);
CREATE INDEX orders_placed_idx ON orders (placed);
INSERT INTO orders SELECT n, 1 + (n * 7919) % 60000,
       CASE WHEN n % 1000 = 0 THEN 'open' ELSE 'done' END,
       '2026-01-01'::timestamptz + n * interval '1 minute', (n * 31) % 100, (n * 31) % 100 * 7,
       repeat('x', 60)
  FROM generate_series(1, 100000) n;
CREATE TABLE events (at date NOT NULL, day text, kind int) PARTITION BY RANGE (at);
CREATE TABLE logs (id int, level int, body text);
CREATE INDEX logs_level_idx ON logs (level, id);
INSERT INTO logs SELECT n, n % 20, repeat('y', 20) FROM generate_series(1, 50000) n;
CREATE TABLE fresh (id int, a int);
ALTER TABLE fresh SET (autovacuum_enabled = off);
"""
MONTHS = [f"2026-{m:02}-01" for m in range(1, 9)]


@pytest.fixture(scope="module", params=["18", "15"])
def session(request: pytest.FixtureRequest) -> Iterator[Any]:
    cluster = request.getfixturevalue(f"cluster{request.param}")
    with connect(cluster.dsn(), autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS plan_findings WITH (FORCE)")
        connection.execute("CREATE DATABASE plan_findings")
    with connect(cluster.dsn("plan_findings"), autocommit=True) as connection:
        connection.execute(SCHEMA.encode())
        for number, (start, end) in enumerate(zip(MONTHS, MONTHS[1:], strict=False)):
            connection.execute(
                f"CREATE TABLE events_{number} PARTITION OF events "
                f"FOR VALUES FROM ('{start}') TO ('{end}')".encode()
            )
        connection.execute(
            "INSERT INTO events SELECT d, to_char(d, 'YYYY-MM-DD'), n % 3 "
            "FROM (SELECT '2026-01-01'::date + n % 210 AS d, n FROM generate_series(1, 80000) n) x"
        )
        connection.execute("VACUUM ANALYZE")
        yield connection


def executed(session: Any, statement: str, settings: str = "") -> Plan:
    options = "ANALYZE, BUFFERS, TIMING OFF, SUMMARY OFF, FORMAT JSON"
    return explained(session, statement, settings, options)


def estimated(session: Any, statement: str, settings: str = "") -> Plan:
    return explained(session, statement, settings, "FORMAT JSON")


def explained(session: Any, statement: str, settings: str, options: str) -> Plan:
    with session.transaction(force_rollback=True):
        # Workers come or not; findings must not depend on it here.
        session.execute("SET LOCAL max_parallel_workers_per_gather = 0; SET LOCAL jit = off")
        for setting in filter(None, settings.split("; ")):
            session.execute(f"SET LOCAL {setting}".encode())
        row = session.execute(f"EXPLAIN ({options}) {statement}".encode()).fetchone()
    return parse_plan(row[0])


def catalog(session: Any) -> Catalog:
    return read_catalog(session)


def kinds(findings: list[PlanFinding]) -> list[str]:
    return [f.kind for f in findings]


def the(findings: list[PlanFinding], kind: str) -> PlanFinding:
    found = [f for f in findings if f.kind == kind]
    assert len(found) == 1, findings
    (one,) = found
    assert one.summary.endswith(".")
    assert one.consequence.endswith((".", ")."))
    assert one.numbers
    return one


def node(plan: Plan, finding: PlanFinding) -> str:
    return [n for _, n in plan.root.walk()][finding.node].node_type


def test_a_sequential_scan_that_keeps_few_rows(session: Any) -> None:
    statement = "SELECT * FROM orders WHERE status = 'open'"
    plan = executed(session, statement)
    found = the(plan_findings(plan), "seq_scan_keeps_few")
    assert found.summary == ("It reads orders from end to end, 100,000 rows, to keep 100.")
    assert "status = 'open'" in found.consequence
    assert node(plan, found) == "Seq Scan"
    assert plan_findings(executed(session, "SELECT * FROM orders WHERE status = 'done'")) == []
    assert plan_findings(executed(session, "SELECT * FROM orders")) == []


def test_an_estimate_tells_of_a_sequential_scan_by_its_cost_or_the_tables_size(
    session: Any,
) -> None:
    plan = estimated(session, "SELECT * FROM orders WHERE note = 'y'")
    alone = the(plan_findings(plan), "seq_scan_keeps_few")
    assert "at an estimated cost of 2,789, to keep about 1 of its rows" in alone.summary
    plan = estimated(session, "SELECT * FROM orders WHERE status = 'open'")
    assert plan_findings(plan) == [], "100 rows on as many pages are a part of that cost"
    found = the(plan_findings(plan, catalog(session).tables), "seq_scan_keeps_few")
    assert "about 100,000 rows" in found.summary
    assert ("share of the estimated cost", "100%") in found.numbers
    fast = estimated(session, "SELECT * FROM orders WHERE id = 9")
    assert plan_findings(fast, catalog(session).tables) == []


def test_rows_that_an_index_finds_and_the_filter_throws_away(session: Any) -> None:
    by_level = "enable_seqscan = off"
    statement = "SELECT * FROM logs WHERE level < 10 AND body = 'z'"
    found = the(plan_findings(executed(session, statement, by_level)), "rows_removed_by_filter")
    assert ("rows thrown away", "25,000") in found.numbers
    kept = executed(session, "SELECT * FROM logs WHERE level < 10 AND body <> 'z'", by_level)
    assert "rows_removed_by_filter" not in kinds(plan_findings(kept))


def test_pairs_that_a_join_compares_in_vain(session: Any) -> None:
    statement = "SELECT count(*) FROM customers a JOIN customers b ON a.region + b.region = {} " \
        "WHERE a.id < 300 AND b.id < 900"  # fmt: skip
    loops = "enable_hashjoin = off; enable_mergejoin = off"
    plan = executed(session, statement.format("99"), loops)
    found = the(plan_findings(plan), "rows_removed_by_join_filter")
    assert "pairs of rows" in found.summary
    kept = executed(session, statement.replace("= {}", "< 90"), loops)
    assert "rows_removed_by_join_filter" not in kinds(plan_findings(kept))


def test_more_rows_than_the_planner_expected(session: Any) -> None:
    statement = (
        "SELECT o.id, c.email FROM orders o JOIN customers c ON c.id = o.customer "
        "WHERE o.city % 1 = 0 AND o.zip % 1 = 0"
    )
    plan = executed(session, statement)
    found = the(plan_findings(plan), "misestimate")
    assert "more rows came from orders (o)" in found.summary
    assert node(plan, found) == "Seq Scan"
    together = executed(session, "SELECT * FROM orders WHERE city = 31 AND zip = 217")
    assert "depend on each other" in the(plan_findings(together), "misestimate").consequence
    assert "misestimate" not in kinds(
        plan_findings(executed(session, "SELECT * FROM orders WHERE city = 31"))
    )


def test_fewer_rows_than_expected_but_not_below_a_limit(session: Any) -> None:
    plan = executed(
        session, "SELECT * FROM orders WHERE customer > 70000 + city OR note < city::text"
    )
    assert "fewer rows came" in the(plan_findings(plan), "misestimate").summary
    limited = executed(
        session, "SELECT * FROM orders o JOIN customers c ON c.id = o.customer LIMIT 1"
    )
    assert "misestimate" not in kinds(plan_findings(limited))
    exists = executed(session, "SELECT EXISTS (SELECT 1 FROM orders WHERE note > '')")
    assert plan_findings(exists) == []


def test_a_sort_on_disk(session: Any) -> None:
    statement = "SELECT * FROM orders ORDER BY note, city"
    plan = executed(session, statement, "work_mem = '1MB'")
    found = the(plan_findings(plan), "sort_spill")
    assert node(plan, found) == "Sort"
    assert "work_mem" in found.consequence
    assert "note, city" in found.consequence
    assert plan_findings(executed(session, statement, "work_mem = '100MB'")) == []
    assert plan_findings(estimated(session, statement, "work_mem = '1MB'")) == []


def test_a_sort_is_not_told_larger_by_the_hash_join_below_it() -> None:
    sort = {
        "Node Type": "Sort", "Sort Key": ["o.status"], "Sort Method": "external merge",
        "Sort Space Used": 2592, "Sort Space Type": "Disk", "Temp Written Blocks": 1860,
        "Total Cost": 9000.0, "Actual Total Time": 90.0, "Actual Rows": 9, "Actual Loops": 1,
        "Plans": [
            {"Node Type": "Hash Join", "Total Cost": 1.0, "Temp Written Blocks": 747,
             "Actual Total Time": 1.0, "Actual Rows": 9, "Actual Loops": 1},
        ],
    }  # fmt: skip
    found = the(plan_findings(parse_plan([{"Plan": sort, "Execution Time": 90.0}])), "sort_spill")
    assert "2.6 MB went to disk" in found.summary
    assert "About 5.2 MB" in found.consequence


def test_a_hash_on_disk(session: Any) -> None:
    statement = "SELECT count(*) FROM orders a JOIN orders b ON a.note = b.note AND a.id = b.id + 1"
    join = "enable_mergejoin = off; enable_nestloop = off; work_mem = '{}'"
    found = the(plan_findings(executed(session, statement, join.format("256kB"))), "hash_spill")
    assert "hash table" in found.summary
    assert plan_findings(executed(session, statement, join.format("200MB"))) == []
    grouped = "SELECT body, id, count(*) FROM logs GROUP BY body, id"
    sorted_off = "enable_sort = off; work_mem = '{}'"
    plan = executed(session, grouped, sorted_off.format("256kB"))
    assert "grouping" in the(plan_findings(plan), "hash_spill").summary
    assert plan_findings(executed(session, grouped, sorted_off.format("200MB"))) == []


def test_a_nested_loop_with_many_loops(session: Any) -> None:
    statement = "SELECT count(c.email) FROM orders o JOIN customers c ON c.id = o.customer"
    loops = "enable_hashjoin = off; enable_mergejoin = off; enable_memoize = off"
    plan = executed(session, statement, loops)
    found = the(plan_findings(plan), "nested_loop")
    assert found.summary == (
        "It starts on orders anew 60,000 times, once for each row of the outer side."
    )
    assert (
        "an estimated 60,000 times"
        in the(plan_findings(estimated(session, statement, loops)), "nested_loop").summary
    )
    few = executed(session, f"{statement} WHERE c.id < 5000", loops)
    assert "nested_loop" not in kinds(plan_findings(few))
    assert plan_findings(executed(session, statement)) == []


_ALL_VISIBLE = "SELECT relallvisible = relpages FROM pg_class WHERE oid = 'logs'::regclass"


def test_an_index_only_scan_that_reads_the_table(session: Any) -> None:
    session.execute("UPDATE logs SET level = level WHERE id % 2 = 0")
    statement = "SELECT count(*) FROM logs WHERE level < 15"
    only = "enable_seqscan = off; enable_bitmapscan = off"
    plan = executed(session, statement, only)
    found = the(plan_findings(plan), "heap_fetches")
    assert "VACUUM logs" in found.consequence
    assert node(plan, found) == "Index Only Scan"
    for _ in range(50):
        # The latest transaction's rows are visible to everyone only after another one, and
        # after what other sessions of the server still look at.
        session.execute("SELECT pg_current_xact_id()")
        session.execute("VACUUM ANALYZE logs")
        if session.execute(_ALL_VISIBLE).fetchone() == (True,):
            break
        time.sleep(0.1)
    assert plan_findings(executed(session, statement, only)) == []


def test_a_bitmap_that_kept_whole_pages(session: Any) -> None:
    session.execute(
        "CREATE TABLE wide AS SELECT n AS id, (n::bigint * 7919) % 1000 AS v, "
        "repeat('w', 100) AS pad FROM generate_series(1, 200000) n"
    )
    session.execute("CREATE INDEX wide_v_idx ON wide (v)")
    session.execute("VACUUM ANALYZE wide")
    statement = "SELECT count(pad) FROM wide WHERE v < 100"
    bitmap = "enable_seqscan = off; enable_indexscan = off; work_mem = '{}'"
    plan = executed(session, statement, bitmap.format("64kB"))
    found = the(plan_findings(plan), "lossy_bitmap")
    assert "whole pages of wide" in found.summary
    assert node(plan, found) == "Bitmap Heap Scan"
    assert plan_findings(executed(session, statement, bitmap.format("50MB"))) == []


@pytest.mark.parametrize(
    ("condition", "compared"),
    [
        ("lower(email) = 'u7@x.org'", "LOWER(email)"),
        ("id::text = '7'", "cast(id AS TEXT)"),
        ("lower(code) LIKE 'c7'", "LOWER("),
        ("id + 1 = 8", "id + 1"),
    ],
)
def test_a_function_or_cast_on_an_indexed_column(
    session: Any, condition: str, compared: str
) -> None:
    tables = catalog(session).tables
    for plan in (
        executed(session, f"SELECT * FROM customers WHERE {condition}"),
        estimated(session, f"SELECT * FROM customers WHERE {condition}"),
    ):
        found = the(plan_findings(plan, tables), "function_on_column")
        assert compared in dict(found.numbers)["compared"]
        assert "index on the expression" in found.consequence
        assert "seq_scan_keeps_few" not in kinds(plan_findings(plan, tables))
        assert "function_on_column" not in kinds(plan_findings(plan))


@pytest.mark.parametrize(
    "condition",
    ["code = 'c7'", "email = lower('U7')", "lower(region::text) = '7'", "length(email) > 3"],
)
def test_no_function_hinders_an_index(session: Any, condition: str) -> None:
    """A varchar is compared as text through its index; region has none; > 3 keeps all."""
    plan = executed(
        session, f"SELECT * FROM customers WHERE {condition}",
        "enable_indexscan = off; enable_bitmapscan = off",
    )  # fmt: skip
    assert "function_on_column" not in kinds(plan_findings(plan, catalog(session).tables))


def test_an_index_on_the_expression_ends_the_finding(session: Any) -> None:
    session.execute("CREATE INDEX customers_lower_idx ON customers (lower(email))")
    try:
        plan = executed(
            session, "SELECT * FROM customers WHERE lower(email) = 'u7@x.org'",
            "enable_indexscan = off; enable_bitmapscan = off",
        )  # fmt: skip
        assert "function_on_column" not in kinds(plan_findings(plan, catalog(session).tables))
    finally:
        session.execute("DROP INDEX customers_lower_idx")


def test_a_limit_after_everything_was_sorted(session: Any) -> None:
    statement = "SELECT * FROM orders ORDER BY city, id DESC LIMIT 20"
    for plan in (executed(session, statement), estimated(session, statement)):
        found = the(plan_findings(plan), "late_limit")
        assert "100,000 rows to return the first 20" in found.summary
        assert "city, id DESC" in found.consequence
        assert node(plan, found) == "Limit"
    assert plan_findings(executed(session, "SELECT * FROM orders ORDER BY placed LIMIT 20")) == []
    grouped = "SELECT city, count(*) FROM orders GROUP BY city ORDER BY 2 DESC LIMIT 3"
    assert plan_findings(executed(session, grouped)) == []


def test_a_deep_offset(session: Any) -> None:
    statement = "SELECT * FROM orders ORDER BY placed LIMIT 20 OFFSET {}"
    found = the(plan_findings(executed(session, statement.format(60000))), "deep_offset")
    assert ("rows made", "60,020") in found.numbers
    assert plan_findings(executed(session, statement.format(200))) == []


def test_partitions_that_were_not_left_out(session: Any) -> None:
    plan = executed(session, "SELECT * FROM events WHERE day = '2026-03-05'")
    found = the(plan_findings(plan), "partitions_not_pruned")
    assert found.summary == "It looked into 7 partitions of events and found rows in 1."
    assert node(plan, found) == "Append"
    pruned = executed(session, "SELECT * FROM events WHERE at = '2026-03-05'")
    assert "partitions_not_pruned" not in kinds(plan_findings(pruned))
    every = executed(session, "SELECT * FROM events WHERE kind = 1")
    assert "partitions_not_pruned" not in kinds(plan_findings(every))


def test_twelve_partitions_read_alike_are_one_finding(session: Any) -> None:
    plan = executed(session, "SELECT * FROM events WHERE day = '2026-03-05'")
    assert len(plan_findings(plan)) <= 2


def test_statistics_that_are_behind(session: Any) -> None:
    session.execute("INSERT INTO fresh SELECT n, n FROM generate_series(1, 1000) n")
    session.execute("ANALYZE fresh")
    session.execute("INSERT INTO fresh SELECT n, n FROM generate_series(1, 90000) n")
    # A session tells its counts once a second; told after ANALYZE they would make it stale again.
    session.execute("SELECT pg_stat_force_next_flush()")
    tables = catalog(session).tables
    plan = executed(session, "SELECT sum(a) FROM fresh WHERE a > 0")
    found = the(plan_findings(plan, tables), "stale_statistics")
    assert "believes that fresh has 1,000 rows; 91,000 were read" in found.summary
    assert "misestimate" not in kinds(plan_findings(plan, tables))
    session.execute("ANALYZE fresh")
    plan = executed(session, "SELECT sum(a) FROM fresh WHERE a > 0")
    assert plan_findings(plan, catalog(session).tables) == []


def test_statistics_are_behind_by_what_changed_since(session: Any) -> None:
    plan = estimated(session, "SELECT sum(city) FROM orders")
    (orders,) = [t for t in catalog(session).tables if t.name == "orders"]
    taken = datetime(2026, 10, 1, 8, 0, tzinfo=UTC)
    moved = replace(orders, modified_since_analyze=40_000, last_analyze=taken)
    found = the(plan_findings(plan, [moved]), "stale_statistics")
    assert ("last analysed", "01 Oct 2026 08.00") in found.numbers
    assert "ANALYZE public.orders" in found.consequence
    never = replace(orders, row_count=-1, live_rows=100_000, last_analyze=None)
    assert "never analysed" in the(plan_findings(plan, [never]), "stale_statistics").summary
    quiet = replace(orders, modified_since_analyze=9_000)
    assert plan_findings(plan, [quiet]) == []


TIMED = (
    "Aggregate  (cost=0.00..9000.00 rows=1 width=8) (actual time={t}..{t} rows=1 loops=1)\n"
    "  ->  Seq Scan on orders  (cost=0.00..8000.00 rows=900 width=8) "
    "(actual time=0.1..{s} rows=900 loops=1)\n"
    "JIT:\n  Functions: 9\n  Options: Inlining true, Optimization true, Expressions true, "
    "Deforming true\n  Timing: Generation 1.0 ms, Inlining 10.0 ms, Optimization 50.0 ms, "
    "Emission 39.0 ms, Total {j} ms\n"
    "Execution Time: {t} ms\n"
)


def test_compiling_that_costs_more_than_it_saves() -> None:
    """The wheel's server has no JIT: the text is that of a server which has."""
    plan = parse_text_plan(TIMED.format(t="250.0", s="240.0", j="100.0"))
    found = the(plan_findings(plan), "jit")
    assert found.summary == ("100 of 250 ms went into compiling 9 functions of this statement.")
    assert ("share of the time", "40%") in found.numbers
    assert plan_findings(parse_text_plan(TIMED.format(t="900.0", s="890.0", j="100.0"))) == []


SCANS = (
    "Append  (cost=0..9000 rows=20 width=8) (actual time=0.1..{t} rows=20 loops=1)\n"
    + "".join(
        f"  ->  Seq Scan on t{c}  (cost=0..1000 rows=20 width=8) "
        f"(actual time=0.1..{{{n}}} rows=20 loops=1)\n"
        f"        Filter: (a = 1)\n        Rows Removed by Filter: 99980\n"
        for n, c in enumerate("abcdefgh")
    )
    + "Execution Time: {t} ms\n"
)


def test_few_findings_the_costliest_first() -> None:
    shares = [120.0, 110.0, 150.0, 130.0, 140.0, 115.0, 105.0, 125.0]
    plan = parse_text_plan(SCANS.format(*shares, t=sum(shares)))
    found = plan_findings(plan)
    assert len(found) == MAX_FINDINGS
    assert [f.node for f in found] == [3, 5, 4, 8, 1, 6]


def test_a_fast_plan_has_no_findings() -> None:
    plan = parse_text_plan(SCANS.format(*[0.9] * 8, t=8.0))
    assert plan_findings(plan) == []
