"""One statement's explanation, as people read it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy

from perfcore import db
from perfcore.advise.advisor import Advice
from perfcore.advise.explanation import explain, explained, index_words
from perfcore.advise.store import save_advice
from perfcore.db import connect
from perfcore.types import (
    Evidence,
    Finding,
    IndexDefinition,
    IndexKey,
    Rejection,
    Silence,
    SilenceReason,
    Suggestion,
    WorkloadStatement,
)
from tests.seeding import INDEX, STATEMENTS, rejections, seed_store, suggestion_plans, suggestions

SNAPSHOTS = Path(__file__).parents[1] / "snapshots"
SLOW = STATEMENTS[0]
STATEMENT = WorkloadStatement(
    SLOW.fingerprint, SLOW.queryid, SLOW.text, 1440, 1440 * SLOW.mean_ms, 3600.0
)


@pytest.fixture
def engine(store: str) -> Iterator[sqlalchemy.Engine]:
    made = db.engine(store)
    yield made
    made.dispose()


def assert_same(text: str, name: str) -> None:
    """Compare with what was agreed on; `PERFCORE_SNAPSHOTS=write` agrees on the new text."""
    path = SNAPSHOTS / f"{name}.txt"
    if os.environ.get("PERFCORE_SNAPSHOTS") == "write":
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def test_a_statement_with_a_suggestion_is_told_from_finding_to_undo() -> None:
    advice = Advice(suggestions(1), rejections=rejections(), plans=suggestion_plans())
    assert_same(explain(STATEMENT, advice, target="shop"), "explanation_suggested")


def test_a_setting_is_told_from_now_to_verify() -> None:
    setting = Suggestion(
        "s", 1, "setting", "Give it 64 MB of work_mem", "A sort goes through files.",
        Finding("sort_spill", "Each call writes 21 MB to temporary files."), Evidence.MEASURED, 0.0,
        ddl="SET LOCAL work_mem = '64MB'", statements=suggestions(1)[0].statements,
        present="4 MB", proposed="64 MB", verify="temp_blks_written of the statement stays at 0",
    )  # fmt: skip
    assert_same(explain(STATEMENT, Advice((setting,))), "explanation_setting")


def test_a_statement_without_a_suggestion_is_told_why_and_what_was_tried() -> None:
    silence = Silence(SLOW.fingerprint, 7001, SLOW.text, SilenceReason.NO_GAIN, "tried (note)")
    advice = Advice((), (silence,), rejections=rejections())
    assert_same(explain(STATEMENT, advice, target="shop"), "explanation_silent")


def test_what_saves_this_statement_most_comes_first() -> None:
    best = suggestions(1)[0]
    (gain,) = best.statements
    weaker = replace(gain, mean_ms_after=100.0)
    other = replace(gain, fingerprint=1, calls_per_hour=9e9)
    broad = replace(
        best, suggestion_id="b", title="A broad one", saved_ms_per_hour=9e9,
        statements=(other, weaker),
    )  # fmt: skip
    told = explain(STATEMENT, Advice((broad, best)))
    assert told.index(f"1. {best.title}") < told.index("2. A broad one")
    assert told.count("of another statement, which it saves more") == 1
    assert told.index("2. A broad one") < told.index("of another statement")


def test_ddl_is_told_to_the_letter() -> None:
    ddl = "CREATE INDEX i ON t (x) WHERE note = 'two  spaces and ' || 'more' AND " + "y" * 90
    told = explain(STATEMENT, Advice((replace(suggestions(1)[0], ddl=ddl),)))
    assert f"{ddl};" in told


def test_what_is_of_other_statements_is_left_out() -> None:
    other = replace(STATEMENT, fingerprint=1, calls=0)
    text = explain(other, Advice(suggestions(1), rejections=rejections()))
    assert "did not run" in text and "the last round did not look at it" in text
    assert "orders (" not in text


def test_the_store_tells_what_the_round_said(store: str, engine: sqlalchemy.Engine) -> None:
    seeded = seed_store(store, minutes=5)
    advice = Advice(
        suggestions(seeded.target_id), rejections=rejections(), plans=suggestion_plans()
    )
    with connect(store, autocommit=True) as connection:
        save_advice(connection, seeded.target_id, advice)
    told = explained(engine, 7001, now=datetime.now(UTC))
    expected = explain(STATEMENT, advice, target="shop").splitlines()
    assert told.splitlines()[3:] == expected[3:]
    assert "calls an hour at 1" in told and "did not run" not in told
    later = explained(engine, 7001, now=datetime.now(UTC) + timedelta(hours=2))
    assert "did not run" in later and later.splitlines()[3:] == expected[3:]
    assert explained(engine, 4711, now=datetime.now(UTC)) == ""


def test_an_index_in_words() -> None:
    assert index_words(INDEX) == "orders (customer_id, created_at DESC)"
    other = IndexDefinition(
        "sales", "t", (IndexKey("lower(x)", True),), method="gin", include=("y",),
        predicate="z > 1", unique=True,
    )  # fmt: skip
    assert index_words(other) == "unique sales.t USING gin ((lower(x))) INCLUDE (y) WHERE z > 1"
    assert Rejection(INDEX, "r", (1,)).index_bytes is None
