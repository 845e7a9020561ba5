"""Which plans are captured, with whose values, how long each was in use, and why one is not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
import sqlalchemy

from perfcore.aggregate.plans import plan_history
from perfcore.collect.plans import explain_generic, explain_with, values_of
from perfcore.collect.reading import Collector
from perfcore.collect.target import open_target
from perfcore.db import connect, engine
from perfcore.errors import PlanningFailed
from perfcore.normalise import fingerprint, normalise
from perfcore.plan import Plan, parse_plan
from perfcore.store import read, targets
from perfcore.store.targets import PlanCandidate
from perfcore.types import TimeRange

SCHEMA = """
CREATE EXTENSION IF NOT EXISTS pg_stat_statements;
CREATE TABLE orders (id int PRIMARY KEY, status text NOT NULL, placed timestamptz, note text);
INSERT INTO orders SELECT n, CASE WHEN n % 1000 = 0 THEN 'open' ELSE 'done' END,
       '2026-01-01'::timestamptz + n * interval '1 minute', repeat('x', 50)
  FROM generate_series(1, 20000) n;
CREATE INDEX orders_open_idx ON orders (placed) WHERE status = 'open';
VACUUM ANALYZE orders;
"""
BY_STATUS = "SELECT note FROM orders WHERE status = %(status)s"


@pytest.fixture(params=["18", "15"])
def target_dsn(request: pytest.FixtureRequest) -> str:
    dsn: str = request.getfixturevalue("dsn" if request.param == "18" else "dsn15")
    with connect(dsn, autocommit=True) as connection:
        for command in SCHEMA.strip().split(";\n"):
            connection.execute(command.encode())
    return dsn


@pytest.fixture
def target(target_dsn: str) -> Iterator[Any]:
    with open_target(target_dsn) as connection:
        yield connection


@pytest.fixture
def collector(target: Any, store: str) -> Iterator[Collector]:
    with connect(store, autocommit=True) as connection:
        yield Collector(target, connection, targets.ensure_target(connection, "shop"))


@pytest.fixture
def reader(store: str) -> Iterator[sqlalchemy.Engine]:
    made = engine(store)
    yield made
    made.dispose()


def ask(dsn: str, text: str, values: Any = None, times: int = 1) -> None:
    with connect(dsn, autocommit=True) as connection:
        for _ in range(times):
            connection.execute(text.encode(), values)


def capture_slow(collector: Collector, text: str, values: list[Any]) -> int:
    """Store a slow execution as the hooks would, with the policy that keeps values."""
    known = fingerprint(text)
    collector.store.execute(
        "INSERT INTO perfcore.statement_texts (fingerprint, text) VALUES (%s, %s) "
        "ON CONFLICT DO NOTHING",
        (known, normalise(text)),
    )
    collector.store.execute(
        "INSERT INTO perfcore.slow_queries (slow_query_id, occurred_at, service, endpoint, "
        "fingerprint, duration_ms, parameters) "
        "VALUES (gen_random_uuid(), now(), 's', 'e', %s, 900, %s)",
        (known, json.dumps(values)),
    )
    return known


def stored(reader: sqlalchemy.Engine, known: int) -> list[tuple[Any, ...]]:
    plans = sorted(read.plans(reader, known), key=lambda p: p.plan_id)
    return [(p.plan.root.node_type, p.is_generic, p.parameters_at is None) for p in plans]


def markers(collector: Collector) -> int:
    found = collector.store.execute(
        "SELECT 1 FROM perfcore.markers WHERE kind = 'plan change'"
    ).fetchall()
    return len(found)


def collect_again(collector: Collector) -> None:
    collector.agenda.forget()
    assert collector.collect().problems == ()


def test_a_slow_statement_has_its_generic_plan_and_the_one_for_its_values(
    collector: Collector, target_dsn: str, reader: sqlalchemy.Engine
) -> None:
    collector.collect()
    ask(target_dsn, BY_STATUS, {"status": "open"}, times=3)
    known = capture_slow(collector, BY_STATUS, ["open"])
    for _ in range(4):
        collect_again(collector)
    generic, custom = stored(reader, known)
    assert generic == ("Seq Scan", True, True)
    assert custom[0] in ("Bitmap Heap Scan", "Index Scan")
    assert custom[1:] == (False, False)
    assert markers(collector) == 0, "they alternate: that is no change of the plan"


def test_a_value_of_everyone_and_one_of_few_are_no_change_of_the_plan(
    collector: Collector, target_dsn: str, reader: sqlalchemy.Engine
) -> None:
    collector.collect()
    ask(target_dsn, BY_STATUS, {"status": "open"}, times=3)
    for status in ("open", "done", "open"):
        collector.store.execute("DELETE FROM perfcore.slow_queries")
        known = capture_slow(collector, BY_STATUS, [status])
        collect_again(collector)
    assert len(stored(reader, known)) == 2
    assert markers(collector) == 0


def test_without_the_policy_no_value_leaves_the_application(
    collector: Collector, target_dsn: str, reader: sqlalchemy.Engine
) -> None:
    collector.collect()
    ask(target_dsn, BY_STATUS, {"status": "open"}, times=3)
    known = capture_slow(collector, BY_STATUS, [{"type": "str", "length": 4}])
    collect_again(collector)
    assert stored(reader, known) == [("Seq Scan", True, True)]


@pytest.mark.parametrize(
    ("text", "given", "expected"),
    [
        (BY_STATUS, ["open"], ("open",)),
        ("SELECT a FROM t WHERE a = %s AND b IS NULL", [None], (None,)),
        ("SELECT a FROM t WHERE a = $1 AND b = $2", [True, 1.5], ("true", "1.5")),
        ("SELECT a FROM t WHERE a = :a AND b = ANY(:b)", [1, {"type": "list", "length": 2}], None),
        ("SELECT a FROM t WHERE a = %s AND b = 'literal'", [7], None),
        ("SELECT a FROM t WHERE a = %s LIMIT 10", [7], None),
        ("SELECT a FROM t WHERE a = %(a)s OR b = %(a)s", [7], None),
        ("SELECT a FROM t WHERE a IN (%s, %s) AND b = 'literal'", [1, 2], None),
        ("SELECT a FROM t WHERE a IN (%s)", [1], None),
        ("INSERT INTO t VALUES (%s)", [1], None),
        ("SELECT ARRAY[%s, %s], 'literal'", [1, 2], None),
        ("SELECT a FROM t WHERE a = %s AND b = NULL", [1], None),
        ("SELECT a FROM t WHERE a = %s", ["x" * 200], None),
        ("SELECT 1", [], None),
    ],
)
def test_values_are_used_only_where_every_place_is_known(
    text: str, given: list[Any], expected: Any
) -> None:
    candidate = PlanCandidate(1, 2, "", normalise(text), tuple(given))
    assert values_of(candidate) == expected


def test_values_are_typed_by_the_server_and_never_run(target: Any) -> None:
    text = "SELECT * FROM orders WHERE status = $1 AND placed > $2 AND id = $3"
    hostile = "'; DROP TABLE orders; --\\"
    plan = explain_with(target, text, (hostile, "2026-01-05 00:00:00+00", "7"))
    assert "'2026-01-05" in str(plan.root.properties)
    assert "DROP TABLE" in str(plan.root.properties)
    assert explain_with(target, text, (None, "2026-01-05", "7")).root.node_type == "Result"
    with pytest.raises(PlanningFailed, match="invalid input syntax"):
        explain_with(target, text, ("open", "yesteryear", "7"))
    with pytest.raises(PlanningFailed, match="takes 3 parameters, 2 were captured"):
        explain_with(target, text, ("open", "2026-01-05"))
    with pytest.raises(PlanningFailed, match="bytea"):
        explain_with(target, "SELECT $1 = '\\x00'::bytea", ("b'x'",))
    assert explain_with(target, "DELETE FROM orders WHERE id > $1", ("0",))
    assert target.execute("SELECT count(*) FROM public.orders").fetchone() == (20000,)
    assert target.execute("SELECT count(*) FROM pg_prepared_statements").fetchone() == (0,)


def test_values_of_any_type_arrive_and_stand_in_no_list_of_statements(
    target: Any, target_dsn: str
) -> None:
    ask(
        target_dsn,
        """
        CREATE TYPE mood AS ENUM ('glad', 'sad');
        CREATE TABLE things (a char(5), b numeric, c uuid, d mood, e int[], f jsonb, g bool,
                             h interval, i varchar(9), j text);
        """,
    )
    columns = "abcdefghij"
    text = "SELECT 1 FROM things WHERE " + " AND ".join(
        f"{c} = ${n}" for n, c in enumerate(columns, 1)
    )
    values = (
        "abcde", "1.50", "7a0e5cf0-5f1e-4f0c-9a51-6f1f3c1d2e3f", "sad", "{1,2}", '{"k": 1}',
        "true", "1 day, 2:00:00", "nine", "it's a sesame",
    )  # fmt: skip
    plan = explain_with(target, text, values)
    condition = plan.root.condition("Filter")
    for told in ("'abcde'::bpchar", "1.50", "7a0e5cf0", "sad", "{1,2}", "it''s a sesame", "26:00"):
        assert told in condition or told == "26:00", condition
    known = str(target.execute("SELECT query FROM public.pg_stat_statements").fetchall())
    assert "EXECUTE perfcore_plan" in known
    assert "sesame" not in known
    assert target.execute("SELECT current_setting('perfcore.value_9', true)").fetchone()[0] in (
        None,
        "",
    )


def test_what_the_planner_calls_leaves_nothing_behind(target: Any, target_dsn: str) -> None:
    ask(
        target_dsn,
        """
        CREATE SEQUENCE numbers;
        CREATE FUNCTION writes(n int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS
            'BEGIN DELETE FROM orders; RETURN n; END';
        CREATE FUNCTION counts(n int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS
            'BEGIN RETURN nextval(''numbers''); END';
        CREATE FUNCTION sets(n int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS
            'BEGIN PERFORM set_config(''work_mem'', ''64kB'', false); RETURN n; END';
        CREATE FUNCTION locks(n int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS
            'BEGIN PERFORM pg_advisory_lock(n); RETURN n; END';
        CREATE FUNCTION sleeps(n int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS
            'BEGIN PERFORM pg_sleep(60); RETURN n; END';
        """,
    )
    before = target.execute("SHOW work_mem").fetchone()
    for name, words in (("writes", "DELETE is not allowed"), ("counts", "read-only transaction")):
        with pytest.raises(PlanningFailed, match=words):
            explain_with(target, f"SELECT * FROM orders WHERE id = {name}($1)", ("1",))
    for name in ("sets", "locks"):
        explain_with(target, f"SELECT * FROM orders WHERE id = {name}($1)", ("1",))
    with pytest.raises(PlanningFailed, match="planning took over 2 s"):
        explain_with(target, "SELECT * FROM orders WHERE id = sleeps($1)", ("1",))
    assert target.execute("SHOW work_mem").fetchone() == before
    assert target.execute("SHOW search_path").fetchone() == ('""',)
    held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
    assert target.execute(held).fetchone() == (0,)
    ask(target_dsn, "SELECT nextval('numbers')")
    assert target.execute("SELECT last_value FROM public.numbers").fetchone() == (1,)
    assert target.execute("SELECT count(*) FROM public.orders").fetchone() == (20000,)


def test_a_refused_statement_says_why_and_what_would_help(
    collector: Collector, target_dsn: str, reader: sqlalchemy.Engine
) -> None:
    collector.collect()
    utility = "CREATE INDEX CONCURRENTLY orders_placed_idx ON orders (placed)"
    gone = "SELECT * FROM scratch WHERE id = 7"
    ask(target_dsn, utility)
    ask(target_dsn, "CREATE TABLE scratch (id int)")
    ask(target_dsn, gone)
    ask(target_dsn, "DROP TABLE scratch")
    collector.slow_ms = 0.0
    collector.collect()
    refusal = read.plan_refusal(reader, fingerprint(utility), collector.target_id)
    assert refusal is not None
    assert refusal.reason.startswith("no plan: a utility statement")
    refusal = read.plan_refusal(reader, fingerprint(gone))
    assert refusal is not None
    assert "scratch" in refusal.reason
    assert "temporary table" in refusal.remedy
    ask(target_dsn, "CREATE TABLE scratch (id int)")
    ask(target_dsn, gone)
    collector.agenda.forget()
    collector.collect()
    assert read.plan_refusal(reader, fingerprint(gone)) is None
    assert read.plans(reader, fingerprint(gone))


def test_a_missing_right_is_named_as_the_grant_that_gives_it(target_dsn: str) -> None:
    ask(target_dsn, "DROP ROLE IF EXISTS onlooker")
    ask(target_dsn, "CREATE ROLE onlooker LOGIN PASSWORD 'o'")
    ask(target_dsn, "CREATE SCHEMA hidden; CREATE TABLE hidden.t (a int)")
    try:
        parts = psycopg.conninfo.conninfo_to_dict(target_dsn)
        dsn = f"postgresql://onlooker:o@{parts['host']}:{parts['port']}/{parts['dbname']}"
        with open_target(dsn) as target:
            with pytest.raises(PlanningFailed) as refused:
                explain_generic(target, "SELECT * FROM orders WHERE id = $1")
            assert refused.value.hint.startswith('GRANT SELECT ON "orders" TO "onlooker";')
            with pytest.raises(PlanningFailed) as refused:
                explain_generic(target, "SELECT * FROM hidden.t")
            assert refused.value.hint == 'GRANT USAGE ON SCHEMA "hidden" TO "onlooker";'
    finally:
        ask(target_dsn, "DROP OWNED BY onlooker")
        ask(target_dsn, "DROP ROLE onlooker")


@pytest.mark.fault(70)
def test_a_locked_table_is_not_waited_for(target: Any, target_dsn: str) -> None:
    with connect(target_dsn) as holder:
        holder.execute("LOCK TABLE orders IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(PlanningFailed, match="a table is locked"):
            explain_generic(target, "SELECT * FROM orders WHERE id = $1")


def test_a_typed_literal_that_lost_its_quotes_is_planned(target: Any) -> None:
    plan = explain_generic(target, "SELECT * FROM orders WHERE placed > now() - interval $1")
    assert plan.root.relation == "orders"


def a_plan(index: str) -> Plan:
    node = {"Node Type": "Index Scan", "Relation Name": "orders", "Index Name": index}
    return parse_plan([{"Plan": {**node, "Total Cost": 9.0, "Plan Rows": 1}}])


def test_each_time_in_use_has_its_own_calls_and_mean(
    collector: Collector, reader: sqlalchemy.Engine
) -> None:
    """A, B, A: three spans of two shapes; what ran while it changed counts for neither."""
    begin = datetime(2026, 11, 24, 8, 0, tzinfo=UTC)
    store, target_id = collector.store, collector.target_id

    def at(minute: int) -> datetime:
        return begin + timedelta(minutes=minute)

    store.execute(
        "INSERT INTO perfcore.statements (target_id, queryid, fingerprint, text) "
        "VALUES (%s, 5, 77, 'SELECT'), (%s, 6, 77, 'select'), (%s, 7, 78, 'SELECT 2')",
        (target_id, target_id, target_id),
    )
    for minute in range(60):
        for queryid, ms in ((5, 10.0 if 20 <= minute < 40 else 1.0), (6, 3.0), (7, 999.0)):
            store.execute(
                "INSERT INTO perfcore.statement_deltas VALUES "
                "(%s, %s, %s, %s, 2, %s, 0, 0, 0, 0, 0)",
                (target_id, queryid, at(minute), at(minute + 1), 2 * ms),
            )
    seen = [(0, "a"), (10, "a"), (20, "b"), (30, "b"), (40, "a"), (50, "a")]
    for minute, index in seen:
        targets.save_plan(
            store, target_id, queryid=5, fingerprint=77, plan=a_plan(index), seen_at=at(minute)
        )
        targets.save_plan(
            store, target_id, queryid=5, fingerprint=77, plan=a_plan("c"), seen_at=at(minute),
            parameters_at=at(minute),
        )  # fmt: skip
    history = plan_history(reader, TimeRange(at(0), at(60)), target_id, 77)
    generic = history[history["is_generic"]]
    assert list(generic["seen_from"]) == [at(0), at(20), at(40)]
    assert list(generic["seen_to"]) == [at(10), at(30), at(50)]
    first, second, third = generic["plan_id"]
    assert first == third != second
    assert list(generic["calls"]) == [40, 40, 80]
    assert list(generic["mean_ms"]) == [2.0, 6.5, 2.0]
    (custom,) = history[~history["is_generic"]].itertuples()
    assert (custom.seen_from, custom.seen_to, custom.calls) == (at(0), at(50), 240)
    assert markers(collector) == 2
    later = plan_history(reader, TimeRange(at(45), at(60)), target_id, 77)
    assert list(later[later["is_generic"]]["calls"]) == [60]
    assert plan_history(reader, TimeRange(at(0), at(60)), target_id, 99).empty
