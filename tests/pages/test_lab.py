"""The index lab and the ledger through Streamlit's own test driver."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from perfcore.advise.advisor import Advice
from perfcore.advise.store import save_advice
from perfcore.codec import to_json
from perfcore.db import connect
from perfcore.lab import ledger
from perfcore.lab.report import NOT_SAME
from perfcore.lab.verdict import EndpointVerdict, StatementVerdict, VerdictReport
from perfcore.server.embedded import Cluster
from perfcore.types import (
    ConfidenceInterval,
    Evidence,
    Finding,
    IndexDefinition,
    IndexKey,
    StatementGain,
    Suggestion,
    Verdict,
)
from perfcore.ui import frame, lab
from tests.lab.conftest import ORDERS, Connection, target, target_id
from tests.targets import reader_dsn, run_setup

__all__ = ["target", "target_id"]  # fixtures, which pytest finds by their names here
SHELL = Path(__file__).parents[2] / "perfcore" / "ui" / "shell.py"
STATEMENT = "SELECT note FROM orders WHERE customer_id = $1"
NOT_IN = "SELECT id FROM orders WHERE id < 50 AND id NOT IN (SELECT order_id FROM returned)"
NOT_EXISTS = (
    "SELECT id FROM orders WHERE id < 50 AND NOT EXISTS "
    "(SELECT 1 FROM returned WHERE returned.order_id = orders.id)"
)
CHANGE_ID = "33333333-3333-4333-8333-333333333333"


@pytest.fixture
def app(
    store: str,
    dsn: str,
    cluster18: Cluster,
    work_folder: Path,
    target: Connection,
    target_id: int,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[AppTest]:
    with connect(store, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO perfcore.statements (target_id, queryid, fingerprint, text) "
            "VALUES (%s, 77, 7, %s)",
            (target_id, STATEMENT),
        )
    monkeypatch.setenv("PERFCORE_STORE", store)
    run_setup(dsn)
    monkeypatch.setenv("PERFCORE_TARGETS", f"shop={reader_dsn(dsn)}")
    monkeypatch.setenv("PERFCORE_APPLY_DSNS", f"shop={dsn}")
    monkeypatch.setenv("PERFCORE_LAB", cluster18.dsn())
    monkeypatch.setenv("PERFCORE_DATA_DIR", str(work_folder / "data"))
    st.cache_data.clear()
    st.cache_resource.clear()
    yield AppTest.from_file(str(SHELL), default_timeout=60)
    lab.jobs().close()
    frame.store().dispose()
    st.cache_data.clear()
    st.cache_resource.clear()
    with connect(cluster18.dsn(), autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS lab_shop WITH (FORCE)")


def test_a_typed_index_is_tested_applied_and_remembered(app: AppTest, store: str) -> None:
    app.run()
    app.switch_page("../../pages/index_lab.py")
    app.query_params["queryid"] = "77"
    app.run()
    assert not app.exception
    app.text_area(key="lab_ddl").set_value("CREATE INDEX ON").run()
    assert app.error and not app.exception
    app.text_area(key="lab_ddl").set_value("CREATE INDEX ON orders (customer_id)").run()
    app.button(key="test").click().run()
    assert not app.exception
    wait(store, "trials", "done")
    app.run()
    assert not app.exception
    shown = " ".join(m.value for m in app.markdown)
    assert "Measured" in shown and "times faster" in shown and "Estimated" in shown
    assert "less time, delivered **" in shown and "of the promise" in shown

    app.button(key="apply").click().run()
    wait(store, "changes", "applied")
    app.run()
    assert not app.exception
    assert "is applied" in app.success[0].value
    change_id = app.query_params.pop("change")  # as a timer does that fired before
    app.run()
    assert "is applied" in app.success[0].value
    app.query_params["change"] = change_id
    app.run()
    assert not [b for b in app.button if b.key == "apply"]
    assert "applied at" in " ".join(m.value for m in app.markdown)
    app.switch_page("../../pages/ledger.py").run()
    assert not app.exception
    shown = " ".join(m.value for m in app.markdown)
    assert "Index created" in shown and "**Promised and delivered**" not in shown
    app.button(key="all_changes").click().run()
    shown = " ".join(m.value for m in app.markdown)
    assert "Index created" in shown and "**Promised and delivered**" in shown
    (promise,) = [f.value for f in app.dataframe if "place" in f.value]
    assert list(promise["evidence"]) == ["measured"] and promise["delivered"][0] > 50
    (kept,) = [f.value for f in app.dataframe if "factor" in f.value]
    assert list(kept["kind"]) == ["Seq Scan → Bitmap Heap Scan"]
    assert list(kept["seen"]) == [1] and 80 < kept["factor"][0] <= 105

    del app.query_params["queryid"]
    app.switch_page("../../pages/index_lab.py").run()  # as a row of the ledger's trials does
    assert not app.exception
    assert "times faster" in " ".join(m.value for m in app.markdown)


def test_a_suggested_rewrite_that_is_not_the_same_is_marked(
    app: AppTest, store: str, target: Connection, target_id: int
) -> None:
    target.execute("CREATE TABLE returned AS SELECT nullif(n % 40, 0) AS order_id, n AS rank "
                   "FROM generate_series(1, 200) n; ANALYZE returned")  # fmt: skip
    gain = StatementGain(7, 77, NOT_IN, 1000.0, 20.0, 60.0, 80.0, 2.0)
    made = Suggestion(
        "rewritten", target_id, "rewrite", "Ask NOT EXISTS", "NOT IN scans the list.",
        Finding("not_in", "It asks NOT IN."), Evidence.ESTIMATED, 60.0, statements=(gain,),
        rewritten_sql=NOT_EXISTS, caveats=("The same rows if order_id is never NULL.",),
        ddl=ORDERS.ddl(), plan_change="rewrite: not_exists",
    )  # fmt: skip
    with connect(store, autocommit=True) as connection:
        save_advice(connection, target_id, Advice((made,)))
    app.run()
    app.switch_page("../../pages/suggestions.py").run()
    assert not app.exception
    assert "Test this rewrite" in {b.label for b in app.button}
    app.switch_page("../../pages/index_lab.py")
    app.query_params["suggestion"] = "rewritten"
    app.run()
    assert not app.exception
    assert "order_id is never NULL" in said(app)
    texts = [h.proto.body for h in app.get("html") if "pf-wording" in h.proto.body]
    assert len(texts) == 2 and '<mark class="new">EXISTS' in texts[1]
    app.button(key="test").click().run()
    assert not app.exception
    wait(store, "trials", "done")
    app.run()
    assert not app.exception
    shown = said(app)
    assert ":red[:material/error: not the same rows]" in shown and "so this is no gain" in shown
    assert "5 of 10" in shown and "What differs" in shown
    (rows,) = [f.value for f in app.dataframe if "c0" in f.value]
    assert set(rows["before"]) == {0} and set(rows["after"]) == {1}
    with connect(store) as connection:
        kept = connection.execute(
            "SELECT evidence, state_reason, message, index_body FROM perfcore.suggestions "
            "JOIN perfcore.trials USING (suggestion_id)"
        ).fetchone()
        assert connection.execute("SELECT count(*) FROM perfcore.gains_delivered").fetchone() \
            == (0,)  # fmt: skip
    assert kept is not None and kept[0] == "estimated" and kept[3] is None
    assert kept[1].startswith("not the same result in the lab: ") and kept[2] == NOT_SAME
    st.cache_data.clear()  # as watching the trial does
    app.switch_page("../../pages/suggestions.py").run()
    assert "not the same result in the lab" in said(app)

    target.execute("DELETE FROM returned WHERE order_id IS NULL")
    target.execute("CREATE INDEX ON returned (rank)")  # else the copy of before is used again
    app.switch_page("../../pages/index_lab.py")
    app.query_params["suggestion"] = "rewritten"
    app.run()
    app.button(key="test").click().run()
    wait(store, "trials", "done", count=2)
    app.run()
    assert not app.exception
    assert ":green[:material/check_circle: the same rows]" in said(app)
    with connect(store) as connection:
        row = connection.execute("SELECT evidence, state_reason FROM perfcore.suggestions")
        assert row.fetchone() == ("measured", "")
        kinds = connection.execute("SELECT DISTINCT plan_change FROM perfcore.gains_delivered")
        assert kinds.fetchall() == [("rewrite: not_exists",)]


def test_a_typed_wording_is_tried(app: AppTest, store: str) -> None:
    app.run()
    app.switch_page("../../pages/index_lab.py")
    app.query_params["queryid"] = "77"
    app.query_params["lab_try"] = "a rewritten statement"
    app.run()
    assert not app.exception
    area = app.text_area(key="lab_sql_77")
    assert area.value == STATEMENT
    area.set_value("SELECT note FROM orders WHERE customer_id = $2").run()
    assert "takes $2" in said(app)
    app.text_area(key="lab_sql_77").set_value("DELETE FROM orders").run()
    assert "DELETE is not a SELECT" in said(app) and not app.exception
    app.text_area(key="lab_sql_77").set_value(f"{STATEMENT} AND id > 0").run()
    app.button(key="test").click().run()
    assert not app.exception
    wait(store, "trials", "done")
    del app.query_params["queryid"]
    app.run()  # as a row of the ledger's trials does
    assert not app.exception
    assert ":green[:material/check_circle: the same rows]" in said(app) and "Measured" in said(app)
    app.switch_page("../../pages/ledger.py").run()
    assert not app.exception


def test_the_ledger_shows_the_verdict_with_its_numbers(
    app: AppTest, store: str, target_id: int
) -> None:
    ratio = ConfidenceInterval(0.05, 0.04, 0.06)
    report = VerdictReport(
        Verdict.IMPROVED,
        "Its statement takes 95 % less (95 % interval 96 % less to 94 % less).",
        CHANGE_ID,
        ratio=ratio,
        statements=(StatementVerdict(7, STATEMENT, Verdict.IMPROVED, 900, 40, 80.0, 4.0, ratio),),
        endpoints=(
            EndpointVerdict(
                "shop", "GET /orders", Verdict.IMPROVED, 900, 40, 85.0, 6.0, 120.0, 9.0, ratio
            ),
        ),
    )
    with connect(store, autocommit=True) as connection:
        ledger.intend(
            connection, CHANGE_ID, target_id, "create_index", f"public.{ORDERS.name}",
            ddl=ORDERS.ddl(), undo=ORDERS.undo(), suggestion_id=None, fingerprints=(7,),
            index=ORDERS,
        )  # fmt: skip
        ledger.update(connection, CHANGE_ID, state="applied")
        connection.execute("UPDATE perfcore.changes SET verdict = %s", (json_of(report),))
    app.run()
    app.switch_page("../../pages/ledger.py").run()
    assert not app.exception
    shown = " ".join(m.value for m in app.markdown)
    assert r"95 \% less" in shown and "p95 120 ms → **9 ms**" in shown


def test_an_idle_index_is_dropped_from_its_suggestion(
    app: AppTest, store: str, target: Connection, target_id: int
) -> None:
    target.execute("CREATE INDEX idle_idx ON orders (note)")
    with connect(store, autocommit=True) as connection:
        save_advice(connection, target_id, Advice((_idle(target_id),)))
    app.run()
    app.switch_page("../../pages/suggestions.py").run()
    assert not app.exception
    app.button(key="drop_idle").click().run()
    assert not app.exception
    wait(store, "changes", "applied")
    app.run()
    assert not app.exception
    assert "idle_idx` is dropped" in app.success[0].value
    assert not [b for b in app.button if b.key == "drop_idle"]
    gone = target.execute("SELECT to_regclass('public.idle_idx') IS NULL").fetchone()
    assert gone == (True,)
    app.switch_page("../../pages/ledger.py").run()
    assert "Index dropped" in " ".join(m.value for m in app.markdown)


def test_a_suggestion_that_is_tested_stays_when_the_advisor_drops_it(
    app: AppTest, store: str, target_id: int
) -> None:
    other = replace(ORDERS, keys=(IndexKey("note"),))
    tested, better = _index("tested", target_id, ORDERS), _index("better", target_id, other)
    with connect(store, autocommit=True) as connection:
        save_advice(connection, target_id, Advice((tested,)))
        save_advice(connection, target_id, Advice((better,)))  # the first is "gone" now
    app.run()
    app.switch_page("../../pages/index_lab.py")
    app.query_params["suggestion"] = "tested"
    app.run()
    assert not app.exception
    assert [c.value for c in app.code if "CREATE INDEX" in c.value] == [f"{ORDERS.ddl()};"]
    assert any("gone" in each for each in app.selectbox(key="lab_suggestion").options)


def test_what_is_hurt_is_tried_before_what_is_helped_less() -> None:
    gains = [
        StatementGain(1, 1, "a", 100.0, 90.0, 10.0, 8.0, 7.0),
        StatementGain(2, 2, "b", 100.0, 130.0, 10.0, 8.0, 9.0),
        StatementGain(3, 3, "c", 100.0, 5.0, 10.0, 8.0, 0.5),
        StatementGain(4, 4, "d", 100.0, 60.0, 10.0, 8.0, 4.0),
    ]
    assert [g.fingerprint for g in lab.in_trial_order(gains)] == [3, 2, 4, 1]
    assert lab.in_trial_order([]) == []


def _index(suggestion_id: str, target_id: int, index: IndexDefinition) -> Suggestion:
    return Suggestion(
        suggestion_id, target_id, "index", f"Index {suggestion_id}", "It reads every row.",
        Finding("seq_scan", "It reads every row."), Evidence.ESTIMATED, 0.0,
        index=index, ddl=index.ddl(),
    )  # fmt: skip


def _idle(target_id: int) -> Suggestion:
    return Suggestion(
        "idle", target_id, "drop_index", "Drop idle_idx on orders", "Nobody scans it.",
        Finding("idle index", "idle_idx was not scanned"), Evidence.ESTIMATED, 0.0,
        ddl='DROP INDEX CONCURRENTLY "public"."idle_idx"',
    )  # fmt: skip


@pytest.mark.parametrize("change_id", ["x' OR 1", CHANGE_ID])
def test_an_unknown_change_is_said_to_be_none(
    app: AppTest, store: str, target_id: int, change_id: str
) -> None:
    with connect(store, autocommit=True) as connection:
        save_advice(connection, target_id, Advice((_idle(target_id),)))
    app.run()
    app.switch_page("../../pages/suggestions.py")
    app.query_params["change"] = change_id
    app.run()
    assert not app.exception
    assert "There is no change" in " ".join(c.value for c in app.caption)


def test_empty_pages_say_what_to_do(app: AppTest) -> None:
    app.run()
    for page, words in (
        ("index_lab", "Nothing is suggested yet that could be tested"),
        ("ledger", "Nothing was"),
        ("ledger", "No promise was put to the test yet"),
    ):
        app.switch_page(f"../../pages/{page}.py").run()
        assert not app.exception
        assert words in " ".join(m.value for m in app.markdown)


def json_of(report: VerdictReport) -> str:
    return json.dumps(to_json(report))


def wait(store: str, table: str, state: str, count: int = 1) -> None:
    deadline = time.monotonic() + 60
    with connect(store, autocommit=True) as connection:
        while time.monotonic() < deadline:
            rows = connection.execute(
                f"SELECT state, message FROM perfcore.{table}".encode()
            ).fetchall()
            if len(rows) >= count and {row[0] for row in rows} == {state}:
                return
            time.sleep(0.1)
    raise AssertionError(f"{table}: {rows}")


def said(app: AppTest) -> str:
    """Return the text on the page, without the backslashes that keep it plain."""
    found = [*app.markdown, *app.caption, *app.error]
    return "\n".join(str(element.value) for element in found).replace("\\", "")
