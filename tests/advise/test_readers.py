"""Which suggestions may be run at once, and which wait for a developer or a decision."""

from __future__ import annotations

from dataclasses import replace

import pytest

from perfcore.advise.readers import BIG_INDEX_BYTES, Reader, place, reader_of
from perfcore.types import Evidence, Finding, IndexDefinition, IndexKey, Suggestion

ORDERS = IndexDefinition("public", "orders", (IndexKey("customer_id"),))
INDEX = Suggestion(
    "one", 1, "index", "Index it", "why", Finding("seq_scan", "all"), Evidence.ESTIMATED, 60_000.0,
    ddl=ORDERS.ddl(), undo=ORDERS.undo(), index=ORDERS, index_bytes=8 << 20,
    write_ms_per_hour=12.0,
)  # fmt: skip
GIN = replace(ORDERS, method="gin")


def other(kind: str, ddl: str = "", finding: str = "") -> Suggestion:
    return Suggestion("x", 1, kind, "t", "r", Finding(finding, "s"), Evidence.ESTIMATED, 0.0, ddl)


@pytest.mark.parametrize(
    "suggestion",
    [
        INDEX,
        replace(INDEX, index=GIN, ddl=GIN.ddl(), write_ms_per_hour=900.0),
        replace(INDEX, index_bytes=BIG_INDEX_BYTES - 1),
        other("maintenance", 'ANALYZE "public"."orders"'),
        other("maintenance", "CREATE STATISTICS s (dependencies) ON a, b FROM public.orders"),
        other("maintenance", "CREATE STATISTICS s (mcv) ON a, b FROM orders;\nANALYZE orders"),
        other("maintenance", 'VACUUM (ANALYZE) "public"."orders"'),
        other("maintenance", "ALTER TABLE orders RESET (autovacuum_enabled)"),
        replace(other("maintenance", "REINDEX INDEX CONCURRENTLY public.i"), index_bytes=1 << 20),
        other("maintenance", "ALTER TABLE public.orders SET (autovacuum_vacuum_scale_factor = 0)"),
        other("setting", "ALTER TABLE public.orders SET (autovacuum_vacuum_scale_factor = 0.01)"),
        other("drop_index", 'DROP INDEX CONCURRENTLY "public"."i"', "invalid_index"),
    ],
)
def test_what_is_safe_may_be_run_now(suggestion: Suggestion) -> None:
    assert place(suggestion).reader is Reader.RUN_NOW, place(suggestion).why


@pytest.mark.parametrize(
    "suggestion",
    [
        other("rewrite", finding="n_plus_one"),
        other("rewrite", finding="deep_offset"),
        other("cache", finding="cacheable"),
        other("setting", "SET LOCAL work_mem = '64MB'"),
    ],
)
def test_what_changes_the_application_needs_a_developer(suggestion: Suggestion) -> None:
    assert reader_of(suggestion) is Reader.DEVELOPER


@pytest.mark.parametrize(
    ("suggestion", "why"),
    [
        (replace(INDEX, index_bytes=BIG_INDEX_BYTES), "1.1 GB of disk"),
        (replace(INDEX, index_bytes=None), "not known"),
        (replace(INDEX, write_ms_per_hour=6_001.0), "over a tenth"),
        (replace(INDEX, index=GIN, ddl=GIN.ddl(), write_ms_per_hour=1_000.0), "GIN"),
        (replace(INDEX, index=replace(ORDERS, unique=True)), "refuses rows"),
        (replace(INDEX, ddl=ORDERS.ddl(concurrently=False)), "blocks writes"),
        (replace(INDEX, ddl=f"{ORDERS.ddl()};\nDROP INDEX public.i"), "drops an index"),
        (other("drop_index", "DROP INDEX CONCURRENTLY i", "unused_index"), "replica"),
        (other("drop_index", "DROP INDEX CONCURRENTLY i", "duplicate_index"), "another one"),
        (other("setting", "ALTER SYSTEM SET shared_buffers = '4GB'"), "of the server"),
        (other("setting", "ALTER DATABASE shop SET jit = off"), "of the database"),
        (other("setting", "ALTER TABLE t SET (fillfactor = 90)"), "leave free"),
        (other("setting"), "no one statement"),
        (other("maintenance", "VACUUM FULL public.orders"), "lock or rewrite"),
        (other("maintenance", "VACUUM (ANALYZE, FULL) public.orders"), "lock or rewrite"),
        (other("maintenance", "ALTER TABLE t ALTER id TYPE bigint"), "lock or rewrite"),
        (other("maintenance", "ALTER TABLE t SET (autovacuum_enabled = on, fillfactor = 70)"),
         "lock or rewrite"),
        (other("maintenance", "REINDEX INDEX CONCURRENTLY public.i"), "second copy"),
        (other("maintenance", "ANALYZE orders; VACUUM FULL orders"), "lock or rewrite"),
        (other("maintenance", "GRANT pg_read_all_stats TO perfcore"), "others may rely on"),
        (other("maintenance", "ROLLBACK PREPARED 'x'"), "others may rely on"),
        (other("maintenance"), "no one statement"),
        (other("something new", "SELECT 1"), "nothing is known"),
    ],
)  # fmt: skip
def test_all_else_needs_a_decision_and_says_why(suggestion: Suggestion, why: str) -> None:
    placed = place(suggestion)
    assert placed.reader is Reader.DECISION
    assert why in placed.why
