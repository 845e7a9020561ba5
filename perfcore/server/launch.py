"""Bring up a whole Perfcore: the embedded store, its databases, and the processes around it."""

from __future__ import annotations

import contextlib
import http.client
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import psycopg
from psycopg import sql

from perfcore.config import Config
from perfcore.db import connect
from perfcore.errors import ServerError
from perfcore.server.embedded import Cluster, store_cluster
from perfcore.server.supervisor import Program, Supervisor, module
from perfcore.store.migrate import migrate

STORE_DATABASE = "perfcore"
# A log file wants to know that a long step goes on, not each of its steps.
_LINE_EVERY_S = 5.0


class Progress:
    """Print the steps of a start, each with how far it is and how long it took."""

    def __init__(self, write: Callable[[str], object] = sys.stdout.write) -> None:
        self._write = write
        self._is_terminal = sys.stdout.isatty()
        self._written_at = 0.0

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[Callable[[float, str], None]]:
        """Show a step while its block runs; the block may report (fraction, what it does now)."""
        started_at = time.perf_counter()

        def report(fraction: float, message: str) -> None:
            self._line(f"  … {title} {100 * fraction:3.0f} %  {message}", final=False)

        yield report
        self._line(f"  ✓ {title}  ({time.perf_counter() - started_at:.1f} s)", final=True)

    def _line(self, text: str, *, final: bool) -> None:
        now = time.monotonic()
        if self._is_terminal:
            self._write(f"\r\x1b[K{text}" + ("\n" if final else ""))
        elif final or now - self._written_at > _LINE_EVERY_S:
            self._write(text + "\n")
            self._written_at = now
        sys.stdout.flush()


def ensure_database(cluster: Cluster, name: str) -> str:
    """Return the DSN of a database of the cluster, created if it is not there."""
    with connect(cluster.dsn(), autocommit=True) as connection:
        known = connection.execute(
            "SELECT FROM pg_catalog.pg_database WHERE datname = %s", (name,)
        ).fetchone()
        if known is None:
            # Two processes that start at once may both get here.
            with contextlib.suppress(psycopg.errors.DuplicateDatabase):
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    return cluster.dsn(name)


@contextlib.contextmanager
def embedded_store(config: Config, progress: Progress | None = None) -> Iterator[Cluster]:
    """Run the embedded PostgreSQL with a migrated store for the length of the block."""
    progress = progress or Progress(write=lambda text: None)
    with progress.step("PostgreSQL 18"):
        cluster = store_cluster(config.data_dir)
        cluster.start()
    try:
        with progress.step("store schema"):
            migrate(ensure_database(cluster, STORE_DATABASE))
        yield cluster
    finally:
        cluster.stop()


def store_environ(cluster: Cluster) -> dict[str, str]:
    """Return the settings that point every process at the embedded store and lab."""
    return {
        "PERFCORE_STORE": cluster.dsn(STORE_DATABASE),
        "PERFCORE_LAB": cluster.dsn("postgres"),
    }


def dashboard(port: int, environ: Mapping[str, str]) -> Program:
    """Return the process that serves pages and API."""
    arguments = (
        "-m", "streamlit", "run", "app.py", "--server.headless", "true",
        "--server.address", "127.0.0.1", "--server.port", str(port),
        "--server.fileWatcherType", "none",
    )  # fmt: skip
    return Program("dashboard", arguments, environ)


def free_port(wanted: int) -> int:
    """Return the wanted TCP port of loopback if nobody listens there, else another."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return int(probe.getsockname()[1])
    raise ServerError("no free TCP port on 127.0.0.1")


def wait_for_http(
    port: int, path: str, supervisor: Supervisor, name: str, timeout_s: float = 60.0
) -> None:
    """Return once something on that port of loopback answers; ServerError after the timeout."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", path)
            if connection.getresponse().status < 500:
                return
        except OSError:
            time.sleep(0.1)
        finally:
            connection.close()
        for line in supervisor.tend():
            print(f"  ! {line}", flush=True)
    raise ServerError(
        f"{name} did not answer on port {port} in {timeout_s:.0f} s", hint="see its log"
    )


@dataclass
class Background:
    """The processes that a dashboard started by hand brings along: store, collector, advisor.

    `start` blocks for some seconds on a first start, and `stop` for about one.
    """

    config: Config
    _closing: contextlib.ExitStack = field(default_factory=contextlib.ExitStack, repr=False)

    def start(self) -> dict[str, str]:
        """Start what the settings leave to us; return the environment that pages need."""
        environ: dict[str, str] = {}
        if self.config.store:
            migrate(self.config.store)
        else:
            environ = store_environ(self._closing.enter_context(embedded_store(self.config)))
        supervisor = Supervisor(self.config.data_dir / "log")
        self._closing.callback(supervisor.stop)
        supervisor.start(module("collect", [], **environ))
        if self.config.targets:
            every = f"{self.config.advise_interval_s:g}"
            supervisor.start(module("advise", ["--every", every], **environ))
        done = threading.Event()
        thread = threading.Thread(target=_tend_quietly, args=(supervisor, done), daemon=True)
        thread.start()
        self._closing.callback(thread.join)
        self._closing.callback(done.set)
        return environ

    def stop(self) -> None:
        """Stop what `start` started."""
        self._closing.close()


def _tend_quietly(supervisor: Supervisor, done: threading.Event) -> None:
    while not done.wait(1.0):
        supervisor.tend()
