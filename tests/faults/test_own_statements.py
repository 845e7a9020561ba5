"""What Perfcore sends to a target is marked, timed out, and no part of what it shows."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from perfcore.advise import loop
from perfcore.collect.activity import look
from perfcore.collect.readiness import examine_one
from perfcore.collect.reading import Collector
from perfcore.collect.target import open_target
from perfcore.config import Config, load_config
from perfcore.db import APPLICATION_NAME, MARKER, connect
from perfcore.lab.jobs import Jobs
from perfcore.server.embedded import (
    THROWAWAY_SETTINGS,
    Cluster,
    system_binaries,
    wheel_binaries,
)
from perfcore.store import targets
from perfcore.target import connect_target
from tests.conftest import DEBIAN_15
from tests.lab.conftest import ORDERS
from tests.needs import need
from tests.targets import reader_dsn, run_setup

SHOP = """
CREATE TABLE orders (id bigint PRIMARY KEY, customer_id int NOT NULL, note text NOT NULL);
INSERT INTO orders SELECT n, n * 7 % 5000, 'note ' || n FROM generate_series(1, 30000) n;
"""
QUESTION = "SELECT note FROM orders WHERE customer_id = %s"
# From 16 on one entry counts everybody's; a mark would hide the application's.
_TRANSACTION = re.compile(r"(BEGIN|COMMIT|ROLLBACK)\b", re.IGNORECASE)
_LOGGED = re.compile(r"^\[(.*?)\|\d+\] LOG:  (?:statement|execute [^:]*): ", re.MULTILINE)


@pytest.fixture(params=["15", "18"])
def server(request: pytest.FixtureRequest, work_folder: Path) -> Iterator[Cluster]:
    if request.param == "15":
        need(DEBIAN_15 / "postgres", "postgresql-15 postgresql-15-hypopg")
        binaries = system_binaries(DEBIAN_15)
    else:
        binaries = wheel_binaries(work_folder)
    settings = {
        **THROWAWAY_SETTINGS,
        "shared_preload_libraries": "pg_stat_statements",
        "log_statement": "all",
        "log_line_prefix": "[%a|%p] ",
    }
    folder = work_folder / f"marked{request.param}"
    with Cluster(folder, binaries, settings, durable=False) as cluster:
        yield cluster


@pytest.fixture
def config(server: Cluster, store: str, cluster18: Cluster, work_folder: Path) -> Iterator[Config]:
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute(SHOP.encode())
        connection.execute("VACUUM ANALYZE orders")
        if server.binaries.major == 15:
            connection.execute("CREATE EXTENSION hypopg")
    run_setup(server.dsn())
    name = f"shop_{uuid.uuid4().hex[:8]}"
    yield load_config(
        {
            "PERFCORE_STORE": store,
            "PERFCORE_TARGETS": f"{name}={reader_dsn(server.dsn())}",
            "PERFCORE_APPLY_DSNS": f"{name}={server.dsn()}",
            "PERFCORE_LAB": cluster18.dsn(),
            "PERFCORE_DATA_DIR": str(work_folder / "data"),
        }
    )
    with connect(cluster18.dsn(), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS lab_{name} WITH (FORCE)".encode())


def test_a_whole_round_leaves_nothing_of_ours_in_what_is_shown(
    server: Cluster, config: Config, store: str
) -> None:
    ((name, dsn),) = config.targets
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute("SELECT pg_stat_statements_reset()")
    log = server.folder / "server.log"
    begins = log.stat().st_size
    with connect(store, autocommit=True) as connection, open_target(dsn) as target:
        target_id = targets.ensure_target(connection, name)
        collector = Collector(target, connection, target_id, slow_ms=0.0)
        ours_once(collector, server, config, target_id, store)
        assert collector.collect().problems == ()
        texts = [row[0] for row in connection.execute("SELECT text FROM perfcore.statements")]
    assert any("FROM orders WHERE customer_id = $1" in text for text in texts)
    strangers = [t for t in texts if not _TRANSACTION.match(t) and "orders" not in t]
    assert [t for t in strangers if "pg_stat_statements_reset" not in t] == []
    assert [t for t in texts if MARKER in t or "perfcore" in t] == []
    assert unmarked(log, begins) == []


def ours_once(
    collector: Collector, server: Cluster, config: Config, target_id: int, store: str
) -> None:
    """Everything that Perfcore does with a target, between an application's statements."""
    ((name, dsn),) = config.targets
    assert collector.collect().problems == ()
    application(server)
    report = collector.collect()
    assert report.problems == () and report.plans
    assert examine_one(name, dsn).is_reachable
    look(dsn)
    assert loop.advise_target(config, name).suggestions
    jobs = Jobs(config)
    try:
        trial = jobs.start_trial(target_id, name, QUESTION.replace("%s", "$1"), 7, ORDERS, pairs=3)
        assert ended(store, "trials", trial) == ("done", "measured")
        change = jobs.start_apply(target_id, name, ORDERS)
        assert ended(store, "changes", change)[0] == "applied"
        application(server)
        jobs.start_revert(name, change)
        assert ended(store, "changes", change, after="applied")[0] == "reverted"
    finally:
        jobs.close()


