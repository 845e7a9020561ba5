"""Examples of every rewrite, run before and after on rows made to tell them apart.

`python -m tests.advise.rewriting` writes them into docs/rewrites.md.
"""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg
from psycopg import RawCursor
from psycopg.types.string import TextLoader

from perfcore.advise.rewrites.registry import RULES, rewrites_of
from perfcore.advise.rewrites.rewrite import Equality, Rewrite
from perfcore.advise.rewrites.writing import numbered
from perfcore.advise.statement import plannable
from perfcore.db import connect
from perfcore.server.embedded import THROWAWAY_SETTINGS, Cluster, wheel_binaries
from perfcore.types import Catalog
from perfcore.whatif.catalog import read_catalog

SCHEMA = (Path(__file__).parent / "rewriting.sql").read_text(encoding="utf-8")
DOCUMENT = Path(__file__).parents[2] / "docs" / "rewrites.md"
Values = Sequence[Any]
NO_VALUES: tuple[Values, ...] = ((),)


@dataclass(frozen=True)
class Example:
    """A statement that a rule rewrites, with values under which the rows must be the same.

    `apart` are values that violate what the rewrite states: the rows must then differ, or the
    statement is no condition. `zone` is the session's, `apart_zone` the one for `apart`.
    """

    rule: str
    sql: str
    values: Sequence[Values] = NO_VALUES
    apart: Sequence[Values] = ()
    equality: Equality = Equality.ALWAYS
    zone: str = "UTC"
    apart_zone: str = "UTC"
    ordered: bool = False  # the statement orders its rows without ties


def rewrite_by(rule: str, sql: str, catalog: Catalog) -> Rewrite | None:
    """Return what a rule makes of a statement."""
    return next(iter(rewrites_of(sql, catalog, [RULES[rule]])), None)


def run(
    connection: psycopg.Connection[Any], sql: str, values: Values = (), named: Values = ()
) -> list[tuple[Any, ...]] | str:
    """Return the rows, or the SQLSTATE of the error; numbers that the text lost are left out."""
    used = sorted({int(n) for n in re.findall(r"\$(\d+)(?!\w)", sql)})
    given = [values[n - 1] for n in used] + list(named)
    text = plannable(numbered(sql))
    with connection.transaction(force_rollback=True), RawCursor(connection) as cursor:
        for kind in ("date", "timestamp", "timestamptz"):  # datetime knows no infinity
            cursor.adapters.register_loader(kind, TextLoader)
        try:
            with connection.transaction():
                cursor.execute(text.encode(), given)
                return [tuple(str(v) for v in row) for row in cursor.fetchall()]
        except (psycopg.errors.DataError, psycopg.errors.CardinalityViolation) as error:
            assert error.sqlstate, error
            return f"error {error.sqlstate}"


def names_of(connection: psycopg.Connection[Any], sql: str) -> list[str]:
    """Return the names of the columns, "?column?" for those without one."""
    text = plannable(numbered(sql))
    nulls = [None] * max((int(n) for n in re.findall(r"\$(\d+)", text)), default=0)
    with RawCursor(connection) as cursor:
        cursor.execute(text.encode(), nulls)
        return [column.name for column in cursor.description or ()]


def are_same(a: list[tuple[Any, ...]] | str, b: list[tuple[Any, ...]] | str) -> bool:
    """Compare as multisets."""
    if isinstance(a, str) or isinstance(b, str):
        return a == b
    return Counter(a) == Counter(b)


def is_ordered_like(sql: str) -> bool:
    """Say whether the outermost query orders its rows."""
    return re.search(r"ORDER BY[^()]*$", sql) is not None


A, C = Equality.ALWAYS, Equality.CONDITION
DAYS: tuple[Values, ...] = (
    ("2026-03-29",),
    ("2026-10-25",),
    ("2026-01-01",),
    ("2025-12-31",),
    ("2018-11-04",),
    ("1999-01-01",),
    (None,),
)
INSTANTS: tuple[Values, ...] = (
    ("2026-03-29",),
    ("2026-10-25 00:00",),
    ("2026-01-01 12:00",),
    ("2018-11-04 01:00",),
    ("2026-03-01",),
    (None,),
)
INFINITE: tuple[Values, ...] = (("infinity",),)
NOVEL: tuple[Values, ...] = (("novel",), ("poem",), ("none",), (None,))

