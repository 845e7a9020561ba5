"""The Suggestions page: groups and filters, the chain, decisions, rejected candidates."""

from __future__ import annotations

import json
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
from perfcore.errors import DecisionRefused
from perfcore.lab.report import TrialReport
from perfcore.lab.trial import Measurement, SetResult, TrialResult
from perfcore.lab.verdict import StatementVerdict, VerdictReport
from perfcore.store import read
from perfcore.types import ConfidenceInterval, Evidence, Suggestion, Verdict
from perfcore.ui import advice, frame, gains
from perfcore.ui.decisions import milliseconds
from tests.seeding import (
    STATEMENTS,
    TRIAL_ID,
    Seeded,
    further_suggestions,
    rejections,
    seed_store,
    suggestion_plans,
    suggestions,
)

SHELL = Path(__file__).parents[2] / "perfcore" / "ui" / "shell.py"
SLOW = STATEMENTS[0]
INDEX_ID = "5eed000000000001"


@pytest.fixture
def seeded(store: str) -> Seeded:
    found = seed_store(store, minutes=2)
    save(store, found, *suggestions(found.target_id), *further_suggestions(found.target_id))
    return found


def save(store: str, seeded: Seeded, *found: Suggestion) -> None:
    """Write down a round of the advisor."""
    round_ = Advice(found, rejections=rejections(), plans=suggestion_plans())
    with connect(store, autocommit=True) as connection:
        save_advice(connection, seeded.target_id, round_)
    st.cache_data.clear()


