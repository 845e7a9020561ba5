"""Sessions that wait for each other, on real servers, and how they are seen."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from perfcore.collect.activity import (
    PREPARED,
    Activity,
    Node,
    Picture,
    Watcher,
    blocking_trees,
    look,
)
from perfcore.collect.target import open_target
from perfcore.db import query
from perfcore.server.embedded import THROWAWAY_SETTINGS, Cluster, wheel_binaries
from tests.targets import reader_dsn, run_setup

TABLE = "CREATE TABLE stock (id int PRIMARY KEY, left_over int); INSERT INTO stock VALUES (1, 5)"


@pytest.fixture(params=["dsn", "dsn15"])
def shop(request: pytest.FixtureRequest) -> str:
    dsn: str = request.getfixturevalue(request.param)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(TABLE.encode())
    return dsn


@contextmanager
def busy(dsn: str, statement: str, application: str) -> Iterator[int]:
    """A session that runs the statement, which is not going to end; yields its pid."""
    connection = psycopg.connect(dsn, application_name=application)

    def run() -> None:
        with contextlib.suppress(psycopg.Error):
            connection.execute(statement.encode())

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield connection.info.backend_pid
    finally:
        connection.cancel_safe()
        thread.join(10)
        connection.close()


def until(dsn: str, holds: Callable[[Picture], Any]) -> Picture:
    for _ in range(200):
        picture = look(dsn)
        if holds(picture):
            return picture
        time.sleep(0.05)
    raise AssertionError(look(dsn))


def test_a_chain_of_waiting_sessions_is_a_tree(shop: str) -> None:
    run_setup(shop)
    reader = reader_dsn(shop)
    update = "UPDATE stock SET left_over = 4 WHERE id = 1"
    with psycopg.connect(shop, application_name="console") as console:
        console.execute(update.encode())
        holder = console.info.backend_pid
        with busy(shop, update, "first") as first:
            until(reader, lambda p: len(p.waiting) == 1)
            with busy(shop, "DELETE FROM stock WHERE id = 1", "second") as second:
                picture = until(reader, lambda p: len(p.waiting) == 2)
        console.rollback()
    assert blocking_trees(picture.sessions) == [Node(holder, (Node(first, (Node(second, ()),)),))]
    assert picture.waits[first].relation == "public.stock"
    assert picture.waits[second].mode == "AccessExclusiveLock"
    (idle,) = picture.idle_in_transaction
    assert (idle.pid, idle.application) == (holder, "console")
    assert picture.longest_transaction == idle
    assert {s.pid for s in picture.active} == {first, second}
    assert all(s.wait_event_type == "Lock" for s in picture.active)
    assert all(s.queryid is not None for s in picture.active)
    assert dict(picture.connections)["idle in transaction"] >= 1
    assert picture.max_connections == 80 and picture.withheld == 0


def test_an_open_snapshot_is_what_holds_vacuum_back(shop: str) -> None:
    with psycopg.connect(shop, application_name="report") as report:
        report.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        report.execute("SELECT * FROM stock")
        with psycopg.connect(shop, autocommit=True) as writer:
            for _ in range(5):
                writer.execute("UPDATE stock SET left_over = left_over - 1")
        oldest, pid = look(shop).oldest_snapshot, report.info.backend_pid
    assert oldest is not None and oldest.pid == pid
    assert oldest.xmin_age is not None and oldest.xmin_age >= 5


def test_an_idle_session_with_an_advisory_lock_is_seen_as_the_blocker(shop: str) -> None:
    with psycopg.connect(shop, autocommit=True, application_name="job") as job:
        job.execute("SELECT pg_advisory_lock(7)")
        with busy(shop, "SELECT pg_advisory_lock(7)", "other") as other:
            picture = until(shop, lambda p: p.waiting)
        pid = job.info.backend_pid
    assert blocking_trees(picture.sessions) == [Node(pid, (Node(other, ()),))]
    session = picture.session(pid)
    assert session is not None and (session.state, session.application) == ("idle", "job")
    assert pid not in {s.pid for s in picture.active}


@pytest.fixture(scope="module")
def preparing(work_folder: Path) -> Iterator[Cluster]:
    settings = {**THROWAWAY_SETTINGS, "max_prepared_transactions": "2"}
    with Cluster(
        work_folder / "preparing", wheel_binaries(work_folder), settings, durable=False
    ) as cluster:
        with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
            connection.execute(TABLE.encode())
        yield cluster


def test_a_prepared_transaction_blocks_without_a_session(preparing: Cluster) -> None:
    dsn = preparing.dsn()
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("BEGIN")
        connection.execute("UPDATE stock SET left_over = 1")
        connection.execute("PREPARE TRANSACTION 'left behind'")
        with busy(dsn, "DELETE FROM stock", "clerk") as clerk:
            picture = until(dsn, lambda p: p.waiting)
        connection.execute("ROLLBACK PREPARED 'left behind'")
    assert blocking_trees(picture.sessions) == [Node(PREPARED, (Node(clerk, ()),))]
    assert [p.gid for p in picture.prepared] == ["left behind"]


def test_a_server_that_falls_silent_leaves_the_last_picture_with_its_age(
    preparing: Cluster,
) -> None:
    now = [0.0]
    watcher = Watcher(preparing.dsn(), clock=lambda: now[0])
    first = watcher.current()
    assert first.picture is not None and not first.problem
    postmaster = int((preparing.data_directory / "postmaster.pid").read_text().split()[0])
    os.kill(postmaster, signal.SIGSTOP)
    try:
        now[0] = 10.0
        seen = watcher.current()
    finally:
        os.kill(postmaster, signal.SIGCONT)
    assert seen.picture == first.picture and seen.age_s == 10.0
    assert "timeout" in seen.problem or "did not answer" in seen.problem
    now[0] = 16.0
    again = watcher.current()
    assert not again.problem and again.age_s == 0.0


def test_those_who_watch_share_one_look() -> None:
    looked = []
    now = [0.0]

    def see(dsn: str) -> Picture:
        looked.append(dsn)
        raise psycopg.OperationalError("password=geheim refused")

    watcher = Watcher("postgresql://x", clock=lambda: now[0], look=see)
    assert "geheim" not in watcher.current().problem
    now[0] = 4.0
    watcher.current()
    assert len(looked) == 1
    now[0] = 6.0
    watcher.current()
    assert len(looked) == 2


@pytest.mark.parametrize("name", ["target_running", "readiness_evictions"])
def test_the_texts_for_older_servers_are_sql(dsn15: str, name: str) -> None:
    with open_target(dsn15) as connection:
        connection.execute(query(name, 130000))


def session(pid: int, *blocked_by: int) -> Activity:
    return Activity(pid, "", "", "active", "", 0.0, 0.0, "", "", blocked_by)


def test_a_ring_of_waiting_sessions_is_drawn_once() -> None:
    ring = [session(1, 2), session(2, 3), session(3, 1), session(4, 2)]
    (tree,) = blocking_trees(ring)
    assert tree.pid == 1 and tree.waiting == 3
    both = blocking_trees([session(1), session(2), session(3, 1, 2)])
    assert [t.pid for t in both] == [1, 2] and all(t.waiting == 1 for t in both)
