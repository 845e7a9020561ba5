from __future__ import annotations

import pytest

from perfcore.advise.statement import plannable
from perfcore.codec import from_json, to_json
from perfcore.errors import StatementRefused, TrialFailed
from perfcore.lab.parameters import LABELS, ParameterSet, parameter_sets
from perfcore.lab.trial import TrialResult, Tried, ratio_of_medians, run_trial, run_trials
from perfcore.types import IndexDefinition, IndexKey
from perfcore.whatif.catalog import read_catalog
from tests.lab.conftest import ORDERS, Connection


def test_a_helpful_index_is_measured_as_helpful_and_leaves_no_trace(
    target: Connection, dsn: str
) -> None:
    statement = "SELECT note FROM orders WHERE customer_id = $1 AND status <> $2"
    sets = parameter_sets(target, statement, read_catalog(target))
    seen: list[float] = []
    result = run_trial(
        dsn, statement, ORDERS, sets, pairs=5, progress=lambda done, _: seen.append(done)
    )
    assert result.used_index and result.pairs == 5 and result.notes == ()
    assert result.ratio.low <= result.ratio.value <= result.ratio.high < 1
    assert result.index_bytes > 8192 and result.build_ms > 0
    for each in result.sets:
        assert "Seq Scan" in each.baseline.plan_text
        assert "orders_customer_id_idx" in each.variant.plan_text
        assert each.baseline.rows == each.variant.rows
        assert each.variant.blocks_hit < each.baseline.blocks_hit
    assert seen == sorted(seen)
    assert from_json(TrialResult, to_json(result)) == result
    names = target.execute("SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = "
                           "'orders'::regclass").fetchall()  # fmt: skip
    assert names == [("orders_pkey",)]


def test_an_index_the_planner_leaves_aside_is_reported_as_unused(
    target: Connection, dsn: str
) -> None:
    result = run_trial(
        dsn, "SELECT count(*) FROM orders WHERE note IS NOT NULL", ORDERS,
        (ParameterSet("typical", ()),), pairs=3,
    )  # fmt: skip
    assert not result.used_index


def test_a_slow_statement_gets_fewer_pairs_and_says_so(target: Connection, dsn: str) -> None:
    one = (ParameterSet("typical", ("1",)),)
    statement = "SELECT count(*) FROM orders WHERE customer_id > $1"
    result = run_trial(dsn, statement, ORDERS, one, pairs=50, max_seconds=0.001)
    assert result.pairs == 3
    assert result.notes == ("3 pairs instead of 50, because the statement is slow",)


def test_what_is_not_a_select_or_is_there_already_is_refused(target: Connection, dsn: str) -> None:
    one = (ParameterSet("typical", ("1",)),)
    with pytest.raises(StatementRefused):
        run_trial(dsn, "DELETE FROM orders WHERE customer_id = $1", ORDERS, one)
    target.execute("CREATE INDEX there ON orders (customer_id)")
    with pytest.raises(TrialFailed, match="has this index already: there"):
        run_trial(dsn, "SELECT 1 FROM orders WHERE customer_id = $1", ORDERS, one)
    absent = IndexDefinition("public", "absent", (IndexKey("x"),))
    with pytest.raises(TrialFailed, match="the lab has no table public.absent"):
        run_trial(dsn, "SELECT 1 FROM orders WHERE customer_id = $1", absent, one)


