"""What Queries and Query say of a list of statements that is not complete."""

from __future__ import annotations

from datetime import timedelta

import pytest
from streamlit.testing.v1 import AppTest

from perfcore.db import connect
from perfcore.ui import frame
from tests.pages.test_pages import app, seeded, show
from tests.seeding import Seeded, insert

__all__ = ["app", "seeded"]


def evict(store: str, seeded: Seeded, evictions: int | None, active_ms: float | None) -> None:
    end = seeded.now - timedelta(minutes=2)
    span = {"interval_start": end - timedelta(seconds=10), "interval_end": end}
    with connect(store) as connection:
        insert(
            connection,
            "statement_intervals",
            [{"target_id": seeded.target_id, **span, "entries": 4990, "max_entries": 5000,
              "evictions": evictions, "counted_ms": 620.0, "active_ms": active_ms}],
        )  # fmt: skip


@pytest.mark.fault(62)
@pytest.mark.parametrize("page", ["queries", "query"])
def test_evictions_are_said_with_what_is_left_and_the_remedy(
    store: str, app: AppTest, seeded: Seeded, page: str
) -> None:
    evict(store, seeded, 7, 1000.0)
    words = show(app, page, queryid="7001")
    assert "incomplete: 7 evictions in this range" in words
    assert "cover 62 % of the time the database was active" in words
    assert "ALTER SYSTEM SET pg_stat_statements.max = 10000;" in words


@pytest.mark.fault(62)
def test_on_13_it_is_said_that_nobody_can_know(store: str, app: AppTest, seeded: Seeded) -> None:
    evict(store, seeded, None, None)
    assert "incomplete" not in show(app, "queries")
    end = seeded.now - timedelta(minutes=2)
    lost = {
        "target_id": seeded.target_id, "view": "pg_stat_statements", "queryids": [7001],
        "gap_start": end - timedelta(seconds=10), "gap_end": end, "reason": "eviction or reset",
    }  # fmt: skip
    with connect(store) as connection:
        insert(connection, "collection_gaps", [lost])
    frame.forget()
    words = show(app, "query", queryid="7001")
    assert "may be incomplete: statements vanished from it in 1 reading of" in words
    assert "PostgreSQL 13 does not say" in words


@pytest.mark.fault(60)
def test_spans_that_were_not_counted_are_named(store: str, app: AppTest, seeded: Seeded) -> None:
    assert "Not counted" not in show(app, "queries")
    end = seeded.now - timedelta(minutes=2)
    lost = {
        "target_id": seeded.target_id, "view": "pg_stat_statements", "queryids": None,
        "gap_start": end - timedelta(seconds=10), "gap_end": end, "reason": "restart",
    }  # fmt: skip
    with connect(store) as connection:
        insert(connection, "collection_gaps", [lost])
    frame.forget()
    words = show(app, "query", queryid="7001")
    assert "Not counted:" in words and "(restart)" in words
