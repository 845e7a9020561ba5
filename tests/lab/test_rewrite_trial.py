"""Rewritten statements in the lab: which are equal, which are not, and which are refused."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from perfcore.advise.rewrites.registry import RULES, rewrites_of
from perfcore.codec import from_json, to_json
from perfcore.errors import PerfcoreError
from perfcore.lab import equality
from perfcore.lab.equality import Equality, Sameness, compare
from perfcore.lab.parameters import ParameterSet, parameter_sets
from perfcore.lab.trial import RewriteResult, run_rewrite_trial
from perfcore.lab.wording import Wording, read_pair
from perfcore.whatif.catalog import read_catalog
from tests.lab.conftest import ORDERS, Connection

NONE = (ParameterSet("typical", ()),)
ONE = (ParameterSet("typical", ("7",)),)


@pytest.fixture
def shelves(target: Connection) -> Connection:
    """Orders, and a small table with NULLs, duplicates and ties."""
    target.execute(
        "CREATE TABLE returned (order_id bigint, reason text, rank int, share float8);"
        "INSERT INTO returned SELECT nullif(n % 40, 0), 'reason ' || n % 3, n / 10, 1.0 / n"
        " FROM generate_series(1, 200) n; ANALYZE returned"
    )
    return target


def said(connection: Connection, old: str, new: str, *values: str | None) -> Equality:
    """Compare two texts that take the same values."""
    wordings = [Wording.of(text) for text in (old, new)]
    return compare(connection, *((w, w.values(values)) for w in wordings))


def test_an_equal_rewrite_is_measured_and_each_set_is_proven(shelves: Connection, dsn: str) -> None:
    old = (
        "SELECT id FROM orders WHERE customer_id = $1 AND id NOT IN "
        "(SELECT order_id FROM returned WHERE order_id IS NOT NULL AND rank > $2)"
    )
    new = (
        "SELECT id FROM orders o WHERE customer_id = $1 AND NOT EXISTS "
        "(SELECT 1 FROM returned r WHERE r.order_id = o.id AND rank > $2)"
    )
    sets = parameter_sets(shelves, old, read_catalog(shelves))
    result = run_rewrite_trial(dsn, read_pair(old, new), sets, indexes=[ORDERS], pairs=3)
    assert [c.equality.sameness for c in result.checks] == [Sameness.SAME] * len(sets)
    assert all("duplicates and NULLs included" in c.equality.summary for c in result.checks)
    assert result.measured is not None and result.measured.pairs == 3
    assert result.measured.index_name == ORDERS.name and result.measured.used_index
    first = result.measured.sets[0]
    assert "Seq Scan" in first.baseline.plan_text and ORDERS.name in first.variant.plan_text
    assert from_json(RewriteResult, to_json(result)) == result
    names = shelves.execute("SELECT count(*) FROM pg_index WHERE indrelid = 'orders'::regclass")
    assert names.fetchone() == (1,)


def test_nulls_in_a_not_in_list_are_caught(shelves: Connection, dsn: str) -> None:
    old = "SELECT id FROM orders WHERE id < 50 AND id NOT IN (SELECT order_id FROM returned)"
    new = "SELECT id FROM orders o WHERE id < 50 AND NOT EXISTS " \
          "(SELECT 1 FROM returned r WHERE r.order_id = o.id)"  # fmt: skip
    (check,) = run_rewrite_trial(dsn, read_pair(old, new), NONE, pairs=3).checks
    found = check.equality
    assert found.sameness is Sameness.DIFFERENT
    assert (found.rows_before, found.rows_after, found.missing, found.surplus) == (0, 10, 0, 10)
    assert found.columns == ("id",) and len(found.examples) == 5
    assert all(e.times_before == 0 and e.times_after == 1 for e in found.examples)


def test_duplicates_are_counted(shelves: Connection) -> None:
    old = "SELECT DISTINCT reason FROM returned"
    found = said(shelves, old, "SELECT reason FROM returned")
    assert found.sameness is Sameness.DIFFERENT and found.surplus == 197
    assert {(e.times_before, e.times_after) for e in found.examples} == {(1, 66), (1, 67)}
    assert said(shelves, old, "SELECT reason FROM returned GROUP BY 1").sameness is Sameness.SAME


COMPARED = [
    # The order counts as far as ORDER BY decides it.
    ("SELECT order_id, rank FROM returned ORDER BY rank",
     "SELECT order_id, rank FROM returned ORDER BY rank, order_id", "same", "tell apart"),
    ("SELECT order_id, rank FROM returned ORDER BY rank",
     "SELECT order_id, rank FROM returned ORDER BY rank DESC", "not", "another order"),
    ("SELECT order_id FROM returned ORDER BY rank, order_id",
     "SELECT order_id FROM returned ORDER BY rank DESC", "same", "NULLs included"),
    ("SELECT order_id, rank FROM returned ORDER BY 2, 1",
     "SELECT order_id, rank FROM returned ORDER BY rank, order_id", "same", "the same order"),
    # LIMIT among ties: the page may differ, the whole and the keys may not.
    ("SELECT order_id, rank FROM returned ORDER BY rank LIMIT $1",
     "SELECT order_id, rank FROM returned ORDER BY rank, order_id DESC LIMIT $1", "same",
     "Without LIMIT both return the same 200 rows"),
    ("SELECT order_id, rank FROM returned ORDER BY rank LIMIT $1",
     "SELECT order_id, rank FROM returned ORDER BY rank DESC LIMIT $1", "not", "7 rows are"),
    ("SELECT order_id, rank FROM returned ORDER BY rank LIMIT $1",
     "SELECT order_id, rank FROM returned WHERE order_id <> 3 ORDER BY rank DESC LIMIT $1",
     "not", "missing"),
    ("SELECT order_id FROM returned LIMIT $1",
     "SELECT order_id FROM returned ORDER BY order_id LIMIT $1", "same", "leaves ties"),
    ("SELECT order_id FROM returned ORDER BY rank LIMIT $1",
     "SELECT order_id FROM returned ORDER BY rank DESC LIMIT $1", "not compared", "cannot"),
    # Columns, floating-point noise and errors.
    ("SELECT * FROM returned", "SELECT order_id, rank FROM returned", "same", "200 rows"),
    ("SELECT order_id, rank FROM returned", "SELECT order_id, share FROM returned", "not",
     "missing"),
    ("SELECT order_id, rank FROM returned", "SELECT reason FROM returned", "not", "Other col"),
    ("SELECT sum(share) AS s FROM returned",
     "SELECT sum(share) AS s FROM (SELECT share FROM returned ORDER BY share) r", "same", ""),
    ("SELECT order_id FROM returned WHERE order_id::text = $1",
     "SELECT order_id FROM returned WHERE order_id = ($1::text)::int / 0", "not",
     "Only the new form ends in an error: division by zero"),
    ("SELECT 1 / 0", "SELECT 2 / 0", "not compared", "both end in an error"),
    ("SELECT NULL::text AS a", "SELECT 'None' AS a", "not", "1 row is missing"),
]  # fmt: skip


def test_what_is_compared_is_what_the_statement_decides(shelves: Connection) -> None:
    names = {"same": Sameness.SAME, "not": Sameness.DIFFERENT, "not compared": Sameness.UNKNOWN}
    for old, new, sameness, words in COMPARED:
        found = said(shelves, old, new, "7")
        assert found.sameness is names[sameness], (old, new, found)
        assert words in found.summary, (old, new, found)


def test_memory_is_bounded_and_a_cut_is_said(
    shelves: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(equality, "MAX_DISTINCT", 500)
    found = said(shelves, "SELECT id FROM orders", "SELECT id + 10000 FROM orders WHERE id > $1",
                 "0")  # fmt: skip
    assert found.sameness is Sameness.DIFFERENT and 5000 < found.missing < 20000
    assert "are estimates" in found.notes[-1]
    assert said(shelves, "SELECT id FROM orders", "SELECT id FROM orders ORDER BY 1").sameness \
        is Sameness.SAME  # fmt: skip
    monkeypatch.setattr(equality, "MAX_ROWS", 100)
    found = said(shelves, "SELECT id FROM orders", "SELECT id FROM orders")
    assert (found.sameness, found.summary) == (
        Sameness.UNKNOWN, "Not compared: more than 100 rows."
    )  # fmt: skip


@dataclass(frozen=True)
class Ruled:
    """A statement that a rule rewrites, with the words of the comparison."""

    rule: str
    sql: str
    words: str
    note: str = ""


@pytest.mark.parametrize(
    "each",
    [
        Ruled("keyset", "SELECT id, note FROM orders ORDER BY placed_at DESC LIMIT $1 OFFSET $2",
              "The same 20 rows", "the page after row 2000"),
        Ruled("keyset", "SELECT id, status FROM orders WHERE customer_id = $1 ORDER BY status, id "
              "LIMIT 2 OFFSET $2", "The same 2 rows in the same order", "the page after row 2"),
        Ruled("any_array", "SELECT id FROM orders WHERE id IN ($1 /*, ... */)", "The same 1 row",
              "an array of one value"),
        Ruled("expression_index", "SELECT id FROM orders WHERE lower(email) = $1",
              "The same 4 rows"),
        Ruled("trigram", "SELECT id FROM orders WHERE note LIKE $1", "The same"),
        Ruled("column_cast", "SELECT note FROM orders WHERE id::text = $1", "The same 1 row"),
    ],
)  # fmt: skip
def test_what_a_rule_promises_is_compared(target: Connection, dsn: str, each: Ruled) -> None:
    catalog = read_catalog(target)
    (rewrite,) = rewrites_of(each.sql, catalog, [RULES[each.rule]])
    sets = parameter_sets(target, each.sql, catalog)
    result = run_rewrite_trial(
        dsn, read_pair(each.sql, rewrite.sql), sets, indexes=rewrite.indexes, setup=rewrite.setup,
        pairs=3,
    )  # fmt: skip
    assert result.measured is not None
    for check in result.checks:
        assert check.equality.sameness is Sameness.SAME, check
        assert each.words in check.equality.summary and each.note in check.note


def test_an_index_that_is_there_is_kept_and_said(target: Connection, dsn: str) -> None:
    target.execute("CREATE INDEX there ON orders (customer_id)")
    pair = read_pair("SELECT id FROM orders WHERE customer_id = $1",
                     "SELECT id FROM orders WHERE customer_id = $1 AND true")  # fmt: skip
    result = run_rewrite_trial(dsn, pair, ONE, indexes=[ORDERS], pairs=3)
    assert result.measured is not None and "there: both forms have it" in result.measured.notes[0]
    assert target.execute("SELECT to_regclass('there') IS NULL").fetchone() == (False,)


HOSTILE = [
    ("DELETE FROM orders WHERE id = $1 RETURNING id", "DELETE is not a SELECT"),
    ("WITH gone AS (DELETE FROM orders RETURNING id) SELECT id FROM gone", "part of it writes"),
    ("SELECT id FROM orders WHERE id = $1; DROP TABLE orders", "more than one statement"),
    ("SELECT id INTO copied FROM orders", "SELECT INTO makes a table"),
    ("SELECT id FROM orders WHERE id = $1 FOR UPDATE", "lock rows"),
    ("SELECT pg_sleep(9) FROM orders", "it calls pg_sleep"),
    ("SELECT o.sneak FROM orders o WHERE id = $1", "not PostgreSQL's own"),
    ("SELECT id FROM orders WHERE id = $2", r"takes \$2, the statement has \$1 to \$1"),
    ("SELECT id FROM orders WHERE id = :mine", "only the application knows"),
    ("SELECT id FROM orders WHERE id > :last_id ORDER BY id", "has no OFFSET"),
    ("SELECT id FROM nowhere WHERE id = $1", "nowhere"),
]  # fmt: skip


def test_a_hostile_or_impossible_form_is_not_run(target: Connection, dsn: str) -> None:
    target.execute("CREATE TABLE traces (at timestamptz)")
    target.execute(
        "CREATE FUNCTION sneak(orders) RETURNS int LANGUAGE sql VOLATILE "
        "AS 'INSERT INTO traces VALUES (now()); SELECT 1'"
    )
    for new, words in HOSTILE:
        with pytest.raises(PerfcoreError, match=words):
            pair = read_pair("SELECT id FROM orders WHERE id = $1", new)
            run_rewrite_trial(dsn, pair, ONE, pairs=3)
    assert target.execute("SELECT count(*) FROM traces").fetchone() == (0,)
    assert target.execute("SELECT count(*) FROM orders").fetchone() == (20000,)


def test_names_in_strings_are_no_values() -> None:
    pair = read_pair("SELECT 1 FROM t WHERE a = $1", "SELECT 1 FROM t WHERE a = $1 AND b = ':x $9'")
    assert pair.names == () and pair.variant.numbers == (1,)
