"""Which indexes and statistics the catalogue alone gives away, and which must be left alone."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from perfcore.advise.health import health
from perfcore.advise.workload import Options, Writes
from perfcore.types import Catalog, IndexInfo, Suggestion, TableInfo

NOW = datetime(2026, 1, 8, tzinfo=UTC)
PLAIN = IndexInfo(
    oid=1,
    schema="public",
    table="orders",
    name="a",
    definition="CREATE INDEX a ON public.orders USING btree (customer_id)",
    method="btree",
    keys=("customer_id",),
    include=(),
    predicate="",
    is_unique=False,
    is_primary=False,
    is_constraint=False,
    is_replica_identity=False,
    is_valid=True,
    index_bytes=50_000_000,
    scans=10,
    descending=(False,),
    opclasses=("",),
)


def found(
    *indexes: IndexInfo, hours: float = 100, indexed: Collection[str] = (), **table: object
) -> list[Suggestion]:
    info = replace(
        TableInfo(1, "public", "orders", 1e6, 10**8, (), indexes, live_rows=1_000_000),
        **table,  # type: ignore[arg-type]
    )
    catalog = Catalog(180000, "shop", NOW, (info,), NOW - timedelta(hours=hours))
    return health(catalog, Writes({}), Options(target_id=1), indexed=indexed)


def kinds(*indexes: IndexInfo, hours: float = 100) -> list[tuple[str, str]]:
    return [(s.finding.kind, s.title.split()[1]) for s in found(*indexes, hours=hours)]


def test_an_index_nobody_scanned_is_offered_with_its_undo() -> None:
    (suggestion,) = found(replace(PLAIN, scans=0))
    assert suggestion.kind == "drop_index"
    assert suggestion.ddl == 'DROP INDEX CONCURRENTLY "public"."a"'
    assert suggestion.undo == PLAIN.rebuild()
    assert "CONCURRENTLY" in suggestion.undo
    assert "4.2 days" in suggestion.finding.summary
    assert any("replica" in c for c in suggestion.caveats)


def test_an_index_on_a_foreign_key_is_never_called_unused() -> None:
    table = TableInfo(1, "public", "orders", 1e6, 10**8, (), (replace(PLAIN, scans=0),))
    catalog = Catalog(180000, "shop", NOW, (table,), NOW - timedelta(hours=100))
    keys = [("public.orders", ("customer_id",))]
    assert len(health(catalog, Writes({}), Options())) == 1
    assert health(catalog, Writes({}), Options(), foreign_keys=keys) == []


def test_a_short_window_proves_nothing() -> None:
    assert kinds(replace(PLAIN, scans=0), hours=5) == []


def test_a_short_window_is_enough_to_ask_where_the_table_is_busy() -> None:
    (suggestion,) = found(replace(PLAIN, scans=0), hours=0.5, seq_scans=900)
    assert "30 minutes, while orders was 900 times" in suggestion.finding.summary
    assert "wait for a day" in suggestion.caveats[0]


def test_keys_constraints_and_identities_stay() -> None:
    for kept in (
        {"is_primary": True},
        {"is_unique": True},
        {"is_constraint": True},
        {"is_replica_identity": True},
        {"index_bytes": 8192},
    ):
        assert kinds(replace(PLAIN, scans=0, **kept)) == []


def test_of_two_equal_indexes_the_less_used_goes() -> None:
    other = replace(PLAIN, oid=2, name="b", scans=3)
    assert kinds(PLAIN, other) == [("duplicate_index", "b")]


def test_a_duplicate_of_a_constraint_goes_and_not_the_constraint() -> None:
    key = replace(PLAIN, oid=9, name="k", scans=0, is_unique=True, is_constraint=True)
    assert kinds(key, replace(PLAIN, scans=1000)) == [("duplicate_index", "a")] or kinds(
        key, replace(PLAIN, scans=1000)
    ) == [("prefix_index", "a")]


def test_the_beginning_of_a_wider_index_goes() -> None:
    wide = replace(
        PLAIN, oid=2, name="w", keys=("customer_id", "at"), descending=(False, True),
        opclasses=("", ""),
    )  # fmt: skip
    assert kinds(PLAIN, wide) == [("prefix_index", "a")]


def test_what_nobody_scans_replaces_nothing() -> None:
    wide = replace(
        PLAIN, oid=2, name="w", scans=0, keys=("customer_id", "at"), descending=(False, True),
        opclasses=("", ""),
    )  # fmt: skip
    assert kinds(PLAIN, wide) == [("unused_index", "w")]
    assert set(kinds(replace(PLAIN, scans=0), wide)) == {
        ("prefix_index", "a"),
        ("unused_index", "w"),
    }


def test_an_index_that_only_looks_the_same_stays() -> None:
    for other in (
        replace(PLAIN, oid=2, name="b", predicate="status = 'x'"),
        replace(PLAIN, oid=2, name="b", method="hash"),
        replace(PLAIN, oid=2, name="b", opclasses=("text_pattern_ops",)),
        replace(PLAIN, oid=2, name="b", keys=("at", "customer_id"), descending=(False, False)),
    ):
        assert kinds(PLAIN, other) == []


def test_an_invalid_index_is_named() -> None:
    assert kinds(replace(PLAIN, is_valid=False, scans=0)) == [("invalid_index", "a")]


def test_stale_statistics_ask_for_analyze() -> None:
    (suggestion,) = found(modified_since_analyze=300_000)
    assert suggestion.ddl == 'ANALYZE "public"."orders"'
    assert "300,000 rows" in suggestion.finding.summary
    assert found(modified_since_analyze=100_000) == []


def test_a_table_read_past_the_cache_is_named() -> None:
    (suggestion,) = found(blocks_hit=500_000, blocks_read=500_000)
    assert suggestion.finding.kind == "low_cache_hit"
    assert "50.0 %" in suggestion.finding.summary
    assert found(blocks_hit=500, blocks_read=500) == []
    assert found(blocks_hit=500_000, blocks_read=500_000, indexed={"orders"}) == []
