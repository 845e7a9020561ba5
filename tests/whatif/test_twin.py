"""The twin against the real thing: the same index built on the target must cost the same."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg
import pytest
from psycopg.rows import TupleRow

from perfcore.db import connect
from perfcore.errors import PerfcoreError, PlanningFailed, StatementRefused, TargetUnavailable
from perfcore.plan import Plan
from perfcore.server.embedded import Cluster
from perfcore.whatif.definition import parse_create_index
from perfcore.whatif.explain import explain
from perfcore.whatif.source import read_source
from perfcore.whatif.twin import Twin

ROWS = 100_000
SCHEMA = f"""
CREATE EXTENSION IF NOT EXISTS pg_trgm;
CREATE TYPE mood AS ENUM ('calm', 'cross');
CREATE TABLE customers (id int PRIMARY KEY, email text NOT NULL, mood mood);
CREATE TABLE orders (
    id bigint PRIMARY KEY,
    customer_id int NOT NULL REFERENCES customers,
    status text NOT NULL,
    created_at timestamptz NOT NULL,
    total numeric(10, 2) NOT NULL,
    note text NOT NULL,
    payload jsonb NOT NULL
);
CREATE SCHEMA "Odd schema";
CREATE TABLE "Odd schema"."Odd" ("Weird" int, tags text[]);
CREATE TABLE parts (id int, day date) PARTITION BY RANGE (day);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
CREATE INDEX parts_id ON parts (id);
SELECT setseed(0.5);
INSERT INTO customers
    SELECT i, 'user' || i || '@example.org', 'calm' FROM generate_series(1, 5000) AS i;
INSERT INTO orders SELECT
    i, 1 + (random() * 4999)::int,
    CASE WHEN random() < 0.02 THEN 'open' ELSE 'done' END,
    timestamptz '2026-01-01' + i * interval '1 minute',
    (random() * 500)::numeric(10, 2), md5(i::text) || md5((i * 7)::text),
    jsonb_build_object('kind', i % 997, 'tags', jsonb_build_array(i % 13, i % 17))
