"""A target that is away, hangs, refuses or is a standby, and what that costs the others."""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from perfcore.collect import loop
from perfcore.collect.loop import jittered, run
from perfcore.collect.reading import Collector
from perfcore.collect.target import open_target
from perfcore.config import load_config
from perfcore.db import connect
from perfcore.server.embedded import Cluster, _account, system_binaries
from perfcore.store import targets
from tests.collect.servers import SETTINGS, Bench, Watch, running
from tests.conftest import DEBIAN_15
from tests.faults.proxy import Proxy
from tests.needs import need

EXTENSION = b"CREATE EXTENSION IF NOT EXISTS pg_stat_statements"


@contextlib.contextmanager
def collecting(store: str, **dsns: str) -> Iterator[None]:
    """Run the collector's process, as `perfcore collect` does, in a thread."""
    config = load_config(
        {
            "PERFCORE_STORE": store,
            "PERFCORE_TARGETS": " ".join(f"{name}={dsn}" for name, dsn in dsns.items()),
            "PERFCORE_COLLECT_INTERVAL_S": "0.05",
        }
    )
    stop = threading.Event()
    thread = threading.Thread(target=run, args=(config,), kwargs={"stop": stop})
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


class States:
    """What the store says of the targets."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection

    def error(self, name: str) -> str:
        return str(self._one("SELECT last_error FROM perfcore.targets WHERE name = %s", name) or "")

    def seen(self, name: str) -> datetime | None:
        found: datetime | None = self._one(
            "SELECT last_seen_at FROM perfcore.targets WHERE name = %s", name
        )
        return found

    def _one(self, text: str, name: str) -> Any:
        row = self._connection.execute(text.encode(), (name,)).fetchone()
        return row[0] if row else None

    def until(self, what: Callable[[States], bool]) -> None:
        for _ in range(3000):
            if what(self):
                return
            time.sleep(0.01)
        raise AssertionError(f"it never came: {self._connection.info.dsn}")

    def readings(self, name: str, count: int) -> None:
        """Wait until the target was read so often again."""
        for _ in range(count):
            last = self.seen(name)
            self.until(lambda states, last=last: states.seen(name) != last)  # type: ignore[misc]


@pytest.fixture
def states(store: str) -> Iterator[States]:
    with connect(store, autocommit=True) as connection:
        yield States(connection)


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "_BACKOFF_START_S", 0.1)
    monkeypatch.setattr(loop, "OWN_SHARE_LIMIT", 1e9)  # an interval of 50 ms is none for a server


@pytest.mark.fault(59)
def test_a_target_that_falls_silent_delays_no_other_and_comes_back(
    dsn: str, dsn15: str, store: str, states: States
) -> None:
    for each in (dsn, dsn15):
        with connect(each, autocommit=True) as connection:
            connection.execute(EXTENSION)
    with Proxy(dsn) as proxy, collecting(store, hung=proxy.dsn, well=dsn15):
        states.readings("hung", 2)
        proxy.is_silent = True
        last = states.seen("hung")
        # Six seconds of silence are given up; until then nothing can be said of it.
        while not states.error("hung"):
            states.readings("well", 1)
        assert "did not answer within 6 s" in states.error("hung")
        states.readings("well", 3)
        assert states.error("well") == ""
        assert states.seen("hung") == last, "last seen stays"
        proxy.is_silent = False
        proxy.drop_all()
        states.until(lambda s: s.error("hung") == "" and s.seen("hung") != last)


@pytest.mark.fault(59)
def test_pauses_differ_between_collectors_and_end_at_a_minute() -> None:
    pauses = {jittered(60.0) for _ in range(100)}
    assert all(30 <= pause <= 60 for pause in pauses) and len(pauses) > 50

    class Stop(threading.Event):
        waited: list[float] = []

        def wait(self, timeout: float | None = None) -> bool:
            self.waited.append(timeout or 0.0)
            if len(self.waited) == 15:
                self.set()
            return self.is_set()

    def attempt() -> None:
        raise psycopg.OperationalError("away")

    loop._persist("target x", attempt, Stop())
    assert max(Stop.waited) <= 60 and min(Stop.waited[-3:]) >= 30
    assert sum(Stop.waited[:3]) < 2


@pytest.mark.fault(71)
def test_a_role_without_a_free_connection_waits(dsn: str, store: str, states: States) -> None:
    role = f"narrow_{uuid.uuid4().hex[:8]}"
    with connect(dsn, autocommit=True) as admin:
        admin.execute(EXTENSION)
        admin.execute(
            f"CREATE ROLE {role} LOGIN PASSWORD 'n' CONNECTION LIMIT 1 IN ROLE pg_monitor".encode()
        )
        narrow = conninfo_to_dict(dsn)
        url = f"postgresql://{role}:n@{narrow['host']}:{narrow['port']}/{narrow['dbname']}"
        with connect(url) as holder, collecting(store, narrow=url):
            states.until(lambda s: "too many connections for role" in s.error("narrow"))
            assert states.seen("narrow") is None
            holder.close()
            states.readings("narrow", 3)
            in_use = admin.execute(
                "SELECT count(*), min(application_name) FROM pg_stat_activity WHERE usename = %s",
                (role,),
            ).fetchone()
            assert in_use == (1, "perfcore")
            assert "too many" not in states.error("narrow")
        for _attempt in range(500):
            gone = "SELECT 1 FROM pg_stat_activity WHERE usename = %s"
            if not admin.execute(gone.encode(), (role,)).fetchone():
                break
        admin.execute(f"DROP ROLE {role}".encode())


@pytest.mark.fault(80)
def test_a_second_collector_stands_by_and_takes_over(dsn: str, store: str, states: States) -> None:
    with connect(dsn, autocommit=True) as connection:
        connection.execute(EXTENSION)
    with collecting(store, shop=dsn):
        states.readings("shop", 2)
        with collecting(store, shop=dsn):
            states.readings("shop", 3)
            with connect(dsn) as connection:
                row = connection.execute(
                    "SELECT count(*) FROM pg_stat_activity"
                    " WHERE application_name = 'perfcore' AND datname = current_database()"
                    " AND pid <> pg_backend_pid()"
                ).fetchone()
            assert row == (1,), "the second one does not even connect"
            with connect(store, autocommit=True) as connection:
                # The first one's session of the store ends: its lock is free.
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"
                    " AND classid = %s AND granted",
                    (loop._TARGET_LOCK,),
                )
            states.readings("shop", 3)
    with connect(store) as connection:
        spans = connection.execute(
            "SELECT interval_start, interval_end FROM perfcore.statement_intervals"
            " ORDER BY interval_end"
        ).fetchall()
    ends = [end for _, end in spans]
    assert [start for start, _ in spans][1:] == ends[:-1], "each span is counted once"


@pytest.fixture
def primary(work_folder: Path) -> Iterator[Cluster]:
    need(DEBIAN_15 / "pg_basebackup", "postgresql-15")
    yield from running(work_folder / uuid.uuid4().hex[:8], system_binaries(DEBIAN_15))


@pytest.fixture
def standby(primary: Cluster, work_folder: Path) -> Iterator[Cluster]:
    folder = work_folder / uuid.uuid4().hex[:8]
    copy = Cluster(folder, primary.binaries, SETTINGS, durable=False)
    copy._make_folder()
    (folder / "password").write_text(primary.password)
    subprocess.run(
        [str(DEBIAN_15 / "pg_basebackup"), "-D", str(copy.data_directory), "-R", "-X", "stream",
         "-c", "fast", "-d", primary.dsn()],
        check=True, cwd="/", **_account(primary.binaries.user),
    )  # fmt: skip
    with copy:
        yield copy


@pytest.mark.fault(73, 60)
def test_a_standby_is_read_never_written_and_its_promotion_is_a_gap(
    standby: Cluster, store: str, tmp_path: Path
) -> None:
    bench, watch = Bench(standby, tmp_path / "script.sql"), Watch(standby, store)
    assert watch.read() == ()
    did = bench.run(40)
    assert watch.read() == ()
    assert watch.calls() == did
    assert watch.rows("SELECT is_standby FROM perfcore.targets") == [(True,)]
    assert watch.rows("SELECT 1 FROM perfcore.plans"), "planning needs no writing"
    bench.run(10)
    with connect(standby.dsn(), autocommit=True) as connection:
        assert connection.execute("SELECT pg_promote()").fetchone() == (True,)
        connection.execute("CHECKPOINT")
    watch.read()
    assert watch.gaps() == ["failover"]
    assert watch.calls() == did
    assert watch.rows("SELECT is_standby FROM perfcore.targets") == [(False,)]


@pytest.mark.fault(73)
def test_a_conflict_with_recovery_costs_one_part_of_one_reading(dsn: str, store: str) -> None:
    with connect(dsn, autocommit=True) as connection:
        connection.execute(EXTENSION)
    with open_target(dsn) as target, connect(store, autocommit=True) as kept:
        collector = Collector(target, kept, targets.ensure_target(kept, "t"))

        def conflict(who: object) -> int:
            raise psycopg.errors.SerializationFailure(
                "canceling statement due to conflict with recovery"
            )

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(collector, "_tables", conflict)
            assert collector.collect().problems == (
                "tables: canceling statement due to conflict with recovery",
            )
        assert collector.collect().problems == ()
