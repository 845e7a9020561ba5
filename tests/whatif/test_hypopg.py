import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from perfcore.db import connect
from perfcore.errors import PlanningFailed, StatementRefused, TargetUnavailable
from perfcore.server.embedded import Cluster, system_binaries
from perfcore.types import IndexDefinition
from perfcore.whatif.definition import parse_create_index
from perfcore.whatif.explain import explain
from perfcore.whatif.hypopg import HypoPG, note_of_crash
from tests.conftest import DEBIAN_15
from tests.needs import need

SCHEMA = """
CREATE EXTENSION hypopg;
CREATE TABLE orders (id int PRIMARY KEY, customer_id int, status text, payload jsonb);
INSERT INTO orders SELECT i, i % 5000, CASE WHEN i % 50 = 0 THEN 'open' ELSE 'done' END, '{}'
    FROM generate_series(1, 50000) AS i;
VACUUM ANALYZE orders;
CREATE VIEW open_orders AS SELECT * FROM orders WHERE status = 'open';
"""
POINT = "SELECT * FROM orders WHERE customer_id = $1"


@pytest.fixture
def planner(dsn15: str) -> Iterator[HypoPG]:
    with connect(dsn15, autocommit=True) as connection:
        for statement in SCHEMA.split(";\n"):
            connection.execute(statement.encode())
    with HypoPG(dsn15) as planner:
        yield planner


def index(text: str) -> IndexDefinition:
    return parse_create_index(f"CREATE INDEX ON orders {text}")


def test_plans_as_with_the_real_index_and_forgets_it(planner: HypoPG, dsn15: str) -> None:
    before = planner.plan(POINT)
    promised = planner.plan(POINT, indexes=[index("(customer_id)")])
    assert promised.uses_index("orders_customer_id_idx")
    assert planner.plan(POINT).total_cost == before.total_cost
    with connect(dsn15, autocommit=True) as connection:
        assert explain(connection, POINT).total_cost == before.total_cost
        connection.execute(index("(customer_id)").ddl(concurrently=False))
        real = explain(connection, POINT)
    assert promised.shape_hash == real.shape_hash
    assert promised.total_cost == pytest.approx(real.total_cost, rel=0.15)


def test_plans_for_values(planner: HypoPG) -> None:
    statement = "SELECT * FROM orders WHERE status = $1"
    partial = index("(id) WHERE status = 'open'")
    assert planner.plan(statement, ["open"], indexes=[partial]).uses_index(partial.name)
    assert not planner.plan(statement, ["done"], indexes=[partial]).uses_index(partial.name)


def test_sizes_are_our_own(planner: HypoPG) -> None:
    assert 300_000 < planner.index_bytes(index("(customer_id)")) < 600_000


@pytest.mark.parametrize("text", ["USING gin (payload)", "USING gist (payload)"])
def test_refuses_methods_it_does_not_know(planner: HypoPG, text: str) -> None:
    with pytest.raises(PlanningFailed, match="knows no gi"):
        planner.plan(POINT, indexes=[index(text)])


@pytest.mark.fault(115)
def test_refuses_what_crashes_the_server(planner: HypoPG) -> None:
    with pytest.raises(PlanningFailed, match="can crash"):
        planner.plan("SELECT * FROM open_orders", indexes=[index("(id) WHERE status = 'open'")])


def test_refuses_to_hide_before_version_14(planner: HypoPG) -> None:
    if planner._can_hide:
        hidden = planner.plan("SELECT * FROM orders WHERE id = $1", hidden=["orders_pkey"])
        assert hidden.root.node_type == "Seq Scan"
    else:
        with pytest.raises(PlanningFailed, match="cannot hide"):
            planner.plan("SELECT * FROM orders WHERE id = $1", hidden=["orders_pkey"])


@pytest.mark.fault(115)
def test_a_bad_index_or_statement_leaves_nothing_behind(planner: HypoPG) -> None:
    before = planner.plan(POINT).total_cost
    with pytest.raises(PlanningFailed, match="HypoPG refused the index"):
        planner.plan(POINT, indexes=[index("(customer_id)"), index("(gone)")])
    with pytest.raises(PlanningFailed, match="does not exist"):
        planner.plan("SELECT gone FROM orders", indexes=[index("(customer_id)")])
    with pytest.raises(StatementRefused):
        planner.plan("DROP TABLE orders")
    assert planner.plan(POINT).total_cost == before


