"""Servers of a test's own, to be stopped and crashed, and pgbench to work on them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perfcore.collect.reading import Collector
from perfcore.collect.target import open_target
from perfcore.db import connect
from perfcore.server.embedded import Binaries, Cluster
from perfcore.store import targets

PGBENCH = Path("/usr/lib/postgresql/15/bin/pgbench")
SETTINGS = {
    "fsync": "off",
    "autovacuum": "off",
    "shared_buffers": "16MB",
    "max_connections": "20",
    "shared_preload_libraries": "pg_stat_statements",
    # The least that there is.
    "pg_stat_statements.max": "100",
}
SCHEMA = """
CREATE EXTENSION IF NOT EXISTS pg_stat_statements;
CREATE TABLE accounts (aid int PRIMARY KEY, balance int NOT NULL);
INSERT INTO accounts SELECT n, 0 FROM generate_series(1, 1000) n;
"""
STATEMENT = "SELECT balance FROM accounts WHERE aid = $1"


def running(folder: Path, binaries: Binaries) -> Iterator[Cluster]:
    """Yield a running cluster with a table to work on."""
    with Cluster(folder, binaries, SETTINGS, durable=False) as cluster:
        with connect(cluster.dsn(), autocommit=True) as connection:
            connection.execute(SCHEMA.encode())
        yield cluster


@dataclass
class Bench:
    """pgbench, one statement a transaction, on one cluster."""

    cluster: Cluster
    script: Path

    def begin(self, transactions: int, *, a_second: int = 0) -> subprocess.Popen[str]:
        """Start so many transactions, as fast as they go unless a rate is given."""
        self.script.write_text(
            "\\set aid random(1, 1000)\nSELECT balance FROM accounts WHERE aid = :aid;\n"
        )
        command = [str(PGBENCH), "-n", "-c", "2", "-t", str(transactions // 2)]
        command += ["-R", str(a_second)] if a_second else []
        return subprocess.Popen(
            [*command, "-f", str(self.script), self.cluster.dsn()],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, transactions: int) -> int:
        return processed(self.begin(transactions))

    def distinct(self, number: int) -> None:
        """Run statements that are all different, so that the list overflows."""
        with connect(self.cluster.dsn(), autocommit=True) as connection:
            for n in range(number):
                connection.execute(f"SELECT {', '.join('1' * (n + 1))}".encode())

    def stop_at_once(self) -> None:
        """Stop as if by a power loss, and start again."""
        pid = int((self.cluster.data_directory / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGQUIT)
        self.cluster.stop()
        self.cluster.start()

    def restart(self) -> None:
        self.cluster.stop()
        self.cluster.start()

    def crash_a_backend(self) -> None:
        """End one backend; the postmaster then begins anew, and stays."""
        with connect(self.cluster.dsn(), autocommit=True) as connection:
            row = connection.execute("SELECT pg_backend_pid()").fetchone()
            assert row
            os.kill(row[0], signal.SIGKILL)

    def ask(self, text: str) -> None:
        with connect(self.cluster.dsn(), autocommit=True) as connection:
            connection.execute(text.encode())


def processed(bench: subprocess.Popen[str]) -> int:
    """Return how many transactions pgbench says it made."""
    output = bench.communicate(timeout=120)[0]
    found = re.search(r"actually processed: (\d+)", output)
    assert found, output
    return int(found.group(1))


@dataclass
class Watch:
    """A collector on a cluster and a store; it connects anew for each reading."""

    cluster: Cluster
    store: str

    def read(self) -> tuple[str, ...]:
        with (
            open_target(self.cluster.dsn()) as target,
            connect(self.store, autocommit=True) as store,
        ):
            return Collector(target, store, targets.ensure_target(store, "t")).collect().problems

    def calls(self, text: str = STATEMENT) -> int:
        return int(
            self.rows(
                "SELECT coalesce(sum(d.calls), 0) FROM perfcore.statement_deltas d"
                f" JOIN perfcore.statements s USING (target_id, queryid) WHERE s.text = '{text}'"
            )[0][0]
        )

    def gaps(self) -> list[str]:
        """Return why the statement, or all of them, were not counted, in order."""
        return [
            row[0]
            for row in self.rows(
                "SELECT reason FROM perfcore.collection_gaps WHERE view = 'pg_stat_statements'"
                " AND (queryids IS NULL OR queryids && (SELECT array_agg(queryid)"
                f" FROM perfcore.statements WHERE text = '{STATEMENT}')) ORDER BY gap_end"
            )
        ]

    def rows(self, text: str) -> list[tuple[Any, ...]]:
        with connect(self.store, autocommit=True) as connection:
            return connection.execute(text.encode()).fetchall()
