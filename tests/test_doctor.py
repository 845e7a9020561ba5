"""A bare server and setup.sql: what doctor says before, and that all is well afterwards."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from perfcore import doctor
from perfcore.__main__ import main
from perfcore.collect import readiness
from perfcore.collect.reading import Collector
from perfcore.collect.target import open_target
from perfcore.db import connect
from perfcore.server.embedded import (
    THROWAWAY_SETTINGS,
    Cluster,
    system_binaries,
    wheel_binaries,
)
from perfcore.store import targets
from perfcore.target import READER_ROLE
from tests.conftest import DEBIAN_15
from tests.needs import need
from tests.targets import reader_dsn, run_setup

SNAPSHOTS = Path(__file__).parent / "snapshots"
TABLES = """
CREATE SCHEMA "Stock";
CREATE TABLE orders (id int PRIMARY KEY, customer int NOT NULL);
CREATE TABLE "Stock".items (id int PRIMARY KEY);
INSERT INTO orders SELECT n, n % 100 FROM generate_series(1, 2000) n;
ANALYZE orders;
"""


@pytest.fixture(scope="module", params=["15", "18"])
def bare(request: pytest.FixtureRequest, work_folder: Path) -> Iterator[Cluster]:
    """A server as initdb leaves it, with tables of somebody's."""
    if request.param == "15":
        need(DEBIAN_15 / "postgres", "postgresql-15 postgresql-15-hypopg")
        binaries = system_binaries(DEBIAN_15)
    else:
        binaries = wheel_binaries(work_folder)
    cluster = Cluster(
        work_folder / f"bare{request.param}", binaries, THROWAWAY_SETTINGS, durable=False
    )
    with cluster:
        with connect(cluster.dsn(), autocommit=True) as connection:
            connection.execute(TABLES.encode())
        yield cluster


def snapshot(name: str, text: str) -> None:
    """Compare with the file of that name; `rm` it to have it written anew."""
    text = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:5432", text) + "\n"
    text = re.sub(r"PostgreSQL (\d+)\.\d+( \([^)]*\))?", r"PostgreSQL \1.x", text)
    text = re.sub(r"version \d+\.\d+", "version n", text)
    path = SNAPSHOTS / f"{name}.txt"
    if not path.exists():
        path.write_text(text)
        pytest.fail(f"{path} was missing and is written now: read it and commit it")
    assert text == path.read_text()


@pytest.mark.fault(66, 67, 69)
def test_a_bare_server_is_told_everything_and_setup_sql_mends_it(
    bare: Cluster, store: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:  # fmt: skip
    major = bare.binaries.major
    with connect(bare.dsn(), autocommit=True) as connection:
        connection.execute("CREATE ROLE somebody LOGIN PASSWORD 'geheim'")
    plain = bare.dsn().replace(f"postgres:{bare.password}", "somebody:geheim")
    before = readiness.examine([("shop", plain)])
    assert doctor.exit_code(before) == doctor.MISSING
    snapshot(f"doctor_bare_{major}", doctor.render(before))

    monkeypatch.setenv("PERFCORE_TARGETS", f"shop={bare.dsn()}")
    assert main(["doctor", "--setup-sql", "--target", "shop"]) == 0
    script = tmp_path / "setup.sql"
    script.write_text(capsys.readouterr().out)
    said = run_setup(bare.dsn(), script)
    assert "Restart the server" in said and f"\\password {READER_ROLE}" in said
    with (
        pytest.raises(psycopg.OperationalError, match="password"),
        connect(bare.dsn().replace("postgres:", f"{READER_ROLE}:", 1)),
    ):
        pass
    reader = reader_dsn(bare.dsn())
    bare.stop()
    bare.start()
    again = run_setup(bare.dsn(), script)
    assert "Restart" not in again and "password" not in again

    monkeypatch.setenv("PERFCORE_TARGETS", f"shop={reader}")
    assert main(["doctor"]) == doctor.ALL_WELL
    snapshot(f"doctor_well_{major}", capsys.readouterr().out.rstrip("\n"))
    assert main(["doctor", "--format", "json"]) == doctor.ALL_WELL
    (found,) = json.loads(capsys.readouterr().out)
    assert {c["state"] for c in found["checks"]} == {"ok", "note"}
    the_collector_works(reader, bare.dsn(), store)
    the_role_changes_nothing(reader)


def the_collector_works(reader: str, admin: str, store: str) -> None:
    with open_target(reader) as target, connect(store, autocommit=True) as connection:
        collector = Collector(target, connection, targets.ensure_target(connection, "shop"), 0.0)
        assert collector.collect().problems == ()
        with connect(admin, autocommit=True) as shop:
            for _ in range(3):
                shop.execute("SELECT * FROM orders WHERE customer = 7")
        assert collector.collect().problems == ()
        report = collector.collect()
        assert report.problems == ()
        plans = connection.execute(
            "SELECT count(*) FROM perfcore.plans JOIN perfcore.statements USING (fingerprint) "
            "WHERE text LIKE '%FROM orders WHERE customer%'"
        ).fetchone()
        assert plans == (1,)


def the_role_changes_nothing(reader: str) -> None:
    with connect(reader, autocommit=True) as connection:
        connection.execute("SET default_transaction_read_only = off")
        for statement in ("DELETE FROM public.orders", "CREATE ROLE mighty", "CREATE DATABASE d"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement.encode())


def test_a_target_that_is_gone_is_one_and_none_is_wrong_use(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("PERFCORE_TARGETS", raising=False)
    assert main(["doctor"]) == 2
    monkeypatch.setenv("PERFCORE_TARGETS", "shop=postgresql://me:geheim@127.0.0.1:1/shop")
    assert main(["doctor"]) == doctor.UNREACHABLE
    said = capsys.readouterr().out
    assert "cannot be reached" in said and "correct host and port" in said
    assert "geheim" not in said
    assert main(["doctor", "--target", "other"]) == 2
