"""The plans of a query's page, and the plan viewer."""

from __future__ import annotations

import json
import re
from datetime import timedelta

import pytest
import streamlit as st
from psycopg.types.json import Jsonb
from streamlit.testing.v1 import AppTest

from perfcore.db import connect
from perfcore.store import read
from perfcore.store.read import Marker
from perfcore.ui import frame, plan_viewer, query_plans
from tests.pages.test_pages import app as app
from tests.pages.test_pages import said, show
from tests.pages.test_pages import seeded as seeded
from tests.seeding import STATEMENTS, Seeded

HOSTILE = "orders<script>alert(1)</script>**bold**:red[x]"


def another_plan(store: str, seeded: Seeded, shape: str = "0ther0ther000000") -> int:
    """Give the first statement an index scan in place of its sort, from the middle on."""
    half = seeded.start + (seeded.now - seeded.start) / 2
    scan = {
        "Node Type": "Index Scan", "Relation Name": "orders", "Index Name": "orders_new_idx",
        "Total Cost": 12.0, "Plan Rows": 20, "Plan Width": 64, "Index Cond": "(customer_id = $1)",
    }  # fmt: skip
    plan = {"Plan": {"Node Type": "Limit", "Total Cost": 12.0, "Plan Rows": 20, "Plans": [scan]}}
    statement = STATEMENTS[0]
    with connect(store) as connection:
        row = connection.execute(
            "INSERT INTO perfcore.plans (target_id, fingerprint, queryid, shape_hash, is_generic,"
            " total_cost, plan, first_seen, last_seen)"
            " VALUES (%s, %s, %s, %s, true, 12, %s, %s, %s) RETURNING plan_id",
            (seeded.target_id, statement.fingerprint, statement.queryid, shape, Jsonb([plan]),
             half, seeded.now + timedelta(seconds=1)),
        ).fetchone()  # fmt: skip
        assert row is not None
        for plan_id, first, last in (
            (seeded.plan_id, seeded.start, half),
            (row[0], half, seeded.now),
        ):
            connection.execute(
                "INSERT INTO perfcore.plan_uses (plan_id, target_id, fingerprint, is_generic,"
                " seen_from, seen_to) VALUES (%s, %s, %s, true, %s, %s)",
                (plan_id, seeded.target_id, statement.fingerprint, first, last),
            )
    return int(row[0])


def test_a_query_draws_its_plan_with_text_and_json(app: AppTest, seeded: Seeded) -> None:
    words = show(app, "query", queryid="7001")
    assert [t.label for t in app.tabs] == ["Tree", "Flame", "Text", "JSON"]
    assert "Seq Scan on orders" in words
    assert '"Node Type": "Seq Scan"' in words
    assert "generic plan, cost 41,0" in words


def test_plans_have_letters_and_the_url_names_one(app: AppTest, seeded: Seeded, store: str) -> None:
    another_plan(store, seeded)
    words = show(app, "query", queryid="7001")
    assert "B · generic plan, cost 12" in words
    assert app.selectbox(key="query_plan").options[0].startswith("A · Seq Scan on orders")
    app.selectbox(key="query_plan").set_value(seeded.plan_id).run()
    assert app.query_params["plan"] == str(seeded.plan_id)
    assert "A · generic plan, cost 41,0" in said(app)


def test_two_plans_side_by_side_say_what_differs(app: AppTest, seeded: Seeded, store: str) -> None:
    newer = another_plan(store, seeded)
    words = show(
        app, "query", queryid="7001", plan=str(seeded.plan_id), compare_plan=str(newer)
    ).replace("\\", "")
    assert "Seq Scan on orders became Index Scan using orders_new_idx on orders; cost" in words
    assert "Sort by created_at DESC is gone" in words
    assert "cost 41,020 → 12" in words
    assert app.selectbox(key="query_compare").value == newer


@pytest.mark.parametrize("value", ["0", "-1", "x", "99999999999999999999999"])
def test_an_unknown_plan_in_the_url_is_the_latest(
    app: AppTest, seeded: Seeded, store: str, value: str
) -> None:
    another_plan(store, seeded)
    words = show(app, "query", queryid="7001", plan=value, compare_plan=value, step=value)
    assert "B · generic plan, cost 12" in words


def test_a_statement_without_a_plan_says_why_and_what_to_do(
    app: AppTest, seeded: Seeded, store: str
) -> None:
    assert "asks once in 15 minutes" in show(app, "query", queryid="7003")
    with connect(store) as connection:
        connection.execute(
            "INSERT INTO perfcore.plan_refusals VALUES"
            " (%s, %s, 7003, 'permission denied for table orders', 'GRANT SELECT ON orders')",
            (seeded.target_id, STATEMENTS[2].fingerprint),
        )
    st.cache_data.clear()
    app.run()
    words = said(app).replace("\\", "")
    assert "permission denied for table orders" in words
    assert "GRANT SELECT ON orders" in words


