"""Every page, run by Streamlit's own test driver on a seeded store."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from perfcore.db import connect
from perfcore.store import decide, read
from perfcore.ui import frame
from tests.seeding import PLACE, Seeded, seed_store

SHELL = Path(__file__).parents[2] / "perfcore" / "ui" / "shell.py"
PAGES = ("overview", "endpoints", "queries", "suggestions", "settings")


@pytest.fixture
def seeded(store: str) -> Seeded:
    return seed_store(store, minutes=30)


@pytest.fixture
def app(store: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[AppTest]:
    monkeypatch.setenv("PERFCORE_STORE", store)
    st.cache_data.clear()
    yield AppTest.from_file(str(SHELL), default_timeout=60)
    frame.store().dispose()
    st.cache_data.clear()
    st.cache_resource.clear()


def show(app: AppTest, page: str, **parameters: str) -> str:
    """Run a page and return all the text on it; it fails where the page did."""
    app.run()
    app.switch_page(f"../../pages/{page}.py")
    for name, value in parameters.items():
        app.query_params[name] = value
    app.run()
    assert not app.exception, app.exception[0].message
    assert not app.error, app.error[0].value
    return said(app)


def said(app: AppTest) -> str:
    found = [*app.header, *app.markdown, *app.caption, *app.code, *app.subheader]
    return "\n".join(str(element.value) for element in found)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_shows_a_seeded_store(app: AppTest, seeded: Seeded, page: str) -> None:
    show(app, page)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_on_an_empty_store_names_the_next_step(app: AppTest, page: str) -> None:
    words = show(app, page)
    assert "PERFCORE_TARGETS" in words or "perfcore" in words


def test_the_overview_shows_the_six_numbers(app: AppTest, seeded: Seeded) -> None:
    words = show(app, "overview")
    for label in ("p95 latency", "Throughput", "Error rate", "DB time", "Cache hit", "Memory"):
        assert label in words
    assert re.search(r"1[34]\d MiB", words)
    assert "index customers" in words.replace("\\", "")


def test_the_queries_page_says_how_each_tables_blocks_were_found(
    app: AppTest, seeded: Seeded
) -> None:
    words = show(app, "queries")
    assert "how their blocks were found" in words
    shown = next(f.value for f in app.dataframe if "seq_scan" in f.value)
    assert "orders" in set(shown["name"])


def test_an_endpoint_names_its_repeated_statement(app: AppTest, seeded: Seeded) -> None:
    words = show(app, "endpoint", service="shop", endpoint="GET /orders/{id}")
    assert "8 calls in a request" in words and "in 50 % of its requests" in words
    assert f"`SELECT * FROM products WHERE id = ?` from `{PLACE}`" in words
    assert "`GET /orders/{id}`" in words


def test_a_query_shows_text_plan_and_suggestion(app: AppTest, seeded: Seeded) -> None:
    words = show(app, "query", queryid="7001")
    assert "FROM orders WHERE customer_id" in words
    assert "Seq Scan on orders" in words
    assert "customer_id, created_at DESC" in words


def test_a_query_without_a_suggestion_says_why(app: AppTest, seeded: Seeded) -> None:
    words = show(app, "query", queryid="7002").replace("\\", "")
    assert "No suggestion: existing indexes already serve" in words
    assert "products_pkey serves id" in words


@pytest.mark.parametrize("queryid", ["42", "DROP TABLE", ""])
def test_an_unknown_query_leads_back(app: AppTest, seeded: Seeded, queryid: str) -> None:
    assert "Choose one in the list" in show(app, "query", queryid=queryid)


def test_an_unknown_endpoint_leads_back(app: AppTest, seeded: Seeded) -> None:
    words = show(app, "endpoint", service="shop", endpoint="GET /<script>")
    assert "no request in this range" in words


def test_a_suggestion_carries_its_ddl_and_undo(app: AppTest, seeded: Seeded) -> None:
    words = show(app, "suggestions", suggestion=seeded.suggestion_id)
    assert "CREATE INDEX CONCURRENTLY" in words
    assert "DROP INDEX CONCURRENTLY" in words
    assert "RunSQL" in words and "autocommit_block" in words


def test_a_dismissed_suggestion_leaves_the_list_and_comes_back(
    app: AppTest, seeded: Seeded
) -> None:
    show(app, "suggestions")
    key = seeded.suggestion_id
    app.text_input(f"reason_{key}").set_value("too big").run()
    app.button(f"dismiss_{key}").click().run()
    stored = read.suggestion(frame.store(), key)
    assert stored is not None and (stored.state, stored.state_reason) == ("dismissed", "too big")
    assert "Create an index" not in said(app)
    app.button_group("state").set_value("dismissed").run()
    assert "too big" in said(app)
    app.button(f"reopen_{key}").click().run()
    again = read.suggestion(frame.store(), key)
    assert again is not None and again.state == "open"


def test_a_snoozed_suggestion_knows_until_when(app: AppTest, seeded: Seeded) -> None:
    show(app, "suggestions")
    app.button(f"snooze_{seeded.suggestion_id}_7").click().run()
    stored = read.suggestion(frame.store(), seeded.suggestion_id)
    assert stored is not None and stored.state == "snoozed"
    assert stored.snoozed_until is not None
    assert stored.snoozed_until > datetime.now(UTC) + timedelta(days=6)


def test_nobody_dismisses_what_was_applied(app: AppTest, seeded: Seeded, store: str) -> None:
    with connect(store, autocommit=True) as connection:
        connection.execute("UPDATE perfcore.suggestions SET state = 'applied'")
    assert not decide.dismiss(frame.store(), seeded.suggestion_id, "no")


def test_the_range_comes_from_the_url(app: AppTest, seeded: Seeded) -> None:
    app.query_params["range"] = "24h"
    app.query_params["compare"] = "yesterday"
    app.run()
    view = app.session_state["_view"]
    assert (view.preset, view.comparison) == ("24h", "yesterday")
    assert view.range.duration_s == 86_400


def test_a_custom_range_comes_from_the_url(app: AppTest, seeded: Seeded) -> None:
    app.query_params["range"] = "custom"
    app.query_params["from"] = "2026-11-22T10:00:00Z"
    app.query_params["to"] = "2026-11-22T11:30:00Z"
    app.run()
    view = app.session_state["_view"]
    assert view.range.start == datetime(2026, 11, 22, 10, tzinfo=UTC)
    assert view.range.duration_s == 5400
    assert not view.live


@pytest.mark.parametrize(("first", "last"), [("x", "y"), ("2026-11-22T10:00Z", ""), ("", "")])
def test_a_broken_custom_range_falls_back(app: AppTest, first: str, last: str) -> None:
    app.query_params["range"] = "custom"
    app.query_params["from"] = first
    app.query_params["to"] = last
    app.run()
    assert not app.exception
    assert app.session_state["_view"].range.duration_s == 3600


def test_markup_in_names_stays_text(app: AppTest, seeded: Seeded, store: str) -> None:
    with connect(store, autocommit=True) as connection:
        connection.execute(
            "UPDATE perfcore.markers SET label = '<script>alert(1)</script> **x** :red[y]'"
        )
    words = show(app, "overview")
    assert "<script>" not in words
    assert ":red[y]" not in words


def test_without_a_store_the_page_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PERFCORE_STORE", raising=False)
    app = AppTest.from_file(str(SHELL), default_timeout=60).run()
    assert not app.exception
    assert "make demo" in said(app)


def test_a_store_that_is_away_is_named_without_its_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PERFCORE_STORE", "postgresql://me:geheim@127.0.0.1:1/nowhere")
    app = AppTest.from_file(str(SHELL), default_timeout=60).run()
    assert not app.exception
    assert "cannot be reached" in app.error[0].value.replace("\\", "")
    assert "geheim" not in app.error[0].value + said(app)


def test_a_store_without_tables_is_told_to_migrate(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERFCORE_STORE", dsn)
    app = AppTest.from_file(str(SHELL), default_timeout=60).run()
    frame.store().dispose()
    assert not app.exception
    assert "perfcore migrate" in app.error[0].value.replace("\\", "") + said(app)
