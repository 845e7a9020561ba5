"""The embedded server ends with its parent, keeps its data, and says why it cannot start."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from perfcore.db import connect
from perfcore.errors import ServerError
from perfcore.server.embedded import THROWAWAY_SETTINGS, Cluster, system_binaries, wheel_binaries


@pytest.fixture
def cluster(work_folder: Path, request: pytest.FixtureRequest) -> Cluster:
    return Cluster(
        work_folder / request.node.name,
        wheel_binaries(work_folder),
        THROWAWAY_SETTINGS,
        durable=False,
    )


def test_keeps_data_and_port_over_a_restart(cluster: Cluster) -> None:
    with cluster, connect(cluster.dsn(), autocommit=True) as connection:
        port = cluster.port
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    again = Cluster(cluster.folder, cluster.binaries, THROWAWAY_SETTINGS, durable=False)
    with again, connect(again.dsn()) as connection:
        assert again.port == port
        assert connection.execute("SELECT answer FROM kept").fetchone() == (42,)


def test_listens_on_loopback_and_wants_the_password(cluster: Cluster) -> None:
    with cluster:
        with pytest.raises(Exception, match="password"):
            connect(cluster.dsn().replace(cluster.password, "wrong"))
        with connect(cluster.dsn()) as connection:
            assert connection.execute("SHOW listen_addresses").fetchone() == ("127.0.0.1",)


def test_second_starter_joins_and_does_not_stop_it(cluster: Cluster) -> None:
    with cluster:
        joined = Cluster(cluster.folder, cluster.binaries, THROWAWAY_SETTINGS)
        with joined:
            assert joined.port == cluster.port
        with connect(cluster.dsn()) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)


def test_ends_when_its_parent_is_killed(cluster: Cluster) -> None:
    cluster.start()
    cluster.stop()
    code = (
        "import sys, time; from pathlib import Path\n"
        "from perfcore.server.embedded import Cluster, wheel_binaries\n"
        "c = Cluster(Path(sys.argv[1]), wheel_binaries(Path(sys.argv[1]).parent))\n"
        "c.start(); print(c.port, flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(cluster.folder)], stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None and parent.stdout.readline().strip().isdigit()
        postmaster = int((cluster.data_directory / "postmaster.pid").read_text().split()[0])
        os.kill(parent.pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while psutil.pid_exists(postmaster) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not psutil.pid_exists(postmaster)
    assert not (cluster.data_directory / "postmaster.pid").exists(), "it was not a clean stop"


def test_starts_again_after_the_postmaster_was_killed(cluster: Cluster) -> None:
    with cluster:
        with connect(cluster.dsn(), autocommit=True) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 1 AS one")
            connection.execute("CHECKPOINT")
        postmaster = int((cluster.data_directory / "postmaster.pid").read_text().split()[0])
        os.kill(postmaster, signal.SIGKILL)
        psutil.wait_procs([psutil.Process(postmaster)] if psutil.pid_exists(postmaster) else [], 5)
    with cluster, connect(cluster.dsn()) as connection:
        assert connection.execute("SELECT one FROM kept").fetchone() == (1,)


def test_a_bad_setting_is_named_in_the_error(work_folder: Path) -> None:
    cluster = Cluster(
        work_folder / "bad", wheel_binaries(work_folder), {"shared_buffers": "lots"}, durable=False
    )
    with pytest.raises(ServerError, match="shared_buffers"):
        cluster.start()


def test_data_of_another_major_is_refused_in_words(cluster: Cluster) -> None:
    cluster.start()
    cluster.stop()
    (cluster.data_directory / "PG_VERSION").write_text("14\n")
    with pytest.raises(ServerError, match="was made by PostgreSQL 14"):
        cluster.start()


def test_a_folder_without_postgres_is_named(tmp_path: Path) -> None:
    with pytest.raises(ServerError, match=str(tmp_path)):
        system_binaries(tmp_path)