def application(server: Cluster) -> None:
    with psycopg.connect(server.dsn(), application_name="shop") as connection:
        for number in range(300):
            connection.execute(QUESTION, [number])
        connection.commit()


def ended(store: str, table: str, key: str, *, after: str = "") -> tuple[str, str]:
    column = "trial_id" if table == "trials" else "change_id"
    with connect(store, autocommit=True) as connection:
        for _ in range(600):
            row = connection.execute(
                f"SELECT state, message FROM perfcore.{table} WHERE {column} = %s".encode(), [key]
            ).fetchone()
            if row and row[0] in ("done", "failed", "applied", "reverted") and row[0] != after:
                return row[0], row[1]
            time.sleep(0.1)
    raise AssertionError(f"{table} {key} did not end")


def unmarked(log: Path, begins: int) -> list[str]:
    """Return what sessions named perfcore sent without the marker since that place in the log."""
    text = log.read_bytes()[begins:].decode()
    starts = list(_LOGGED.finditer(text))
    assert sum(m.group(1) == APPLICATION_NAME for m in starts) > 50
    found = []
    for match in starts:
        if match.group(1) != APPLICATION_NAME:
            continue
        end = re.compile(r"^\[.*?\|\d+\] ", re.MULTILINE).search(text, match.end())
        statement = text[match.end() : end.start() if end else None]
        if MARKER not in statement and not _TRANSACTION.match(statement):
            found.append(statement)
    return found


@pytest.mark.parametrize("server", ["15", "18"], indirect=True)
def test_every_connection_to_a_target_has_its_limits(server: Cluster) -> None:
    with connect_target(server.dsn()) as connection:
        for name in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"):
            value = connection.execute(f"SHOW {name}".encode()).fetchone()
            assert value and value[0] not in ("0", ""), name
        with pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute("SET statement_timeout = 50")
            connection.execute("SELECT pg_sleep(20)")


def test_what_pg_stat_statements_keeps_of_a_utility_statement_ends_with_the_mark(
    server: Cluster,
) -> None:
    run_setup(server.dsn())
    with connect_target(server.dsn()) as connection:
        connection.execute("CREATE TABLE t (id int)")
        connection.execute("CREATE INDEX CONCURRENTLY ON t (id)")
        with connection.cursor().copy("COPY (SELECT * FROM t) TO STDOUT") as copy:
            assert list(copy) == []
        rows = connection.execute(
            "SELECT query FROM pg_stat_statements WHERE query ~* '^(create (table|index)|copy)'"
        ).fetchall()
    kept = [row[0] for row in rows if " t " in row[0] or " t)" in row[0]]
    assert len(kept) == 3 and all(text.endswith(MARKER) for text in kept)
