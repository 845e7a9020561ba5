"""Tags in comments: read as their writers meant them, and harmless whatever stands there."""

from __future__ import annotations

import string
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from perfcore.collect.statements import (
    describe,
    find_extension,
    is_own,
    queryid_of,
    read_statements,
)
from perfcore.collect.target import identify
from perfcore.collect.texts import read_texts
from perfcore.db import MARKER, QUERIES, connect, query
from perfcore.normalise import fingerprint, normalise
from perfcore.sqlcommenter import Tags, is_marked, tags, without_tags


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # The specification's own example.
        (
            "SELECT * FROM FOO /*action='%2Fparam*d',controller='index,'framework='spring',"
            "traceparent='00-5bd66ef5095369c7b0d1f8f4bd33716a-c532cb4098ac3dd2-01',"
            "tracestate='congo%3Dt61rcWkgMzE%2Crojo%3D00f067aa0ba902b7'*/",
            Tags(),  # with its misprint: controller='index,'framework is no list of tags
        ),
        (
            "SELECT * FROM FOO /*action='%2Fparam*d',controller='index',framework='spring',"
            "traceparent='00-5bd66ef5095369c7b0d1f8f4bd33716a-c532cb4098ac3dd2-01'*/",
            Tags(action="/param*d", controller="index", framework="spring"),
        ),
        # Django's, Flask's and SQLAlchemy's writers.
        (
            "INSERT INTO polls VALUES ($1) /*controller='index',db_driver='django.db.backends."
            "postgresql',framework='django%3A4.2',route='%5Epolls/%24'*/;",
            Tags(
                route="^polls/$", controller="index", framework="django:4.2",
                db_driver="django.db.backends.postgresql",
            ),
        ),
        ("SELECT 1 /*app_name='polls'*/", Tags(application="polls")),
        ("SELECT 1 /*route='O\\'Brien',action='it%27s'*/", Tags(route="O'Brien", action="it's")),
        # Rails: Marginalia, and query logs in either form and place.
        (
            "/*application:Shop,controller:orders,action:index*/ SELECT 1",
            Tags("Shop", "", "orders", "index"),
        ),
        (
            "SELECT 1 /*application:Shop,job:MailJob,line:/app/models/a.rb:12:in `x'*/",
            Tags(application="Shop", job="MailJob", location="/app/models/a.rb:12:in `x'"),
        ),
        (
            "SELECT 1 /*action='index',application='Shop',controller='orders',"
            "namespaced_controller='Admin%3A%3AOrders',source_location='app/a.rb%3A7'*/",
            Tags("Shop", "", "Admin::Orders", "index", location="app/a.rb:7"),
        ),
        # Several comments; the first that names a tag counts.
        ("/*route='a'*/ /* b */ SELECT 1 /*route='c',action='d'*/", Tags(route="a", action="d")),
        # Not around the whole statement, or no tags at all.
        ("SELECT /*route='a'*/ 1", Tags()),
        ("SELECT '/*route=''a''*/", Tags()),
        ("SELECT '/*route=''a''*/'", Tags()),
        ("SELECT $a$ /*route='a'*/", Tags()),
        ("SELECT 1 -- /*route='a'*/", Tags()),
        ('SELECT "/*route=\'a\'*/"', Tags()),
        ("SELECT E'\\' /*route=''a''*/ '", Tags()),
        ("SELECT 1 /* TODO: speed this up, please */", Tags()),
        ("SELECT 1 /*traceparent='00-1-2-3'*/", Tags()),
        ("SELECT 1 /*route='a'", Tags()),
        ("SELECT 1 /*route='a' /* nested */ */", Tags()),
        ("", Tags()),
    ],
)  # fmt: skip
def test_tags_are_read_as_they_were_written(text: str, expected: Tags) -> None:
    assert tags(text) == expected


_KEYS = ["application", "route", "controller", "action", "framework", "db_driver"]
_VALUES = st.text(string.printable.strip() + "äß√'\"%\\*/<>&;$", min_size=1, max_size=40)
_PAIRS = st.dictionaries(st.sampled_from(_KEYS), _VALUES, min_size=1)
_STATEMENTS = st.sampled_from(
    ["SELECT 1", "SELECT '/*' || $1", 'UPDATE "a/*b" SET c = $2', "SELECT $$/*$$ -- it's\n"]
)


