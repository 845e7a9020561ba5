"""The join of the chain: the application's text and the server's give one fingerprint."""

from __future__ import annotations

from decimal import Decimal

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from perfcore.db import connect
from perfcore.normalise import (
    OVERSIZED,
    UNPARSABLE,
    fingerprint,
    fingerprint_hex,
    from_hex,
    normalise,
    storable,
)

_CASES = [
    ("select  1", "select ?"),
    ("SELECT a -- why\nFROM t", "SELECT a FROM t"),
    ("/* app */ SELECT /* a /* nested */ b */ x FROM t /* tail */", "SELECT x FROM t"),
    ("SELECT 'it''s', E'a\\'b', U&'x', B'01', $$x$$, $t$a$$b$t$", "SELECT ?, ?, ?, ?, ?, ?"),
    ("a = %(id_1)s::INTEGER AND b = %s", "a = ?::INTEGER AND b = ?"),
    ("a = :id AND b::text = $12", "a = ? AND b::text = ?"),
    ("x = -5 AND y = - 5", "x = ? AND y = ?"),
    ("x - 5, x -5, x-5, (x)-5, a[1]-5", "x - ?, x -?, x-?, (x)-?, a[?]-?"),
    ("LIMIT -1 OFFSET 1e-3", "LIMIT ? OFFSET ?"),
    ("SELECT -x, 5 - -3", "SELECT -x, ? - ?"),
    ("f(-5, .5, 1_000, 0xFF)", "f(?, ?, ?, ?)"),
    ("a IS NULL AND b IS NOT TRUE AND c = NULL", "a IS NULL AND b IS NOT TRUE AND c = ?"),
    ("a = true OR nullable = false", "a = ? OR nullable = ?"),
    ("a IN (1, 2, 3)", "a IN (?)"),
    ("a IN ($1 /*, ... */)", "a IN (?)"),
    ("a IN (%(a_1)s::INTEGER, %(a_2)s::INTEGER)", "a IN (?)"),
    ("a IN ('x'::timestamp with time zone, 'y'::timestamp with time zone)", "a IN (?)"),
    ("(a, b) IN ((1, 2), (3, 4))", "(a, b) IN (?)"),
    ("a IN (b, 2)", "a IN (b, ?)"),
    ("INSERT INTO t (a, b) VALUES (1, 'x'), (2, 'y')", "INSERT INTO t (a, b) VALUES (?)"),
    ("= ANY(ARRAY[1, 2])", "= ANY(ARRAY[?])"),
    ("= ANY(%(x)s::INTEGER[])", "= ANY(?::INTEGER[])"),
    ("coalesce(a, 1, 2)", "coalesce(a, ?, ?)"),
    ('SELECT "Ab -- no", t1.c2 FROM t1;', 'SELECT "Ab -- no", t1.c2 FROM t1'),
    ("a %% 2, b % 2, b%s", "a % ?, b % ?, b%s"),
    ("SELECT 'never closed", "SELECT ?"),
    ("SELECT 1 /* never closed", "SELECT ?"),
    ("", ""),
]


@pytest.mark.parametrize(("text", "expected"), _CASES)
def test_normalise(text: str, expected: str) -> None:
    assert normalise(text) == expected


@settings(deadline=None)
@given(st.text(alphabet="abIN(),?'\"-$1 :%/*\n;[]=_VALUES", max_size=60))
def test_any_text_is_accepted_and_whitespace_is_single(text: str) -> None:
    assert '"' in text or "\n" not in normalise(text)
    assert -(2**63) <= fingerprint(text) < 2**63


_HOSTILE = {
    "names that never end": "%(" * 500_000,
    "casts in a list with a column": "IN (" + "'x'::timestamp with time zone, " * 20_000 + "a)",
    "types with many words": "IN (?" + "::a (1) b (1) c" * 60_000,
    "a list that never ends": "IN (" + "1, " * 300_000,
    "lists within lists": "VALUES ((1, IN (2, " * 50_000,
    "quotes": "'" + "''" * 500_000,
    "seven literals and a quote": "'a'," * 7 + "'" + "''" * 400_000,
    "comments": "/*" * 500_000,
    "dollars": "$a$ $b$ " * 100_000,
    "parentheses": "(" * 200_000,
}


@pytest.mark.fault(34, 35)
@pytest.mark.parametrize("shape", _HOSTILE)
def test_a_hostile_text_is_read_in_linear_time(shape: str) -> None:
    """A quadratic reading of a megabyte takes minutes to years: the suite's timeout sees it."""
    text = _HOSTILE[shape]
    assert isinstance(normalise(text), str)
    assert storable(text) in (OVERSIZED, UNPARSABLE)


