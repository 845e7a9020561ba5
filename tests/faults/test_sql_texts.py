"""What becomes of a statement's text: bounded, fit for the store, and without a value in it."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from perfcore.collect import Recorder, buffer, watch
from perfcore.collect.batching import Batcher, Limits
from perfcore.collect.sql_hooks import describe
from perfcore.normalise import OVERSIZED, UNPARSABLE
from perfcore.store.ingest import Batch
from tests.collect.conftest import Rows

_SECRET = "zebra7x"
_NUMBER = "7261540398"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _escaped(text: str) -> str:
    return "E'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _doubled(text: str) -> str:
    return "U&'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


def _dollars(text: str) -> str:
    return f"$t${text.replace('$', '')}$t$"


_SURROUNDINGS = st.text(alphabet="ab '\"\\$/*-;:%,()\n?1é", max_size=8)
_TEXTS = st.builds(lambda a, b: f"{a}{_SECRET}{b}", _SURROUNDINGS, _SURROUNDINGS)
_STRINGS = st.builds(
    lambda form, text: form(text),
    st.sampled_from([_quoted, _escaped, _doubled, _dollars, lambda t: "N" + _quoted(t)]),
    _TEXTS,
)
_NUMBERS = st.sampled_from(["", "-", "- ", "1.", "."]).map(lambda before: before + _NUMBER)
_CASTS = st.sampled_from(["", "::text", "::timestamp with time zone", " ::numeric(10, 2)"])
_LITERALS = st.builds(lambda a, b: a + b, st.one_of(_STRINGS, _NUMBERS), _CASTS)
_LISTS = st.lists(_LITERALS, min_size=1, max_size=20).map(", ".join)
_ROWS = st.lists(
    st.lists(_LITERALS, min_size=1, max_size=3).map(lambda row: f"({', '.join(row)})"),
    min_size=1,
    max_size=8,
).map(",".join)
_COMMENTS = st.sampled_from(
    [f"/* {_SECRET} */", f"-- {_SECRET}\n", f"/*user='{_SECRET}',/* {_SECRET} */ route='/x'*/"]
)
_STATEMENTS = st.one_of(
    _LITERALS.map("SELECT a FROM t WHERE b = {}".format),
    _LISTS.map("SELECT a FROM t WHERE b IN ({}) AND c IS NOT NULL".format),
    _LISTS.map("SELECT coalesce(a, {}), ARRAY[1] FROM t".format),
    _LISTS.map("SELECT ARRAY[{}]".format),
    _ROWS.map("INSERT INTO t VALUES {}".format),
    _ROWS.map("SELECT a FROM t WHERE (a, b) IN ({})".format),
    _STRINGS.map("ALTER ROLE app PASSWORD {}".format),
    _STRINGS.map("CREATE USER MAPPING FOR app SERVER s OPTIONS (password {})".format),
    _STRINGS.map("COMMENT ON TABLE t IS {}".format),
    _STRINGS.map("SET app.tenant = {}".format),
    _NUMBERS.map("SELECT a-{0} FROM t LIMIT {0}".format),
    st.builds("SELECT {} a FROM t WHERE b = 1 {}".format, _COMMENTS, _COMMENTS),
)


def _sent(statement: str, parameters: Any = None) -> Batch:
    """Return the batch that leaves the process when that statement was slow."""
    waiting = buffer.Buffer()
    shape = describe(statement, parameters, keep_values=False)
    waiting.statements += [statement, 1, 1, buffer.DONE, None, shape, None, None]
    batch = Batcher("shop", "host:1:1", Limits()).take(waiting)
    assert batch is not None
    return batch


def _bytes(batch: Batch) -> bytes:
    return zlib.decompress(batch.to_bytes())


@pytest.mark.fault(36)
@settings(deadline=None, max_examples=400)
@given(_STATEMENTS)
def test_no_literal_leaves_the_process(statement: str) -> None:
    batch = _sent(statement, {"b": _SECRET, "c": [_SECRET], "d": {_SECRET: _SECRET}})
    assert _SECRET.encode() not in _bytes(batch)
    assert _NUMBER.encode() not in _bytes(batch)
    [(_, text)] = batch.texts
    assert text.startswith(statement[:3])  # it is not withheld without need


@pytest.mark.fault(36)
@settings(deadline=None, max_examples=300)
@given(_STATEMENTS, st.floats(0, 1))
def test_nor_does_one_that_is_cut_off(statement: str, part: float) -> None:
    sent = _bytes(_sent(statement[: int(len(statement) * part)]))
    assert _SECRET.encode() not in sent
    assert _NUMBER.encode() not in sent


@pytest.mark.fault(35, 36)
@settings(deadline=None)
@given(st.lists(_TEXTS.map(lambda text: text.replace("-", "")), min_size=1, max_size=3))
def test_quotes_that_are_not_postgresqls_withhold_the_text(values: list[str]) -> None:
    """A backslash before a quote ends no literal elsewhere, and the rest would look like words."""
    literals = ["'" + v.replace("\\", "\\\\").replace("'", "\\'") + "'" for v in values]
    batch = _sent(f"SELECT {', '.join(literals)}")
    assert _SECRET.encode() not in _bytes(batch)


@pytest.mark.fault(35)
@pytest.mark.parametrize(
    "text",
    [
        "SELECT 'never closed",
        'SELECT "never closed',
        "SELECT $a$ $b$",
        r"SELECT \x",
        "id = 55af-9e",
    ],
)
def test_what_cannot_be_read_is_withheld(text: str) -> None:
    assert [text for _, text in _sent(text).texts] == [UNPARSABLE]


@pytest.mark.fault(35)
def test_nested_parentheses_end_nothing(dsn: str, recorder: Recorder, rows: Rows) -> None:
    engine = sa.create_engine(dsn, poolclass=sa.NullPool)
    deep = {depth: f"SELECT {'(' * depth}1{')' * depth}" for depth in (100, 100_000)}
    with engine.connect() as connection:
        watch(engine, recorder)
        assert connection.exec_driver_sql(deep[100]).scalar() == 1
        with pytest.raises(sa.exc.DBAPIError):  # the server's own limit
            connection.exec_driver_sql(deep[100_000])
    assert recorder.flush(20)
    texts = {text for (text,) in rows("SELECT text FROM statement_texts")}
    assert texts == {OVERSIZED, deep[100].replace("1", "?")}
    assert recorder.accounting().missing == 0


@pytest.mark.fault(34)
def test_long_texts_are_known_by_their_beginning(recorder: Recorder, rows: Rows) -> None:
    engine = sa.create_engine("sqlite://", poolclass=sa.StaticPool)
    watch(engine, recorder)
    with engine.connect() as connection:
        for length in (100_000, 1_000_000):
            literal = "x" * length
            found = connection.exec_driver_sql(f"SELECT '{literal}'").scalar()
            assert found == literal
    assert recorder.flush(20)
    assert sorted(rows("SELECT text FROM statement_texts")) == [(OVERSIZED,), ("SELECT ?",)]
    assert recorder._flusher is not None
    known = recorder._flusher._batcher._fingerprints
    assert all(isinstance(key, tuple) and len(key[0]) == 16_384 for key in known)


@pytest.mark.fault(34)
def test_long_texts_that_wait_take_a_bounded_amount_of_memory(recorder: Recorder) -> None:
    now = time.perf_counter_ns()
    for number in range(100):
        recorder.statement(f"SELECT {number}" + " " * 1_000_000, now, 1, 0, None, None)
    waiting = recorder.buffer.statements[:: buffer.STATEMENT_WIDTH]
    assert len(waiting) == 100
    assert sum(map(len, waiting)) < 5_000_000
    assert recorder.flush(20)
    recorder.statement("SELECT 1" + " " * 20_000, now, 1, 0, None, None)
    assert recorder.buffer.statements[0] != OVERSIZED


@pytest.mark.fault(37)
def test_what_the_store_cannot_hold_is_replaced(
    dsn: str, make_recorder: Callable[..., Recorder], rows: Rows
) -> None:
    recorder = make_recorder(slow_query_ms=0, store_parameters=True)
    engine = sa.create_engine("sqlite://", poolclass=sa.StaticPool)
    watch(engine, recorder)
    with engine.connect() as connection:
        for text in ("SELECT a\0b", "SELECT a\ud800", "SELECT '\ud800'"):
            with pytest.raises(Exception):  # noqa: B017 - the driver's, whatever it is
                connection.exec_driver_sql(text)
        found = connection.exec_driver_sql("SELECT ?", ("x\0y",)).scalar()
        assert found == "x\0y"
    with psycopg.connect(dsn, autocommit=True) as plain:
        watch(plain, recorder)
        with pytest.raises(psycopg.Error):
            plain.execute(b"SELECT caf\xe9")
    assert recorder.flush(20)
    texts = {text for (text,) in rows("SELECT text FROM statement_texts")}
    assert texts == {"SELECT a\ufffdb", "SELECT a?", "SELECT ?", "SELECT caf\ufffd"}
    assert (["x\ufffdy"],) in rows("SELECT parameters FROM slow_queries")
    accounting = recorder.accounting()
    assert (accounting.stored, accounting.missing) == (5, 0)
