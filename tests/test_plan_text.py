"""The text format holds the same tree as the JSON format, by real statements on 18 and 15.

auto_explain writes the very execution that EXPLAIN (ANALYZE) answers in text once more as JSON,
so even the times of both must agree.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from perfcore.db import connect
from perfcore.plan import Plan, PlanNode, parse_plan, parse_text_plan, read_plan

SCHEMA = """
CREATE TABLE customers (id int PRIMARY KEY, name text NOT NULL, region int, "Odd Name" int);
CREATE TABLE orders (id int PRIMARY KEY, customer int NOT NULL REFERENCES customers,
                     status text, total numeric, placed timestamptz, note text);
CREATE INDEX orders_customer_idx ON orders (customer);
CREATE INDEX orders_status_idx ON orders (status);
CREATE INDEX orders_placed_idx ON orders (placed);
CREATE TABLE "Line Items" (id int PRIMARY KEY, "order" int, qty int);
CREATE INDEX "Line Items Order" ON "Line Items" ("order");
CREATE TABLE events (at date NOT NULL, kind int, body text) PARTITION BY RANGE (at);
CREATE TABLE events_2026_01 PARTITION OF events FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE TABLE events_2026_02 PARTITION OF events FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
CREATE TABLE events_2026_03 PARTITION OF events FOR VALUES FROM ('2026-03-01') TO ('2026-04-01');
CREATE INDEX events_at_idx ON events (at);
INSERT INTO customers SELECT n, 'c' || n, n % 7, n FROM generate_series(1, 500) n;
INSERT INTO orders SELECT n, 1 + n % 500, CASE WHEN n % 50 = 0 THEN 'open' ELSE 'done' END,
       n, '2026-01-01'::timestamptz + n * interval '1 minute', 'it''s "n"'
  FROM generate_series(1, 20000) n;
INSERT INTO "Line Items" SELECT n, 1 + n % 20000, n % 9 FROM generate_series(1, 20000) n;
INSERT INTO events SELECT '2026-01-01'::date + n % 89, n % 5, 'b' FROM generate_series(1, 9000) n;
CREATE FUNCTION pairs(n int) RETURNS TABLE (a int, b int) LANGUAGE sql STABLE ROWS 10
    AS 'SELECT i, i FROM generate_series(1, n) i OFFSET 0';
