"""The commands of docs/targets.md, run in their order as they stand there."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from perfcore.db import connect
from perfcore.server.embedded import THROWAWAY_SETTINGS, Cluster, wheel_binaries
from perfcore.server.launch import ensure_database, free_port
from tests.needs import need
from tests.targets import PASSWORD, reader_dsn

TEXT = (Path(__file__).parents[1] / "docs" / "targets.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


@pytest.fixture
def server(work_folder: Path) -> Iterator[Cluster]:
    need("psql", "postgresql-client")
    cluster = Cluster(
        work_folder / "document", wheel_binaries(work_folder), THROWAWAY_SETTINGS, durable=False
    )
    with cluster:
        yield cluster


def test_the_commands_bring_a_database_in(server: Cluster, dsn: str, tmp_path: Path) -> None:
    shop = ensure_database(server, "shop")
    with connect(shop, autocommit=True) as connection:
        connection.execute("CREATE TABLE orders AS SELECT 1 AS id")
    store = conninfo_to_dict(dsn)
    places = {
        "db.example.org:5432": f"127.0.0.1:{server.port}",
        "-h db.example.org": f"-h 127.0.0.1 -p {server.port}",
        "perfcore_reader:secret": f"perfcore_reader:{PASSWORD}",
        "perfcore:secret@store.example.org:5432/perfcore": (
            f"{store['user']}:{store['password']}@{store['host']}:{store['port']}/{store['dbname']}"
        ),
    }
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PERFCORE_")}
    environ = kept | {
        "PATH": f"{Path(sys.executable).parent}:{kept['PATH']}",
        "PYTHONPATH": str(Path(__file__).parents[1]),
        "PGPASSWORD": server.password,
        "PERFCORE_PORT": str(free_port(0)),
        "PERFCORE_DATA_DIR": str(tmp_path / "data"),
        "PERFCORE_COLLECT_INTERVAL_S": "1",
    }
    print_setup, run_setup, ask, collect = (_placed(block, places) for block in BLOCKS)
    _run(print_setup, tmp_path, environ)
    assert "Restart the server" in _run(run_setup, tmp_path, environ)
    reader_dsn(shop)  # the password that people type
    server.stop()
    server.start()
    assert "nothing missing" in _run(ask, tmp_path, environ)
    process = subprocess.Popen(
        ["bash", "-ec", f"{ask}{collect}"], cwd=tmp_path, env=environ, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        assert _collected(dsn) == ("shop", None)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def _placed(block: str, places: dict[str, str]) -> str:
    for there, here in places.items():
        block = block.replace(there, here)
    assert "example.org" not in block
    return block


def _run(block: str, folder: Path, environ: dict[str, str]) -> str:
    done = subprocess.run(
        ["bash", "-ec", block], cwd=folder, env=environ, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _collected(store: str) -> tuple[str, str | None] | None:
    for _ in range(300):
        with connect(store, autocommit=True) as connection:
            row = connection.execute("SELECT to_regclass('perfcore.statement_deltas')").fetchone()
            if row and row[0]:
                found = connection.execute(
                    "SELECT name, nullif(last_error, '') FROM perfcore.targets "
                    "WHERE last_seen_at IS NOT NULL"
                ).fetchone()
                if found:
                    return found[0], found[1]
        time.sleep(0.1)
    return None
