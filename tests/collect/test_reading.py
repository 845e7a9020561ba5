"""A pass over a real target, on PostgreSQL 18 and 15."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest

from perfcore.collect import loop
from perfcore.collect.activity import Activity, blockers, running
from perfcore.collect.loop import host_batch, run
from perfcore.collect.plans import Agenda, explain_generic
from perfcore.collect.reading import Collector, index_events
from perfcore.collect.target import open_target
from perfcore.config import load_config
from perfcore.db import connect, engine
from perfcore.errors import ConfigurationError, PlanningFailed, StatementRefused
from perfcore.normalise import fingerprint
from perfcore.store import read, targets
from perfcore.store.targets import PlanCandidate

SCHEMA = """
CREATE EXTENSION IF NOT EXISTS pg_stat_statements;
CREATE TABLE orders (id int PRIMARY KEY, customer int NOT NULL, note text);
INSERT INTO orders SELECT n, n % 100, 'n' FROM generate_series(1, 2000) n;
ANALYZE orders;
"""


@pytest.fixture(params=["18", "15"])
def target_dsn(request: pytest.FixtureRequest) -> str:
    dsn: str = request.getfixturevalue("dsn" if request.param == "18" else "dsn15")
    with connect(dsn, autocommit=True) as connection:
        connection.execute(SCHEMA.encode())
    return dsn


@pytest.fixture
def collector(target_dsn: str, store: str) -> Iterator[Collector]:
    with open_target(target_dsn) as target, connect(store, autocommit=True) as connection:
        target_id = targets.ensure_target(connection, "shop")
        yield Collector(target, connection, target_id)


def rows(collector: Collector, text: str) -> list[tuple[Any, ...]]:
    return collector.store.execute(text.encode()).fetchall()


def ask(dsn: str, text: str, times: int = 1) -> None:
    with connect(dsn, autocommit=True) as connection:
        for _ in range(times):
            connection.execute(text.encode())


def calls(collector: Collector, text: str) -> int:
    found = collector.store.execute(
        "SELECT coalesce(sum(d.calls), 0) FROM perfcore.statement_deltas d "
        "JOIN perfcore.statements s USING (target_id, queryid) WHERE s.fingerprint = %s",
        (fingerprint(text),),
    ).fetchone()
    assert found
    return int(found[0])


QUESTION = "SELECT note FROM orders WHERE customer = 7"


def test_statements_are_counted_once_and_ours_not_at_all(
    collector: Collector, target_dsn: str
) -> None:
    assert collector.collect().problems == ()
    ask(target_dsn, QUESTION, 3)
    collector.collect()
    assert calls(collector, QUESTION) == 3
    ask(target_dsn, QUESTION, 2)
    collector.collect()
    collector.collect()
    assert calls(collector, QUESTION) == 5
    assert (
        rows(collector, "SELECT text FROM perfcore.statements WHERE text LIKE '%perfcore%'") == []
    )
    seen = rows(collector, "SELECT last_error, last_seen_at IS NOT NULL FROM perfcore.targets")
    assert seen == [("", True)]


def test_what_the_planner_believes_of_the_tables_is_kept(collector: Collector, store: str) -> None:
    assert collector.collect().problems == ()
    reader = engine(store)
    (orders,) = [t for t in read.tables(reader, collector.target_id) if t.name == "orders"]
    reader.dispose()
    assert (orders.qualified_name, orders.row_count) == ("public.orders", 2000)
    assert orders.table_bytes > 50_000 and orders.last_analyze is not None


def test_a_restarted_collector_goes_on_where_it_stopped(
    collector: Collector, target_dsn: str
) -> None:
    collector.collect()
    ask(target_dsn, QUESTION, 4)
    again = Collector(collector.target, collector.store, collector.target_id)
    again.collect()
    assert calls(collector, QUESTION) == 4


def test_a_reset_loses_an_interval_and_nothing_else(collector: Collector, target_dsn: str) -> None:
    ask(target_dsn, QUESTION, 50)
    collector.collect()
    ask(target_dsn, QUESTION, 5)
    ask(target_dsn, "SELECT pg_stat_statements_reset()")
    ask(target_dsn, QUESTION, 60)
    collector.collect()
    assert calls(collector, QUESTION) == 0
    ask(target_dsn, QUESTION, 2)
    collector.collect()
    assert calls(collector, QUESTION) == 2
    markers = rows(collector, "SELECT kind FROM perfcore.markers")
    assert ("statistics reset",) in markers


def test_a_missing_extension_is_named_with_its_remedy_and_the_rest_is_read(
    collector: Collector, target_dsn: str
) -> None:
    ask(target_dsn, "DROP EXTENSION pg_stat_statements")
    collector.collect()
    collector.collect()
    (error,) = rows(collector, "SELECT last_error FROM perfcore.targets")[0]
    assert "CREATE EXTENSION pg_stat_statements;" in error
    assert rows(collector, "SELECT 1 FROM perfcore.database_deltas") == [(1,)]


def test_a_role_with_pg_monitor_suffices(target_dsn: str, store: str) -> None:
    ask(target_dsn, "DROP ROLE IF EXISTS watcher")
    ask(target_dsn, "CREATE ROLE watcher LOGIN PASSWORD 'w' IN ROLE pg_monitor")
    try:
        parts = psycopg.conninfo.conninfo_to_dict(target_dsn)
        dsn = f"postgresql://watcher:w@{parts['host']}:{parts['port']}/{parts['dbname']}"
        with open_target(dsn) as target, connect(store, autocommit=True) as connection:
            collector = Collector(target, connection, targets.ensure_target(connection, "t"))
            collector.collect()
            ask(target_dsn, QUESTION, 3)
            report = collector.collect()
            assert calls(collector, QUESTION) == 3
            assert [p for p in report.problems if "GRANT SELECT" not in p] == []
    finally:
        ask(target_dsn, "DROP ROLE watcher")


def test_an_index_made_by_hand_is_noticed_and_ours_is_not(
    collector: Collector, target_dsn: str
) -> None:
    collector.collect()
    collector.store.execute(
        "INSERT INTO perfcore.changes (change_id, target_id, kind, object_name, ddl, undo, state) "
        "VALUES (gen_random_uuid(), %s, 'create_index', 'public.ours_idx', '', '', 'running')",
        (collector.target_id,),
    )
    ask(target_dsn, "CREATE INDEX theirs_idx ON orders (customer)")
    ask(target_dsn, "CREATE INDEX ours_idx ON orders (note)")
    ask(target_dsn, "CREATE TABLE other (id int PRIMARY KEY)")
    collector.collect()
    found = "SELECT kind, object_name, state FROM perfcore.changes WHERE origin = 'by hand'"
    assert rows(collector, found) == [("create_index", "public.theirs_idx", "applied")]
    ask(target_dsn, "DROP INDEX theirs_idx")
    ask(target_dsn, "REINDEX INDEX ours_idx")
    for _ in range(3):
        collector.collect()
    assert [r[:2] for r in rows(collector, found)] == [
        ("create_index", "public.theirs_idx"),
        ("drop_index", "public.theirs_idx"),
    ]
    assert len(rows(collector, "SELECT 1 FROM perfcore.markers WHERE kind = 'change'")) == 2


def test_a_changed_setting_is_marked(collector: Collector, target_dsn: str) -> None:
    collector.collect()
    name = psycopg.conninfo.conninfo_to_dict(target_dsn)["dbname"]
    ask(target_dsn, f"ALTER DATABASE {name} SET work_mem = '9MB'")
    with open_target(target_dsn) as target:
        Collector(target, collector.store, collector.target_id).collect()
    (label,) = rows(collector, "SELECT label FROM perfcore.markers WHERE kind = 'settings'")[0]
    assert "work_mem: 4096 kB -> 9216 kB" in label


def test_plans_are_generic_kept_once_a_shape_and_marked_when_they_change(
    collector: Collector, target_dsn: str
) -> None:
    collector.collect()
    ask(target_dsn, QUESTION, 3)
    assert collector.collect().plans >= 1
    stored = (
        "SELECT plan -> 'Plan' ->> 'Node Type' FROM perfcore.plans WHERE fingerprint = "
        f"{fingerprint(QUESTION)} ORDER BY plan_id"
    )
    assert rows(collector, stored) == [("Seq Scan",)]
    collector.agenda.forget()
    ask(target_dsn, "CREATE INDEX orders_customer_idx ON orders (customer)")
    collector.collect()
    collector.collect()
    assert [r[0] for r in rows(collector, stored)] in (
        ["Seq Scan", "Bitmap Heap Scan"],
        ["Seq Scan", "Index Scan"],
    )
    assert rows(collector, "SELECT 1 FROM perfcore.markers WHERE kind = 'plan change'")


def test_a_generic_plan_executes_nothing_and_takes_one_statement(target_dsn: str) -> None:
    with open_target(target_dsn) as target:
        plan = explain_generic(target, "SELECT * FROM orders WHERE id = $1 AND note LIKE $2")
        assert plan.root.relation == "orders"
        assert "$1" in str(plan.root.properties)
        assert explain_generic(target, "DELETE FROM orders").root.node_type == "ModifyTable"
        with pytest.raises(PlanningFailed, match="multiple commands"):
            explain_generic(target, "SELECT 1; DROP TABLE orders")
        with pytest.raises(StatementRefused):
            explain_generic(target, "VACUUM orders")
        with pytest.raises(PlanningFailed, match="does not exist"):
            explain_generic(target, "SELECT * FROM nowhere")
        assert target.execute("SELECT count(*) FROM public.orders").fetchone() == (2000,)
        assert target.execute("SHOW search_path").fetchone() == ('""',)


def test_an_agenda_asks_again_after_ten_minutes() -> None:
    now = [0.0]
    agenda = Agenda(clock=lambda: now[0])
    candidate = PlanCandidate(1, 2, "SELECT 1")
    agenda.note(1)
    assert agenda.due([candidate]) == []
    now[0] = 600.0
    assert agenda.due([candidate]) == [candidate]


def test_a_vanished_table_takes_its_indexes_without_an_event() -> None:
    index = {"name": "public.a_idx", "definition": "CREATE INDEX", "table_oid": 5, "bytes": 0}
    assert index_events({"1": index}, {}, {"1"}) == ([], {})


def test_sessions_and_who_blocks_them(target_dsn: str) -> None:
    with connect(target_dsn, application_name="app") as held, open_target(target_dsn) as target:
        held.execute("UPDATE orders SET note = 'x' WHERE id = 1")
        (session,) = running(target)
        assert (session.state, session.application) == ("idle in transaction", "app")
    waiting = Activity(2, "", "", "active", "", 1.0, 1.0, "Lock", "tuple", (session.pid,))
    assert blockers([session, waiting]) == {session.pid: (2,)}


def test_the_loop_collects_from_a_living_target_beside_a_dead_one(
    target_dsn: str, store: str
) -> None:
    config = load_config(
        {
            "PERFCORE_STORE": store,
            "PERFCORE_TARGETS": f"dead=postgresql://u:geheim@127.0.0.1:1/x shop={target_dsn}",
            "PERFCORE_COLLECT_INTERVAL_S": "0.1",
        }
    )
    stop = threading.Event()
    thread = threading.Thread(target=run, args=(config,), kwargs={"stop": stop})
    thread.start()
    try:
        with connect(store, autocommit=True) as connection:
            state: dict[str, Any] = {}
            for _ in range(300):
                state = dict(
                    connection.execute(
                        "SELECT name, coalesce(last_error, '') FROM perfcore.targets "
                        "WHERE last_seen_at IS NOT NULL OR last_error <> ''"
                    ).fetchall()
                )
                host = connection.execute(
                    "SELECT 1 FROM perfcore.series WHERE service = 'host'"
                ).fetchall()
                if len(state) == 2 and len(host) == 2:
                    break
                stop.wait(0.1)
            assert state["shop"] == ""
            assert "cannot be read" in state["dead"]
            assert "geheim" not in state["dead"]
            assert len(host) == 2
    finally:
        stop.set()
        thread.join()


def test_the_loop_needs_a_store() -> None:
    with pytest.raises(ConfigurationError, match="PERFCORE_STORE is empty"):
        run(load_config({}), stop=threading.Event())


def test_the_host_has_cpu_and_memory() -> None:
    batch = host_batch(datetime.now(UTC))
    assert {s.series.metric_name for s in batch.raw} == {
        "system.cpu.utilization",
        "system.memory.usage",
    }


def test_a_thread_that_ends_is_begun_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "_WATCH_INTERVAL_S", 0.01)
    stop = threading.Event()
    rounds: list[int] = []

    def work() -> None:
        rounds.append(1)
        if len(rounds) == 3:
            stop.set()

    loop._keep_running({"work": work}, stop)
    assert len(rounds) == 3


def test_a_server_that_counts_nothing_is_told_so(collector: Collector, target_dsn: str) -> None:
    name = psycopg.conninfo.conninfo_to_dict(target_dsn)["dbname"]
    ask(target_dsn, f"ALTER DATABASE {name} SET pg_stat_statements.track = 'none'")
    ask(target_dsn, "SELECT pg_stat_statements_reset()")
    with open_target(target_dsn) as target:
        report = Collector(target, collector.store, collector.target_id).collect()
    assert "pg_stat_statements.track" in report.problems[0]


@pytest.mark.parametrize(
    ("what", "kind", "label"),
    [
        ("started_at", "restart", "restart"),
        ("system_identifier", "restart", "another server answers"),
        ("timeline", "restart", "failover"),
    ],
)
def test_counters_of_another_life_of_the_server_are_never_subtracted(
    collector: Collector, target_dsn: str, what: str, kind: str, label: str
) -> None:
    collector.collect()
    ask(target_dsn, QUESTION, 3)
    collector.store.execute(
        "UPDATE perfcore.collector_snapshots "
        "SET epoch = jsonb_set(epoch::jsonb, ARRAY[%s], '\"0\"')::text "
        "WHERE view NOT IN ('indexes', 'tables')",
        (what,),
    )
    collector.collect()
    for table in ("statement_deltas", "table_deltas", "database_deltas"):
        assert rows(collector, f"SELECT 1 FROM perfcore.{table}") == []
    assert rows(collector, "SELECT kind, label FROM perfcore.markers") == [(kind, label)]