CREATE FUNCTION noticed() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER noticed BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION noticed();
"""
PARALLEL = (
    "SET max_parallel_workers_per_gather = 2; SET parallel_setup_cost = 0; "
    "SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0; "
    "SET min_parallel_index_scan_size = 0;"
)
ONLY_MERGE = "SET enable_hashjoin = off; SET enable_nestloop = off;"
ONLY_LOOPS = "SET enable_hashjoin = off; SET enable_mergejoin = off;"

STATEMENTS = {
    "seq scan": "SELECT * FROM orders WHERE total > 19000 AND note <> 'x: y'",
    "point": "SELECT * FROM orders WHERE id = 7",
    "alias": "SELECT * FROM orders o WHERE o.customer = 7 AND o.total > 10",
    "quoted": """SELECT * FROM "Line Items" "My Lines" WHERE "order" = 7""",
    "quoted column": """SELECT "Odd Name" FROM customers WHERE "Odd Name" = 3""",
    "backward": "SELECT * FROM orders ORDER BY placed DESC LIMIT 5",
    "index only": "SELECT count(*) FROM orders WHERE customer BETWEEN 3 AND 9",
    "bitmap or": "SELECT * FROM orders WHERE customer = 7 OR status = 'open'",
    "bitmap and": "SET enable_indexscan = off; SET enable_seqscan = off; "
    "SELECT * FROM orders WHERE customer = 99 AND status = 'open'",
    "tid": "SELECT * FROM orders WHERE ctid = '(0,1)'",
    "tid range": "SELECT count(*) FROM orders WHERE ctid > '(9,1)'",
    "sample": "SELECT * FROM orders TABLESAMPLE bernoulli (5) REPEATABLE (1)",
    "hash join": "SELECT * FROM orders o JOIN customers c ON c.id = o.customer WHERE c.region = 3",
    "merge join": f"{ONLY_MERGE} SELECT * FROM orders o JOIN customers c ON c.id = o.customer",
    "nested loop": f"{ONLY_LOOPS} SELECT * FROM customers c JOIN orders o ON o.customer = c.id "
    "WHERE c.region = 2",
    "left join": "SELECT * FROM customers c LEFT JOIN orders o ON o.customer = c.id AND o.id < 90",
    "nested left join": f"{ONLY_LOOPS} SELECT * FROM customers c LEFT JOIN orders o "
    "ON o.id = c.region",
    "full join": "SELECT * FROM customers c FULL JOIN orders o ON o.id = c.id",
    "semi join": "SELECT * FROM customers c WHERE EXISTS "
    "(SELECT 1 FROM orders o WHERE o.customer = c.id AND o.total > 19990)",
    "anti join": "SELECT * FROM customers c WHERE NOT EXISTS "
    "(SELECT 1 FROM orders o WHERE o.customer = c.id AND o.total > 10)",
    "join filter": f"{ONLY_LOOPS} SELECT count(*) FROM customers a JOIN customers b "
    "ON a.region < b.region WHERE a.id < 20",
    "sort": "SELECT * FROM orders ORDER BY total, id DESC NULLS LAST",
    "sort on disk": "SET work_mem = '64kB'; SELECT * FROM orders ORDER BY note, total",
    "incremental sort": "SELECT * FROM orders ORDER BY customer, total, id LIMIT 20",
    "incremental sort of all": "SET enable_sort = off; SET enable_seqscan = off; "
    "SELECT * FROM orders ORDER BY customer, total",
    "top n": "SELECT * FROM orders ORDER BY total DESC LIMIT 3",
    "distinct": "SELECT DISTINCT status FROM orders",
    "unique": "SET enable_hashagg = off; SELECT DISTINCT customer FROM orders",
    "group": "SELECT customer, sum(total), count(*) FROM orders GROUP BY customer "
    "HAVING sum(total) > 100",
    "sorted group": "SET enable_hashagg = off; SELECT status, count(*) FROM orders GROUP BY 1",
    "hash aggregate on disk": "SET work_mem = '64kB'; SET enable_sort = off; "
    "SELECT total, count(*) FROM orders GROUP BY total",
    "grouping sets": "SELECT customer, status, count(*) FROM orders "
    "GROUP BY GROUPING SETS ((customer), (status), ())",
    "rollup": "SET enable_hashagg = off; SELECT customer, status, count(*) FROM orders "
    "GROUP BY ROLLUP (customer, status)",
    "window": "SELECT id, sum(total) OVER (PARTITION BY customer ORDER BY id), "
    "row_number() OVER (ORDER BY total) FROM orders",
    "run condition": "SELECT * FROM (SELECT id, row_number() OVER (ORDER BY id) n FROM orders) x "
    "WHERE n <= 3",
    "cte": "WITH recent AS MATERIALIZED (SELECT * FROM orders WHERE id > 19900) "
    "SELECT * FROM recent a JOIN recent b USING (customer)",
    "recursive": "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 50) "
    "SELECT * FROM r JOIN customers c ON c.id = r.n",
    "init plan": "SELECT * FROM orders WHERE total > (SELECT avg(total) * 1.9 FROM orders)",
    "sub plan": "SELECT id, (SELECT count(*) FROM orders o WHERE o.customer = c.id) "
    "FROM customers c WHERE region = 1",
    "hashed sub plan": "SELECT * FROM customers WHERE id NOT IN "
    "(SELECT customer FROM orders WHERE total > 15000)",
    "exists in select": "SELECT id, EXISTS (SELECT 1 FROM orders o WHERE o.customer = c.id) "
    "FROM customers c",
    "subquery scan": "SELECT * FROM (SELECT DISTINCT ON (customer) * FROM orders "
    "ORDER BY customer, total DESC) x WHERE total > 10",
    "union all": "SELECT id FROM orders WHERE id < 9 UNION ALL SELECT id FROM customers",
    "union": "SELECT customer FROM orders UNION SELECT id FROM customers",
    "intersect": "SELECT customer FROM orders INTERSECT SELECT id FROM customers",
    "except all": "SELECT id FROM customers EXCEPT ALL SELECT customer FROM orders WHERE id < 30",
    "sorted except": "SET enable_hashagg = off; "
    "SELECT id FROM customers EXCEPT SELECT customer FROM orders WHERE id < 30",
    "values": "SELECT * FROM (VALUES (1, 'a, b'), (2, 'c')) v (n, t) JOIN orders o ON o.id = v.n",
    "function": "SELECT * FROM pairs(5) p JOIN customers c ON c.id = p.a",
    "rows from": "SELECT * FROM ROWS FROM (generate_series(1, 3), generate_series(1, 2)) x (a, b)",
    "foreign": "SELECT * FROM far f JOIN customers c ON c.id = f.id WHERE f.region = 3",
    "foreign join": "SELECT count(*) FROM far a JOIN far b USING (id) WHERE a.region < 3",
    "foreign update": "UPDATE far SET name = 'x' WHERE id = 4",
    "project set": "SELECT id, generate_series(1, 2) FROM customers",
    "one time filter": "SELECT * FROM orders WHERE false",
    "result": "SELECT 1",
    "minimum": "SELECT min(placed), max(placed) FROM orders",
    "partitions": "SELECT kind, count(*) FROM events GROUP BY kind",
    "pruned": "SELECT * FROM events WHERE at = '2026-02-03'",
    "merge append": "SELECT * FROM events ORDER BY at LIMIT 9",
    "pruned at start": "SELECT * FROM events WHERE at = now()::date - 1",
    "memoize": f"{ONLY_LOOPS} SET enable_material = off; SET enable_seqscan = off; "
    "SELECT * FROM orders o JOIN customers c ON c.id = o.customer WHERE o.id < 2000",
    "materialize": f"{ONLY_LOOPS} SET enable_indexscan = off; SET enable_bitmapscan = off; "
    "SET enable_memoize = off; SELECT count(*) FROM customers a, customers b WHERE a.id < b.id",
    "parallel": f"{PARALLEL} SELECT count(*) FROM orders WHERE total > 5",
    "parallel sort": f"{PARALLEL} SELECT * FROM orders ORDER BY note, total",
    "parallel join": f"{PARALLEL} SELECT c.region, sum(o.total) FROM orders o "
    "JOIN customers c ON c.id = o.customer GROUP BY c.region",
    "parallel append": f"{PARALLEL} SELECT count(*) FROM events WHERE kind = 3",
    "multi-line literal": "SELECT * FROM orders WHERE note <> 'first\n  second: line\n(third)'",
    "lateral": "SELECT * FROM customers c, LATERAL (SELECT * FROM orders o "
    "WHERE o.customer = c.id ORDER BY total DESC LIMIT 2) x WHERE c.region = 4",
    "insert": "INSERT INTO customers SELECT n, 'x' FROM generate_series(600, 640) n",
    "upsert": "INSERT INTO customers VALUES (1, 'x') ON CONFLICT (id) DO UPDATE "
    "SET name = excluded.name WHERE customers.region > 100",
    "update": "UPDATE orders SET total = total + 1 WHERE customer = 7 RETURNING id",
    "update partitions": "UPDATE events SET body = 'c' WHERE kind = 4",
    "delete": "DELETE FROM orders o USING customers c WHERE c.id = o.customer AND c.region = 6",
    "delete a parent": "DELETE FROM customers WHERE id > 10000",
    "writing cte": "WITH gone AS (DELETE FROM orders WHERE id < 30 RETURNING *) "
    "SELECT count(*) FROM gone",
    "for update": "SELECT * FROM orders WHERE id = 3 FOR UPDATE",
    "merge": "MERGE INTO customers c USING orders o ON c.id = o.id AND o.id < 9 "
    "WHEN MATCHED THEN UPDATE SET name = 'm'",
    "never executed": "SELECT * FROM customers c JOIN orders o ON o.customer = c.id "
    "WHERE c.name = 'nobody'",
    "catalogue": "SELECT * FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n "
    "ON n.oid = c.relnamespace",
}
FORMATS = {
    "estimate": "",
    "plain": "ANALYZE, BUFFERS OFF",
    "buffers": "ANALYZE, BUFFERS, WAL, SETTINGS",
    "verbose": "ANALYZE, VERBOSE, BUFFERS",
    "without": "ANALYZE, BUFFERS OFF, COSTS OFF, TIMING OFF, SUMMARY OFF",
}
COMPARED = (
    "Parent Relationship", "Subplan Name", "CTE Name", "Join Type", "Strategy", "Partial Mode",
    "Operation", "Command", "Alias", "Schema", "Scan Direction", "Function Name",
    "Filter", "Index Cond", "Recheck Cond", "Hash Cond", "Merge Cond", "Join Filter",
    "One-Time Filter", "TID Cond", "Sort Key", "Presorted Key", "Group Key", "Output",
    "Cache Key", "Run Condition", "Conflict Resolution", "Conflict Arbiter Indexes",
    "Sort Method", "Sort Space Used", "Sort Space Type", "Hash Buckets",
    "Hash Batches", "Peak Memory Usage", "HashAgg Batches", "Disk Usage", "Planned Partitions",
    "Cache Hits", "Cache Misses", "Workers Planned", "Workers Launched", "Subplans Removed",
    "Heap Fetches", "Storage", "Full-sort Groups", "Pre-sorted Groups",
)  # fmt: skip
COUNTED = (
    "Rows Removed by Filter", "Rows Removed by Join Filter", "Rows Removed by Index Recheck",
    "Exact Heap Blocks", "Lossy Heap Blocks", "Shared Hit Blocks", "Shared Read Blocks",
    "Shared Dirtied Blocks", "Temp Read Blocks", "Temp Written Blocks", "I/O Read Time",
    "Shared I/O Read Time", "Temp I/O Write Time", "WAL Records", "WAL Bytes", "Index Searches",
)  # fmt: skip


@pytest.fixture(scope="module", params=["18", "15"])
def session(request: pytest.FixtureRequest) -> Iterator[Any]:
    cluster = request.getfixturevalue(f"cluster{request.param}")
    with connect(cluster.dsn(), autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS plans_as_text WITH (FORCE)")
        connection.execute("CREATE DATABASE plans_as_text")
    with connect(cluster.dsn("plans_as_text"), autocommit=True) as connection:
        connection.execute(SCHEMA.encode())
        connection.execute("VACUUM ANALYZE")
        add_foreign_table(connection)
        connection.execute("LOAD 'auto_explain'")
        yield connection


def add_foreign_table(connection: Any) -> None:
    """Make the database's own customers a table of another server."""
    info = connection.info
    connection.execute(
        f"""
        CREATE EXTENSION postgres_fdw;
        CREATE SERVER self FOREIGN DATA WRAPPER postgres_fdw
               OPTIONS (host '{info.host}', port '{info.port}', dbname '{info.dbname}');
        CREATE USER MAPPING FOR CURRENT_USER SERVER self
               OPTIONS (user '{info.user}', password '{info.password}');
        CREATE FOREIGN TABLE far (id int, name text, region int)
               SERVER self OPTIONS (table_name 'customers');
        """.encode()
    )


