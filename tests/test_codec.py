"""What is written to jsonb comes back equal, and what JSON cannot hold is refused."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from perfcore.codec import CodecError, from_json, to_json
from perfcore.types import (
    Catalog,
    ColumnInfo,
    ConfidenceInterval,
    EndpointGain,
    Evidence,
    Finding,
    IndexDefinition,
    IndexKey,
    StatementGain,
    Suggestion,
    TableInfo,
    TimeRange,
    Verdict,
)

SUGGESTION = Suggestion(
    suggestion_id="abc",
    target_id=1,
    kind="index",
    title="Index orders",
    reason="because",
    finding=Finding("seq_scan", "It reads all.", (("rows", "100"),)),
    evidence=Evidence.ESTIMATED,
    saved_ms_per_hour=12,
    index=IndexDefinition(
        "public",
        "orders",
        (IndexKey("customer_id"), IndexKey("created_at", descending=True, nulls_first=False)),
        include=("total",),
    ),
    index_bytes=8192,
    statements=(StatementGain(-(2**63), 2**63 - 1, "SELECT", 10.0, 1.0, 60.0, 5.0, 0.5),),
    endpoints=(EndpointGain("shop", "GET /orders", 4.5, 60.0),),
    caveats=("one", "two"),
)


def test_a_suggestion_survives_the_way_through_json() -> None:
    assert from_json(Suggestion, json.loads(json.dumps(to_json(SUGGESTION)))) == SUGGESTION


def test_a_catalogue_survives_with_instants_in_utc() -> None:
    at = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
    column = ColumnInfo("a", "integer", True, most_common_values=("1",), most_common_freqs=(0.5,))
    catalog = Catalog(180000, "d", at, (TableInfo(1, "public", "t", -1.0, 0, (column,)),), at)
    assert from_json(Catalog, json.loads(json.dumps(to_json(catalog)))) == catalog


def test_an_enum_comes_back_as_its_member() -> None:
    assert from_json(Verdict, to_json(Verdict.WAITING)) is Verdict.WAITING


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_json_lacks_is_refused_with_its_place(value: float) -> None:
    with pytest.raises(CodecError, match="high"):
        to_json(ConfidenceInterval(1.0, 0.5, value))


def test_an_instant_without_zone_is_refused() -> None:
    with pytest.raises(CodecError, match="time zone"):
        to_json(datetime(2026, 1, 1))


def test_missing_fields_take_defaults_and_unknown_ones_are_left_out() -> None:
    key = from_json(IndexKey, {"expression": "a", "invented_later": 1})
    assert key == IndexKey("a")


@pytest.mark.parametrize(
    ("data", "named"),
    [
        ({"value": "1", "low": 0, "high": 1}, "ConfidenceInterval.value"),
        ({"low": 0, "high": 1}, "ConfidenceInterval.value is missing"),
        ([], "ConfidenceInterval"),
        ({"value": True, "low": 0, "high": 1}, "ConfidenceInterval.value"),
    ],
)
def test_what_does_not_fit_is_named(data: object, named: str) -> None:
    with pytest.raises(CodecError, match=named):
        from_json(ConfidenceInterval, data)


def test_a_value_that_the_class_itself_refuses_is_a_codec_error() -> None:
    same = datetime(2026, 1, 1, tzinfo=UTC).isoformat()
    with pytest.raises(CodecError, match="ends at"):
        from_json(TimeRange, {"start": same, "end": same})


@dataclass(frozen=True)
class Mixed:
    pair: tuple[str, float]
    rows: list[dict[str, int]]
    choice: int | str | None = None


def test_pairs_lists_mappings_and_unions() -> None:
    mixed = Mixed(("a", 1.5), [{"b": 2}], "x")
    assert from_json(Mixed, to_json(mixed)) == mixed
    with pytest.raises(CodecError, match="2 values"):
        from_json(Mixed, {"pair": ["a"], "rows": []})
