"""Who ran it: tags, coverage and the endpoints of a statement, on the pages that say so."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from perfcore.db import connect
from perfcore.normalise import fingerprint
from perfcore.store.read import StatementDetail
from perfcore.ui.coverage import coverage_line, share_line
from perfcore.ui.tags import choices, tags_line
from tests.pages.test_pages import app, said, seeded, show
from tests.seeding import Seeded

__all__ = ["app", "seeded"]  # fixtures
TAGGED = (
    "SELECT count(*) FROM invoices WHERE id = $1 "
    "/*action='index',application='bill%2Aing',controller='Invoices',route='%2Finvoices'*/"
)


@pytest.fixture
def foreign(seeded: Seeded, store: str) -> Iterator[Seeded]:
    """Two statements that no hook saw: one of a tagged application, one of nobody knows whom."""
    ended = seeded.now - timedelta(minutes=2)
    with connect(store, autocommit=True) as connection:
        for queryid, text in ((8001, TAGGED), (8002, "VACUUM orders")):
            connection.execute(
                "INSERT INTO perfcore.statements (target_id, queryid, fingerprint, text) "
                "VALUES (%s, %s, %s, %s)",
                (seeded.target_id, queryid, fingerprint(text), text),
            )
            connection.execute(
                "INSERT INTO perfcore.statement_deltas VALUES (%s, %s, %s, %s, 50, 90000, 1, 0, "
                "0, 0, 0)",
                (seeded.target_id, queryid, ended - timedelta(minutes=9), ended),
            )
    yield seeded


def _table(app: AppTest, column: str) -> pd.DataFrame:
    return next(f.value for f in app.dataframe if column in f.value)


@pytest.mark.fault(32)
def test_the_queries_page_says_what_the_hooks_did_not_see(app: AppTest, foreign: Seeded) -> None:
    words = show(app, "queries")
    assert "The hooks saw" in words and "of the databases' time" in words
    assert not any("sender" in f.value for f in app.dataframe)
    app.toggle("query_unseen").set_value(True).run()
    unseen = _table(app, "sender").set_index("queryid")
    assert unseen.loc["8001", "sender"] == (
        "application bill*ing, route /invoices, controller Invoices#index"
    )
    assert unseen.loc["8002", "sender"] == "unknown: psql, cron, another service"
    assert set(unseen.index) == {"8001", "8002"} and (unseen["seen"] == 0).all()
    assert not app.exception


def test_queries_can_be_chosen_by_their_tags(app: AppTest, foreign: Seeded) -> None:
    show(app, "queries")
    assert {"8001", "8002", "7001"} <= set(_table(app, "tags")["queryid"])
    app.selectbox("query_tag").set_value("route /invoices").run()
    shown = _table(app, "tags")
    assert shown["queryid"].tolist() == ["8001"]
    assert shown["tags"].tolist() == [
        "application bill*ing, route /invoices, controller Invoices#index"
    ]
    assert "/*" not in shown["text"].iloc[0]
    assert "1 of 8" in said(app)


def test_without_tags_there_is_no_choice_of_them(app: AppTest, seeded: Seeded) -> None:
    show(app, "queries")
    assert not any(s.key == "query_tag" for s in app.selectbox)


def test_a_statement_shows_its_part_of_each_endpoint(app: AppTest, seeded: Seeded) -> None:
    words = show(app, "query", queryid="7002")
    ran = _table(app, "share_of_endpoint")
    shares = dict(zip(ran["endpoint"], ran["share_of_endpoint"], strict=True))
    assert len(shares) == 4 and all(0 < share < 1 for share in shares.values())
    top = max(shares, key=lambda name: shares[name])
    assert f"% of `{top}`" in words


def test_an_endpoint_draws_its_mean_request(app: AppTest, seeded: Seeded) -> None:
    words = show(app, "endpoint", service="shop", endpoint="GET /orders/{id}")
    assert "the mean request" in words
    charts = [c for c in app.get("plotly_chart") if "endpoint_mean_request" in str(c.proto.id)]
    assert len(charts) == 1


# The lines that the Query page shows


def _detail(seeded: Seeded, text: str) -> StatementDetail:
    return StatementDetail(
        1, "shop", 7, fingerprint(text), text, "", seeded.start, seeded.now, (7,)
    )


def _unseen(calls: int, missing: int, fp: int = 5) -> pd.DataFrame:
    return pd.DataFrame(
        {"target_id": [1, 2], "fingerprint": [fp, fp], "calls": [calls, 9],
         "unseen_calls": [missing, 9], "total_ms": [float(calls), 0.0],
         "unseen_ms": [float(missing), 0.0]}
    )  # fmt: skip


def test_the_line_of_tags_is_escaped_and_says_whose_they_are(seeded: Seeded) -> None:
    line = tags_line(_detail(seeded, TAGGED))
    assert "application bill\\*ing" in line and "saw first" in line
    assert tags_line(_detail(seeded, "SELECT 1")) == ""
    hostile = "SELECT 1 /*application='%3Cscript%3E%20%2A%2Ax%2A%2A%20%3Ared%5By%5D'*/"
    assert "<script" not in tags_line(_detail(seeded, hostile)).replace("\\<", "")
    assert choices([hostile, TAGGED, "SELECT 1"])[-1] == "route /invoices"


@pytest.mark.parametrize(
    ("calls", "missing", "said"),
    [
        (1000, 0, "saw all of its calls"),
        (1000, 1000, "No hook saw it"),
        (1000, 170, "A hook saw 83 % of its 1,000 calls"),
        (10**7, 1, "A hook saw 99.9 % of"),
        (0, 0, ""),
    ],
)
def test_the_line_of_coverage_says_what_the_percentiles_stand_for(
    seeded: Seeded, calls: int, missing: int, said: str
) -> None:
    detail = _detail(seeded, "SELECT 1")
    line = coverage_line(_unseen(calls, missing, detail.fingerprint), detail)
    assert said in line and bool(line) == bool(said)
    shares = {0: "saw all", 170: "saw 83 %", 1: "saw 99.9 %"}
    if missing in shares and calls:
        assert shares[missing] in share_line(_unseen(calls, missing))
