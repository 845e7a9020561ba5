from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from perfcore.db import connect
from perfcore.demo.planted import FAULTS, INDEX_FAULTS, Fault, numbered
from perfcore.demo.shop import endpoints

_DOCS = Path(__file__).parents[2] / "docs" / "demo.md"


def _documented() -> dict[str, list[str]]:
    """Return fault -> cells from the tables of docs/demo.md."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in _DOCS.read_text(encoding="utf-8").splitlines()
        if line.startswith("| ") and not line.startswith("| fault")
    ]
    return {row[0]: row for row in rows}


def test_the_document_lists_every_fault_and_no_other() -> None:
    assert set(_documented()) == {fault.name for fault in FAULTS}
    assert len(FAULTS) == 15


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_the_document_names_endpoint_statement_and_cure(fault: Fault) -> None:
    row = _documented()[fault.name]
    assert tuple(re.findall(r"`([^`]+)`", row[1])) == fault.endpoints
    assert fault.remedy.split(" for ")[0] in row[3].replace("`", "")
    assert set(fault.endpoints) <= set(endpoints())


def test_the_document_lists_the_other_endpoints_too() -> None:
    named = set(re.findall(r"`((?:GET|POST|DELETE) /[^`]*)`", _DOCS.read_text(encoding="utf-8")))
    assert named == set(endpoints())


@pytest.fixture
def shop(shop_dsn: str) -> Iterator[psycopg.Connection[Any]]:
    with connect(shop_dsn) as connection:
        yield connection
        connection.rollback()


@pytest.mark.parametrize("mode", ["force_generic_plan", "force_custom_plan"])
@pytest.mark.parametrize("fault", INDEX_FAULTS, ids=lambda fault: fault.name)
def test_the_cure_is_what_the_planner_uses(
    shop: psycopg.Connection[Any], fault: Fault, mode: str
) -> None:
    # At a hundredth of the size reading everything is cheap, so that way is closed.
    shop.execute("SET LOCAL enable_seqscan = off")
    before = _plan(shop, fault, mode)
    shop.execute(fault.remedy.replace("INDEX ON", "INDEX the_cure ON").encode())
    after = _plan(shop, fault, mode)
    assert "the_cure" in after
    assert "the_cure" not in before


def _plan(shop: psycopg.Connection[Any], fault: Fault, mode: str) -> str:
    shop.execute(f"SET LOCAL plan_cache_mode = {mode}".encode())
    shop.execute(f"PREPARE asked AS {numbered(_statement(fault))}".encode())
    values = ", ".join(f"'{value}'" for value in fault.parameters)
    call = f"EXPLAIN EXECUTE asked({values})" if values else "EXPLAIN EXECUTE asked"
    lines = shop.execute(call.encode()).fetchall()
    shop.execute("DEALLOCATE asked")
    return "\n".join(line for (line,) in lines)


def _statement(fault: Fault) -> Any:
    assert fault.statement is not None
    return fault.statement


def test_no_index_that_exists_serves_a_planted_statement(shop: psycopg.Connection[Any]) -> None:
    rows = shop.execute(
        "SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index "
        "JOIN pg_class ON pg_class.oid = indrelid WHERE relnamespace = 'public'::regnamespace"
    ).fetchall()
    leading = {re.sub(r".* ON public\.(\w+) USING \w+ \((\w+).*", r"\1.\2", d) for _, d in rows}
    assert not leading & {
        "shipments.tracking_code", "orders.customer_id", "orders.status", "orders.created_at",
        "orders.closed_at", "order_items.order_id", "customers.lower", "products.attributes",
        "products.description",
    }  # fmt: skip


def test_the_duplicate_is_one_and_the_unused_is_never_read(shop: psycopg.Connection[Any]) -> None:
    columns = shop.execute(
        "SELECT count(DISTINCT (indrelid, indkey::text, indclass::text, indoption::text)), "
        "count(*) FROM pg_index WHERE indexrelid IN "
        "('reviews_product_idx'::regclass, 'reviews_product_id_idx'::regclass)"
    ).fetchone()
    assert columns == (1, 2)
    unused = shop.execute(
        "SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'orders_source_idx'"
    ).fetchone()
    assert unused == (0,)


def test_no_statement_of_the_shop_reads_the_unused_index() -> None:
    texts = [numbered(fault.statement) for fault in FAULTS if fault.statement is not None]
    assert not [text for text in texts if re.search(r"(WHERE|ORDER BY).*\bsource\b", text)]


def test_the_report_sorts_on_disk_when_memory_is_short(shop: psycopg.Connection[Any]) -> None:
    fault = next(fault for fault in FAULTS if fault.name == "a sort that spills")
    shop.execute("SET LOCAL work_mem = '64kB'")
    text = numbered(_statement(fault)).replace("$1", "'2000-01-01'")
    lines = shop.execute(f"EXPLAIN (ANALYZE, BUFFERS) {text}".encode()).fetchall()
    assert "external merge" in "\n".join(line for (line,) in lines)


def test_wishlists_may_lack_a_product_but_none_does(shop: psycopg.Connection[Any]) -> None:
    row = shop.execute(
        "SELECT (SELECT NOT attnotnull FROM pg_attribute WHERE attname = 'product_id' "
        "AND attrelid = 'wishlist_items'::regclass), "
        "(SELECT count(*) FROM wishlist_items WHERE product_id IS NULL)"
    ).fetchone()
    assert row == (True, 0)
