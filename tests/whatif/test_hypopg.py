from collections.abc import Iterator

import pytest

from perfcore.db import connect
from perfcore.errors import PlanningFailed, StatementRefused
from perfcore.types import IndexDefinition
from perfcore.whatif.definition import parse_create_index
from perfcore.whatif.explain import explain
from perfcore.whatif.hypopg import HypoPG

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
    with pytest.raises(PlanningFailed, match="HypoPG knows no gi"):
        planner.plan(POINT, indexes=[index(text)])


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