def both(session: Any, statement: str, options: str) -> tuple[str, Any]:
    """Return one execution as EXPLAIN's text and as auto_explain's JSON."""
    logged: list[str] = []
    settings, _, query = (
        statement.rpartition("; ") if "SET " in statement[:4] else ("", "", statement)
    )
    session.execute("ROLLBACK")
    session.execute("BEGIN")
    session.execute(settings.replace("SET ", "SET LOCAL ").encode() or b"SELECT 1")
    if not options:
        text = session.execute(f"EXPLAIN {query}".encode()).fetchall()
        answer = session.execute(f"EXPLAIN (FORMAT JSON) {query}".encode()).fetchone()[0][0]
    else:
        for name in ("verbose", "buffers", "wal", "settings"):
            on = name.upper() in options.split(", ")
            session.execute(f"SET LOCAL auto_explain.log_{name} = {on}".encode())
        for name, value in (
            ("analyze", "on"), ("format", "json"), ("level", "notice"), ("triggers", "on"),
            ("timing", "TIMING OFF" not in options), ("min_duration", 0),
        ):  # fmt: skip
            session.execute(f"SET LOCAL auto_explain.log_{name} = {value}".encode())
        session.add_notice_handler(seen := lambda d: logged.append(d.message_primary))
        text = session.execute(f"EXPLAIN ({options}) {query}".encode()).fetchall()
        session.remove_notice_handler(seen)
        plans = [m.partition("plan:\n")[2] for m in logged if "plan:\n" in m]
        # What the statement's functions and triggers ran comes first.
        answer = plans[-1]
    return "\n".join(row[0] for row in text), answer


