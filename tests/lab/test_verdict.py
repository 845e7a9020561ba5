from __future__ import annotations

import random
import uuid
from datetime import UTC, datetime, timedelta

import pytest

from perfcore.db import connect
from perfcore.histogram import Histogram
from perfcore.lab import ledger
from perfcore.lab.verdict import VerdictReport, compare_sides, judge, judge_all, read_verdict
from perfcore.types import Verdict
from tests.lab.conftest import ORDERS, Connection

APPLIED = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
NOW = APPLIED + timedelta(minutes=3)
FINGERPRINT = -4242


def test_the_interval_holds_the_true_ratio_of_unequal_readings() -> None:
    rng = random.Random(7)
    held = 0
    for seed in range(40):
        sizes = rng.choices(range(5, 60), k=30)
        before, after = (
            [(n, sum(rng.expovariate(1 / mean) for _ in range(n))) for n in sizes]
            for mean in (10.0, 7.0)
        )
        interval = compare_sides(before, after, seed)
        held += interval.low <= 0.7 <= interval.high
    assert held >= 34


@pytest.mark.parametrize(
    ("mean_before", "mean_after", "verdict", "words"),
    [
        (80.0, 4.0, Verdict.IMPROVED, "Its statement takes 95 % less (95 % interval"),
        (80.0, 80.0, Verdict.NO_EFFECT, "no difference worth its upkeep"),
        (80.0, 120.0, Verdict.REGRESSED, "take public.orders_customer_id_idx back"),
    ],
)
def test_the_verdict_follows_the_traffic(
    store: str,
    target_id: int,
    mean_before: float,
    mean_after: float,
    verdict: Verdict,
    words: str,
) -> None:
    with connect(store, autocommit=True) as connection:
        change_id = seed_change(connection, target_id)
        seed_traffic(connection, target_id, mean_before, mean_after)
        (report,) = judge_all(connection, NOW)
        stored = connection.execute("SELECT verdict FROM perfcore.changes").fetchone()
    assert report.change_id == change_id and report.verdict == verdict
    assert words in report.summary
    assert stored is not None and read_verdict(stored[0]) == report
    (statement,) = report.statements
    assert statement.mean_ms_before == pytest.approx(mean_before, rel=0.05)
    assert statement.mean_ms_after == pytest.approx(mean_after, rel=0.05)
    assert bool(report.undo) is (verdict is not Verdict.IMPROVED)


def test_endpoints_and_other_statements_of_the_table_are_compared_too(
    store: str, target_id: int
) -> None:
    with connect(store, autocommit=True) as connection:
        seed_change(connection, target_id)
        seed_traffic(connection, target_id, 80.0, 4.0)
        seed_traffic(
            connection, target_id, 2.0, 5.0, queryid=9, fingerprint=99,
            text="UPDATE orders SET status = $1 WHERE id = $2",
        )  # fmt: skip
        seed_endpoint(connection)
        (report,) = judge_all(connection, NOW)
    assert report.verdict is Verdict.IMPROVED
    (endpoint,) = report.endpoints
    assert (endpoint.service, endpoint.endpoint) == ("shop", "GET /orders")
    assert endpoint.verdict is Verdict.IMPROVED
    assert endpoint.p95_ms_before == pytest.approx(100, rel=0.05)
    assert endpoint.p95_ms_after == pytest.approx(10, rel=0.05)
    assert [s.text for s in report.slower] == ["UPDATE orders SET status = $1 WHERE id = $2"]


def test_too_few_calls_wait_and_say_how_many_are_missing(store: str, target_id: int) -> None:
    with connect(store, autocommit=True) as connection:
        change_id = seed_change(connection, target_id)
        assert nothing_known(judge(connection, change_id, NOW))
        seed_traffic(connection, target_id, 80.0, 4.0, until=APPLIED + timedelta(seconds=35))
        report = judge(connection, change_id, NOW)
        assert report.verdict is Verdict.WAITING
        assert (report.calls_needed, report.readings_needed) == (0, 3)
        assert report.summary == (
            "36 calls since the change; at least 10 in 5 readings are needed."
        )
        early = judge(connection, change_id, APPLIED + timedelta(seconds=1))
    assert early.verdict is Verdict.WAITING and early.undo == ""


def test_a_statement_nobody_ran_before_cannot_be_compared(store: str, target_id: int) -> None:
    with connect(store, autocommit=True) as connection:
        change_id = seed_change(connection, target_id)
        seed_traffic(connection, target_id, 80.0, 4.0, since=APPLIED)
        report = judge(connection, change_id, NOW)
    assert report.verdict is Verdict.WAITING
    assert "ran too rarely in the hour before the change (0 calls)" in report.summary