EXAMPLES: tuple[Example, ...] = (
    # NOT IN
    Example(
        "not_exists",
        "SELECT id, name FROM authors WHERE id NOT IN (SELECT author_id FROM shelves)",
    ),
    Example(
        "not_exists",
        "SELECT id FROM authors a WHERE id NOT IN (SELECT b.author_id FROM books b "
        "WHERE b.author_id IS NOT NULL AND b.kind = $1)",
        NOVEL,
    ),
    Example(
        "not_exists",
        "SELECT id FROM authors WHERE id NOT IN (SELECT author_id FROM books WHERE kind = $1)",
        (("none",),),
        apart=(("novel",),),
        equality=C,
    ),
    Example(
        "not_exists",
        "SELECT id, author_id FROM books WHERE author_id NOT IN "
        "(SELECT author_id FROM shelves WHERE room = $1)",
        (("room 0",), ("room 9",), (None,)),
    ),
    Example(
        "not_exists",
        "SELECT id FROM authors WHERE id <> ALL (SELECT author_id FROM shelves) OR country = $1",
        (("SE",), (None,)),
    ),
    Example(
        "not_exists",  # of an empty list, NULL is not a member either
        "SELECT id FROM books WHERE author_id <> ALL (SELECT author_id FROM shelves "
        "WHERE room = $1)",
        (("room 0",), ("room 9",), (None,)),
    ),
    Example(
        "not_exists",  # the same table on both sides
        "SELECT id FROM shelves WHERE id NOT IN (SELECT author_id FROM shelves WHERE room = $1)",
        (("room 1",), ("",), (None,)),
    ),
    Example(
        "not_exists",  # ... and once more inside
        "SELECT id FROM shelves WHERE id NOT IN (SELECT author_id FROM shelves WHERE EXISTS "
        "(SELECT 1 FROM shelves WHERE shelves.id = 3 AND shelves.room = $1) AND shelves.id > 2)",
        (("room 0",), ("room 1",)),
    ),
    Example(
        "not_exists",
        "SELECT b.id FROM books b WHERE lower(b.title) NOT IN (SELECT s.room FROM shelves s "
        "JOIN authors a ON a.id = s.author_id WHERE a.country = b.kind)",
    ),
    # A function before the column
    Example(
        "range",
        "SELECT id FROM books WHERE printed::date = $1",
        DAYS,
        apart=INFINITE,
        equality=C,
    ),
    Example("range", "SELECT id FROM books WHERE date(printed) = '2026-03-29' OR kind = 'essay'"),
    Example("range", "SELECT id FROM books WHERE printed::date <= '2026-02-28'"),
    Example("range", "SELECT id FROM books WHERE $1 > printed::date", (*DAYS, ("infinity",))),
    Example(
        "range", "SELECT id FROM books WHERE printed::date > $1", DAYS, INFINITE[:0], equality=C
    ),
    Example(
        "range",
        "SELECT id FROM books WHERE printed::date BETWEEN $1 AND $2",
        (("2026-01-01", "2026-01-01"), ("2026-01-02", "2026-01-01"), (None, "2026-01-01")),
        apart=(("2026-01-01", "infinity"),),
        equality=C,
    ),
    *(
        Example(
            "range",
            "SELECT id FROM books WHERE published::date = $1",
            DAYS,
            apart=(("2026-11-01",),),
            equality=C,
            zone=zone,
            apart_zone="America/Havana",
        )
        for zone in ("UTC", "Europe/Berlin", "America/Sao_Paulo", "Pacific/Apia", "Asia/Kathmandu")
    ),
    *(
        Example(
            "range",
            "SELECT id FROM books WHERE date_trunc('day', published) = $1",
            INSTANTS,
            apart=(("2026-11-01",),),
            equality=C,
            zone=zone,
            apart_zone="America/Havana",
        )
        for zone in ("UTC", "Europe/Berlin", "America/Sao_Paulo", "Pacific/Apia")
    ),
    Example(
        "range",
        "SELECT id FROM books WHERE date_trunc('month', printed) = $1",
        INSTANTS,
        apart=INFINITE,
        equality=C,
    ),
    Example("range", "SELECT id FROM books WHERE date_trunc('quarter', printed) = '2026-01-01'"),
    Example("range", "SELECT id FROM books WHERE date_trunc('week', printed) = '2025-12-29'"),
    Example(
        "range",
        "SELECT id FROM books WHERE date_trunc('month', printed) = "
        "date_trunc('month', $1::timestamp)",
        INSTANTS,
        apart=INFINITE,
        equality=C,
    ),
    Example(
        "range",
        "SELECT id FROM books WHERE date_trunc($1, printed) = $2",
        (
            ("day", "2026-03-29"),
            ("year", "2026-01-01"),
            ("hour", "2026-01-02 08:00"),
            ("day", None),
        ),
        apart=(("quarter", "2026-01-01"),),
        equality=C,
    ),
    Example(
        "range",
        "SELECT id FROM books WHERE date_trunc('month', released) = $1",
        INSTANTS,
        apart=INFINITE,
        equality=C,
        zone="Europe/Berlin",
    ),
    Example("range", "SELECT id FROM books WHERE extract(year FROM printed) = 2026"),
    Example("range", "SELECT id FROM books WHERE extract(year FROM released) >= 2026"),
    Example("range", "SELECT id FROM books WHERE extract(year FROM printed) < 2026"),
    Example(
        "range",
        "SELECT id FROM books WHERE extract(year FROM printed) = $1",
        ((2026,), (2025,), (1,), (None,)),
        apart=((0,), (-1,)),
        equality=C,
    ),
    Example(
        "range",
        "SELECT id FROM books WHERE extract(year FROM published) = 2026 AND kind = $1",
        NOVEL,
        equality=C,
        zone="Europe/Berlin",
    ),
    Example("expression_index", "SELECT id FROM authors WHERE lower(email) = $1", (("",), (None,))),
    # Wildcards
    Example("trigram", "SELECT id FROM books WHERE title ILIKE '%TREE%'"),
    Example("trigram", "SELECT id FROM books WHERE title LIKE $1", (("%ree",), ("",), (None,))),
    # Members of arrays
    Example("array_member", "SELECT id FROM tagged WHERE 'red' = ANY(tags)"),
    Example(
        "array_member",
        "SELECT id FROM tagged WHERE id > 1 AND $1 = ANY(tags)",
        (("red",), ("",), ("none",), (None,)),
    ),
    Example(
        "array_member",
        "SELECT id FROM tagged WHERE $1 = ANY(codes)",
        (("ab",), ("abcd",), ("abcde",), (None,)),
    ),
    Example("array_member", "SELECT id FROM tagged WHERE 2 = ANY(numbers) OR id = 7"),
    Example(
        "array_member",
        "SELECT id FROM tagged WHERE $1::numeric = ANY(amounts)",
        (("1.5",), ("2",), (None,)),
    ),
    # NULLs that equal each other
    Example("not_distinct", "SELECT id FROM books WHERE isbn IS NOT DISTINCT FROM 'isbn-7'"),
    Example(
        "not_distinct",
        "SELECT id FROM books WHERE $1::text IS NOT DISTINCT FROM ref OR pages > 200",
        (("7",), ("none",)),
        apart=((None,),),
        equality=C,
    ),
    # Casts
    Example("column_cast", "SELECT id FROM books WHERE pages = 300.0"),
    Example("column_cast", "SELECT id FROM books WHERE pages > 99.5 AND pages <= 200.0"),
    Example("column_cast", "SELECT id FROM books WHERE -0.5 <= pages"),
    Example("column_cast", "SELECT id FROM books WHERE 250.5 > pages"),
    Example(
        "column_cast",
        "SELECT id FROM books WHERE pages = $1::numeric",
        (("300",), ("300.0",), ("299.5",), (None,), ("-1",)),
        apart=(("99999999999",),),
        equality=C,
    ),
    Example(
        "column_cast",
        "SELECT id FROM books WHERE id::text = $1",
        (("7",), ("007",), (" 7",), ("+7",), (None,)),
        apart=(("seven",), ("",)),
        equality=C,
    ),
    Example(
        "column_cast",
        "SELECT id FROM books WHERE token::text = $1",
        (
            ("c4ca4238-a0b9-2382-0dcc-509a6f75849b",),
            ("C4CA4238-A0B9-2382-0DCC-509A6F75849B",),
            (None,),
        ),
        apart=(("x",),),
        equality=C,
    ),
    Example(
        "column_cast",
        "SELECT id FROM books WHERE ref::integer = $1",
        ((12,), (99,), (None,)),
        apart=((7,),),
        equality=C,
    ),
    Example(
        "column_cast",
        "SELECT id FROM authors WHERE code = $1::text",
        (("a",), ("a ",), ("ab",), ("abc",), ("",), (None,)),
    ),
    Example(
        "column_cast",
        "SELECT id FROM books WHERE published AT TIME ZONE 'UTC' >= $1",
        (*INSTANTS, ("infinity",), ("-infinity",)),
        zone="Europe/Berlin",
    ),
    # OR
    Example(
        "or_to_union",
        "SELECT id, title FROM books WHERE author_id = $1 OR editor_id = $2",
        ((1, 1), (1, 2), (None, 3), (2, None), (None, None), (99, 99)),
    ),
    Example(
        "or_to_union",
        "SELECT kind, title FROM books WHERE (author_id = $1 OR editor_id = $2 OR pages IS NULL) "
        "AND price > $3",
        ((1, 1, 0), (None, 3, 0.5), (2, None, None)),
    ),
    Example(
        "or_to_union",
        "SELECT b.title, a.name FROM books b LEFT JOIN authors a ON a.id = b.author_id "
        "WHERE b.kind = $1 OR a.country = $2",
        (("novel", "SE"), ("poem", None), (None, "GB"), (None, None)),
    ),
    Example(
        "or_to_union",
        "SELECT id, title FROM books WHERE author_id = $1 OR id IN (SELECT book_id FROM sales "
        "WHERE buyer_id = $2) ORDER BY title, id DESC",
        ((1, 1), (None, 4), (3, None)),
        ordered=True,
    ),
    Example(
        "or_to_union",
        "SELECT b.id, b.title AS t FROM books b WHERE b.author_id = $1 OR b.editor_id = $1 "
        "ORDER BY b.id DESC LIMIT 5",
        ((1,), (3,), (None,)),
        ordered=True,
    ),
    Example(
        "or_to_union",
        "SELECT id, title FROM books WHERE author_id = $1 OR editor_id = $1 "
        "ORDER BY title LIMIT 50",
        ((1,), (3,), (None,)),
        equality=C,
    ),
    # Correlated subqueries
    Example(
        "grouped_join",
        "SELECT a.id, a.name, (SELECT count(*) FROM books b WHERE b.author_id = a.id) AS books "
        "FROM authors a",
    ),
    Example(
        "grouped_join",
        "SELECT *, (SELECT coalesce(sum(pages), -1) FROM books WHERE author_id = authors.id "
        "AND kind = $1) FROM authors ORDER BY id",
        NOVEL,
        ordered=True,
    ),
    Example(
        "grouped_join",
        "SELECT a.id, (SELECT count(*) FROM books b WHERE b.author_id = a.id) FROM authors a",
    ),
    Example(
        "grouped_join",
        "SELECT b.id FROM books b WHERE b.price > (SELECT avg(price) FROM books o "
        "WHERE o.kind = b.kind)",
    ),
    Example(
        "grouped_join",
        "SELECT a.id, (SELECT count(DISTINCT kind) FROM books b WHERE b.author_id = a.id), "
        "(SELECT max(published) FROM books b WHERE b.author_id = a.id) AS latest "
        "FROM authors a, shelves s WHERE s.author_id = a.id",
    ),
    Example(
        "grouped_join",
        "SELECT a.name FROM authors a WHERE (SELECT count(*) FILTER (WHERE pages > $1) FROM books "
        "WHERE books.author_id = a.id) = 0",
        ((100,), (None,)),
    ),
    Example(
        "lookup_join",
        "SELECT b.id, (SELECT name FROM authors WHERE id = b.author_id) FROM books b",
    ),
    Example(
        "lookup_join",
        "SELECT id, (SELECT a.name FROM authors a WHERE a.id = author_id AND a.country = $1) "
        "AS who, "
        "(SELECT a.email FROM authors a WHERE a.id = author_id AND a.country = $1) "
        "FROM books ORDER BY id",
        (("SE",), ("",), (None,)),
        ordered=True,
    ),
    Example(
        "lookup_join",
        "SELECT l.reader, (SELECT until FROM loans WHERE book_id = l.book_id AND reader = 1) "
        "FROM loans l WHERE l.reader > 1",
    ),
    # Repeated subqueries
    Example(
        "one_lateral",
        "SELECT id, (SELECT max(sold_at) FROM sales WHERE book_id = books.id) FROM books "
        "WHERE (SELECT max(sold_at) FROM sales WHERE book_id = books.id) > $1",
        (("2026-01-20",), (None,)),
    ),
    Example(
        "one_lateral",
        "SELECT b.id, (SELECT s.quantity FROM sales s WHERE s.book_id = b.id ORDER BY s.id DESC "
        "LIMIT 1) AS last, (SELECT s.sold_at FROM sales s WHERE s.book_id = b.id "
        "ORDER BY s.id DESC LIMIT 1) FROM books b ORDER BY b.id",
        ordered=True,
    ),
    Example(
        "one_lateral",
        "SELECT *, (SELECT name FROM authors WHERE id = books.author_id), "
        "(SELECT email FROM authors WHERE id = books.author_id) FROM books",
    ),
    Example(
        "one_lateral",
        "SELECT kind, count(*) FROM books WHERE pages > (SELECT avg(pages) FROM books) "
        "OR price > (SELECT avg(price) FROM books) GROUP BY kind",
    ),
    # DISTINCT
    Example(
        "distinct_to_exists",
        "SELECT DISTINCT a.id, a.name FROM authors a JOIN books b ON b.author_id = a.id "
        "WHERE b.kind = $1",
        NOVEL,
    ),
    Example(
        "distinct_to_exists",
        "SELECT DISTINCT country FROM authors a, books b, sales s WHERE b.author_id = a.id "
        "AND s.book_id = b.id AND a.born IS NOT NULL ORDER BY country DESC NULLS LAST",
        ordered=True,
    ),
    Example(
        "distinct_to_exists",
        "SELECT DISTINCT a.* FROM books b JOIN authors a ON a.id = b.author_id OR a.email = b.isbn",
    ),
    Example("needless_distinct", "SELECT DISTINCT id, title FROM books"),
    Example(
        "needless_distinct",
        "SELECT DISTINCT b.id, a.name, b.title FROM books b LEFT JOIN authors a "
        "ON a.id = b.author_id WHERE b.kind = $1",
        NOVEL,
    ),
    Example(
        "needless_distinct",
        "SELECT DISTINCT kind, pages, count(*) FROM books GROUP BY kind, pages",
    ),
    Example(
        "needless_distinct", "SELECT DISTINCT reader FROM loans WHERE book_id = $1", ((3,), (99,))
    ),
    Example(
        "unseen_order",
        "SELECT id FROM books WHERE author_id IN (SELECT DISTINCT author_id FROM shelves "
        "ORDER BY author_id)",
    ),
    Example(
        "unseen_order",
        "SELECT count(*), max(pages) FROM (SELECT * FROM books ORDER BY title) AS b",
    ),
    Example(
        "unseen_order",
        "SELECT b.title FROM (SELECT DISTINCT title, kind FROM books ORDER BY kind, title) AS b "
        "ORDER BY b.title, b.kind",
        ordered=True,
    ),
    # UNION
    Example(
        "union_all",
        "SELECT id, 'author' AS what FROM authors UNION SELECT id, 'book' FROM books ORDER BY 2, 1",
        ordered=True,
    ),
    Example(
        "union_all",
        "SELECT id, kind FROM books WHERE kind = 'novel' UNION "
        "SELECT id, kind FROM books WHERE kind = 'poem'",
    ),
    Example(
        "union_all",
        "SELECT id FROM authors WHERE id IN (SELECT author_id FROM books UNION "
        "SELECT editor_id FROM books UNION SELECT author_id FROM shelves)",
    ),
    # Counts
    Example(
        "exists",
        "SELECT a.id FROM authors a WHERE (SELECT count(*) FROM books b WHERE b.author_id = a.id "
        "AND b.kind = $1) > 0",
        NOVEL,
    ),
    Example(
        "exists",
        "SELECT a.id, (SELECT count(b.pages) FROM books b WHERE b.author_id = a.id) = 0 AS none "
        "FROM authors a",
    ),
    Example(
        "exists",
        "SELECT a.id FROM authors a WHERE (SELECT count(b) FROM books b "
        "WHERE b.author_id = a.id AND b.isbn IS NULL) > 0",
    ),
    Example("exists", "SELECT count(place) > 0 FROM counters WHERE id > 1"),
    Example(
        "union_all",
        "SELECT id FROM books WHERE id IN (SELECT count(*) FROM (SELECT kind FROM books "
        "UNION SELECT kind FROM books) AS k UNION SELECT 1)",
    ),
    Example(
        "or_to_union",
        'SELECT "2", "1" FROM grid WHERE "1" = 2 OR "2" = 3 ORDER BY "1", "2"',
        ordered=True,
    ),
    Example("exists", "SELECT count(*) >= 1 FROM books WHERE kind = $1", NOVEL),
    Example(
        "exists",
        "SELECT a.id FROM authors a WHERE 1 > (SELECT count(DISTINCT b.kind) FROM books b "
        "WHERE b.author_id = a.id)",
    ),
    Example(
        "exists",
        "SELECT a.id FROM authors a WHERE (SELECT count(*) FROM books b WHERE b.author_id = a.id "
        "AND b.kind = $1) > $2",
        (("novel", 0), (None, 0)),
        apart=(("novel", 4),),
        equality=C,
    ),
    Example("count_of_key", "SELECT count(DISTINCT id) FROM books WHERE kind = $1", NOVEL),
    Example("count_of_key", "SELECT kind, count(DISTINCT isbn) FROM books GROUP BY kind"),
    Example(
        "count_of_key",
        "SELECT a.country, count(DISTINCT b.id) FROM authors a LEFT JOIN books b "
        "ON b.author_id = a.id GROUP BY a.country",
    ),
    Example(
        "having_to_where",
        "SELECT kind, count(*) FROM books GROUP BY kind HAVING kind <> $1 AND count(*) > 3",
        NOVEL,
    ),
    Example(
        "having_to_where",
        "SELECT lower(title) AS t, sum(pages) FROM books GROUP BY 1 HAVING lower(title) > 'a'",
    ),
)

