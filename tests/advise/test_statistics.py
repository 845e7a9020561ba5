"""Correlated columns: shown by the misestimate, never by their names, and cured by the DDL."""

from __future__ import annotations

from dataclasses import replace

import pytest

from perfcore.advise.server_state import ExecutedPlan, Observed
from perfcore.types import WorkloadStatement
from tests.advise.ailing import (
    MAJORS,
    advice,
    dsn_of,
    executed_plan,
    follow,
    generic_plan,
    kinds,
    run,
    take_back,
    the,
)
from tests.advise.conftest import statement

# Each city has its own zip: 2,000 rows by either, as many by both.
PLACES = (
    "CREATE TABLE places (city text, zip int, country text, n int, odd int)",
    "INSERT INTO places SELECT 'city ' || g % 20, g % 20, 'country ' || g % 20 % 4, g, g % 37 "
    "FROM generate_series(1, 40000) g",
    "VACUUM ANALYZE places",
)
BOTH = "SELECT n FROM places WHERE city = 'city 7' AND zip = 7"
COUNTED = "SELECT n FROM places WHERE city = $1 AND zip = $2"
INDEPENDENT = "SELECT n FROM places WHERE city = $1 AND odd = $2"


def counted(text: str, rows_a_call: int) -> WorkloadStatement:
    return replace(statement(text, calls=100), rows=100 * rows_a_call)


@MAJORS
def test_the_rows_of_all_calls_show_it_and_the_ddl_ends_it(
    request: pytest.FixtureRequest, major: int
) -> None:
    dsn = dsn_of(request, major)
    run(dsn, *PLACES)
    expected = generic_plan(dsn, COUNTED).root.plan_rows
    assert expected == pytest.approx(100, rel=0.1)
    asked = counted(COUNTED, 2000)
    found = the("correlated_columns", advice(dsn, statements=[asked]))
    assert found.ddl == (
        'CREATE STATISTICS "public"."places_city_zip_stats" (dependencies, mcv) ON "city", "zip" '
        'FROM "public"."places";\nANALYZE "public"."places"'
    )
    assert found.finding.summary.startswith("20 times more rows of places came than the planner")
    assert found.statements[0].text == COUNTED
    follow(dsn, found)
    assert generic_plan(dsn, COUNTED).root.plan_rows == pytest.approx(2000, rel=0.1)
    assert "correlated_columns" not in kinds(advice(dsn, statements=[asked]))
    take_back(dsn, found)
    assert generic_plan(dsn, COUNTED).root.plan_rows == expected


@MAJORS
def test_an_executed_plan_shows_it(request: pytest.FixtureRequest, major: int) -> None:
    dsn = dsn_of(request, major)
    run(dsn, *PLACES, "CREATE INDEX places_zip_idx ON places (zip)")
    for settings in ((), ("enable_seqscan = off",)):
        plan = executed_plan(dsn, BOTH, *settings)
        assert plan.root.misestimate and plan.root.misestimate > 15
        observed = Observed(executed=(ExecutedPlan(1, plan),))
        found = the("correlated_columns", advice(dsn, observed=observed))
        assert '(dependencies, mcv) ON "city", "zip"' in found.ddl
        assert "in an executed plan: 2,000 in place of " in found.finding.summary
    follow(dsn, found)
    after = executed_plan(dsn, BOTH)
    assert after.root.misestimate and after.root.misestimate < 1.2
    # Statistics that exist are respected, even where an old plan still shows the misestimate.
    assert "correlated_columns" not in kinds(advice(dsn, observed=observed))


@MAJORS
def test_groups_that_are_fewer_than_expected(request: pytest.FixtureRequest, major: int) -> None:
    dsn = dsn_of(request, major)
    run(
        dsn,
        "CREATE TABLE visits (a int, b int, c int)",
        "INSERT INTO visits SELECT g % 90, g % 90 * 7, g % 90 / 2 FROM generate_series(1, 90000) g",
        "VACUUM ANALYZE visits",
    )
    text = "SELECT a, b, c, count(*) FROM visits GROUP BY a, b, c"
    expected = generic_plan(dsn, text).root.plan_rows
    assert expected > 5_000
    for given in (
        {"statements": [counted(text, 90)]},
        {"observed": Observed(executed=(ExecutedPlan(1, executed_plan(dsn, text)),))},
    ):
        found = the("correlated_columns", advice(dsn, **given))
        assert '"visits_a_b_c_groups" (ndistinct) ON "a", "b", "c"' in found.ddl
    follow(dsn, found)
    assert generic_plan(dsn, text).root.plan_rows == pytest.approx(90, rel=0.05)
    assert "correlated_columns" not in kinds(advice(dsn, statements=[counted(text, 90)]))


@MAJORS
def test_what_is_no_sign_of_it(request: pytest.FixtureRequest, major: int) -> None:
    dsn = dsn_of(request, major)
    run(
        dsn,
        *PLACES,
        # A tenth of all rows has one value in both columns: frequent, and independent of it.
        "CREATE TABLE skewed (a int, b int, n int)",
        "INSERT INTO skewed SELECT CASE WHEN g % 3 = 0 THEN 0 ELSE g END, "
        "CASE WHEN g / 3 % 3 = 0 THEN 0 ELSE g END, g FROM generate_series(1, 40000) g",
        "VACUUM ANALYZE skewed",
    )
    independent = counted(INDEPENDENT, 54)
    frequent = counted("SELECT n FROM skewed WHERE a = $1 AND b = $2", 4_440)
    one = counted("SELECT n FROM places WHERE city = $1", 2_000)
    limited = counted(f"{COUNTED} LIMIT 5", 5)
    ranged = counted(f"{COUNTED} AND n > $3", 2_000)
    either = counted("SELECT n FROM places WHERE city = $1 OR zip = $2", 2_000)
    texts = [independent, frequent, one, limited, ranged, either]
    assert generic_plan(dsn, frequent.text).root.plan_rows < 5  # a misestimate, but of skew
    assert "correlated_columns" not in kinds(advice(dsn, statements=texts))
    # Stale statistics come first: of them nothing can be said.
    run(dsn, "UPDATE places SET n = n + 1")
    found = kinds(advice(dsn, statements=[counted(COUNTED, 2_000)]))
    assert "correlated_columns" not in found and "stale_statistics" in found