FROM generate_series(1, {ROWS}) AS i;
INSERT INTO "Odd schema"."Odd" SELECT i, ARRAY['a', 'b'] FROM generate_series(1, 1000) AS i;
INSERT INTO parts SELECT i, date '2026-01-01' + i % 59 FROM generate_series(1, 20000) AS i;
CREATE VIEW open_orders AS SELECT * FROM orders WHERE status = 'open';
CREATE FUNCTION twice(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 * 2';
"""


@dataclass(frozen=True)
class Case:
    name: str
    statement: str
    index: str = ""
    parameters: tuple[str | None, ...] | None = None
    hidden: str = ""


CASES = [
    Case("single", "SELECT * FROM orders WHERE customer_id = $1", "(customer_id)"),
    Case(
        "composite with LIMIT",
        "SELECT id FROM orders WHERE customer_id = $1 ORDER BY created_at DESC LIMIT 10",
        "(customer_id, created_at DESC)",
    ),
    Case(
        "range",
        "SELECT sum(total) FROM orders WHERE created_at >= $1 AND created_at < $2",
        "(created_at)",
        ("2026-02-01", "2026-02-02"),
    ),
    Case(
        "partial",
        "SELECT * FROM orders WHERE status = 'open' AND customer_id = $1",
        "(customer_id) WHERE status = 'open'",
    ),
    Case("expression", "SELECT * FROM orders WHERE lower(note) = $1", "(lower(note))"),
    Case(
        "covering",
        "SELECT customer_id, total FROM orders WHERE customer_id = $1",
        "(customer_id) INCLUDE (total)",
    ),
    Case("index-only aggregate", "SELECT count(*) FROM orders WHERE status = $1", "(status)"),
    Case(
        "join",
        "SELECT o.total FROM customers c JOIN orders o ON o.customer_id = c.id WHERE c.email = $1",
        "(customer_id)",
    ),
    Case("top of an order", "SELECT * FROM orders ORDER BY total DESC LIMIT 5", "(total)"),
    Case(
        "jsonb",
        "SELECT * FROM orders WHERE payload @> $1",
        "USING gin (payload jsonb_path_ops)",
        ('{"kind": 5}',),
    ),
    Case(
        "trigram",
        "SELECT * FROM orders WHERE note LIKE $1",
        "USING gin (note gin_trgm_ops)",
        ("%a1b2c3d%",),
    ),
    Case("brin", "SELECT * FROM orders WHERE created_at < $1", "USING brin (created_at)",
         ("2026-01-03",)),
    Case("hash", "SELECT * FROM orders WHERE note = $1", "USING hash (note)"),
    Case("hidden primary key", "SELECT * FROM orders WHERE id = $1", "", None, "orders_pkey"),
]  # fmt: skip

BASE = [
    "SELECT * FROM orders WHERE id = $1",
    "SELECT * FROM orders WHERE customer_id = $1",
    "SELECT max(id) FROM orders",
    "SELECT * FROM orders WHERE id > 99990",
    "SELECT count(*) FROM orders o JOIN customers c ON c.id = o.customer_id WHERE c.mood = 'calm'",
    "SELECT * FROM open_orders WHERE created_at > $1 ORDER BY id LIMIT 10",
    'SELECT * FROM "Odd schema"."Odd" WHERE tags @> $1 AND twice("Weird") = 4',
    "SELECT * FROM parts WHERE day = date '2026-01-05' AND id < 50",
    "UPDATE orders SET status = $1 WHERE id = $2",
    "DELETE FROM orders WHERE customer_id = $1",
    "INSERT INTO customers (id, email) VALUES ($1, $2)",
    "SELECT * FROM orders WHERE created_at > now() - interval $1",
]


@pytest.fixture(scope="module")
def target(cluster18: Cluster) -> Iterator[str]:
    yield from database(cluster18)


@pytest.fixture(scope="module")
def target15(cluster15: Cluster) -> Iterator[str]:
    yield from database(cluster15)


def database(cluster: Cluster) -> Iterator[str]:
    name = f"twin_{uuid.uuid4().hex[:8]}"
    with connect(cluster.dsn(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        with connect(cluster.dsn(name), autocommit=True) as inner:
            inner.execute(SCHEMA)
            inner.execute("VACUUM ANALYZE")
        yield cluster.dsn(name)
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="module")
def twin(target: str, work_folder: Path) -> Iterator[Twin]:
    with Twin.build(target, work_folder) as twin:
        yield twin


def objects(dsn: str) -> set[tuple[object, ...]]:
    with connect(dsn) as connection:
        return set(connection.execute("SELECT oid, relname, relpages FROM pg_class").fetchall())


def really(dsn: str, case: Case) -> Plan:
    """Return the plan with the index built on the target, and take the index back."""
    with connect(dsn, autocommit=True) as connection:
        if case.index:
            index = parse_create_index(f"CREATE INDEX ON orders {case.index}")
            with connection.transaction(force_rollback=True):
                connection.execute(index.ddl(concurrently=False).encode())
                if any(k.is_expression for k in index.keys):
                    connection.execute("ANALYZE orders")  # as autovacuum does, soon
                return explain(connection, case.statement, case.parameters)
        _set_valid(connection, case.hidden, False)
        try:
            return explain(connection, case.statement, case.parameters)
        finally:
            _set_valid(connection, case.hidden, True)


def _set_valid(connection: psycopg.Connection[TupleRow], name: str, valid: bool) -> None:
    connection.execute(
        "UPDATE pg_index SET indisvalid = %s WHERE indexrelid = %s::regclass", [valid, name]
    )


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_a_promised_plan_is_the_plan_with_the_real_index(
    target: str, twin: Twin, case: Case
) -> None:
    index = parse_create_index(f"CREATE INDEX ON orders {case.index}") if case.index else None
    promised = twin.plan(
        case.statement,
        case.parameters,
        indexes=[index] if index else [],
        hidden=[case.hidden] if case.hidden else [],
    )
    real = really(target, case)
    print(f"{case.name}: {promised.total_cost:.2f} for {real.total_cost:.2f}")
    assert promised.shape_hash == real.shape_hash, f"{promised.to_text()}\n{real.to_text()}"
    assert promised.total_cost == pytest.approx(real.total_cost, rel=0.15)
    if index is not None:
        assert promised.uses_index(index.name)


@pytest.mark.parametrize("statement", BASE)
def test_without_an_index_the_twin_plans_as_the_target(twin: Twin, statement: str) -> None:
    agreement = twin.self_check(statement)
    assert agreement.same_shape and agreement.agrees
    assert agreement.ratio == pytest.approx(1, rel=0.02)
    assert agreement.advisory == ""


def test_the_whole_schema_is_taken_over(twin: Twin) -> None:
    assert twin.skipped == ()


def test_the_target_is_left_as_it_was(target: str, work_folder: Path) -> None:
    before = objects(target)
    index = parse_create_index("CREATE INDEX ON orders (note)")
    with Twin.build(target, work_folder) as twin:
        twin.plan("SELECT * FROM orders WHERE note = $1", indexes=[index])
        twin.self_check("UPDATE orders SET note = $1 WHERE id = $2")
        with connect(target) as connection:
            locks = connection.execute(
                "SELECT * FROM pg_locks WHERE pid <> pg_backend_pid() AND database = "
                "(SELECT oid FROM pg_database WHERE datname = current_database())"
            ).fetchall()
    assert locks == []
    assert objects(target) == before


def test_indexes_are_there_only_for_the_question_they_are_part_of(twin: Twin) -> None:
    statement = "SELECT * FROM orders WHERE note = $1"
    one = parse_create_index("CREATE INDEX ON orders (note)")
    base = twin.plan(statement)
    assert twin.plan(statement, indexes=[one]).total_cost < base.total_cost / 10
    assert twin.plan(statement).total_cost == base.total_cost
    again = twin.plan(statement, indexes=[one])
    assert again.uses_index("orders_note_idx")


@pytest.mark.parametrize("name", ["orders_pkey", "public.orders_pkey"])
def test_an_index_is_hidden_by_either_name_and_comes_back(twin: Twin, name: str) -> None:
    statement = "SELECT * FROM orders WHERE id = $1"
    assert not twin.plan(statement, hidden=[name]).uses_index("orders_pkey")
    assert twin.plan(statement).uses_index("orders_pkey")


def test_threads_do_not_see_each_others_indexes(twin: Twin) -> None:
    statement = "SELECT * FROM orders WHERE note = $1"
    index = parse_create_index("CREATE INDEX ON orders (note)")

    def ask(number: int) -> bool:
        with_index = number % 2 == 0
        plan = twin.plan(statement, indexes=[index] if with_index else [])
        return plan.uses_index(index.name) == with_index

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(ask, range(40)))


def test_a_question_asked_twice_is_planned_once(twin: Twin) -> None:
    planner = twin.planner
    index = parse_create_index("CREATE INDEX ON orders (total)")
    calls = twin.calls
    for _ in range(3):
        planner.plan("SELECT * FROM orders WHERE total = $1", indexes=[index])
    assert twin.calls == calls + 1


def test_a_partial_index_is_sized_by_the_rows_the_planner_expects(twin: Twin) -> None:
    whole = twin.index_bytes(parse_create_index("CREATE INDEX ON orders (id)"))
    part = parse_create_index("CREATE INDEX ON orders (id) WHERE customer_id < 50")
    assert twin.index_bytes(part) < whole / 20


@pytest.mark.parametrize(
    ("statement", "parameters", "words"),
    [
        ("SELECT * FROM gone", None, 'relation "gone" does not exist'),
        ("SELECT * FROM orders WHERE id = $1", ["1", "2"], "takes 1 parameters, 2 were given"),
        ("SELECT * FROM orders WHERE id = $1", ["x"], "invalid input syntax"),
        ("SELECT $1 IS NULL FROM (", None, "syntax error"),
    ],
)
def test_says_why_there_is_no_plan(
    twin: Twin, statement: str, parameters: list[str] | None, words: str
) -> None:
    with pytest.raises(PlanningFailed, match=words):
        twin.plan(statement, parameters)


def test_an_impossible_index_fails_and_harms_nothing(twin: Twin) -> None:
    statement = "SELECT * FROM orders WHERE id = $1"
    before = twin.plan(statement)
    for text, words in (
        ("(payload jsonb_path_ops)", 'operator class "jsonb_path_ops" does not exist for access'),
        ("USING bloom (note)", 'access method "bloom" does not exist'),
        ("(random())", "the index cannot exist"),
    ):
        with pytest.raises(PlanningFailed, match=words):
            twin.plan(statement, indexes=[parse_create_index(f"CREATE INDEX ON orders {text}")])
    with pytest.raises(PerfcoreError, match="no column 'gone'"):
        twin.plan(statement, indexes=[parse_create_index("CREATE INDEX ON orders (gone)")])
    assert twin.plan(statement).total_cost == before.total_cost


def test_refuses_two_statements_also_where_the_check_is_blind(twin: Twin) -> None:
    with pytest.raises(StatementRefused, match="rule S1"):
        twin.plan("SELECT 1; DROP TABLE orders")
    with (
        connect(twin.target_dsn, autocommit=True) as connection,
        pytest.raises(PlanningFailed, match="multiple commands"),
    ):
        explain(connection, "SELECT 1; DROP TABLE orders")


def test_plans_values_as_a_parameter_of_the_statements_type(twin: Twin) -> None:
    statement = "SELECT * FROM orders WHERE status = $1"
    rare, common = twin.plan(statement, ["open"]), twin.plan(statement, ["done"])
    assert rare.root.plan_rows < 0.1 * common.root.plan_rows
    nothing = twin.plan("SELECT * FROM orders WHERE status = $1 OR id = $2", [None, "7"])
    assert nothing.root.plan_rows == 1


def test_takes_over_what_changed(dsn: str, work_folder: Path) -> None:
    statement, index = "SELECT * FROM t WHERE a = $1", "CREATE INDEX ON t (a)"
    with connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE t (a int); ALTER TABLE t SET (autovacuum_enabled = off)")
        connection.execute("INSERT INTO t SELECT generate_series(1, 3000)")
        connection.execute("ANALYZE t")
        with Twin.build(dsn, work_folder) as twin:
            small = twin.plan(statement, indexes=[parse_create_index(index)])
            assert twin.refresh() is False
            connection.execute("INSERT INTO t SELECT generate_series(3001, 60000)")
            connection.execute("ANALYZE t")
            assert twin.refresh() is True
            assert twin.self_check(statement).ratio == pytest.approx(1, rel=0.02)
            grown = twin.plan(statement, indexes=[parse_create_index(index)])
            assert grown.total_cost > small.total_cost
            connection.execute("CREATE TABLE u (b int)")
            assert twin.refresh() is True
            assert twin.plan("SELECT * FROM u").root.relation == "u"


def test_a_table_of_many_segments(target: str, work_folder: Path) -> None:
    """What the target's table would be at 20 GB costs what 20 GB cost; the disk holds nothing."""
    source = read_source(target)
    pages = 20 * 2**30 // 8192
    relations = tuple(
        replace(r, pages=pages, rows=pages * 40.0, size_bytes=pages * 8192)
        if r.name == "orders"
        else r
        for r in source.relations
    )
    with Twin(target, work_folder) as twin:
        twin._fill(replace(source, relations=relations), lambda share, what: None)
        statement = "SELECT id FROM orders WHERE total = 7 AND note = 'x'"
        whole = twin.plan(statement)
        index = parse_create_index("CREATE INDEX ON orders (note)")
        with_index = twin.plan(statement, indexes=[index])
        assert twin.plan(statement, indexes=[]).total_cost == whole.total_cost
        folder = next(f for f in (work_folder / "twins").iterdir() if f.suffix != ".lock")
        on_disk = sum(f.stat().st_blocks * 512 for f in folder.rglob("*") if f.is_file())
    assert whole.total_cost > pages
    assert with_index.total_cost < 50
    assert on_disk < 100e6


def test_says_what_it_could_not_take_over(dsn: str, work_folder: Path) -> None:
    with connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE t (a int, b int)")
        connection.execute("CREATE STATISTICS both_of_t ON a, b FROM t")
        connection.execute("CREATE AGGREGATE last_of (int) (sfunc = int4larger, stype = int)")
        connection.execute("CREATE VIEW v AS SELECT last_of(a) FROM t")
    with Twin.build(dsn, work_folder) as twin:
        assert [s.partition(":")[0] for s in twin.skipped] == [
            "public.both_of_t",
            "public.last_of",
            "public.v",
        ]
        with pytest.raises(PlanningFailed) as caught:
            twin.plan("SELECT * FROM v")
    assert "public.v: function public.last_of(integer) does not exist" in caught.value.hint


def test_leaves_nothing_behind(dsn: str, work_folder: Path) -> None:
    with Twin.build(dsn, work_folder):
        left = set((work_folder / "twins").iterdir())
    assert len(left) >= 2
    abandoned = work_folder / "twins" / "abandoned"
    abandoned.mkdir()
    abandoned.with_suffix(".lock").touch()
    after = set((work_folder / "twins").iterdir())
    with Twin.build(dsn, work_folder):
        assert not abandoned.exists()
    assert len(after) == len(left)  # two fewer of the first twin, two more of the abandoned


def test_a_role_without_select_is_told_the_grant(target: str, work_folder: Path) -> None:
    role = f"watcher_{uuid.uuid4().hex[:6]}"
    with connect(target, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'x'")
        try:
            connection.execute(f"GRANT pg_monitor TO {role}")
            parts = target.split("@")
            limited = f"postgresql://{role}:x@{parts[1]}"
            with pytest.raises(TargetUnavailable) as caught:
                Twin.build(limited, work_folder)
            assert f'TO "{role}"' in caught.value.hint
            connection.execute(f"GRANT SELECT ON orders TO {role}")
            with Twin.build(limited, work_folder) as twin:
                assert twin.self_check("SELECT * FROM orders WHERE id = $1").agrees
                with pytest.raises(PlanningFailed, match="customers may not be read"):
                    twin.plan("SELECT * FROM customers")
        finally:
            connection.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_an_older_target_is_planned_as_advice(target15: str, work_folder: Path) -> None:
    with Twin.build(target15, work_folder) as twin:
        assert twin.skipped == ()
        assert "the target is PostgreSQL 15" in twin.advisory
        # Version 18 plans some of them otherwise, such as max(id) without its null test.
        agreements = [twin.self_check(statement) for statement in BASE]
        assert sum(a.agrees for a in agreements) >= len(BASE) - 2
        assert all(a.advisory for a in agreements)
        index = parse_create_index("CREATE INDEX ON orders (customer_id)")
        case = CASES[0]
        promised = twin.plan(case.statement, indexes=[index])
        assert promised.total_cost == pytest.approx(really(target15, case).total_cost, rel=0.15)


def test_text_sorts_in_the_twin_as_on_the_target(cluster18: Cluster, work_folder: Path) -> None:
    """LIKE 'x%' is served by a plain index only where text sorts by byte."""
    name = f"sorted_{uuid.uuid4().hex[:8]}"
    with connect(cluster18.dsn(), autocommit=True) as connection:
        connection.execute(
            f"CREATE DATABASE {name} TEMPLATE template0 LOCALE_PROVIDER libc LOCALE 'C.UTF-8'"
        )
        try:
            with connect(cluster18.dsn(name), autocommit=True) as inner:
                inner.execute('CREATE TABLE t (a text, b text COLLATE "C")')
                inner.execute(
                    "INSERT INTO t SELECT md5(i::text), md5(i::text) "
                    "FROM generate_series(1, 20000) AS i"
                )
                inner.execute("VACUUM ANALYZE t")
            indexes = [parse_create_index(f"CREATE INDEX ON t ({c})") for c in "ab"]
            with Twin.build(cluster18.dsn(name), work_folder) as twin:
                plain = twin.plan("SELECT * FROM t WHERE a LIKE 'abc%'", indexes=indexes)
                bytewise = twin.plan("SELECT * FROM t WHERE b LIKE 'abc%'", indexes=indexes)
            assert plain.root.node_type == "Seq Scan"
            assert bytewise.uses_index("t_b_idx")
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