def compare(told: PlanNode, known: PlanNode, with_costs: bool, with_times: bool) -> None:
    for name in ("node_type", "relation", "index", "actual_rows", "loops"):
        assert getattr(told, name) == getattr(known, name), name
    if with_costs:
        for name in ("startup_cost", "total_cost", "plan_rows", "plan_width"):
            assert getattr(told, name) == getattr(known, name), name
    if with_times:
        assert told.actual_total_ms == known.actual_total_ms
        assert told.self_ms == pytest.approx(known.self_ms)
    for key in COMPARED:
        if key == "Group Key" and "Grouping Sets" in known.properties:
            continue
        if key == "Planned Partitions" and not with_costs:
            continue
        if key == "Function Name" and key not in known.properties:
            continue  # the text names several functions by their alias alone
        assert told.properties.get(key) == known.properties.get(key) or (
            # The text leaves out what is false or empty.
            not known.properties.get(key) and key not in told.properties
        ), key
    for key in COUNTED:
        assert (told.properties.get(key) or 0) == (known.properties.get(key) or 0), key


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("name", STATEMENTS)
def test_the_text_holds_the_tree_of_the_json(session: Any, name: str, kind: str) -> None:
    text, answer = both(session, STATEMENTS[name], FORMATS[kind])
    told, known = parse_text_plan(text), parse_plan(answer)
    pairs = list(zip(told.root.walk(), known.root.walk(), strict=True))
    for (depth, a), (expected_depth, b) in pairs:
        assert depth == expected_depth, text
        compare(a, b, "COSTS OFF" not in FORMATS[kind], kind in ("plain", "buffers", "verbose"))
    assert told.shape_hash == known.shape_hash
    assert [(t.name, t.calls) for t in told.triggers] == [
        (t.name, t.calls) for t in known.triggers
    ] or kind == "without"
    assert read_plan(text).root == told.root


