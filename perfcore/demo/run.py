"""Run the whole chain on the demo shop: PostgreSQL, shop, traffic, collector, advisor, pages."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from perfcore.config import Config
from perfcore.db import connect
from perfcore.demo.seed import create_shop
from perfcore.errors import ServerError
from perfcore.server.embedded import Cluster
from perfcore.server.launch import (
    Progress,
    dashboard,
    embedded_store,
    ensure_database,
    free_port,
    store_environ,
    wait_for_http,
)
from perfcore.server.supervisor import Supervisor, module
from perfcore.target import READER_ROLE, SETUP

SHOP_DATABASE = "shop"


def run_demo(config: Config, *, scale: float = 1.0, rate: float = 15.0) -> None:
    """Run the whole chain on the demo shop until a signal comes, or until `make` is gone.

    Raises ServerError when a demo runs already on the same data directory.
    """
    print("Perfcore demo")
    _signals(signal.default_int_handler)
    supervisor = Supervisor(config.data_dir / "log")
    try:
        with _only_one(config.data_dir), embedded_store(config, Progress()) as cluster:
            try:
                _run(config, cluster, supervisor, scale=scale, rate=rate)
            finally:
                # A second Ctrl-C must not leave half of it running.
                _signals(signal.SIG_IGN)
                supervisor.stop()
    except KeyboardInterrupt:
        pass
    print("\n  stopped.")


def _run(
    config: Config, cluster: Cluster, supervisor: Supervisor, *, scale: float, rate: float
) -> None:
    progress = Progress()
    shop = ensure_database(cluster, SHOP_DATABASE)
    with progress.step("demo shop's data, once") as report:
        create_shop(shop, scale=scale, progress=report)
    environ = _demo_environ(cluster, shop)
    url = _start_demo(supervisor, progress, environ, config, rate=rate)
    print(f"\n  Open {url}\n  Ctrl-C stops everything.\n", flush=True)
    _tend(supervisor)


def _signals(handler: signal.Handlers | Callable[[int, FrameType | None], Any]) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, handler)


@contextlib.contextmanager
def _only_one(data_dir: Path) -> Iterator[None]:
    data_dir.mkdir(parents=True, exist_ok=True)
    with (data_dir / "demo.lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ServerError(
                f"a demo runs already in {data_dir}",
                hint="open its address, stop it, or set PERFCORE_DATA_DIR to another folder",
            ) from None
        yield


def _demo_environ(cluster: Cluster, shop: str) -> dict[str, str]:
    reader = _reader_dsn(cluster, shop)
    return {
        **store_environ(cluster),
        "PERFCORE_TARGETS": f"shop={reader}",
        "PERFCORE_APPLY_DSNS": f"shop={shop}",
        "SHOP_DSN": shop,
    }


def _reader_dsn(cluster: Cluster, shop: str) -> str:
    """Prepare the shop's database as users prepare theirs, and return its restricted role's DSN."""
    found = conninfo_to_dict(shop)
    password = str(found.pop("password"))
    done = subprocess.run(
        [cluster.binaries.folder / "psql", "-Xq", "-d", make_conninfo("", **found), "-f", SETUP],
        env={"PGPASSWORD": password},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise ServerError(f"the demo shop could not be prepared: {done.stderr.strip()}")
    with connect(shop, autocommit=True) as connection:
        connection.execute(
            sql.SQL("ALTER ROLE {} PASSWORD {}").format(
                sql.Identifier(READER_ROLE), sql.Literal(password)
            )
        )
    return shop.replace("//postgres:", f"//{READER_ROLE}:", 1)


def _start_demo(
    supervisor: Supervisor,
    progress: Progress,
    environ: Mapping[str, str],
    config: Config,
    *,
    rate: float,
) -> str:
    shop_port = free_port(0)
    port = free_port(config.port)
    for program in (
        module("demo.shop", ["--port", str(shop_port)], **environ),
        module("collect", [], **environ),
        dashboard(port, environ),
    ):
        supervisor.start(program)
    with progress.step("shop"):
        wait_for_http(shop_port, "/health", supervisor, "shop")
    traffic = ["--url", f"http://127.0.0.1:{shop_port}", "--rate", f"{rate:g}"]
    supervisor.start(module("demo.traffic", traffic, **environ))
    supervisor.start(module("advise", ["--every", f"{config.advise_interval_s:g}"], **environ))
    with progress.step("dashboard"):
        wait_for_http(port, "/_stcore/health", supervisor, "dashboard")
    return f"http://127.0.0.1:{port}"


def _tend(supervisor: Supervisor) -> None:
    # `make` passes on neither its own SIGKILL nor, to a background job, its SIGTERM.
    parent = os.getppid() if "MAKELEVEL" in os.environ else None
    while parent is None or os.getppid() == parent:
        for line in supervisor.tend():
            print(f"  ! {line}", flush=True)
        time.sleep(0.5)
