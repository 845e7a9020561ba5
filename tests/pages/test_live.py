"""The Live page and the readiness of targets, by Streamlit's own test driver on real sessions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from perfcore.collect.activity import look
from perfcore.db import connect
from perfcore.store.targets import ensure_target
from perfcore.ui import frame
from tests.collect.test_activity import TABLE, busy, until
from tests.pages.test_pages import said, show
from tests.targets import reader_dsn, run_setup

SHELL = Path(__file__).parents[2] / "perfcore" / "ui" / "shell.py"


@pytest.fixture
def app(store: str, dsn: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[AppTest]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(TABLE.encode())
    run_setup(dsn)
    monkeypatch.setenv("PERFCORE_STORE", store)
    monkeypatch.setenv("PERFCORE_TARGETS", f"shop={reader_dsn(dsn)}")
    with connect(store, autocommit=True) as connection:
        ensure_target(connection, "shop")
    st.cache_data.clear()
    st.cache_resource.clear()
    yield AppTest.from_file(str(SHELL), default_timeout=60)
    frame.store().dispose()
    st.cache_data.clear()
    st.cache_resource.clear()


def tree(app: AppTest) -> str:
    return "\n".join(str(element.proto.body) for element in app.get("html"))


def test_a_blocked_session_stands_below_its_blocker(app: AppTest, dsn: str) -> None:
    with psycopg.connect(dsn, application_name="<b>console</b>") as console:
        console.execute("UPDATE stock SET left_over = 4")
        with busy(dsn, "DELETE FROM stock WHERE id = 1 AND '<i>' <> ''", "clerk") as clerk:
            until(dsn, lambda p: p.waiting)
            words = show(app, "live")
            holder = console.info.backend_pid
    html = tree(app)
    assert f"<b>{holder}</b>" in html.split(f"<b>{clerk}</b>")[0]
    assert "blocks 1" in html and "idle in transaction for" in html
    assert "for ShareLock" in html
    assert "&lt;b&gt;console&lt;/b&gt;" in html and "<b>console" not in html
    assert "&lt;i&gt;" in html and "<i>" not in html
    running = app.dataframe[0].value
    assert list(running["pid"]) == [str(clerk)] and list(running["waits"]) == [["Lock"]]
    assert "PERFCORE_CANCEL=on" in words  # and so there is no such button
    assert not [b for b in app.button if "Cancel" in b.label]


def test_a_database_at_rest_says_so(app: AppTest) -> None:
    words = show(app, "live")
    assert "No session waits for another." in words
    assert "No transaction is left open." in words
    assert " / 80" in words


def test_refreshing_can_be_stopped(app: AppTest, dsn: str) -> None:
    show(app, "live")
    app.toggle("live_refresh").set_value(False).run()
    with busy(dsn, "SELECT pg_sleep(600)", "late"):
        until(dsn, lambda p: p.active)
        app.run()
        assert "Nothing runs at this moment." in said(app)
        app.button("live_once").click().run()
        assert "Nothing runs at this moment." not in said(app)


def test_one_statement_is_cancelled_where_that_is_allowed(
    app: AppTest, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERFCORE_CANCEL", "on")
    monkeypatch.setenv("PERFCORE_APPLY_DSNS", f"shop={dsn}")
    with busy(dsn, "SELECT pg_sleep(600) AS nap", "report") as pid:
        until(dsn, lambda p: p.active)
        words = show(app, "live")
        assert "SELECT pg_sleep(600) AS nap" in words
        (button,) = [b for b in app.button if "Cancel" in b.label]
        assert button.label == f"Cancel the statement of process {pid}"
        button.click().run()
        until(dsn, lambda p: not p.active)
        assert "was told to end" in app.info[0].value
        assert look(dsn).session(pid) is not None


def test_a_target_that_does_not_answer_is_named_without_its_password(
    app: AppTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERFCORE_TARGETS", "shop=postgresql://me:geheim@127.0.0.1:1/shop")
    words = show(app, "live")
    assert "does not answer" in app.warning[0].value
    assert "geheim" not in words + app.warning[0].value


def test_without_targets_the_page_says_what_to_set(
    app: AppTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PERFCORE_TARGETS")
    assert "export PERFCORE_TARGETS" in show(app, "live")


def test_the_readiness_page_names_what_is_missing_with_the_sql(app: AppTest, dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("REVOKE SELECT ON stock FROM perfcore_reader")
    words = show(app, "settings").replace("\\", "")
    assert "may not read 1 of the tables and views (in public)" in words
    assert "costs: no plans of statements on them" in words
    assert "GRANT SELECT ON ALL TABLES IN SCHEMA public TO perfcore_reader;" in words
    assert "ALTER SYSTEM SET autovacuum = on;" in words  # the tests' servers run without


def test_a_superuser_is_warned_of_on_the_page(
    app: AppTest, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERFCORE_TARGETS", f"shop={dsn}")
    assert "refusing to EXPLAIN as superuser" in show(app, "settings")