def framed(text: str) -> str:
    """Return the text as psql prints it."""
    lines = text.split("\n")
    width = max(map(len, lines)) + 2
    head = "QUERY PLAN".center(width).rstrip()
    body = "\n".join(f" {line.ljust(width - 2)} " for line in lines)
    return f"shop=# EXPLAIN SELECT 1;\n{head}\n{'-' * width}\n{body}\n({len(lines)} rows)\n\nshop=#"


def boxed(text: str, bar: str = "|", rule: str = "-", corner: str = "+") -> str:
    lines = text.split("\n")
    width = max(map(len, lines))
    edge = corner + rule * (width + 2) + corner
    rows = "\n".join(f"{bar} {line.ljust(width)} {bar}" for line in ["QUERY PLAN", *lines])
    return f"{edge}\n{rows}\n{edge}"


@pytest.mark.parametrize("name", ["parallel join", "cte", "sub plan", "insert", "sort on disk"])
def test_frames_and_copied_cells_are_taken_off(session: Any, name: str) -> None:
    text, answer = both(session, STATEMENTS[name], FORMATS["buffers"])
    plain, known = parse_text_plan(text), parse_plan(answer)
    rows_of_cells = "\n".join('"' + line.replace('"', '""') + '"' for line in text.split("\n"))
    for wrapped in (
        framed(text),
        boxed(text),
        boxed(text, "│", "─", "┼"),
        rows_of_cells,
        '"' + text.replace('"', '""') + '"',
        "Here is our plan:\n\n" + text + "\n\nWhy is it slow?",
        text.replace("\n", "\r\n"),
        " " + text.replace("\n", "\n ").lstrip(),
        "LOG:  duration: 12.1 ms  plan:\n\tQuery Text: SELECT 1\n\t" + text.replace("\n", "\n\t"),
    ):
        assert shapes(read_plan(wrapped)) == shapes(plain), wrapped
    lines = str(answer).split("\n")
    continued = "\n".join(f" {line.ljust(90)}+" for line in lines[:-1]) + f"\n {lines[-1]}\n(1 row)"
    for wrapped in (
        str(answer),
        f"[\n{answer}\n]",
        '"' + f"[{answer}]".replace('"', '""') + '"',
        f"{'QUERY PLAN'.center(90)}\n{'-' * 92}\n{continued}",
        boxed(str(answer)),
    ):
        assert read_plan(wrapped).root == known.root, wrapped


def shapes(plan: Plan) -> list[Any]:
    return [
        (depth, n.node_type, n.relation, n.total_cost, n.actual_total_ms, n.condition("Filter"))
        for depth, n in plan.root.walk()
    ]
