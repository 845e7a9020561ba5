"""What is kept between two rounds: when indexes were last used, how fast ids are used up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from psycopg.types.json import Jsonb

from perfcore.advise.readings import Connection, observe
from perfcore.advise.server_state import IndexUse, XidReading, is_on_this_host, memory_of_this_host
from perfcore.codec import to_json
from perfcore.db import connect
from perfcore.store.targets import ensure_target
from perfcore.types import Catalog, TableInfo
from tests.advise.ailing import executed_plan, run
from tests.advise.test_health import PLAIN

START = datetime(2026, 1, 1, tzinfo=UTC)


def reading(hours: float, scans: int, *, name: str = "a") -> Catalog:
    index = replace(PLAIN, oid=7, name=name, scans=scans)
    table = TableInfo(1, "public", "orders", 1e6, 10**8, (), (index,))
    return Catalog(180000, "shop", START + timedelta(hours=hours), (table,), START)


@pytest.fixture
def connection(store: str) -> Iterator[Connection]:
    with connect(store, autocommit=True) as opened:
        ensure_target(opened, "shop")
        yield opened


def use(connection: Connection, catalog: Catalog) -> IndexUse:
    return observe(connection, 1, catalog, 1_000).index_uses[7]


def test_an_index_is_used_when_its_counter_moves(connection: Connection) -> None:
    assert use(connection, reading(0, 5)) == IndexUse(START, None)
    assert use(connection, reading(1, 5)) == IndexUse(START, None)
    used = IndexUse(START, START + timedelta(hours=2))
    assert use(connection, reading(2, 6)) == used
    assert use(connection, reading(3, 6)) == used
    # A reset is no use; what was counted after it is one.
    assert use(connection, reading(4, 0)) == used
    assert use(connection, reading(5, 2)) == IndexUse(START, START + timedelta(hours=5))
    # Another index with the number of one that is gone.
    assert use(connection, reading(6, 9, name="b")) == IndexUse(START + timedelta(hours=6), None)


def test_an_index_that_is_gone_is_forgotten(connection: Connection) -> None:
    use(connection, reading(0, 5))
    empty = replace(reading(1, 0), tables=())
    assert observe(connection, 1, empty, 1_000).index_uses == {}
    assert connection.execute("SELECT count(*) FROM perfcore.index_uses").fetchone() == (0,)


def test_ids_are_compared_with_the_oldest_reading_of_a_day(connection: Connection) -> None:
    def xids(hours: float, next_xid: int) -> XidReading | None:
        return observe(connection, 1, reading(hours, 0), next_xid).xids

    assert xids(0, 1_000) is None
    assert xids(1, 2_000) == XidReading(START, 1_000)
    assert xids(24.5, 9_000) == XidReading(START + timedelta(hours=1), 2_000)
    xids(100, 9_500)
    assert connection.execute("SELECT count(*) FROM perfcore.xid_readings").fetchone() == (1,)


def test_plans_with_actual_rows_come_from_trials_and_captures(
    connection: Connection, dsn: str
) -> None:
    run(dsn, "CREATE TABLE t (a int)", "INSERT INTO t VALUES (1), (2)")
    plan = executed_plan(dsn, "SELECT * FROM t")
    trial = {"measured": {"sets": [{"baseline": {"plan": to_json(dict(plan.document))}}]}}
    now = datetime.now(UTC)
    for state, result in (("done", trial), ("failed", {"measured": None})):
        connection.execute(
            "INSERT INTO perfcore.trials (trial_id, target_id, fingerprint, index_body, state, "
            "finished_at, result) VALUES (gen_random_uuid(), 1, 42, '{}', %s, %s, %s)",
            (state, now, Jsonb(result)),
        )
    for fingerprint, document in ((43, plan.document), (44, {"Plan": {"Node Type": "Result"}})):
        connection.execute(
            "INSERT INTO perfcore.plans (target_id, fingerprint, queryid, shape_hash, is_generic, "
            "total_cost, plan) VALUES (1, %s, 1, 'x', false, 1, %s)",
            (fingerprint, Jsonb(document)),
        )
    catalog = replace(reading(0, 0), read_at=now)
    found = observe(connection, 1, catalog, 1).executed
    assert [(e.fingerprint, e.plan.root.actual_rows) for e in found] == [(42, 2.0), (43, 2.0)]


def test_a_server_on_this_host_is_known_by_its_process(dsn: str, tmp_path: Path) -> None:
    with connect(dsn, autocommit=True) as server:
        assert is_on_this_host(server)
    limit = tmp_path / "memory.max"
    limit.write_text("1048576\n")
    assert memory_of_this_host(limit) == 1 << 20
    limit.write_text("max\n")
    assert memory_of_this_host(limit) == memory_of_this_host(tmp_path / "none") > 1 << 20