# What must be left alone: the rule, the statement, and why.
NOT_REWRITTEN: tuple[tuple[str, str, str], ...] = (
    ("keyset", "SELECT id FROM books ORDER BY published LIMIT $1 OFFSET $2", "NULLs in the order"),
    ("keyset", "SELECT tag FROM tags ORDER BY tag LIMIT 5 OFFSET 5", "no key breaks ties"),
    ("keyset", "SELECT id FROM books ORDER BY id LIMIT 5 OFFSET 0", "nothing is skipped"),
    (
        "keyset",
        "SELECT id, title FROM books ORDER BY title OFFSET 5 FETCH FIRST 5 ROWS WITH TIES",
        "ties belong to the page",
    ),
    ("keyset", "SELECT DISTINCT title FROM books ORDER BY title OFFSET 5", "rows are merged"),
    ("keyset", "SELECT id FROM books ORDER BY lower(title) OFFSET 5", "an expression"),
    ("keyset", "SELECT id FROM places ORDER BY id OFFSET $1", "children repeat the key"),
    (
        "keyset",
        "SELECT pages AS id FROM books ORDER BY id OFFSET 5",
        "the output's id, not the key",
    ),
    (
        "keyset",
        "SELECT a.id FROM authors a JOIN books b ON b.author_id = a.id ORDER BY a.id OFFSET 5",
        "each author comes once for every book",
    ),
    ("not_exists", "SELECT id NOT IN (SELECT author_id FROM books) FROM authors", "NULL is shown"),
    (
        "not_exists",
        "SELECT id FROM authors WHERE NOT (id NOT IN (SELECT author_id FROM books) AND id > 1)",
        "NULL and false differ below NOT",
    ),
    (
        "not_exists",
        "SELECT id FROM authors WHERE id NOT IN (SELECT author_id FROM books LIMIT 3)",
        "the limit counts before the comparison",
    ),
    (
        "not_exists",
        "SELECT id FROM authors WHERE id NOT IN (SELECT max(author_id) FROM books)",
        "an aggregate of nothing is a row",
    ),
    ("not_exists", "SELECT id FROM authors WHERE id NOT IN ($1, $2)", "no query"),
    ("range", "SELECT id FROM books WHERE date_trunc('day', printed) >= $1", "not at a boundary"),
    ("range", "SELECT id FROM books WHERE extract(month FROM printed) = 3", "no one range"),
    ("range", "SELECT id FROM books WHERE printed::date = $1::timestamp", "finer than a day"),
    ("range", "SELECT id FROM books WHERE printed::date = released", "no constant"),
    ("range", "SELECT id FROM books WHERE NOT printed::date = $1", "NULL and false differ"),
    ("range", "SELECT id FROM books WHERE extract(year FROM printed) = 2026.5", "no year"),
    ("range", "SELECT id FROM books WHERE ref::date = $1", "a text"),
    ("range", "SELECT printed::date = '2026-01-01' FROM books", "shown, not tested"),
    ("expression_index", "SELECT id FROM books WHERE lower(title) > $1", "no equality"),
    ("expression_index", "SELECT id FROM books WHERE lower(title) = kind", "no constant"),
    ("trigram", "SELECT id FROM books WHERE title LIKE 'The%'", "a beginning"),
    ("trigram", "SELECT id FROM books WHERE title LIKE '%ab%'", "two letters make no trigram"),
    ("trigram", "SELECT id FROM books WHERE title NOT LIKE '%tree%'", "nearly all rows"),
    ("array_member", "SELECT id FROM tagged WHERE 'x' <> ANY(tags)", "another question"),
    ("array_member", "SELECT id FROM tagged WHERE NOT 'x' = ANY(tags)", "NULL and false differ"),
    ("array_member", "SELECT id FROM tagged WHERE 1.5 = ANY(numbers)", "another type"),
    ("array_member", "SELECT id FROM books WHERE title = ANY($1)", "a list, no column"),
    ("not_distinct", "SELECT id FROM books WHERE ref IS DISTINCT FROM '7'", "another question"),
    ("not_distinct", "SELECT id FROM books WHERE ref IS NOT DISTINCT FROM kind", "no constant"),
    (
        "not_distinct",
        "SELECT id FROM books WHERE NOT ref IS NOT DISTINCT FROM '7'",
        "NULL and false differ",
    ),
    ("not_distinct", "SELECT id FROM books WHERE ref IS NOT DISTINCT FROM NULL", "it is NULL"),
    ("column_cast", "SELECT id FROM books WHERE pages = 300", "the same type"),
    ("column_cast", "SELECT id FROM books WHERE pages = 299.5", "finds nothing anyway"),
    ("column_cast", "SELECT id FROM books WHERE pages = 3000000000", "a bigint has its operator"),
    ("column_cast", "SELECT id FROM sales WHERE id = $1::float8", "doubles merge large numbers"),
    ("column_cast", "SELECT id FROM books WHERE weight::text = $1", "written in several ways"),
    ("column_cast", "SELECT id FROM books WHERE price = 2.50", "a decimal column"),
    (
        "column_cast",
        "SELECT id FROM books WHERE published AT TIME ZONE 'Europe/Berlin' >= $1",
        "summer time repeats an hour",
    ),
    ("or_to_union", "SELECT id FROM books WHERE kind = $1 OR kind = $2", "one column"),
    ("or_to_union", "SELECT count(*) FROM books WHERE id = 1 OR kind = $1", "an aggregate"),
    ("or_to_union", "SELECT DISTINCT kind FROM books WHERE id = 1 OR kind = $1", "rows are merged"),
    ("or_to_union", "SELECT id FROM books WHERE id = 1 OR kind = $1 LIMIT 3", "any three rows"),
    (
        "or_to_union",
        "SELECT id FROM books WHERE id = 1 OR kind = $1 ORDER BY pages",
        "not returned",
    ),
    ("or_to_union", "SELECT id, random() FROM books WHERE id = 1 OR kind = $1", "volatile"),
    ("or_to_union", "SELECT id FROM books WHERE id = 1 OR kind = $1 FOR UPDATE", "it locks rows"),
    (
        "grouped_join",
        "SELECT a.id, (SELECT sum(s.discount) FROM sales s WHERE s.buyer_id = a.id) FROM authors a",
        "a sum of reals depends on the order",
    ),
    (
        "grouped_join",
        "SELECT a.id, (SELECT string_agg(b.kind, ',') FROM books b WHERE b.author_id = a.id) "
        "FROM authors a",
        "the order of what is put together",
    ),
    (
        "grouped_join",
        "SELECT a.id, (SELECT count(*) FROM books b WHERE b.author_id > a.id) FROM authors a",
        "no equality",
    ),
    (
        "grouped_join",
        "SELECT a.id, (SELECT sum(b.pages + a.id) FROM books b WHERE b.author_id = a.id) "
        "FROM authors a",
        "the outer row is summed",
    ),
    (
        "grouped_join",
        "SELECT a.country, max((SELECT count(*) FROM books b WHERE b.author_id = a.id)) "
        "FROM authors a GROUP BY a.country",
        "the outer query groups",
    ),
    (
        "lookup_join",
        "SELECT b.id, (SELECT name FROM authors WHERE email = b.isbn) FROM books b",
        "no unique key",
    ),
    (
        "lookup_join",
        "SELECT b.id, (SELECT coalesce(name, '?') FROM authors WHERE id = b.author_id) "
        "FROM books b",
        "the default would stand where no row is",
    ),
    (
        "lookup_join",
        "SELECT b.id, (SELECT name FROM places WHERE id = b.author_id) FROM books b",
        "children repeat the key",
    ),
    (
        "one_lateral",
        "SELECT id, (SELECT random()), (SELECT random()) FROM books",
        "volatile",
    ),
    (
        "one_lateral",
        "SELECT id, (SELECT max(pages) FROM books WHERE kind = 'novel'), "
        "(SELECT max(pages) FROM books WHERE kind = 'poem') FROM authors",
        "other rows",
    ),
    (
        "distinct_to_exists",
        "SELECT DISTINCT a.id, b.kind FROM authors a JOIN books b ON b.author_id = a.id",
        "both are returned",
    ),
    (
        "distinct_to_exists",
        "SELECT a.id FROM authors a JOIN books b ON b.author_id = a.id",
        "the copies are wanted",
    ),
    (
        "distinct_to_exists",
        "SELECT DISTINCT a.id FROM authors a LEFT JOIN books b ON b.author_id = a.id",
        "those without a partner too",
    ),
    ("needless_distinct", "SELECT DISTINCT isbn FROM books", "NULL comes more than once"),
    ("needless_distinct", "SELECT DISTINCT title FROM books", "no key"),
    (
        "needless_distinct",
        "SELECT DISTINCT b.id FROM authors a LEFT JOIN books b ON b.author_id = a.id "
        "AND b.kind = 'none'",
        "NULL for every author without a book",
    ),
    ("needless_distinct", "SELECT DISTINCT id, name FROM places", "children repeat the key"),
    (
        "needless_distinct",
        "SELECT DISTINCT a.id FROM authors a JOIN books b ON b.author_id = a.id",
        "each author once for every book",
    ),
    ("needless_distinct", "SELECT DISTINCT ON (id) id, title FROM books", "DISTINCT ON"),
    ("needless_distinct", "SELECT DISTINCT count(*) FROM books GROUP BY kind", "equal counts"),
    ("needless_distinct", "SELECT DISTINCT id, unnest(ARRAY[1, 1]) FROM books", "rows are made"),
    (
        "needless_distinct",
        "SELECT DISTINCT kind FROM books GROUP BY ROLLUP (kind)",
        "grouping sets",
    ),
    (
        "unseen_order",
        "SELECT array_agg(title) FROM (SELECT title FROM books ORDER BY id) AS b",
        "the order is seen",
    ),
    ("unseen_order", "SELECT * FROM (SELECT id FROM books ORDER BY title) AS b LIMIT 3", "seen"),
    (
        "unseen_order",
        "SELECT id FROM books WHERE id IN (SELECT id FROM books ORDER BY pages LIMIT 3)",
        "the order decides which three",
    ),
    (
        "unseen_order",
        "SELECT count(*) FROM (SELECT DISTINCT ON (kind) * FROM books ORDER BY kind, pages) AS b",
        "DISTINCT ON",
    ),
    ("union_all", "SELECT id FROM authors UNION SELECT id FROM books", "shared rows"),
    ("union_all", "SELECT title, 1 AS n FROM books UNION SELECT name, 2 FROM authors", "copies"),
    (
        "union_all",
        "SELECT id, pages FROM books WHERE pages = 100 UNION SELECT id, pages FROM books "
        "WHERE pages = 100.0",
        "the same number",
    ),
    (
        "exists",
        "SELECT a.id FROM authors a WHERE (SELECT count(*) FROM books b "
        "WHERE b.author_id = a.id) > 1",
        "more than one",
    ),
    (
        "exists",
        "SELECT a.id FROM authors a WHERE (SELECT count(*) FROM books b WHERE b.author_id = a.id "
        "GROUP BY b.kind LIMIT 1) > 0",
        "groups: NULL where there is none",
    ),
    ("exists", "SELECT kind, count(*) > 0 FROM books GROUP BY kind", "groups"),
    ("count_of_key", "SELECT count(DISTINCT kind) FROM books", "no key"),
    ("count_of_key", "SELECT count(DISTINCT id) FROM places", "children repeat the key"),
    (
        "count_of_key",
        "SELECT count(DISTINCT a.id) FROM authors a JOIN books b ON b.author_id = a.id",
        "each author once for every book",
    ),
    ("having_to_where", "SELECT count(*) FROM books HAVING 1 = 0", "no groups: one row or none"),
    ("having_to_where", "SELECT kind FROM books GROUP BY kind HAVING count(*) > 3", "an aggregate"),
    (
        "having_to_where",
        "SELECT kind, count(*) FROM books GROUP BY ROLLUP (kind) HAVING kind IS NULL",
        "grouping sets",
    ),
    (
        "needless_distinct",
        "WITH Books AS (SELECT author_id AS id FROM public.books) SELECT DISTINCT id FROM books",
        "the CTE hides the table",
    ),
    (
        "needless_distinct",
        "SELECT DISTINCT id FROM writers",
        "a view, not the table of another schema",
    ),
    (
        "needless_distinct",
        "SELECT DISTINCT kind, unnest(ARRAY[1, 1]) FROM books GROUP BY kind",
        "rows are made of groups",
    ),
    (
        "needless_distinct",
        "SELECT DISTINCT count(*), unnest(ARRAY[1, 1]) FROM books",
        "rows are made of one",
    ),
    (
        "needless_distinct",
        "SELECT DISTINCT r.value FROM readings r JOIN counters c ON c.id = r.value",
        "several bigints are equal to one double",
    ),
    (
        "needless_distinct",
        "SELECT DISTINCT c.place FROM counters c WHERE c.id = 9007199254740992::float8",
        "several bigints are equal to one double",
    ),
    (
        "unseen_order",
        "SELECT sum(w) FROM (SELECT weight AS w FROM books ORDER BY id) AS b",
        "a sum of doubles depends on their order",
    ),
    (
        "union_all",
        "SELECT id FROM books WHERE id IN (SELECT author_id FROM books UNION SELECT "
        "editor_id FROM books OFFSET 3)",
        "OFFSET counts",
    ),
    (
        "count_of_key",
        "SELECT count(DISTINCT r.value) FROM readings r JOIN counters c ON c.id = r.value",
        "several bigints are equal to one double",
    ),
    (
        "not_exists",
        "SELECT id FROM authors RIGHT JOIN books USING (id) WHERE id NOT IN (SELECT "
        "book_id FROM loans)",
        "the merged column is neither table's",
    ),
    (
        "one_lateral",
        "SELECT (SELECT title AS x FROM books b WHERE b.author_id = a.id ORDER BY 1 "
        "LIMIT 1), (SELECT isbn FROM books b WHERE b.author_id = a.id ORDER BY 1 "
        "LIMIT 1) FROM authors a",
        "each is ordered by what it selects",
    ),
    (
        "one_lateral",
        "SELECT (SELECT title AS x FROM books b WHERE b.author_id = a.id ORDER BY x "
        "LIMIT 1), (SELECT isbn AS x FROM books b WHERE b.author_id = a.id ORDER BY x "
        "LIMIT 1) FROM authors a",
        "each is ordered by what it selects",
    ),
    (
        "lookup_join",
        "SELECT country, (SELECT name FROM authors a WHERE a.id = b.author_id) FROM "
        "books b, (SELECT 'x' AS country) AS s",
        "the name would be ambiguous",
    ),
    (
        "lookup_join",
        "SELECT tableoid, (SELECT name FROM authors a WHERE a.id = b.author_id) FROM books b",
        "every table has it",
    ),
    (
        "grouped_join",
        "SELECT r.value, (SELECT count(*) FROM counters c WHERE c.id = r.value) FROM readings r",
        "several bigints are equal to one double",
    ),
    (
        "grouped_join",
        "SELECT a.id, (SELECT sum(quantity::float8 / 3) FROM sales s WHERE s.book_id "
        "= a.id) FROM authors a",
        "a sum of doubles depends on their order",
    ),
    (
        "column_cast",
        "SELECT id FROM books WHERE pages = 16777217::real",
        "a real leaves out whole numbers",
    ),
    (
        "column_cast",
        "SELECT id FROM books WHERE id > 2.6::numeric(10, 0)",
        "numeric(10, 0) rounds",
    ),
    (
        "column_cast",
        "SELECT id FROM books WHERE published AT TIME ZONE 'UTC' >= now()",
        "now() goes by the session's zone",
    ),
    ("any_array", "SELECT id FROM books WHERE id IN ($1, $2, $3)", "a short list"),
    ("random_order", "SELECT id FROM books ORDER BY random()", "all rows"),
    ("select_star", "SELECT * FROM shelves", "narrow rows"),
    ("select_star", "SELECT id, sender FROM letters", "no star"),
)

