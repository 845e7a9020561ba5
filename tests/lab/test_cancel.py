"""A statement is cancelled only where that is allowed, and only the one that was looked at."""

from __future__ import annotations

from datetime import timedelta

import psycopg
import pytest

from perfcore.collect.activity import Activity, look
from perfcore.config import Config, load_config
from perfcore.errors import ChangeRefused, TargetUnavailable
from perfcore.lab.cancel import cancel_statement, may_cancel
from tests.collect.test_activity import busy, until
from tests.targets import reader_dsn, run_setup


def config(dsn: str, cancel: str = "on") -> Config:
    return load_config({"PERFCORE_CANCEL": cancel, "PERFCORE_APPLY_DSNS": f"shop={dsn}"})


def sleeper(dsn: str, pid: int) -> Activity:
    session = until(dsn, lambda p: [s for s in p.active if "pg_sleep" in s.query]).session(pid)
    assert session is not None and session.query_start is not None
    return session


def test_the_statement_ends_and_its_session_goes_on(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        pid = connection.info.backend_pid
        with busy(dsn, "SELECT pg_sleep(600)", "report") as other:
            session = sleeper(dsn, other)
            assert session.query_start is not None
            cancel_statement(config(dsn), "shop", other, session.query_start)
            until(dsn, lambda p: all("pg_sleep" not in s.query for s in p.active))
            alive = connection.execute(
                "SELECT state FROM pg_stat_activity WHERE pid = %s", (other,)
            ).fetchone()
        assert alive == ("idle in transaction (aborted)",) and pid != other


def test_another_statement_of_the_session_is_not_cancelled(dsn: str) -> None:
    with busy(dsn, "SELECT pg_sleep(600)", "report") as other:
        session = sleeper(dsn, other)
        assert session.query_start is not None
        earlier = session.query_start - timedelta(seconds=1)
        with pytest.raises(ChangeRefused, match="does not run that statement any more"):
            cancel_statement(config(dsn), "shop", other, earlier)
        assert [s.pid for s in look(dsn).active] == [other]


def test_nothing_is_cancelled_by_default(dsn: str) -> None:
    assert not may_cancel(load_config({"PERFCORE_APPLY_DSNS": f"shop={dsn}"}), "shop")
    assert not may_cancel(load_config({"PERFCORE_CANCEL": "on"}), "shop")
    assert may_cancel(config(dsn), "shop")
    with busy(dsn, "SELECT pg_sleep(600)", "report") as other:
        session = sleeper(dsn, other)
        assert session.query_start is not None
        with pytest.raises(ChangeRefused, match="not cancelled from here") as refusal:
            cancel_statement(config(dsn, "off"), "shop", other, session.query_start)
        assert "PERFCORE_CANCEL=on" in refusal.value.hint
        assert [s.pid for s in look(dsn).active] == [other]


def test_a_role_without_the_right_is_told_which(dsn: str) -> None:
    run_setup(dsn)
    with busy(dsn, "SELECT pg_sleep(600)", "report") as other:
        session = sleeper(dsn, other)
        assert session.query_start is not None
        with pytest.raises(TargetUnavailable, match="was not cancelled") as refusal:
            cancel_statement(config(reader_dsn(dsn)), "shop", other, session.query_start)
    assert "pg_signal_backend" in refusal.value.hint
