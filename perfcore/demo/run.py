"""Run the whole chain on the demo shop: PostgreSQL, shop, traffic, collector, advisor, pages."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Mapping
from types import FrameType

from psycopg import sql

from perfcore.config import Config
from perfcore.db import connect
from perfcore.demo.seed import create_shop
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
    """Run the whole chain on the demo shop until a signal comes, or until `make` is gone."""
    print("Perfcore demo")
    progress = Progress()
    supervisor = Supervisor(config.data_dir / "log")
    stop = _stop_signals()
    try:
        with embedded_store(config, progress) as cluster:
            shop = ensure_database(cluster, SHOP_DATABASE)
            with progress.step("demo shop's data, once") as report:
                create_shop(shop, scale=scale, progress=report)
            environ = _demo_environ(cluster, shop)
            try:
                url = _start_demo(supervisor, progress, environ, config, rate=rate)
                print(f"\n  Open {url}\n  Ctrl-C stops everything.\n", flush=True)
                _tend(supervisor, stop)
            finally:
                supervisor.stop()
    except KeyboardInterrupt:
        pass
    print("\n  stopped.")


def _demo_environ(cluster: Cluster, shop: str) -> dict[str, str]:
    monitor = _monitor_dsn(cluster, shop)
    return {
        **store_environ(cluster),
        "PERFCORE_TARGETS": f"shop={monitor}",
        "PERFCORE_APPLY_DSNS": f"shop={shop}",
        "SHOP_DSN": shop,
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


def _stop_signals() -> threading.Event:
    """Return an event that SIGTERM and SIGHUP set; Ctrl-C stays a KeyboardInterrupt."""
    stop = threading.Event()

    def handle(number: int, frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, handle)
    signal.signal(signal.SIGHUP, handle)
    return stop


def _tend(supervisor: Supervisor, stop: threading.Event) -> None:
    # `make` passes on neither its own SIGKILL nor, to a background job, its SIGTERM.
    parent = os.getppid() if "MAKELEVEL" in os.environ else None
    while not stop.wait(0.5):
        for line in supervisor.tend():
            print(f"  ! {line}", flush=True)
        if parent is not None and os.getppid() != parent:
            return