def test_says_how_to_install_the_extension(dsn: str) -> None:
    with pytest.raises(PlanningFailed) as caught:
        HypoPG(dsn)
    assert "postgresql-18-hypopg" in caught.value.hint
    assert "CREATE EXTENSION hypopg" in caught.value.hint


@pytest.mark.fault(115)
def test_has_a_session_of_its_own_that_ends_with_it(planner: HypoPG, dsn15: str) -> None:
    planner.plan(POINT, indexes=[index("(customer_id)")])
    assert planner._connection.execute("SELECT count(*) FROM hypopg()").fetchone() == (0,)
    planner.close()
    with pytest.raises(TargetUnavailable, match="was lost"):
        planner.plan(POINT)


@pytest.mark.fault(115)
def test_asks_for_two_hundred_indexes_at_once_at_most(planner: HypoPG) -> None:
    many = [index(f"(id) WHERE customer_id = {n}") for n in range(201)]
    assert planner.plan(POINT, indexes=many[:200]).root.node_type == "Seq Scan"
    with pytest.raises(PlanningFailed, match="201 hypothetical indexes at once, at most 200"):
        planner.plan(POINT, indexes=many)


@pytest.mark.fault(115)
def test_an_index_that_hypopg_passes_over_is_no_answer(planner: HypoPG) -> None:
    """For what is no CREATE INDEX it returns no row and says nothing."""
    with pytest.raises(PlanningFailed, match="did not understand"):
        planner._understood(None, "CREATE TABLE t ()")


def test_an_index_on_a_partitioned_table_is_one_on_each_partition(
    planner: HypoPG, dsn15: str
) -> None:
    with connect(dsn15, autocommit=True) as connection:
        connection.execute("CREATE TABLE parts (id int, a int) PARTITION BY HASH (id)")
        for n in (0, 1):
            connection.execute(
                f"CREATE TABLE p_{n} PARTITION OF parts FOR VALUES WITH (MODULUS 2, REMAINDER {n})"
            )
        connection.execute("INSERT INTO parts SELECT i, i FROM generate_series(1, 20000) AS i")
        connection.execute("VACUUM ANALYZE parts")
    whole = parse_create_index("CREATE INDEX ON parts (a)")
    with HypoPG(dsn15) as again:
        plan = again.plan("SELECT * FROM parts WHERE a = $1", indexes=[whole])
    assert plan.uses_index("parts_a_idx") and plan.total_cost < 30


@pytest.mark.fault(115)
def test_after_a_crash_it_is_not_asked_until_an_admin_says_so(work_folder: Path) -> None:
    need(DEBIAN_15 / "postgres", "postgresql-15 postgresql-15-hypopg")
    folder, notes = work_folder / "pg15-crashing", work_folder / "crash-notes"
    with Cluster(folder, system_binaries(DEBIAN_15), {}, durable=False) as cluster:
        dsn = cluster.dsn()
        with connect(dsn, autocommit=True) as connection:
            connection.execute("CREATE EXTENSION hypopg; CREATE TABLE orders (customer_id int)")
        ended = HypoPG(dsn, notes)
        with connect(dsn) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(%s)", [ended._connection.info.backend_pid]
            )
        with pytest.raises(TargetUnavailable, match="was lost while HypoPG was asked"):
            ended.plan(POINT)
        with HypoPG(dsn, notes) as planner:  # an admin's hand is no crash
            os.kill(planner._connection.info.backend_pid, signal.SIGKILL)
            with pytest.raises(TargetUnavailable, match="was lost while HypoPG was asked"):
                planner.plan(POINT)
            with pytest.raises(PlanningFailed, match="ended in a crash of the server"):
                planner.plan(POINT)
        with pytest.raises(PlanningFailed, match="not asked on .* any more") as caught:
            HypoPG(dsn, notes)
        note = note_of_crash(dsn, notes)
        assert "update HypoPG" in caught.value.hint and str(note) in caught.value.hint
        note.unlink()
        with HypoPG(dsn, notes) as planner:
            assert planner.plan(POINT).root.node_type == "Seq Scan"
