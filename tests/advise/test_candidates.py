"""Which indexes are worth asking the planner about."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from perfcore.advise.candidates import propose
from perfcore.advise.selection import with_references
from perfcore.advise.statement import read_statement
from perfcore.types import Catalog, ColumnInfo, IndexInfo, TableInfo

COLUMNS = (
    ColumnInfo("id", "bigint", True, 8, 0.0, -1.0, 1.0),
    ColumnInfo("owner", "integer", True, 4, 0.0, 5000.0, 0.0),
    ColumnInfo("kind", "text", True, 8, 0.0, 3.0, 0.1, ("q", "a", "w"), (0.4, 0.58, 0.02)),
    ColumnInfo("deleted_at", "date", False, 4, 0.9, 300.0, 0.0),
    ColumnInfo("answer_id", "bigint", False, 8, 0.8, -0.2, 0.0),
    ColumnInfo("at", "date", True, 4, 0.0, 900.0, 0.999),
    ColumnInfo("slug", "text", True, 40, 0.0, -1.0, 0.0),
    ColumnInfo("title", "text", True, 60, 0.0, -0.9, 0.0),
    ColumnInfo("shown", "tstzrange", True, 22, 0.0, -1.0, 0.0),
    ColumnInfo("ip", "inet", True, 7, 0.0, -0.5, 0.0),
    ColumnInfo("spot", "point", True, 16, 0.0, None, None),
    ColumnInfo("tags", "text[]", True, 40, 0.0, -0.1, 0.0),
    ColumnInfo("doc", "jsonb", True, 80, 0.0, -1.0, 0.0),
)
PRIMARY = IndexInfo(
    1, "public", "posts", "posts_pkey", "", "btree", ("id",), (), "", True, True, True, False,
    True, 10**7, 5,
)  # fmt: skip
POSTS = TableInfo(0, "public", "posts", 1e6, 5 * 10**7, COLUMNS, (PRIMARY,), live_rows=10**6)
CATALOG = Catalog(180000, "forum", datetime(2026, 1, 1, tzinfo=UTC), (POSTS,), None, ("pg_trgm",))


def proposed(where: str, select: str = "title") -> list[str]:
    shape = read_statement(f"SELECT {select} FROM posts WHERE {where}", CATALOG)
    found = propose(shape, CATALOG, min_table_rows=1).candidates
    return [c.index.body().partition(" USING ")[2].replace('"', "") for c in found]


@pytest.mark.parametrize(
    ("where", "wanted"),
    [
        # Neither test alone leaves little, both together do.
        (
            "kind = 'q' AND deleted_at IS NULL ORDER BY at DESC LIMIT 5",
            "btree (at DESC) WHERE kind = 'q' AND deleted_at IS NULL",
        ),
        ("kind IN ('q', 'w') AND owner = $1", "btree (owner) WHERE kind IN ('q', 'w')"),
        ("kind <> 'a' AND owner = $1", "btree (owner) WHERE kind <> 'a'"),
        ("kind NOT IN ('a', 'q') ORDER BY at", "btree (at) WHERE kind NOT IN ('a', 'q')"),
        ("kind = 'w' GROUP BY owner", "btree (owner) WHERE kind = 'w'"),
        ("answer_id = $1", "btree (answer_id) WHERE answer_id IS NOT NULL"),
        ("at > $1", "brin (at) WITH (pages_per_range = 8)"),
        ("at = $1 AND owner = 5", "brin (at) WITH (pages_per_range = 8)"),
        ("slug = $1", "hash (slug)"),
        ("title ILIKE 'abc%'", "gin (title gin_trgm_ops)"),
        ("title LIKE 'abc%'", "btree (title text_pattern_ops)"),
        ("title ^@ 'abc'", "btree (title text_pattern_ops)"),
        ("title ~ '^abc.*d'", "btree (title text_pattern_ops)"),
        ("title ~ '^abc?'", "gin (title gin_trgm_ops)"),
        ("title % 'abc'", "gin (title gin_trgm_ops)"),
        ("true ORDER BY title <-> 'abc' LIMIT 5", "gist (title gist_trgm_ops)"),
        ("shown && tstzrange($1, $2)", "gist (shown)"),
        ("now() <@ shown", "gist (shown)"),
        ("daterange(at, deleted_at) @> $1", "gist ((daterange(at, deleted_at)))"),
        ("shown -|- tstzrange($1, $2) AND owner = 5", "gist (shown)"),
        ("ip <<= inet '10.0.0.0/8'", "gist (ip inet_ops)"),
        ("ip << cidr $1", "gist (ip inet_ops)"),
        ("ip << '10.0.0.0/8' AND owner = 5", "btree (owner, ip)"),
        ("spot <@ box '((0,0),(1,1))'", "gist (spot)"),
        ("true ORDER BY point(1, 2) <-> spot LIMIT 5", "gist (spot)"),
        ("tags && ARRAY['a']", "gin (tags)"),
        ("doc @? '$.a'", "gin (doc jsonb_path_ops)"),
        ("doc @@ jsonpath '$.a == 1'", "gin (doc jsonb_path_ops)"),
    ],
)
def test_proposed(where: str, wanted: str) -> None:
    assert wanted in proposed(where)


@pytest.mark.parametrize(
    ("where", "unwanted"),
    [
        ("true ORDER BY spot <-> point(1, 2)", "gist (spot)"),
        ("owner % 2 = 0", "gin (owner gin_trgm_ops)"),
        ("title ILIKE 'abc%'", "text_pattern_ops"),  # no order of the text serves it
        ("id = $1", "INCLUDE"),  # beside the primary key
        ("id = $1", "brin"),
        ("owner = $1", "hash"),  # equal values share, and it is narrow
        ("kind = 'a' AND deleted_at IS NOT NULL", "kind = 'x'"),
    ],
)
def test_not_proposed(where: str, unwanted: str) -> None:
    assert not [p for p in proposed(where) if unwanted in p]


def test_columns_that_join_the_same_table_come_together() -> None:
    shape = read_statement(
        "SELECT p.title FROM posts p JOIN posts q ON q.owner = p.owner AND q.at = p.at", CATALOG
    )
    found = propose(shape, CATALOG, min_table_rows=1).candidates
    keys = {tuple(k.expression for k in c.index.keys) for c in found}
    assert ("owner", "at") in keys


def test_ranges_of_pages_must_hold_different_values() -> None:
    state = ColumnInfo("kind", "integer", True, 4, 0.0, 3.0, 0.96, ("1", "2"), (0.97, 0.02))
    table = replace(POSTS, columns=(*COLUMNS[:2], state))
    shape = read_statement("SELECT id FROM posts WHERE kind = 2", replace(CATALOG, tables=(table,)))
    found = propose(shape, replace(CATALOG, tables=(table,)), min_table_rows=1).candidates
    assert "brin" not in {c.index.method for c in found}


def test_a_column_that_joins_a_key_has_no_more_values_than_that_has_rows() -> None:
    people = TableInfo(
        1, "public", "people", 7000.0, 10**6, (ColumnInfo("id", "uuid", True),),
        (replace(PRIMARY, oid=2, table="people", name="people_pkey"),),
    )  # fmt: skip
    catalog = replace(CATALOG, tables=(POSTS, people))
    shape = read_statement("SELECT 1 FROM posts JOIN people ON people.id = posts.owner", catalog)
    known = {
        c.name: c.most_distinct for c in with_references(catalog, shape.uses).tables[0].columns
    }
    assert known["owner"] == 7000.0
    assert known["answer_id"] is None
