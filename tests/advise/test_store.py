"""What a round leaves in the store, and what the next one may change of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy

from perfcore import db
from perfcore.advise.advisor import Advice
from perfcore.advise.store import (
    MAX_PLANS_BYTES,
    MAX_REJECTIONS,
    Connection,
    read_endpoints,
    read_workload,
    read_write_rates,
    save_advice,
)
from perfcore.db import connect, query
from perfcore.errors import DecisionRefused
from perfcore.store import read
from perfcore.store.decide import dismiss, reopen, snooze, snooze_until_slower
from perfcore.store.targets import ensure_target
from perfcore.types import (
    Evidence,
    Finding,
    IndexDefinition,
    IndexKey,
    Rejection,
    Silence,
    SilenceReason,
    StatementGain,
    Suggestion,
    SuggestionPlans,
)

FIRST = Suggestion(
    "one", 1, "index", "Index it", "why", Finding("seq_scan", "all"), Evidence.ESTIMATED, 10.0
)
SECOND = replace(FIRST, suggestion_id="two", title="Index that")


@pytest.fixture
def connection(store: str) -> Iterator[Connection]:
    with connect(store, autocommit=True) as opened:
        assert ensure_target(opened, "shop") == 1
        yield opened


@pytest.fixture
def engine(store: str) -> Iterator[sqlalchemy.Engine]:
    made = db.engine(store)
    yield made
    made.dispose()


def states(connection: Connection) -> dict[str, str]:
    rows = connection.execute("SELECT suggestion_id, state FROM perfcore.suggestions").fetchall()
    return dict(rows)


def test_what_is_no_longer_proposed_is_gone_and_may_come_back(connection: Connection) -> None:
    save_advice(connection, 1, Advice((FIRST, SECOND)))
    save_advice(connection, 1, Advice((SECOND,)))
    assert states(connection) == {"one": "gone", "two": "open"}
    save_advice(connection, 1, Advice((FIRST, SECOND)))
    assert states(connection) == {"one": "open", "two": "open"}


def test_a_round_cut_short_retires_nothing(connection: Connection) -> None:
    save_advice(connection, 1, Advice((FIRST,)))
    save_advice(connection, 1, Advice((), stopped_early=True))
    assert states(connection) == {"one": "open"}


def test_decisions_outlive_the_next_round(
    connection: Connection, engine: sqlalchemy.Engine
) -> None:
    save_advice(connection, 1, Advice((FIRST, SECOND)))
    assert dismiss(engine, "one", "too large")
    assert snooze(engine, "two", datetime.now(UTC) + timedelta(days=1))
    save_advice(connection, 1, Advice((replace(FIRST, title="again"), SECOND)))
    assert states(connection) == {"one": "dismissed", "two": "snoozed"}
    assert not dismiss(engine, "three", "there is none")


def test_what_a_trial_measured_is_not_called_an_estimate_again(connection: Connection) -> None:
    save_advice(connection, 1, Advice((FIRST,)))
    measured = {"suggestion_id": "one", "is_measured": True, "not_same": "not the same%"}
    connection.execute(query("lab_mark_measured"), measured)
    save_advice(connection, 1, Advice((replace(FIRST, title="again"),)))
    row = connection.execute(
        "SELECT evidence, body ->> 'evidence', title FROM perfcore.suggestions"
    ).fetchone()
    assert row == ("measured", "measured", "again")


def test_a_snooze_ends(connection: Connection, engine: sqlalchemy.Engine) -> None:
    save_advice(connection, 1, Advice((FIRST,)))
    snooze(engine, "one", datetime.now(UTC) - timedelta(seconds=1))
    save_advice(connection, 1, Advice((FIRST,)))
    assert states(connection) == {"one": "open"}


def slow(mean_ms: float) -> Suggestion:
    """Return the first suggestion with a slow and a fast statement that it helps."""
    gains = (
        StatementGain(1, 1, "SELECT 1", 9.0, 1.0, 60.0, 3.0, 1.0),
        StatementGain(2, 2, "SELECT 2", 9.0, 1.0, 60.0, mean_ms, 1.0),
    )
    return replace(FIRST, statements=gains)


def state_of(engine: sqlalchemy.Engine, suggestion_id: str) -> tuple[str, str]:
    stored = read.suggestion(engine, suggestion_id)
    assert stored is not None
    return stored.state, stored.state_reason


def test_a_snooze_until_slower_ends_with_the_reason(
    connection: Connection, engine: sqlalchemy.Engine
) -> None:
    save_advice(connection, 1, Advice((slow(200.0),)))
    assert snooze_until_slower(engine, "one", 300.0)
    save_advice(connection, 1, Advice((slow(300.0),)))
    assert state_of(engine, "one") == ("snoozed", "")
    save_advice(connection, 1, Advice(()))  # a round that does not propose it
    save_advice(connection, 1, Advice((FIRST,)))  # nor one that names no statement
    assert state_of(engine, "one") == ("snoozed", "")
    save_advice(connection, 1, Advice((slow(412.3),)))
    assert state_of(engine, "one") == ("open", "woken: mean is 412 ms, over 300 ms")
    save_advice(connection, 1, Advice((slow(12.0),)))
    assert state_of(engine, "one")[0] == "open"


def test_a_small_limit_is_told_with_its_decimals(
    connection: Connection, engine: sqlalchemy.Engine
) -> None:
    save_advice(connection, 1, Advice((slow(4.0),)))
    assert snooze_until_slower(engine, "one", 6.5)
    save_advice(connection, 1, Advice((slow(7.126),)))
    assert state_of(engine, "one") == ("open", "woken: mean is 7.13 ms, over 6.5 ms")


@pytest.mark.parametrize("mean_ms", [0.0, -1.0, float("nan"), float("inf"), 1e12])
def test_a_limit_that_no_mean_can_have_is_refused(
    connection: Connection, engine: sqlalchemy.Engine, mean_ms: float
) -> None:
    save_advice(connection, 1, Advice((FIRST,)))
    with pytest.raises(DecisionRefused, match=f"{mean_ms:g} ms".replace("+", r"\+")):
        snooze_until_slower(engine, "one", mean_ms)
    assert state_of(engine, "one") == ("open", "")


def test_a_decision_takes_the_last_ones_place(
    connection: Connection, engine: sqlalchemy.Engine
) -> None:
    save_advice(connection, 1, Advice((slow(200.0),)))
    assert snooze_until_slower(engine, "one", 300.0)
    assert dismiss(engine, "one", " it is gone next week ")
    save_advice(connection, 1, Advice((slow(500.0),)))
    assert state_of(engine, "one") == ("dismissed", "it is gone next week")
    assert reopen(engine, "one")
    stored = read.suggestion(engine, "one")
    assert stored is not None
    assert (stored.state, stored.state_reason, stored.snoozed_until_ms) == ("open", "", None)


@pytest.mark.parametrize("reason", ["", "  \n"])
def test_nothing_is_dismissed_without_a_reason(
    connection: Connection, engine: sqlalchemy.Engine, reason: str
) -> None:
    save_advice(connection, 1, Advice((FIRST,)))
    with pytest.raises(DecisionRefused, match="reason is missing"):
        dismiss(engine, "one", reason)
    assert state_of(engine, "one") == ("open", "")


def test_plans_are_those_of_the_last_round_that_proposed_it(
    connection: Connection, engine: sqlalchemy.Engine
) -> None:
    scan, seek = {"Plan": {"Node Type": "Seq Scan"}}, {"Plan": {"Node Type": "Index Scan"}}
    plans = SuggestionPlans("one", 7, "SELECT 7", scan, seek)
    save_advice(connection, 1, Advice((FIRST,), plans=(plans,)))
    assert read.suggestion_plans(engine, "one") == plans
    save_advice(connection, 1, Advice(()))  # gone, but still explained
    assert read.suggestion_plans(engine, "one") == plans
    save_advice(connection, 1, Advice((FIRST, SECOND)))
    assert read.suggestion_plans(engine, "one") is None
    large = replace(plans, after={"Plan": {"Filter": "x" * MAX_PLANS_BYTES}})
    save_advice(connection, 1, Advice((FIRST,), plans=(large,)))
    assert read.suggestion_plans(engine, "one") is None


def test_plans_of_an_applied_one_are_its_promise(
    connection: Connection, engine: sqlalchemy.Engine
) -> None:
    plans = SuggestionPlans("one", 7, "SELECT 7", {"a": 1}, {"a": 2})
    save_advice(connection, 1, Advice((FIRST,), plans=(plans,)))
    connection.execute("UPDATE perfcore.suggestions SET state = 'applied'")
    save_advice(connection, 1, Advice((FIRST,)))
    save_advice(connection, 1, Advice((FIRST,), plans=(replace(plans, after={}),)))
    assert read.suggestion_plans(engine, "one") == plans


def rejected(column: str, saved: float) -> Rejection:
    index = IndexDefinition("public", "orders", (IndexKey(column),))
    return Rejection(index, "it saves less than it costs", (43, 42, 99), 8192, saved)


def test_rejections_are_those_of_the_last_round_with_their_statements(
    connection: Connection, engine: sqlalchemy.Engine
) -> None:
    connection.execute(
        "INSERT INTO perfcore.statements (target_id, queryid, fingerprint, text, last_seen) "
        "VALUES (1, 1, 42, 'SELECT 1', now()), (1, 2, 43, 'SELECT 2', now()), "
        "(1, 3, 43, 'SELECT 3', now() - interval '1 day')"
    )
    save_advice(connection, 1, Advice((), rejections=(rejected("gone", 9.0),)))
    low, high = rejected("low", 1.0), rejected("high", 2.0)
    save_advice(connection, 1, Advice((), rejections=(low, high)))
    found = read.rejections(engine, 1)
    assert [r.rejection for r in found] == [high, low]
    assert [(s.queryid, s.text) for s in found[0].statements] == [(2, "SELECT 2"), (1, "SELECT 1")]
    assert len(read.rejections(engine, fingerprint=42)) == 2
    assert read.rejections(engine, fingerprint=1) == []


def test_only_the_rejections_that_would_save_most_are_kept(
    connection: Connection, engine: sqlalchemy.Engine
) -> None:
    many = tuple(rejected(f"c{n}", float(n)) for n in range(MAX_REJECTIONS + 5))
    save_advice(connection, 1, Advice((), rejections=(*many, many[-1])))
    found = read.rejections(engine)
    assert found[0].rejection == many[-1]
    assert len(found) == MAX_REJECTIONS  # the same index given twice is one
    assert found[-1].rejection == many[5]


def test_an_applied_one_keeps_its_promise(connection: Connection) -> None:
    save_advice(connection, 1, Advice((FIRST,)))
    connection.execute("UPDATE perfcore.suggestions SET state = 'applied'")
    save_advice(connection, 1, Advice((replace(FIRST, saved_ms_per_hour=1.0),)))
    save_advice(connection, 1, Advice(()))
    rows = connection.execute("SELECT state, saved_ms_per_hour FROM perfcore.suggestions")
    assert rows.fetchall() == [("applied", 10.0)]


def test_silences_are_those_of_the_last_round(connection: Connection) -> None:
    silence = Silence(-5, 7, "SELECT", SilenceReason.FAST, "0.1 ms")
    save_advice(connection, 1, Advice((), (silence, replace(silence, fingerprint=6))))
    save_advice(connection, 1, Advice((), (silence,)))
    rows = connection.execute("SELECT fingerprint, reason, detail FROM perfcore.silences")
    assert rows.fetchall() == [(-5, SilenceReason.FAST.value, "0.1 ms")]


def test_forms_of_one_statement_are_added_up(connection: Connection) -> None:
    now = datetime.now(UTC)
    for queryid, text in ((1, "SELECT a IN ($1)"), (2, "SELECT a IN ($1, $2)")):
        connection.execute(
            "INSERT INTO perfcore.statements (target_id, queryid, fingerprint, text) "
            "VALUES (1, %s, 42, %s)",
            (queryid, text),
        )
        for age_min in (10, 5):
            connection.execute(
                "INSERT INTO perfcore.statement_deltas "
                "VALUES (1, %s, %s, %s, %s, %s, 3, 0, 0, 0, 8, 0)",
                (
                    queryid,
                    now - timedelta(minutes=age_min),
                    now - timedelta(minutes=age_min - 5),
                    5,
                    50.0 * queryid,
                ),
            )
    (read,) = read_workload(connection, 1, now - timedelta(hours=1))
    assert (read.fingerprint, read.queryid, read.text) == (42, 2, "SELECT a IN ($1, $2)")
    assert (read.calls, read.total_exec_time_ms, read.rows) == (20, 300.0, 12)
    assert (read.window_s, read.temp_blks_written) == (600.0, 32)


def test_a_changed_statement_counts_from_its_change_on(connection: Connection) -> None:
    now = datetime.now(UTC)
    connection.execute(
        "INSERT INTO perfcore.statements (target_id, queryid, fingerprint, text) "
        "VALUES (1, 1, 42, 'SELECT 1'), (1, 2, 43, 'SELECT 2')"
    )
    for queryid in (1, 2):
        for age_min, spent_ms in ((20, 1000.0), (10, 1.0)):
            connection.execute(
                "INSERT INTO perfcore.statement_deltas "
                "VALUES (1, %s, %s, %s, 10, %s, 0, 0, 0, 0, 0, 0)",
                (
                    queryid,
                    now - timedelta(minutes=age_min),
                    now - timedelta(minutes=age_min - 10),
                    spent_ms,
                ),
            )
    connection.execute(
        "INSERT INTO perfcore.changes (change_id, target_id, kind, object_name, ddl, undo, state, "
        "fingerprints, applied_at) VALUES (gen_random_uuid(), 1, 'create_index', 'i', '', '', "
        "'applied', '{42}', %s)",
        (now - timedelta(minutes=10),),
    )
    untouched, changed = read_workload(connection, 1, now - timedelta(hours=1))
    assert (untouched.fingerprint, untouched.mean_exec_time_ms) == (43, 50.05)
    assert (changed.fingerprint, changed.mean_exec_time_ms, changed.window_s) == (42, 0.1, 600.0)


def test_endpoints_and_writes_are_rates(connection: Connection) -> None:
    now = datetime.now(UTC)
    connection.execute(
        "INSERT INTO perfcore.endpoint_statements VALUES "
        "(%s, 'shop', 'GET /orders', 42, 250, 500.0, 10, 9, 25)",
        (now - timedelta(minutes=30),),
    )
    (use,) = read_endpoints(connection, now - timedelta(hours=1))[42]
    assert (use.calls_per_request, use.mean_ms, use.repetition) == (25.0, 2.0, None)
    assert use.requests_per_hour == pytest.approx(20, rel=0.01)
    for requests, calls, ms, place in ((3, 90, 300.0, ""), (1, 50, 100.0, "a.py:1 in f")):
        connection.execute(
            "INSERT INTO perfcore.repetitions VALUES (%s, 'shop', 'GET /orders', 42, %s, %s, %s, "
            "%s, 50)",
            (now - timedelta(minutes=20), place, requests, calls, ms),
        )
    (use,) = read_endpoints(connection, now - timedelta(hours=1))[42]
    assert use.repetition is not None
    assert use.repetition.requests_per_hour == pytest.approx(8, rel=0.01)
    assert (use.repetition.calls, use.repetition.duration_ms) == (35.0, 100.0)
    assert (use.repetition.share, use.repetition.location) == (0.4, "a.py:1 in f")
    connection.execute(
        "INSERT INTO perfcore.table_deltas VALUES "
        "(1, 'public', 'orders', %s, %s, 0, 0, 0, 0, 0, 0, 100, 40, 30, 5)",
        (now - timedelta(minutes=30), now),
    )
    rate = read_write_rates(connection, 1, now - timedelta(hours=1))["public.orders"]
    assert (rate.inserts, rate.updates, rate.hot_updates, rate.deletes) == (200, 80, 60, 10)