def written(pairs: dict[str, str]) -> str:
    """Return the comment as the specification says: encoded, escaped, sorted, joined."""
    encoded = sorted((k, quote(v, safe="").replace("'", "\\'")) for k, v in pairs.items())
    return "/*" + ",".join(f"{k}='{v}'" for k, v in encoded) + "*/"


@given(_STATEMENTS, _PAIRS, st.booleans())
def test_what_the_specification_writes_comes_back(
    statement: str, pairs: dict[str, str], leading: bool
) -> None:
    comment = written(pairs)
    text = f"{comment} {statement}" if leading else f"{statement}{comment}"
    assert dict(tags(text).named()) == pairs
    assert without_tags(text) == statement.strip()
    assert normalise(text) == normalise(statement)
    assert fingerprint(text) == fingerprint(statement)
    assert not is_own(text) and is_own(f"{text} {MARKER}")


_PARTS = st.lists(
    st.sampled_from(
        ["/*", "*/", "'", "''", "\\'", '"', "$$", "$a$", "--", "\n", "=", ":", ",", "%", "%2",
         "%zz", "route", "route='", "application:", "<script>", "\0", "\ud800",
         "\u202e", MARKER, "E'", " "]
    ) | st.text(max_size=5),
    max_size=60,
).map("".join)  # fmt: skip


@given(_PARTS)
@example("/*route='" + "%" * 400 + "'*/")
@example("SELECT 1 /*route='a\0b\nc\u202ed'*/")
def test_hostile_texts_are_harmless(text: str) -> None:
    found = tags(text)
    for _, value in found.named():
        assert value.isprintable() and value == value.strip() and len(value) <= 200
    assert isinstance(without_tags(text), str)
    assert not is_marked(f"'{text.replace(chr(39), '')}{MARKER}'", MARKER)


@pytest.mark.parametrize(
    "part",
    ["/*", "*/", "'", "''", "E'\\", "$a$", "$", "\"", "--", "/**/", "/*a:1*/", "/*route='", "%",
     "e", "/*a='", ",a='1'", "\\", "\n"],
)  # fmt: skip
def test_sixty_four_kilobytes_of_anything_are_read_once(part: str) -> None:
    """As many steps as characters, whatever they are; the test's own timeout is the bound."""
    text = part * (1_048_576 // len(part))
    assert not tags(text)
    assert not tags("/*route='" + text + "'*/")
    assert not is_marked(text + MARKER + "x'", "/* other */")
    without_tags(text)


def test_our_own_statements_are_known_and_nobody_hides_behind_a_tag() -> None:
    for file in QUERIES.glob("*.sql"):
        assert is_own(query(file.name.removesuffix(".sql")))
    assert is_own(f"PREPARE p AS {MARKER} SELECT 1")
    for text in (
        f"SELECT 1 /*application:{MARKER}*/",
        f"SELECT 1 /*route='{MARKER}'*/",
        f"SELECT '{MARKER}'",
        f'SELECT 1 AS "{MARKER}"',
        f"SELECT $q${MARKER}$q$",
        f"SELECT 1 -- {MARKER}",
        "SELECT 1 /*application='%2F%2A%20perfcore%20%2A%2F'*/",
        "SELECT 1 /*perfcore*/",
    ):
        assert not is_own(text), text


def test_tags_come_back_from_the_server_and_never_split_a_statement(dsn: str) -> None:
    """Two routes, one entry: PostgreSQL keeps the text, and the tags, of the first."""
    statement = "SELECT count(*) FROM pg_catalog.pg_class WHERE relname = 'a'"
    with connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
        connection.execute("SELECT public.pg_stat_statements_reset()")
        for route in ("/first", "/second"):
            connection.execute((statement + written({"route": route})).encode())
        connection.execute(f'SELECT 1 AS "{MARKER}"'.encode())
        extension = find_extension(connection)
        who = identify(connection)
        entries = read_statements(connection, extension, who).entries
        wanted = [queryid_of(key) for key in entries]
        texts = read_texts(connection, extension.schema, who.database_oid, wanted)
        found = describe((t.queryid, t.text) for some in texts for t in some)
    ours = [t for _, fp, t in found if fp == fingerprint(statement)]
    assert [tags(t).route for t in ours] == ["/first"]
    assert any(MARKER in t for _, _, t in found)


def test_the_words_say_who() -> None:
    found = tags("/*application:shop,controller:Orders,action:index,db_driver:pg*/ SELECT 1")
    assert found.words() == "application shop, controller Orders#index, driver pg"
    assert tags("SELECT 1").words() == "" and not tags("SELECT 1")