def test_the_servers_times_stand_beside_the_applications(
    app: AppTest, seeded: Seeded, store: str
) -> None:
    assert "has told no times" in show(app, "query", queryid="7001")
    with connect(store) as connection:
        connection.execute(
            "UPDATE perfcore.statements SET server_calls = 900, min_exec_time_ms = 1.5,"
            " mean_exec_time_ms = 141, max_exec_time_ms = 2500, stddev_exec_time_ms = 33.4,"
            " counted_since = %s WHERE queryid = 7001",
            (seeded.start,),
        )
    st.cache_data.clear()
    app.run()
    words = said(app)
    for told in ("min]]  \n**1.5 ms**", "mean]]  \n**141 ms**", "max]]  \n**2.5 s**",
                 "deviation]]  \n**33.4 ms**", "900 calls since"):  # fmt: skip
        assert told in words
    assert "p50]]  \n**1" in words and "p99]]  \n**" in words
    assert re.search(r"A hook saw (all|[\d.]+ %) of its", words)


def paste(app: AppTest, text: str, other: str = "") -> str:
    """Open the viewer with plans pasted; return all the text on it."""
    show(app, "plan")
    app.text_area(key="plan_pasted").set_value(text)
    app.text_area(key="plan_compared").set_value(other)
    app.run()
    assert not app.exception, app.exception[0].message
    return said(app).replace("\\", "")


def test_the_empty_viewer_says_which_explain_to_run(app: AppTest) -> None:
    words = show(app, "plan")
    assert "EXPLAIN (ANALYZE, BUFFERS, SETTINGS, FORMAT JSON)" in words
    assert "ROLLBACK" in words
    assert "nothing is stored" in words


@pytest.mark.parametrize("number", range(len(plan_viewer.EXAMPLES)))
def test_an_example_is_one_click_away(app: AppTest, number: int) -> None:
    show(app, "plan")
    app.button(key=f"plan_example_{number}").click().run()
    assert not app.exception
    assert not app.error
    if plan_viewer.EXAMPLES[number].second:
        assert "became Index Scan using" in said(app).replace("\\", "")
    else:
        assert [t.label for t in app.tabs] == ["Tree", "Flame", "Text", "JSON"]
    app.button(key="plan_clear").click().run()
    assert "Which EXPLAIN tells most" in said(app)


def test_a_pasted_text_stays_as_it_was_and_is_told_in_json_too(app: AppTest) -> None:
    text = plan_viewer.read_example("nested_loop.txt")
    words = paste(app, text)
    assert "Index Scan using orders_customer_id_idx on orders o  (cost=" in words
    assert '"Index Name": "orders_customer_id_idx"' in words


@pytest.mark.parametrize(
    ("junk", "reason"),
    [
        ("SELECT 1", "a statement, not its plan"),
        ("hello", "nothing in it reads like a node"),
        ('[{"Plan": {"Node Type": "Seq', "breaks off"),
        ("[" * 5000, "no plan"),
        ("<explain/>", "XML"),
    ],
)
def test_junk_gets_a_reason_and_a_remedy(app: AppTest, junk: str, reason: str) -> None:
    paste(app, junk)
    (error,) = app.error
    words = error.value.replace("\\", "")
    assert reason in words
    assert "aste" in words


def test_one_good_and_one_bad_plan_show_the_good_one(app: AppTest) -> None:
    paste(app, plan_viewer.read_example("hash_spill.json"), "junk")
    assert len(app.error) == 1
    assert len(app.tabs) == 4


def test_nothing_pasted_is_stored(app: AppTest, store: str) -> None:
    paste(app, json.dumps([{"Plan": {"Node Type": "Seq Scan", "Relation Name": "secret_9"}}]))
    with connect(store) as connection:
        row = connection.execute("SELECT count(*) FROM perfcore.plans").fetchone()
    assert row == (0,)
    assert "secret_9" not in json.dumps(app.query_params, default=str)


def test_a_name_in_a_plan_is_no_markdown(app: AppTest) -> None:
    def scan(kind: str) -> str:
        node = {"Node Type": kind, "Relation Name": HOSTILE, "Total Cost": 9, "Plan Rows": 1}
        return json.dumps([{"Plan": node}])

    paste(app, scan("Seq Scan"), scan("Index Scan"))
    said_in_markdown = "\n".join(str(m.value) for m in app.markdown)
    assert "became" in said_in_markdown
    for markup in ("<script>", "**bold**", ":red["):
        assert markup not in said_in_markdown


def test_only_a_statements_own_plan_changes_mark_its_chart(
    app: AppTest, seeded: Seeded, store: str
) -> None:
    show(app, "query", queryid="7001")
    another_plan(store, seeded)
    detail = read.statement(frame.store(), 7001)
    assert detail is not None
    stored = read.plans(frame.store(), detail.fingerprint, detail.target_id)
    release = Marker(1, seeded.now, "release", "shop 1.4.0", None, "shop", {})
    own = Marker(
        2, seeded.now, "plan change", "another plan", seeded.target_id, "",
        {"fingerprint": str(detail.fingerprint), "before": "5eed5eed5eed0000",
         "after": "0ther0ther000000"},
    )  # fmt: skip
    others = Marker(3, seeded.now, "plan change", "x", seeded.target_id, "", {"fingerprint": "1"})
    found = query_plans.own_markers([release, own, others], detail, stored)
    assert [m.label for m in found] == ["shop 1.4.0", "plan A → B"]
