"""pgbench works on a real PostgreSQL 18 and 15 that are reset, overflow, stop and crash."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from perfcore.db import connect
from perfcore.server.embedded import Cluster, system_binaries, wheel_binaries
from tests.collect.servers import PGBENCH, Bench, Watch, processed, running
from tests.conftest import DEBIAN_15
from tests.needs import need


@pytest.fixture(scope="module", params=[18, 15])
def cluster(request: pytest.FixtureRequest, work_folder: Path) -> Iterator[Cluster]:
    need(PGBENCH, "postgresql-15")
    old = request.param == 15
    yield from running(
        work_folder / f"bench{request.param}",
        system_binaries(DEBIAN_15) if old else wheel_binaries(work_folder),
    )


@pytest.fixture
def bench(cluster: Cluster, tmp_path: Path) -> Bench:
    return Bench(cluster, tmp_path / "script.sql")


@pytest.fixture
def watch(cluster: Cluster, store: str) -> Watch:
    return Watch(cluster, store)


def test_what_pgbench_did_is_what_was_counted(bench: Bench, watch: Watch) -> None:
    watch.read()
    did = bench.run(300)
    watch.read()
    assert (did, watch.calls()) == (300, 300)
    under_way = bench.begin(500, a_second=400)
    while under_way.poll() is None:
        watch.read()
    did += processed(under_way)
    watch.read()
    assert (did, watch.calls(), watch.gaps()) == (800, 800, [])


@pytest.mark.fault(61)
def test_a_reset_under_load_is_a_gap_and_never_a_spike(bench: Bench, watch: Watch) -> None:
    watch.read()
    under_way = bench.begin(800, a_second=400)
    reset_at = time.monotonic() + 1
    is_reset = False
    while under_way.poll() is None:
        if not is_reset and time.monotonic() > reset_at:
            bench.ask("SELECT pg_stat_statements_reset()")
            is_reset = True
        watch.read()
    did = processed(under_way)
    watch.read()
    assert 0 < watch.calls() <= did
    assert watch.gaps() == ["statistics reset"]
    undisturbed = watch.calls()
    did = bench.run(100)
    watch.read()
    assert watch.calls() == undisturbed + did


@pytest.mark.fault(61)
def test_the_reset_of_one_statement_is_its_gap_alone(bench: Bench, watch: Watch) -> None:
    bench.run(400)
    watch.read()
    bench.run(10)
    bench.ask(
        "SELECT pg_stat_statements_reset(userid, dbid, queryid) FROM pg_stat_statements"
        " WHERE query LIKE 'SELECT balance%'"
    )
    did = bench.run(20)
    watch.read()
    assert did == 20 and watch.calls() == 0
    assert watch.gaps() == ["statistics reset"]
    assert watch.rows("SELECT 1 FROM perfcore.statement_deltas"), "others are counted on"


@pytest.mark.fault(62, 63)
def test_evictions_are_counted_and_what_they_took_is_a_gap(bench: Bench, watch: Watch) -> None:
    watch.read()
    did = bench.run(200)
    bench.distinct(400)
    did += bench.run(100)
    watch.read()
    (evictions, entries, most) = watch.rows(
        "SELECT sum(evictions), max(entries), max(max_entries) FROM perfcore.statement_intervals"
    )[0]
    assert evictions > 0 and entries <= 100 and most == 100
    assert watch.calls() <= did
    kinds = watch.rows("SELECT kind FROM perfcore.markers")
    assert ("eviction",) in kinds
    before = watch.calls()
    did = bench.run(60)
    watch.read()
    assert watch.calls() == before + did


@pytest.mark.fault(60)
@pytest.mark.parametrize(
    ("how", "reason"),
    [("restart", "restart"), ("stop_at_once", "restart"), ("crash_a_backend", "crash")],
)
def test_however_the_server_goes_down_it_is_a_gap(
    bench: Bench, watch: Watch, how: str, reason: str
) -> None:
    bench.run(50)
    watch.read()
    did = bench.run(30)
    watch.read()
    bench.run(1000)  # more than was counted before: nothing falls
    getattr(bench, how)()
    _until_it_answers(bench.cluster)
    bench.run(2000)
    watch.read()
    assert watch.calls() == did
    assert watch.gaps() == [reason]
    assert watch.rows(
        "SELECT reason FROM perfcore.collection_gaps WHERE view = 'pg_stat_database'"
    ) == [(reason,)]
    did += bench.run(70)
    watch.read()
    assert watch.calls() == did
    assert watch.rows("SELECT kind, label FROM perfcore.markers") == [("restart", reason)]


def _until_it_answers(cluster: Cluster) -> None:
    for _ in range(200):
        try:
            with connect(cluster.dsn(), autocommit=True) as connection:
                connection.execute("SELECT 1")
                return
        except psycopg.OperationalError:
            time.sleep(0.05)
    raise AssertionError("the server does not come back")