SHOWN = {
    "keyset": "SELECT id, title FROM books WHERE kind = $1 ORDER BY title DESC LIMIT 20 OFFSET $2",
    "range": "SELECT id FROM books WHERE date_trunc('day', published) = $1",
    "column_cast": "SELECT id FROM books WHERE id::text = $1",
    "any_array": "SELECT id FROM books WHERE author_id IN ($1 /*, ... */)",
    "random_order": "SELECT id FROM sales ORDER BY random() LIMIT 5",
    "select_star": "SELECT * FROM letters WHERE sender = $1",
}
MARK = "<!-- written by `python -m tests.advise.rewriting` -->"


def examples_text(catalog: Catalog) -> str:
    """Return the document's examples, one for each rule."""
    first = {e.rule: e.sql for e in reversed(EXAMPLES)} | SHOWN
    return "\n".join(_example_text(rule, first[rule], catalog) for rule in RULES)


def _example_text(rule: str, sql: str, catalog: Catalog) -> str:
    found = rewrite_by(rule, sql, _large(catalog) if rule == "random_order" else catalog)
    assert found is not None, rule
    ddl = [found.setup, *(i.ddl() for i in found.indexes)]
    more = "".join(f"\n{d};" for d in ddl if d)
    return (
        f"### `{rule}`\n\n{found.title}. {found.why}\n\n```sql\n{sql};\n```\n\n"
        f"becomes\n\n```sql\n{found.sql};{more}\n```\n\n{found.obligation}\n"
    )


def _large(catalog: Catalog) -> Catalog:
    tables = tuple(
        replace(t, row_count=1e6, live_rows=1_000_000) if t.name == "sales" else t
        for t in catalog.tables
    )
    return replace(catalog, tables=tables)


def main() -> None:
    """Write the examples into the document."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        binaries = wheel_binaries(folder)
        with Cluster(folder / "pg", binaries, THROWAWAY_SETTINGS, durable=False) as cluster:
            with connect(cluster.dsn(), autocommit=True) as connection:
                connection.execute(SCHEMA.encode())
                connection.execute("ANALYZE")
                text = examples_text(read_catalog(connection))
    head = DOCUMENT.read_text(encoding="utf-8").split(MARK)[0]
    DOCUMENT.write_text(f"{head}{MARK}\n\n{text}", encoding="utf-8")


if __name__ == "__main__":
    main()