@pytest.fixture
def app(store: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[AppTest]:
    monkeypatch.setenv("PERFCORE_STORE", store)
    st.cache_data.clear()
    yield AppTest.from_file(str(SHELL), default_timeout=60)
    frame.store().dispose()
    st.cache_data.clear()
    st.cache_resource.clear()


def show(app: AppTest, page: str = "suggestions", **parameters: str) -> str:
    """Run the page and return the text on it."""
    app.run()
    app.switch_page(f"../../pages/{page}.py")
    for name, value in parameters.items():
        app.query_params[name] = value
    app.run()
    return said(app)


def said(app: AppTest) -> str:
    assert not app.exception, app.exception[0].message
    found = [*app.markdown, *app.caption, *app.code]
    return "\n".join(str(element.value) for element in found).replace("\\", "")


def test_each_group_says_what_it_is_with_its_sums(app: AppTest, seeded: Seeded) -> None:
    words = show(app)
    first = words.index("Do this first")
    assert first < words.index("min of database time**") < words.index("##### Run now")
    assert "of all database time" in words and "By the planner's cost" in words
    run_now, developer, decision = (
        words.index(group) for group in ("##### Run now", "##### Needs a dev", "##### Needs a dec")
    )
    assert run_now < developer < decision
    assert (
        "##### Run now :gray[2 · up to 3.3 min of database time per hour · 30 MiB new indexes]"
        in words
    )
    assert "##### Needs a developer :gray[3 · up to 40.8 s of time per hour]" in words
    assert "1.77 GiB new indexes · 11.4 MiB freed" in words
    titles = [
        t for t in (m.value.replace("\\", "") for m in app.markdown) if t.startswith(":material/")
    ]
    order = [next(n for n, t in enumerate(titles) if title in t) for title in (
        "Create an index on orders", "Analyse orders", "Keep the answer", "GET /orders/{id} runs",
        "Give the search", "Index events using gin", "Drop the unused index", "shared_buffers",
    )]  # fmt: skip
    assert order == sorted(order)
    assert "it takes 1.9 GB of disk" in words and "128 MB → **2 GB" in words


def test_a_gain_is_told_as_a_share_of_all_database_time() -> None:
    index, _, repeated = suggestions(1)
    (slow, *_) = index.statements
    of = {(1, slow.fingerprint): 0.4, (2, slow.fingerprint): 0.9}
    saved = 0.4 * (1 - slow.mean_ms_after / slow.mean_ms_before)
    assert advice.share(index, of) == pytest.approx(saved)
    assert advice.share(index, {}) == advice.share(repeated, of) == 0.0
    halved = replace(index, promised_ms_per_hour=2 * index.saved_ms_per_hour)
    assert advice.share(halved, of) == pytest.approx(saved / 2)


@pytest.mark.parametrize(
    ("chosen", "titles"),
    [
        ({"reader": "needs a developer"}, {"Keep the answer", "GET /orders/{id} runs", "64 MB"}),
        ({"reader": "run now", "kind": "maintenance"}, {"Analyse orders"}),
        ({"kind": "setting"}, {"64 MB", "Raise shared_buffers"}),
    ],
)
def test_the_url_narrows_the_list(
    app: AppTest, seeded: Seeded, chosen: dict[str, str], titles: set[str]
) -> None:
    words = show(app, **chosen)
    heads = [w for w in words.splitlines() if w.startswith(":material/")]
    assert len(heads) == len(titles)
    assert all(any(t in h for h in heads) for t in titles)


def test_an_empty_group_says_why(app: AppTest, seeded: Seeded, store: str) -> None:
    assert "2 suggestions are kept back by the filters" in show(app, kind="cache")
    save(store, seeded, suggestions(seeded.target_id)[0])
    with connect(store, autocommit=True) as connection:
        connection.execute("DELETE FROM perfcore.suggestions WHERE state = 'gone'")
    words = show(app, kind="")
    assert "##### Needs a developer :gray[none]" in words
    assert "No statement is repeated" in words and "no index is there in vain" in words


def test_the_chain_stands_in_its_order(app: AppTest, seeded: Seeded) -> None:
    words = show(app, suggestion=INDEX_ID)
    titles = (
        "**1 Finding**", "**2 Endpoints it helps**", "**3 Plan before and after**",
        "**4 Gain**", "**5 Cost**", "**6 DDL, undo and migration**",
    )  # fmt: skip
    places = [words.index(t) for t in titles]
    assert places == sorted(places)
    assert "Run now: it is built while reads and writes go on" in words
    assert "Seq Scan on orders became Index Scan" in words and "cost 41,020 → 85" in words
    for text in ("CREATE INDEX CONCURRENTLY", "DROP INDEX CONCURRENTLY", "RunSQL", "alembic"):
        assert text in words
    assert len(app.get("plotly_chart")) == 3  # two plans, and the gain
    (helped,) = [f.value for f in app.dataframe if "saved_ms_per_request" in f.value]
    assert list(helped["endpoint"]) == ["GET /customers/{id}/orders"]


def test_every_kind_is_shown_in_full(app: AppTest, seeded: Seeded) -> None:
    app.run()
    for each in (*suggestions(1), *further_suggestions(1)):
        words = show(app, suggestion=each.suggestion_id)
        assert "**1 Finding**" in words and each.title in words


def test_a_setting_is_told_from_now_to_verify(app: AppTest, seeded: Seeded) -> None:
    words = show(app, suggestion="5eed000000000104")
    now, proposed, verify = (words.index(t) for t in ("**Now**", "**Proposed**", "**Verify by**"))
    assert words.index("128 MB") < words.index("2 GB, a quarter of 8 GB") < words.index("hit ratio")
    assert now < proposed < verify
    assert "no migration of the schema carries it" in words and "RunSQL" not in words


def test_plans_that_were_not_kept_are_explained(app: AppTest, seeded: Seeded, store: str) -> None:
    with connect(store, autocommit=True) as connection:
        connection.execute("DELETE FROM perfcore.suggestion_plans")
    assert "next round plans it again" in show(app, suggestion=INDEX_ID)


def test_details_open_and_close_in_the_url(app: AppTest, seeded: Seeded) -> None:
    show(app, kind="index")
    app.button(f"details_{INDEX_ID}").click().run()
    assert app.query_params["suggestion"] in (INDEX_ID, [INDEX_ID])
    assert "**1 Finding**" in said(app) and "##### Run now" not in said(app)
    app.button("all_suggestions").click().run()
    assert "suggestion" not in app.query_params
    words = said(app)
    assert "##### Run now" in words and "Analyse orders" not in words


def test_an_unknown_suggestion_leads_back(app: AppTest, seeded: Seeded) -> None:
    assert "This suggestion is not known" in show(app, suggestion="' OR 1")


# Decisions


def test_nothing_is_dismissed_without_a_reason(app: AppTest, seeded: Seeded) -> None:
    show(app)
    app.button(f"dismiss_{INDEX_ID}").click().run()
    assert "the reason is missing; say in a few words" in said(app)
    assert state(INDEX_ID) == ("open", "")
    app.text_input(f"reason_{INDEX_ID}").set_value("the table goes next week").run()
    app.button(f"dismiss_{INDEX_ID}").click().run()
    assert state(INDEX_ID) == ("dismissed", "the table goes next week")
    assert "the reason is missing" not in said(app)
    assert "dismissed: the table goes next week" in show(app, suggestion=INDEX_ID)


def test_a_snooze_until_slower_wakes_with_its_reason(
    app: AppTest, seeded: Seeded, store: str
) -> None:
    show(app)
    assert app.text_input(f"slower_{INDEX_ID}").value == "210 ms"  # 1.5 times 140 ms
    for wrong, answer in (("soon", "'soon' is no time; write 300 ms"), ("0", "0 ms is no mean")):
        app.text_input(f"slower_{INDEX_ID}").set_value(wrong).run()
        app.button(f"snooze_{INDEX_ID}_slower").click().run()
        assert answer in said(app) and state(INDEX_ID) == ("open", "")
    app.text_input(f"slower_{INDEX_ID}").set_value("0.3 s").run()
    app.button(f"snooze_{INDEX_ID}_slower").click().run()
    assert state(INDEX_ID) == ("snoozed", "")
    app.button_group("state").set_value("snoozed").run()
    words = said(app)
    assert "snoozed until its slowest statement's mean is above 300 ms" in words
    first = suggestions(seeded.target_id)[0]
    slower = replace(first, statements=(replace(first.statements[0], mean_ms_before=412.0),))
    save(store, seeded, slower)
    app.button_group("state").set_value("open").run()
    assert "woken: mean is 412 ms, over 300 ms" in said(app)


def test_what_names_no_statement_is_not_snoozed_until_slower(app: AppTest, seeded: Seeded) -> None:
    assert "no statement whose mean could be watched" in show(app, kind="drop_index")
    assert "snooze_5eed000000000002_slower" not in {b.key for b in app.button}


def state(suggestion_id: str) -> tuple[str, str]:
    stored = read.suggestion(frame.store(), suggestion_id)
    assert stored is not None
    return stored.state, stored.state_reason


@pytest.mark.parametrize("text", ["", "ms", "-3", "1e5", "3 hours", "nan", "1.2.3"])
def test_what_is_no_time_is_refused_in_words(text: str) -> None:
    with pytest.raises(DecisionRefused, match="is no time"):
        milliseconds(text)


# Rejected candidates, and statements without a suggestion


def test_rejected_candidates_are_one_click_away(app: AppTest, seeded: Seeded) -> None:
    show(app)
    app.button_group("show").set_value("rejected candidates").run()
    assert "3 of 3 candidates" in said(app)
    (table,) = [f.value for f in app.dataframe]
    assert list(table["index"]) == [
        "orders (created_at)", "events USING gin (payload)", "orders (note)",
    ]  # fmt: skip
    assert table["reason"][1] == "its upkeep costs more than it saves"
    assert (table["saved_s"][0], table["index_bytes"][0]) == (61.0, "21 MiB")
    app.text_input("rejected_filter").set_value("upkeep").run()
    assert "1 of 3 candidates" in said(app)


def test_a_rejected_candidate_leads_to_its_statements(app: AppTest, seeded: Seeded) -> None:
    digest = rejections()[1].index.digest
    words = show(app, show="rejected candidates", rejected=f"{seeded.target_id}-{digest}")
    assert 'ON "public"."orders" USING btree ("created_at");' in words
    links = [link.proto.label for link in app.get("page_link")]
    assert any("FROM orders WHERE customer_id" in each for each in links)
    assert any("FROM order_items" in each for each in links)


def test_a_querys_page_leads_to_what_was_tried_for_it(app: AppTest, seeded: Seeded) -> None:
    show(app, "query", queryid="7003")
    links = {link.proto.label: link.proto for link in app.get("page_link")}
    assert "1 candidate was weighed and rejected" in links
    words = show(app, show="rejected candidates", of="7003")
    assert "1 of 1 candidates" in words
    assert len(app.get("download_button")) == 0
    app.button("all_candidates").click().run()
    assert "3 of 3 candidates" in said(app)
    show(app, "query", queryid="7003")
    assert len(app.get("download_button")) > 0


@pytest.mark.parametrize("view", ["rejected candidates", "statements without"])
def test_an_empty_list_says_so(app: AppTest, store: str, view: str) -> None:
    assert "has not run yet" in show(app, show=view)


def test_statements_without_a_suggestion_keep_their_reason(app: AppTest, store: str) -> None:
    seed_store(store, minutes=2)
    words = show(app, show="statements without")
    assert "2 statements without a suggestion" in words
    assert "products_pkey serves id" in set(app.dataframe[0].value["detail"])


# What is known of the gain


def measured() -> TrialReport:
    def run(ms: float) -> Measurement:
        return Measurement(ms, (ms,), 10, 0, 20.0, "", {})

    ratio = ConfidenceInterval(0.05, 0.04, 0.06)
    sets = (
        SetResult("common", ("1",), run(200.0), run(10.0), ratio, True),
        SetResult("rare", ("2",), run(100.0), run(5.0), ratio, True),
    )
    return TrialReport(measured=TrialResult("i", 1.0, 1, ratio, True, 12, sets, 1.0))


def proven() -> VerdictReport:
    ratio = ConfidenceInterval(0.1, 0.08, 0.12)
    ours = StatementVerdict(
        SLOW.fingerprint, SLOW.text, Verdict.IMPROVED, 900, 40, 140.0, 14.0, ratio
    )
    other = replace(ours, fingerprint=1, mean_ms_before=1.0, mean_ms_after=1.0)
    return VerdictReport(Verdict.IMPROVED, "", statements=(other, ours))


def test_the_gain_is_shown_as_far_as_it_is_known(app: AppTest, seeded: Seeded, store: str) -> None:
    with connect(store, autocommit=True) as connection:
        connection.execute(
            "UPDATE perfcore.trials SET result = %s WHERE trial_id = %s",
            (json.dumps(to_json(measured())), TRIAL_ID),
        )
        connection.execute(
            "UPDATE perfcore.changes SET verdict = %s, suggestion_id = %s",
            (json.dumps(to_json(proven())), INDEX_ID),
        )
    show(app, suggestion=INDEX_ID)
    stored = read.suggestion(frame.store(), INDEX_ID)
    assert stored is not None
    found = gains.levels(
        stored.suggestion, read.trials(frame.store(), INDEX_ID), read.changes(frame.store())
    )
    assert [(g.evidence, g.before_ms, g.after_ms) for g in found] == [
        (Evidence.ESTIMATED, 140.0, 2.5),
        (Evidence.MEASURED, 150.0, 7.5),
        (Evidence.PROVEN, 140.0, 14.0),
    ]
    assert (found[1].low_ms, found[1].high_ms) == (6.0, 9.0)
    assert "12 pairs" in found[1].how and "40 calls" in found[2].how
    assert gains.levels(stored.suggestion, [], [])[0].low_ms == 2.5


def test_what_names_no_statement_has_no_bars() -> None:
    assert gains.levels(suggestions(1)[1], [], []) == []
