"""Each thing a target can lack: what is said of it, what it costs, and the SQL that ends it."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from perfcore.collect.loop import watch_target
from perfcore.collect.readiness import (
    Check,
    Extension,
    Facts,
    Readiness,
    checks,
    examine,
    examine_one,
    read_facts,
)
from perfcore.collect.reading import Collector
from perfcore.collect.target import open_target
from perfcore.config import load_config
from perfcore.db import connect
from perfcore.store.targets import ensure_target
from tests.targets import reader_dsn, run_setup

WELL = Facts(
    server_version=180006,
    server_version_text="18.6",
    database="shop",
    role="perfcore_reader",
    role_identifier="perfcore_reader",
    is_standby=False,
    reads_all_stats=True,
    is_monitor=True,
    is_encrypted=False,
    is_remote=False,
    sslmode="prefer",
    skew_s=0.0,
    settings={
        "pg_stat_statements.max": "5000",
        "pg_stat_statements.track": "top",
        "compute_query_id": "auto",
        "track_io_timing": "on",
        "track_activities": "on",
        "track_counts": "on",
        "autovacuum": "on",
        "track_activity_query_size": "4096",
    },
    extensions={
        "pg_stat_statements": Extension("1.12", "1.12", "public"),
        "hypopg": Extension("1.4.2", "1.4.2", "public"),
    },
    evictions=0,
    unreadable=(),
    dangerous=(),
)


def named(found: list[Check] | Readiness, name: str) -> Check:
    every = found.checks if isinstance(found, Readiness) else found
    (check,) = [c for c in every if c.name == name and c.state != "ok"]
    return check


def test_a_server_with_everything_lacks_nothing() -> None:
    assert {c.state for c in checks(WELL)} == {"ok"}


@pytest.mark.fault(66)
@pytest.mark.parametrize(
    ("changes", "name", "remedy"),
    [
        ({"pg_stat_statements.track": "none"}, "pg_stat_statements.track", "track = 'top'"),
        ({"compute_query_id": "off"}, "compute_query_id", "compute_query_id = 'auto'"),
        ({"track_io_timing": "off"}, "track_io_timing", "SET track_io_timing = on"),
        ({"track_activities": "off"}, "track_activities", "SET track_activities = on"),
        ({"track_counts": "off"}, "track_counts", "SET track_counts = on"),
        ({"autovacuum": "off"}, "autovacuum", "SET autovacuum = on"),
    ],
)
def test_a_setting_is_named_with_its_cost_and_statement(
    changes: dict[str, str], name: str, remedy: str
) -> None:
    facts = replace(WELL, settings={**WELL.settings, **changes})
    (check,) = [c for c in checks(facts) if c.state != "ok"]
    assert check.name == name and check.cost and not check.needs_restart
    assert remedy in check.remedy and "pg_reload_conf" in check.remedy


def test_evictions_name_a_larger_maximum() -> None:
    check = named(checks(replace(WELL, evictions=12)), "pg_stat_statements.max")
    assert "evicted 12 times" in check.finding and check.needs_restart
    assert check.remedy == "ALTER SYSTEM SET pg_stat_statements.max = 10000;"


@pytest.mark.fault(75)
def test_a_newer_server_is_a_warning_and_an_older_one_the_end() -> None:
    newer = replace(WELL, server_version=190000, server_version_text="19.0")
    assert [c.name for c in checks(newer) if c.state == "note"] == ["version"]
    older = replace(WELL, server_version=120022, server_version_text="12.22")
    assert [c.finding for c in checks(older)] == ["PostgreSQL 12.22 is too old"]


def test_a_plain_remote_connection_is_named() -> None:
    remote = replace(WELL, is_remote=True)
    assert "in plain text" in named(checks(remote), "encryption").finding
    safe = replace(remote, is_encrypted=True, sslmode="verify-full")
    assert {c.state for c in checks(safe)} == {"ok"}


@pytest.mark.fault(80)
def test_a_clock_that_is_wrong_is_named(dsn: str) -> None:
    late = datetime.now(UTC) - timedelta(seconds=40)
    with open_target(dsn) as connection:
        facts = read_facts(connection, dsn, lambda: late)
        assert abs(read_facts(connection, dsn).skew_s) < 5
    check = named(checks(facts), "clock")
    assert check.finding.startswith("its clock is 4") and "ahead of" in check.finding


@pytest.mark.fault(66)
@pytest.mark.parametrize("server", ["dsn", "dsn15"])
def test_an_extension_elsewhere_or_old_is_seen(server: str, request: pytest.FixtureRequest) -> None:
    dsn = request.getfixturevalue(server)
    with connect(dsn, autocommit=True) as connection:
        connection.execute('CREATE SCHEMA "Else where"')
        connection.execute(
            "CREATE EXTENSION pg_stat_statements SCHEMA \"Else where\" VERSION '1.9'"
        )
    check = named(examine_one("shop", dsn), "pg_stat_statements")
    assert check.remedy == "ALTER EXTENSION pg_stat_statements UPDATE;"
    with connect(dsn, autocommit=True) as connection:
        connection.execute(check.remedy.encode())
    (check,) = [c for c in examine_one("shop", dsn).checks if c.name == "pg_stat_statements"]
    assert check.state == "ok" and "in schema Else where" in check.finding


@pytest.mark.fault(69)
@pytest.mark.parametrize("right", ["pg_read_all_data", "pg_signal_backend"])
def test_a_role_that_may_more_is_warned_of(dsn: str, right: str) -> None:
    run_setup(dsn)
    reader = reader_dsn(dsn)
    assert [c.state for c in examine_one("shop", reader).checks if c.name == "role"] == ["ok"]
    with connect(dsn, autocommit=True) as connection:
        connection.execute(f"GRANT {right} TO perfcore_reader".encode())
        try:
            check = named(examine_one("shop", reader), "role")
        finally:
            connection.execute(f"REVOKE {right} FROM perfcore_reader".encode())
    assert right in check.finding and "refusing to EXPLAIN" in check.cost
    assert "superuser" in named(examine_one("shop", dsn), "role").finding


@pytest.mark.fault(67)
def test_withheld_texts_are_a_grant_to_make_and_never_a_query(dsn: str, store: str) -> None:
    run_setup(dsn)
    reader = reader_dsn(dsn)
    with connect(dsn, autocommit=True) as connection:
        connection.execute("REVOKE pg_monitor FROM perfcore_reader")
        try:
            check = named(examine_one("shop", reader), "pg_monitor")
            with open_target(reader) as target, connect(store, autocommit=True) as kept:
                for number in range(2):
                    connection.execute(f"SELECT {number} AS hidden".encode())
                    Collector(target, kept, ensure_target(kept, "shop")).collect()
                texts = kept.execute("SELECT text FROM perfcore.statements").fetchall()
        finally:
            connection.execute("GRANT pg_monitor TO perfcore_reader")
    assert "<insufficient privilege>" in check.finding
    assert check.remedy.startswith("GRANT pg_monitor TO perfcore_reader;")
    assert [text for (text,) in texts if "insufficient" in text or "hidden" in text] == []


@pytest.mark.fault(69)
def test_a_superuser_collects_with_a_warning(
    dsn: str, store: str, caplog: pytest.LogCaptureFixture
) -> None:
    stop = threading.Event()
    settings = {"PERFCORE_STORE": store, "PERFCORE_COLLECT_INTERVAL_S": "0.05"}
    with connect(store, autocommit=True) as connection:
        watcher = threading.Thread(
            target=watch_target,
            args=("shop", dsn, connection, load_config(settings)),
            kwargs={"stop": stop},
        )
        watcher.start()
        with connect(store, autocommit=True) as reader:
            for _ in range(200):
                seen = reader.execute("SELECT last_seen_at FROM perfcore.targets").fetchone()
                if seen and seen[0]:
                    break
                stop.wait(0.05)
        stop.set()
        watcher.join(10)
    assert seen and seen[0]
    assert "target shop: its role may more than watching needs (superuser)" in caplog.text


@pytest.mark.fault(71)
def test_where_the_roles_connections_are_in_use_it_waits(dsn: str) -> None:
    run_setup(dsn)
    reader = reader_dsn(dsn)
    first, second = open_target(reader), open_target(reader)
    threading.Timer(1.0, first.close).start()
    with open_target(reader) as third:
        assert third.execute("SELECT current_user").fetchone() == ("perfcore_reader",)
    second.close()


def test_targets_are_asked_side_by_side_and_in_order(dsn: str) -> None:
    gone = "postgresql://me:geheim@127.0.0.1:1/shop"
    found = examine([("a", gone), ("b", dsn), ("c", gone)])
    assert [(r.target, r.is_reachable) for r in found] == [
        ("a", False), ("b", True), ("c", False),
    ]  # fmt: skip
    assert "geheim" not in repr(found)
