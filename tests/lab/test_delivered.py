"""What trials and verdicts write down of promised and delivered."""

from __future__ import annotations

from datetime import timedelta

import pytest

from perfcore.advise.advisor import Advice
from perfcore.advise.calibration import read_calibration
from perfcore.advise.identity import suggestion_id
from perfcore.advise.store import save_advice
from perfcore.db import connect
from perfcore.lab.verdict import judge, judge_all
from perfcore.store.gains import read_gains
from perfcore.types import Evidence, Finding, StatementGain, Suggestion, Verdict
from tests.lab.conftest import ORDERS, Connection
from tests.lab.test_verdict import APPLIED, FINGERPRINT, NOW, seed_change, seed_traffic

TEXT = "SELECT * FROM orders WHERE customer_id = $1"


def suggested(connection: Connection, target_id: int, plan_change: str = "") -> Suggestion:
    """Store the suggestion of the orders' index: 1,000 to 20 of cost, 80 to 2 ms."""
    made = Suggestion(
        suggestion_id(target_id, "index", ORDERS.digest), target_id, "index", "Index orders",
        "", Finding("seq_scan", ""), Evidence.ESTIMATED, 9_000.0, index=ORDERS,
        statements=(StatementGain(FINGERPRINT, 1, TEXT, 1000.0, 20.0, 60.0, 80.0, 2.0),),
        plan_change=plan_change,
    )  # fmt: skip
    save_advice(connection, target_id, Advice((made,)))
    return made


def test_a_verdict_keeps_what_was_promised_and_what_came(store: str, target_id: int) -> None:
    with connect(store, autocommit=True) as connection:
        suggested(connection, target_id, "Seq Scan -> Index Scan")
        change_id = seed_change(connection, target_id)
        seed_traffic(connection, target_id, 80.0, 40.0)
        judge_all(connection, NOW)
        (gain,) = read_gains(connection)
    assert (gain.evidence, gain.plan_change) == (Evidence.PROVEN, "Seq Scan -> Index Scan")
    assert str(gain.change_id) == change_id and gain.trial_id is None and gain.text == TEXT
    assert gain.promised_ratio == pytest.approx(0.02) and gain.promised_saved_ms == 78.0
    assert gain.delivered_ratio == pytest.approx(0.5, rel=0.05)
    assert gain.delivered_low < gain.delivered_ratio < gain.delivered_high
    assert gain.delivered_saved_ms == pytest.approx(40.0, rel=0.1)


def test_a_change_judged_again_stays_one_observation_with_the_latest_answer(
    store: str, target_id: int
) -> None:
    with connect(store, autocommit=True) as connection:
        suggested(connection, target_id, "Seq Scan -> Index Scan")
        change_id = seed_change(connection, target_id)
        seed_traffic(connection, target_id, 80.0, 40.0)
        judge(connection, change_id, NOW)
        (first,) = read_gains(connection)
        seed_traffic(connection, target_id, 80.0, 4.0, since=NOW, until=NOW + timedelta(minutes=9))
        judge(connection, change_id, NOW + timedelta(minutes=9))
        (second,) = read_gains(connection)
    assert second.delivered_ratio < first.delivered_ratio
    assert second.promised_ratio == first.promised_ratio


def test_nothing_is_guessed_where_nobody_promised_or_traffic_is_too_little(
    store: str, target_id: int
) -> None:
    with connect(store, autocommit=True) as connection:
        change_id = seed_change(connection, target_id)
        seed_traffic(connection, target_id, 80.0, 40.0)
        assert judge(connection, change_id, NOW).verdict is Verdict.IMPROVED
        assert read_gains(connection) == []
        # As an earlier version wrote it, without the change of the plan.
        suggested(connection, target_id)
        judge(connection, change_id, NOW)
        assert read_gains(connection) == []
        suggested(connection, target_id, "Seq Scan -> Index Scan")
        assert judge(connection, change_id, APPLIED + timedelta(seconds=30)).ratio is None
        assert read_gains(connection) == []
        assert read_calibration(connection, target_id).factor("Seq Scan -> Index Scan") == 1.0


def test_an_index_made_by_hand_is_held_to_its_suggestion(store: str, target_id: int) -> None:
    with connect(store, autocommit=True) as connection:
        suggested(connection, target_id, "Seq Scan -> Index Scan")
        seed_change(connection, target_id)
        connection.execute(
            "UPDATE perfcore.changes "
            "SET origin = 'by hand', index_body = NULL, fingerprints = '{}', ddl = %s",
            ("CREATE INDEX by_customer ON public.orders USING btree (customer_id)",),
        )
        seed_traffic(connection, target_id, 80.0, 4.0)
        judge_all(connection, NOW)
        (gain,) = read_gains(connection)
    assert gain.index_digest == ORDERS.digest and gain.delivered_ratio < 0.1


def test_the_latest_of_two_changes_that_made_the_same_index_counts(
    store: str, target_id: int
) -> None:
    with connect(store, autocommit=True) as connection:
        suggested(connection, target_id, "Seq Scan -> Index Scan")
        seed_traffic(connection, target_id, 80.0, 40.0)
        judge(connection, seed_change(connection, target_id), NOW)
        again = seed_change(connection, target_id, APPLIED + timedelta(minutes=1))
        judge(connection, again, NOW + timedelta(minutes=1))
        rows = connection.execute("SELECT count(*) FROM perfcore.gains_delivered").fetchone()
        found = read_gains(connection)
    assert rows == (2,) and len(found) == 1
    assert str(found[0].change_id) == again
