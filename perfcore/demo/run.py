"""Run the whole chain on the demo shop: PostgreSQL, shop, traffic, collector, advisor, pages."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from psycopg import sql

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

SHOP_DATABASE = "shop"
MONITOR_ROLE = "perfcore_monitor"


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
    monitor = _monitor_dsn(cluster, shop)
    return {
        **store_environ(cluster),
        "PERFCORE_TARGETS": f"shop={monitor}",
        "PERFCORE_APPLY_DSNS": f"shop={shop}",
        "SHOP_DSN": shop,
        # Its database is next door: 25 round trips that would take 50 ms elsewhere take 15 here.
        "PERFCORE_N_PLUS_ONE_MS": os.environ.get("PERFCORE_N_PLUS_ONE_MS", "5"),
    }


def _monitor_dsn(cluster: Cluster, shop: str) -> str:
    """Create the role that watches the shop, with no more rights than watching needs."""
    role = sql.Identifier(MONITOR_ROLE)
    with connect(shop, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
        known = connection.execute(
            "SELECT FROM pg_catalog.pg_roles WHERE rolname = %s", (MONITOR_ROLE,)
        ).fetchone()
        if known is None:
            connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(role))
        for statement in (
            sql.SQL("ALTER ROLE {} PASSWORD {}").format(role, sql.Literal(cluster.password)),
            sql.SQL("GRANT pg_monitor TO {}").format(role),
            sql.SQL("GRANT USAGE ON SCHEMA public TO {}").format(role),
            sql.SQL("GRANT SELECT ON ALL TABLES IN SCHEMA public TO {}").format(role),
            sql.SQL("GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO {}").format(role),
        ):
            connection.execute(statement)
    return shop.replace("//postgres:", f"//{MONITOR_ROLE}:", 1)


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
