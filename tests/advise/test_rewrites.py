"""Every rewrite on real rows: the same where it says so, different where it says so."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import psycopg
import pytest

from perfcore.advise.rewrites.membership import batch
from perfcore.advise.rewrites.registry import RULES, rewrites_of
from perfcore.advise.rewrites.rewrite import Equality
from perfcore.advise.rewrites.writing import numbered
from perfcore.advise.statement import plannable
from perfcore.db import connect
from perfcore.server.embedded import Cluster
from perfcore.types import Catalog
from perfcore.whatif.catalog import read_catalog
from tests.advise.rewriting import (
    DOCUMENT,
    EXAMPLES,
    MARK,
    NOT_REWRITTEN,
    SCHEMA,
    Example,
    Values,
    are_same,
    examples_text,
    names_of,
    rewrite_by,
    run,
)


@dataclass
class Library:
    """The rows of rewriting.sql and what the catalogue says of them."""

    connection: psycopg.Connection[Any]
    catalog: Catalog


def _library(cluster: Cluster, name: str) -> Iterator[Library]:
    with connect(cluster.dsn(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    with connect(cluster.dsn(name), autocommit=True) as connection:
        connection.execute(SCHEMA.encode())
        connection.execute("ANALYZE")
        yield Library(connection, read_catalog(connection))


@pytest.fixture(scope="module")
def library(cluster18: Cluster) -> Iterator[Library]:
    yield from _library(cluster18, "rewrites")


@pytest.fixture(scope="module")
def library15(cluster15: Cluster) -> Iterator[Library]:
    yield from _library(cluster15, "rewrites")


def _check(library: Library, example: Example) -> None:
    found = rewrite_by(example.rule, example.sql, library.catalog)
    assert found is not None, "it is not recognised"
    assert found.equality is example.equality, found.obligation
    _in_zone(library, example.zone)
    for values in example.values:
        before = run(library.connection, example.sql, values)
        after = run(library.connection, found.sql, values)
        assert not isinstance(before, str), before
        assert are_same(before, after), (values, found.sql, before, after)
        assert not example.ordered or before == after, (values, found.sql, before, after)
    _in_zone(library, example.apart_zone)
    for values in example.apart:
        before = run(library.connection, example.sql, values)
        after = run(library.connection, found.sql, values)
        assert not are_same(before, after), (values, found.sql, before)


def test_the_columns_keep_their_names(library: Library) -> None:
    for example in EXAMPLES:
        found = rewrite_by(example.rule, example.sql, library.catalog)
        assert found is not None
        before = names_of(library.connection, example.sql)
        after = names_of(library.connection, found.sql)
        assert "?column?" in before or before == after, (example.sql, before, after)


def _in_zone(library: Library, zone: str) -> None:
    library.connection.execute("SELECT pg_catalog.set_config('TimeZone', %s, false)", [zone])


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: f"{e.rule}: {e.sql[:60]} {e.zone}")
def test_the_rows_are_the_same(library: Library, example: Example) -> None:
    _check(library, example)


@pytest.mark.parametrize(("rule", "sql", "why"), NOT_REWRITTEN)
def test_what_would_change_the_rows_is_left_alone(
    library: Library, rule: str, sql: str, why: str
) -> None:
    if "$" not in sql:
        run(library.connection, sql)  # it is a statement of this server
    assert rewrite_by(rule, sql, library.catalog) is None, why


def test_the_document_shows_what_the_code_writes(library: Library) -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    head, examples = text.split(MARK)
    assert examples.strip() == examples_text(library.catalog).strip()
    listed = re.findall(r"^\| `(\w+)` \|", head, re.MULTILINE)
    assert listed == list(RULES)


def test_every_rule_has_examples_of_both_kinds() -> None:
    special = {"keyset", "any_array", "random_order", "select_star"}
    assert {e.rule for e in EXAMPLES} | special == set(RULES)
    assert {rule for rule, _, _ in NOT_REWRITTEN} == set(RULES)
    assert {e.equality for e in EXAMPLES} == {Equality.ALWAYS, Equality.CONDITION}


# A few on the older server


OLDER = tuple({e.rule: e for e in EXAMPLES}.values())


@pytest.mark.postgres15
@pytest.mark.parametrize("example", OLDER, ids=lambda e: e.rule)
def test_the_rows_are_the_same_on_15(library15: Library, example: Example) -> None:
    _check(library15, example)


# Pages: compared with OFFSET in the same total order


PAGED = (
    # the statement, its order without ties, the places of the keys in its rows
    (
        "SELECT id, title FROM books ORDER BY title LIMIT 7 OFFSET 7",
        "title, id",
        {"title": 1, "id": 0},
    ),
    (
        "SELECT id, title FROM books WHERE kind = 'poem' ORDER BY id DESC LIMIT 3 OFFSET 5",
        "id DESC",
        {"id": 0},
    ),
    (
        "SELECT book_id, reader FROM loans ORDER BY reader DESC, book_id LIMIT 9 OFFSET 9",
        "reader DESC, book_id",
        {"reader": 1, "book_id": 0},
    ),
    (
        "SELECT b.id, b.published, a.name FROM books b LEFT JOIN authors a ON a.id = b.author_id "
        "WHERE b.published IS NOT NULL ORDER BY b.published DESC LIMIT 6 OFFSET 6",
        "b.published DESC, b.id DESC",
        {"published": 1, "id": 0},
    ),
    (
        "SELECT title, kind, id FROM books ORDER BY kind DESC, title, id LIMIT 4 OFFSET 8",
        "kind DESC, title, id",
        {"kind": 1, "title": 0, "id": 2},
    ),
)


@pytest.mark.parametrize(("sql", "order", "places"), PAGED)
def test_keyset_pages_are_the_pages_of_offset(
    library: Library, sql: str, order: str, places: dict[str, int]
) -> None:
    found = rewrite_by("keyset", sql, library.catalog)
    assert found is not None
    size = int(re.findall(r"LIMIT (\d+)", sql)[0])
    ordered = re.sub(r"ORDER BY .* LIMIT", f"ORDER BY {order} LIMIT", sql)
    page = _page(library, ordered, 0)
    names = list(dict.fromkeys(re.findall(r":last_(\w+)", found.sql)))
    for number in range(1, 30):
        if not page:
            break
        last = [page[-1][places[name]] for name in names]
        page = run_rows(library, found.sql, last)
        assert page == _page(library, ordered, number * size), (number, last, found.sql)
    assert number > 3 and not page
    assert "NULLS" not in found.sql  # no plain index has them so


def _page(library: Library, sql: str, offset: int) -> list[tuple[Any, ...]]:
    return run_rows(library, re.sub(r"OFFSET \d+", f"OFFSET {offset}", sql))


def run_rows(library: Library, sql: str, named: Values = ()) -> list[tuple[Any, ...]]:
    rows = run(library.connection, sql, (), named)
    assert not isinstance(rows, str), rows
    return rows


def test_offset_shows_a_row_twice_when_one_comes_before_it_and_keyset_does_not(
    library: Library,
) -> None:
    sql = "SELECT id FROM shelves ORDER BY id LIMIT 4 OFFSET 4"
    found = rewrite_by("keyset", sql, library.catalog)
    assert found is not None and found.equality is Equality.CONDITION
    with library.connection.transaction(force_rollback=True):
        first = _page(library, sql, 0)
        library.connection.execute("INSERT INTO shelves VALUES (0, 'new', 1)")
        assert set(first) & set(_page(library, sql, 4))
        assert not set(first) & set(run_rows(library, found.sql, [first[-1][0]]))


# Lists and many keys


def test_a_long_list_as_an_array_finds_the_same(library: Library) -> None:
    values: list[Any] = [*range(1, 25), None, 7]
    places = ", ".join(f"${n}" for n in range(1, len(values) + 1))
    for sign in ("IN", "NOT IN"):
        sql = f"SELECT id FROM books WHERE author_id {sign} ({places}) OR id < 3"
        found = rewrite_by("any_array", sql, library.catalog)
        assert found is not None and "CAST(:keys AS INT[])" in found.sql
        array = "{" + ",".join("NULL" if v is None else str(v) for v in values) + "}"
        before = run(library.connection, sql, values)
        assert are_same(before, run(library.connection, found.sql, values, [array]))


def test_an_array_of_padded_texts_finds_the_same(library: Library) -> None:
    places = ", ".join(f"${n}" for n in range(1, 22))
    sql = f"SELECT id FROM authors WHERE code IN ({places})"
    found = rewrite_by("any_array", sql, library.catalog)
    assert found is not None
    values = ["a", "ab", *["abc"] * 19]
    array = "{" + ",".join(values) + "}"
    before = run(library.connection, sql, values)
    assert len(before) == 4 and are_same(before, run(library.connection, found.sql, (), [array]))


def test_a_page_after_a_key_whose_name_is_no_word(library: Library) -> None:
    sql = 'SELECT "1" FROM grid ORDER BY "last-seen" LIMIT 2 OFFSET 3'
    found = rewrite_by("keyset", sql, library.catalog)
    assert found is not None
    assert run(library.connection, found.sql, (), [3]) == run(library.connection, sql)


def test_a_list_that_the_server_has_squashed(library: Library) -> None:
    library.connection.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
    library.connection.execute("SELECT id AS squashed FROM books WHERE ref IN ('7', '12', '')")
    row = library.connection.execute(
        "SELECT query FROM pg_stat_statements WHERE query LIKE 'SELECT id AS squashed%'"
    ).fetchone()
    assert row is not None and "/*" in row[0]
    found = rewrite_by("any_array", row[0], library.catalog)
    assert found is not None and "ref = ANY(CAST(:keys AS VARCHAR[]))" in found.sql
    rows = run(library.connection, found.sql, [None], ['{7,12,""}'])
    assert are_same(rows, run(library.connection, "SELECT id FROM books WHERE ref IN ('7', '12')"))


@pytest.mark.parametrize(
    ("sql", "columns"),
    [
        ("SELECT id, title FROM books WHERE author_id = $1", "id, title"),
        ("SELECT kind, count(*) FROM books WHERE author_id = $1 GROUP BY kind", "kind, count"),
        ("SELECT max(published) FROM books WHERE author_id = $1 AND kind <> ''", "max"),
        ("SELECT id FROM books WHERE author_id = $1 ORDER BY title, id LIMIT 2", "id"),
        ("SELECT DISTINCT title FROM books WHERE author_id = $1 AND pages > 0", "title"),
    ],
)
def test_one_statement_for_many_keys(library: Library, sql: str, columns: str) -> None:
    new = batch(sql, library.catalog)
    assert "CAST(:keys AS INT[])" in new
    asked = [1, 2, 3, 99]
    key = "key" if "key" in new.split("FROM")[0] else "author_id"
    found = run(
        library.connection,
        f"SELECT {key}, {columns} FROM ({new}) AS s",
        [None],
        ["{" + ",".join(str(k) for k in asked) + "}"],
    )
    single = []
    for k in asked:
        rows = run(library.connection, sql, [k])
        assert not isinstance(rows, str)
        single += [(str(k), *row) for row in rows]
    empty = [r for r in single if set(r[1:]) == {"None"}]  # an aggregate of no rows
    assert are_same(found, [r for r in single if r not in empty])


@pytest.mark.parametrize(
    "sql",
    ["SELECT id FROM books", "SELECT id FROM books WHERE id > $1", "UPDATE books SET id = $1"],
)
def test_there_is_no_key_to_ask_many_of(library: Library, sql: str) -> None:
    assert batch(sql, library.catalog) == ""


def test_texts_as_the_server_normalises_them(library: Library) -> None:
    """Constants are `$n` there, some in places where the grammar wants a constant."""
    connection = library.connection
    connection.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
    connection.execute(
        "SELECT pg_stat_statements_reset(0, oid, 0) FROM pg_database "
        "WHERE datname = current_database()"
    )
    plain = [e for e in EXAMPLES if "$" not in e.sql]
    for example in plain:
        connection.execute(example.sql.encode())
    rows = connection.execute(
        "SELECT query FROM pg_stat_statements WHERE dbid = (SELECT oid FROM pg_database "
        "WHERE datname = current_database()) AND query LIKE 'SELECT%%'"
    ).fetchall()
    seen = set()
    for (text,) in rows:
        for rewrite in rewrites_of(text, library.catalog):
            connection.execute(
                f"EXPLAIN (GENERIC_PLAN) {plannable(numbered(rewrite.sql))}".encode()
            )
            seen.add(rewrite.rule)
    assert len(rows) >= len(plain) and len(seen) > 10, seen


# What differs on purpose


def test_random_rows_come_from_a_sample(library: Library) -> None:
    books = next(t for t in library.catalog.tables if t.name == "sales")
    large = replace(books, row_count=1_000_000.0, live_rows=1_000_000)
    tables = tuple(large if t is books else t for t in library.catalog.tables)
    sql = "SELECT id FROM sales ORDER BY random() LIMIT 5"
    found = rewrite_by("random_order", sql, replace(library.catalog, tables=tables))
    assert found is not None and found.equality is Equality.DIFFERENT
    assert "TABLESAMPLE SYSTEM (0.2)" in found.sql
    rows = run_rows(library, found.sql.replace("(0.2)", "(100)"))
    assert len(set(rows)) == 5
    drawn = {tuple(run_rows(library, sql)) for _ in range(5)}
    assert len(drawn) > 1  # two runs of the old form differ as well
    assert rewrite_by("random_order", sql, library.catalog) is None  # 200 rows need no sample


def test_named_columns_are_the_star_without_the_bulk(library: Library) -> None:
    sql = "SELECT l.*, l.id AS again FROM letters AS l WHERE l.sender = $1 ORDER BY l.id"
    found = rewrite_by("select_star", sql, library.catalog)
    assert found is not None and found.equality is Equality.DIFFERENT
    assert "body" in found.obligation and found.saved_bytes_per_row > 30
    whole = run(library.connection, sql, ["sender 1"])
    assert not isinstance(whole, str) and whole
    narrow = [(row[0], row[1], row[3]) for row in whole]
    assert run(library.connection, found.sql, ["sender 1"]) == narrow