def test_a_function_that_no_parser_sees_is_not_run(target: Connection, dsn: str) -> None:
    target.execute("CREATE TABLE traces (at timestamptz)")
    target.execute(
        "CREATE FUNCTION sneak(orders) RETURNS int LANGUAGE sql VOLATILE "
        "AS 'INSERT INTO traces VALUES (now()); SELECT 1'"
    )
    one = (ParameterSet("typical", ("1",)),)
    with pytest.raises(StatementRefused, match="not PostgreSQL's own"):
        run_trial(dsn, "SELECT o.sneak FROM orders o WHERE customer_id = $1", ORDERS, one)
    assert target.execute("SELECT count(*) FROM traces").fetchone() == (0,)


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM orders o WHERE o.customer_id = $1 AND o.status = $2 "
        "ORDER BY placed_at DESC LIMIT $3 OFFSET $4",
        "SELECT id FROM orders WHERE lower(email) = lower($1)",
        "SELECT id FROM orders WHERE lower(email) = $1",
        "SELECT id FROM orders WHERE attributes @> CAST($1 AS jsonb)",
        "SELECT id FROM orders WHERE note ILIKE $1",
        "SELECT id FROM orders WHERE note LIKE $1 || '%'",
        "SELECT id FROM orders WHERE id = ANY($1)",
        "SELECT id FROM orders WHERE id IN ($1, $2, $3)",
        "SELECT id FROM orders WHERE placed_at BETWEEN $1 AND $2",
        "SELECT id FROM orders WHERE placed_at >= $1 AND placed_at < $1 + interval $2",
        "SELECT o.id FROM orders o JOIN orders p ON p.id = o.customer_id WHERE p.status = $1",
    ],
)
def test_sampled_values_find_rows(target: Connection, statement: str) -> None:
    sets = parameter_sets(target, statement, read_catalog(target))
    assert {s.label for s in sets} <= set(LABELS)
    for each in sets:
        assert rows_found(target, statement, each) > 0 or "LIKE $1 ||" in statement


def test_values_compared_together_come_from_one_row(target: Connection) -> None:
    statement = "SELECT 1 FROM orders WHERE id = $1 AND customer_id = $2"
    for each in parameter_sets(target, statement, read_catalog(target)):
        assert rows_found(target, statement, each) == 1


def test_the_three_sets_differ_where_the_data_is_skewed(target: Connection) -> None:
    statement = "SELECT 1 FROM orders WHERE status = $1"
    sets = parameter_sets(target, statement, read_catalog(target))
    assert [(s.label, s.values) for s in sets] == [("rare", ("open",)), ("typical", ("shipped",))]


def test_the_interval_of_equal_times_holds_one() -> None:
    times = [10.0, 11.0, 9.5, 10.4, 10.2, 9.9, 10.8]
    interval = ratio_of_medians(times, times)
    assert interval.low <= 1.0 <= interval.high and interval.value == 1.0


def rows_found(target: Connection, statement: str, each: ParameterSet) -> int:
    with target.transaction(force_rollback=True):
        target.execute(f"PREPARE find AS {plannable(statement)}".encode())
        values = ", ".join("NULL" if v is None else f"'{v}'" for v in each.values)
        found = len(target.execute(f"EXECUTE find({values})".encode()).fetchall())
        target.execute("DEALLOCATE find")
    return found


def test_several_statements_share_one_build_and_one_time_limit(
    dsn: str, target: Connection
) -> None:
    values = (ParameterSet("typical", ("7",)),)
    tried = [
        Tried("SELECT note FROM orders WHERE customer_id = $1", values),
        Tried("SELECT count(*) FROM orders WHERE customer_id = $1", values),
        Tried("DELETE FROM orders WHERE customer_id = $1", values),
    ]
    said: list[tuple[float, str]] = []
    first, second, third = run_trials(
        dsn, ORDERS, tried, pairs=3, progress=lambda share, words: said.append((share, words))
    )
    assert first.measured is not None and second.measured is not None
    assert first.measured.build_ms == second.measured.build_ms
    assert second.measured.used_index and third.measured is None
    assert "DELETE is not a SELECT" in third.note
    assert [share for share, _ in said] == sorted(share for share, _ in said)
    assert any(words.startswith("statement 2 of 3: typical values") for _, words in said)
    late = run_trials(dsn, ORDERS, tried, pairs=3, max_seconds=0.0)
    assert late[0].measured is not None
    assert [o.note for o in late[1:]] == ["not run: the trial's time was used up"] * 2