_ITEM = st.sampled_from(["1", "'it''s'", "$1", "%(a_1)s::INTEGER", "-3", "?", "NULL", "a", "-'x'"])


@settings(deadline=None)
@given(st.lists(_ITEM, min_size=1, max_size=30), st.sampled_from([", ", ",", " ,\n"]))
def test_a_long_list_reads_as_its_items_do(items: list[str], comma: str) -> None:
    """Literals in a row are taken at once; the text must not tell."""
    space = {", ": ", ", ",": ",", " ,\n": " , "}[comma]
    expected = space.join(normalise(f"({item})")[1:-1] for item in items)
    assert normalise(f"f({comma.join(items)})") == f"f({expected})"


@settings(deadline=None)
@given(st.integers(-(2**63), 2**63 - 1))
def test_hex_round_trip(fp: int) -> None:
    assert from_hex(fingerprint_hex(fp)) == fp


def test_a_wrong_hex_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="'xyz'"):
        from_hex("xyz")


def test_fingerprints_do_not_move_between_releases() -> None:
    assert fingerprint_hex(fingerprint("SELECT * FROM t WHERE id = 7")) == (
        fingerprint_hex(fingerprint("SELECT *  FROM t WHERE id = $1;"))
    )


_METADATA = sa.MetaData()
_ORDERS = sa.Table(
    "orders",
    _METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("customer_id", sa.BigInteger),
    sa.Column("total", sa.Numeric(10, 2)),
    sa.Column("note", sa.Text),
    sa.Column("paid", sa.Boolean),
    sa.Column("at", sa.DateTime(timezone=True)),
)
_O = _ORDERS.c
_STATEMENTS: list[sa.Executable] = [
    sa.select(_ORDERS).where(_O.id == 1),
    sa.select(_O.id).where(_O.customer_id.in_([1, 2, 3])).order_by(_O.at.desc()).limit(5),
    sa.select(_O.id).where(_O.customer_id.in_([1])).offset(2),
    sa.select(_O.id).where(_O.customer_id.in_([])),
    sa.select(sa.func.count()).where(_O.note.like("a%"), _O.paid.is_(None)),
    sa.select(_O.id % 5, _O.id - 3, -_O.id).where(_O.total > Decimal("-1.5")),
    sa.select(sa.func.date_trunc("day", _O.at), sa.func.sum(_O.total)).group_by(sa.text("1")),
    sa.select(_O.id).where(sa.tuple_(_O.id, _O.customer_id).in_([(1, 2), (3, 4)])),
    sa.select(sa.case((_O.paid, 1), else_=-1)).where(_O.paid.is_(True)),
    sa.insert(_ORDERS).values([{"id": 1, "note": "x"}, {"id": 2, "note": "y"}]),
    sa.update(_ORDERS).where(_O.id == 1).values(note=None, paid=True),
    sa.text("SELECT note -- why\n FROM orders WHERE id = -5 AND note <> 'it''s' LIMIT 3"),
    sa.text("SELECT id FROM orders WHERE at > now() - interval '1 day' AND id = :id").bindparams(
        id=1
    ),
    sa.text("SELECT id FROM orders WHERE id = ANY(ARRAY[1, 2, 3]) AND total > -1.5 /* end */"),
]


@pytest.mark.parametrize("server", ["dsn", "dsn15"])
def test_application_and_server_agree(server: str, request: pytest.FixtureRequest) -> None:
    dsn = request.getfixturevalue(server)
    sent: list[str] = []
    engine = sa.create_engine(
        dsn.replace("postgresql://", "postgresql+psycopg://"), poolclass=sa.NullPool
    )
    with connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION pg_stat_statements")
        with engine.begin() as session:
            _METADATA.create_all(session)
        sa.event.listen(engine, "before_cursor_execute", lambda *a: sent.append(a[2]))
        with engine.begin() as session:
            for statement in _STATEMENTS:
                session.execute(statement)
        engine.dispose()
        rows = connection.execute(
            "SELECT query FROM pg_stat_statements JOIN pg_database d ON d.oid = dbid "
            "WHERE datname = current_database()"
        ).fetchall()
    remembered = {fingerprint(row[0]) for row in rows}
    texts = [row[0] for row in rows]
    lost = [text for text in sent if fingerprint(text) not in remembered]
    assert not lost, f"{[normalise(t) for t in lost]} not in {[normalise(t) for t in texts]}"