def test_an_earlier_change_of_the_same_statement_ends_the_window_before(
    store: str, target_id: int
) -> None:
    with connect(store, autocommit=True) as connection:
        earlier = APPLIED - timedelta(minutes=4)
        seed_change(connection, target_id, applied=earlier)
        change_id = seed_change(connection, target_id)
        seed_traffic(connection, target_id, 500.0, 500.0, until=earlier)
        seed_traffic(connection, target_id, 80.0, 80.0, since=earlier)
        report = judge(connection, change_id, NOW)
    assert report.before is not None and report.before.start == earlier + timedelta(seconds=10)
    assert report.verdict is Verdict.NO_EFFECT


def test_a_change_by_hand_is_judged_by_the_statements_of_its_table(
    store: str, target_id: int
) -> None:
    with connect(store, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO perfcore.changes (change_id, target_id, kind, object_name, ddl, undo, "
            "origin, state, started_at, applied_at) VALUES (gen_random_uuid(), %(target)s, "
            "'create_index', 'public.i', 'CREATE INDEX i ON public.orders USING btree (a)', "
            "'DROP INDEX CONCURRENTLY public.i', 'by hand', 'applied', %(at)s, %(at)s)",
            {"target": target_id, "at": APPLIED},
        )
        seed_traffic(connection, target_id, 80.0, 4.0)
        (report,) = judge_all(connection, NOW)
    assert report.verdict is Verdict.IMPROVED
    assert [s.fingerprint for s in report.statements] == [FINGERPRINT]


def nothing_known(report: VerdictReport) -> bool:
    return report.verdict is Verdict.WAITING and "ran too rarely" in report.summary


def seed_change(connection: Connection, target_id: int, applied: datetime = APPLIED) -> str:
    change_id = str(uuid.uuid4())
    ledger.intend(
        connection, change_id, target_id, "create_index", f"public.{ORDERS.name}",
        ddl=ORDERS.ddl(), undo=ORDERS.undo(), suggestion_id=None, fingerprints=(FINGERPRINT,),
        index=ORDERS,
    )  # fmt: skip
    connection.execute(
        "UPDATE perfcore.changes SET state = 'applied', started_at = %(at)s, applied_at = %(at)s "
        "WHERE change_id = %(id)s",
        {"at": applied, "id": change_id},
    )
    return change_id


def seed_traffic(
    connection: Connection,
    target_id: int,
    mean_before: float,
    mean_after: float,
    *,
    queryid: int = 1,
    fingerprint: int = FINGERPRINT,
    text: str = "SELECT * FROM orders WHERE customer_id = $1",
    since: datetime = APPLIED - timedelta(minutes=20),
    until: datetime = NOW,
) -> None:
    """Write readings of ten seconds with 18 calls each, whose means vary by 30 %."""
    rng = random.Random(3)
    connection.execute(
        "INSERT INTO perfcore.statements (target_id, queryid, fingerprint, text) "
        "VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING",
        (target_id, queryid, fingerprint, text),
    )
    start = since
    while start + timedelta(seconds=10) <= until:
        end = start + timedelta(seconds=10)
        mean = (mean_before if start < APPLIED else mean_after) * rng.uniform(0.7, 1.3)
        connection.execute(
            "INSERT INTO perfcore.statement_deltas (target_id, queryid, interval_start, "
            "interval_end, calls, total_exec_time_ms, rows, shared_blks_hit, shared_blks_read, "
            "temp_blks_read, temp_blks_written) VALUES (%s, %s, %s, %s, 18, %s, 18, 100, 0, 0, 0)",
            (target_id, queryid, start, end, 18 * mean),
        )
        start = end


def seed_endpoint(connection: Connection) -> None:
    connection.execute(
        "INSERT INTO perfcore.endpoint_statements VALUES (%s, 'shop', 'GET /orders', %s, "
        "100, 800, 100, 0, 1)",
        (APPLIED, FINGERPRINT),
    )
    row = connection.execute(
        "INSERT INTO perfcore.series (service, metric_type, metric_name, unit) "
        "VALUES ('shop', 'api_endpoint', 'GET /orders', 'ms') RETURNING series_id"
    ).fetchone()
    assert row is not None
    for minute in range(-10, 3):
        histogram = Histogram()
        for n in range(1, 101):
            histogram.record(n * (1.05 if minute < 0 else 0.105))
        connection.execute(
            "INSERT INTO perfcore.metric_rollups (resolution, bucket_start, series_id, count, "
            "sum, min, max, buckets) VALUES ('minute', %s, %s, %s, %s, %s, %s, %s)",
            (
                APPLIED + timedelta(minutes=minute), row[0], histogram.count, histogram.sum,
                histogram.min, histogram.max, histogram.to_bytes(),
            ),
        )  # fmt: skip
