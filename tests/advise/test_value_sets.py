"""Which values a statement with parameters is planned with."""

from __future__ import annotations

from datetime import UTC, datetime

from perfcore.advise.statement import read_statement
from perfcore.advise.value_sets import ValueSet, value_sets
from perfcore.types import Catalog, ColumnInfo, TableInfo
from tests.advise.conftest import Shop, statement

SKEWED = ColumnInfo(
    "tenant", "integer", False, 4, 0.0, 1000.0, 0.0, ("7", "9"), (0.4, 0.2), ("11", "500", "990")
)
EVEN = ColumnInfo("day", "integer", False, 4, 0.0, 365.0, 0.0, ("1", "2"), (0.003, 0.003))
CATALOG = Catalog(
    180000,
    "crm",
    datetime(2026, 1, 1, tzinfo=UTC),
    (TableInfo(0, "public", "notes", 1e6, 10**8, (SKEWED, EVEN)),),
)


def sets(text: str, fixed: dict[int, str] | None = None) -> tuple[ValueSet, ...]:
    return value_sets(read_statement(text, CATALOG), CATALOG, fixed or {})


def test_a_skewed_column_is_asked_for_by_a_typical_a_frequent_and_a_rare_value() -> None:
    typical, frequent, rare = sets("SELECT * FROM notes WHERE tenant = $1 AND day = $2")
    assert typical.literals == {}
    assert frequent.literals == {1: "'7'"}
    assert rare.literals == {1: "'500'"}
    assert typical.share + frequent.share + rare.share == 1.0


def test_evenly_spread_values_constants_and_decided_ones_make_one_set() -> None:
    assert len(sets("SELECT * FROM notes WHERE day = $1")) == 1
    assert len(sets("SELECT * FROM notes WHERE tenant = 7")) == 1
    decided = sets("SELECT * FROM notes WHERE tenant = $1", {1: "'9'"})
    assert decided == (ValueSet(1.0, {1: "'9'"}),)


def test_each_set_is_planned_and_weighs_its_share(shop: Shop) -> None:
    text = "SELECT id, note FROM orders WHERE status = $1 AND total = $2"
    advice = shop.advise(statement(text, rows=600))
    asked = set(shop.planner.asked)
    assert {t for t in asked if "'done'" in t} and {t for t in asked if "'pending'" in t}
    (found,) = [s for s in advice.suggestions if s.kind == "index"]
    (gain,) = found.statements
    assert 0 < gain.saved_ms_per_hour <= gain.mean_ms_before * gain.calls_per_hour
