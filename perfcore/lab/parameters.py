"""Values for a statement's `$n`, taken from the rows it will meet in the lab.

A slow statement is not slow for every value: the most common value of a column, a rare one
and a typical one can have three different plans. Values that a statement compares together
come from the same row, so that the combination exists.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow
from sqlglot import exp

from perfcore.advise.statement import Unparsable, parse, plannable
from perfcore.db import MARKER
from perfcore.errors import TrialFailed
from perfcore.types import Catalog, TableInfo

Connection = psycopg.Connection[TupleRow]

LABELS = ("frequent", "rare", "typical")
_PREPARED = "perfcore_parameters"
_TIMEOUT_MS = 20_000
# Enough rows to know what is common; reading more costs seconds on a large table.
_SAMPLE_ROWS = 1_000_000
_WORD_ROWS = 5_000
_MEMBERS = 10

_LIMIT = re.compile(r"\b(LIMIT|OFFSET|FETCH\s+(?:FIRST|NEXT))\s+\$(\d+)(?!\w)", re.IGNORECASE)
_DEEP_OFFSET = "2000"
_COMPARISONS = (
    exp.EQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.Between, exp.In, exp.Like, exp.ILike,
    exp.ArrayContainsAll,
)  # fmt: skip
_BY_TYPE = {
    "boolean": "true",
    "date": "2026-01-01",
    "timestamp with time zone": "2026-01-01 00:00:00+00",
    "timestamp without time zone": "2026-01-01 00:00:00",
    "time without time zone": "12:00",
    "interval": "1 day",
    "uuid": "00000000-0000-0000-0000-000000000000",
    "json": "{}",
    "jsonb": "{}",
    "text": "a",
    "character varying": "a",
    "character": "a",
    "bytea": "",
}


@dataclass(frozen=True, slots=True)
class ParameterSet:
    """One value for each of a statement's parameters, as text, NULL as None."""

    label: str  # frequent, rare, typical
    values: tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class _Binding:
    """What a parameter is compared with."""

    parameter: int
    table: TableInfo
    alias: str
    subject: str  # SQL over the table's columns
    operator: str  # equal, member, range, like, contains
    is_direct: bool  # not inside a function: the value is the subject's, not the column's
    place: int  # among the parameters of the same comparison


def parameter_types(connection: Connection, statement_text: str) -> tuple[str, ...]:
    """Return the type the server gives each `$n`; raises TrialFailed in its words."""
    try:
        with connection.transaction(force_rollback=True):
            # A binary cursor makes psycopg use the extended protocol: one statement only.
            text = f"PREPARE {_PREPARED} AS {MARKER} {plannable(statement_text)}"
            connection.cursor(binary=True).execute(text.encode())
            row = connection.execute(
                "SELECT parameter_types::text[] FROM pg_catalog.pg_prepared_statements "
                "WHERE name = %s",
                (_PREPARED,),
            ).fetchone()
            connection.execute(f"DEALLOCATE {_PREPARED}")
    except psycopg.Error as error:
        with suppress(psycopg.Error):
            connection.execute(f"DEALLOCATE {_PREPARED}")
        raise TrialFailed(
            f"the lab does not accept the statement: {error.diag.message_primary or error}",
            hint="its tables, extensions and functions must exist in the lab",
        ) from error
    return tuple(row[0]) if row else ()


def parameter_sets(
    lab_connection: Connection, statement_text: str, catalog: Catalog, *, sets: int = 3
) -> tuple[ParameterSet, ...]:
    """Return up to three sets of values, labelled frequent, rare and typical.

    The parameters are numbered as in `plannable(statement_text)`. Sets that turn out alike
    are given once; a statement without parameters has one empty set, "typical".
    """
    types = parameter_types(lab_connection, statement_text)
    if not types:
        return (ParameterSet("typical", ()),)
    found: dict[int, tuple[str | None, ...]] = {}
    for bindings in _grouped(_bindings(plannable(statement_text), catalog)):
        sampled = _sampled(lab_connection, bindings, types)
        found |= {i: v for i, v in sampled.items() if _fits(lab_connection, v, types[i - 1])}
    found |= _limits(plannable(statement_text), deep=not found)
    made: dict[tuple[str | None, ...], ParameterSet] = {}
    for n in (2, 0, 1)[:sets]:
        values = tuple(
            found[i][n] if i in found else _by_type(type_name)
            for i, type_name in enumerate(types, start=1)
        )
        made.setdefault(values, ParameterSet(LABELS[n], values))
    return tuple(sorted(made.values(), key=lambda s: LABELS.index(s.label)))


def _fits(connection: Connection, values: Sequence[str | None], type_name: str) -> bool:
    """Say whether the server takes the values for the parameter's type."""
    casts = sql.SQL(", ").join(
        sql.SQL("{}::{}").format(sql.Literal(v), sql.SQL(type_name)) for v in values
    )
    try:
        with connection.transaction(force_rollback=True):
            connection.execute(sql.SQL("SELECT {}").format(casts))
    except psycopg.Error:
        return False
    return True


def _limits(text: str, *, deep: bool) -> dict[int, tuple[str | None, ...]]:
    values: dict[int, tuple[str | None, ...]] = {}
    for word, number in _LIMIT.findall(text):
        # With a predicate few rows are left, and a deep page of them would be empty.
        offset = _DEEP_OFFSET if deep else "0"
        is_offset = word.upper() == "OFFSET"
        values[int(number)] = ("0", offset, "0") if is_offset else ("20", "20", "20")
    return values


def _by_type(type_name: str) -> str:
    if type_name.endswith("[]"):
        return "{}"
    return _BY_TYPE.get(type_name.split("(")[0].strip(), "1")


def _bindings(text: str, catalog: Catalog) -> list[_Binding]:
    try:
        tree = parse(text)
    except Unparsable:
        return []
    places: dict[int, int] = {}
    found = []
    for parameter in tree.find_all(exp.Parameter):
        comparison = parameter.find_ancestor(*_COMPARISONS)
        if comparison is None or not parameter.name.isdigit():
            continue
        place = places.get(id(comparison), 0)
        places[id(comparison)] = place + 1
        found += list(_binding(parameter, comparison, place, catalog))
    return found


def _binding(
    parameter: exp.Expr, comparison: exp.Expr, place: int, catalog: Catalog
) -> Iterator[_Binding]:
    arm = parameter
    is_direct = True
    while arm.parent is not comparison and arm.parent is not None:
        arm = arm.parent
        is_direct = is_direct and isinstance(arm, exp.Cast | exp.Paren | exp.Any | exp.Array)
    subject = comparison.expression if arm is comparison.this else comparison.this
    column = subject.find(exp.Column) if isinstance(subject, exp.Expr) else None
    if column is None:
        return
    found = _table_of(column, catalog)
    if found is None:
        return
    table, alias = found
    whole = subject if is_direct else column
    bare = whole.copy()
    for part in bare.find_all(exp.Column):
        part.set("table", None)
    yield _Binding(
        int(parameter.name),
        table,
        alias,
        bare.sql(dialect="postgres"),
        _operator(comparison),
        is_direct,
        place,
    )


def _operator(comparison: exp.Expr) -> str:
    if isinstance(comparison, exp.EQ):
        return "member" if isinstance(comparison.expression, exp.Any) else "equal"
    if isinstance(comparison, exp.In):
        return "member"
    if isinstance(comparison, exp.Like | exp.ILike):
        return "like"
    return "contains" if isinstance(comparison, exp.ArrayContainsAll) else "range"


def _table_of(column: exp.Column, catalog: Catalog) -> tuple[TableInfo, str] | None:
    """Return the table a column belongs to, looking from its query outwards."""
    scope = column.find_ancestor(exp.Select, exp.Update, exp.Delete)
    while scope is not None:
        for node in scope.find_all(exp.Table):
            table = catalog.table(node.name, node.db)
            alias = node.alias_or_name
            if table and column.table in ("", alias) and table.column(column.name):
                return table, alias
        scope = scope.find_ancestor(exp.Select, exp.Update, exp.Delete)
    return None


def _grouped(bindings: Sequence[_Binding]) -> list[list[_Binding]]:
    """Put together what must come from one row: equalities on one appearance of a table."""
    groups: dict[tuple[str, ...], list[_Binding]] = {}
    for binding in bindings:
        together = binding.operator == "equal"
        key = ("equal", binding.alias) if together else (binding.alias, str(binding.parameter))
        groups.setdefault(key, []).append(binding)
    return list(groups.values())


def _sampled(
    connection: Connection, bindings: Sequence[_Binding], types: Sequence[str]
) -> dict[int, tuple[str | None, ...]]:
    """Return frequent, rare and typical value of each parameter, nothing where it fails."""
    first = bindings[0]
    statement = _query(bindings, types[first.parameter - 1])
    try:
        with connection.transaction(force_rollback=True):
            connection.execute(f"SET LOCAL statement_timeout = {_TIMEOUT_MS}")
            rows = connection.execute(statement).fetchall()
    except psycopg.Error:
        return {}  # the subject has no value outside its query; the type still gives one
    if not rows:
        return {}
    if first.operator == "member":
        return {first.parameter: _members(rows, first, types[first.parameter - 1])}
    if first.operator == "range":
        return {first.parameter: tuple(rows[0])}
    picked = (rows[0], rows[-1], _typical(rows, first))
    shape = "%{}%" if first.operator == "like" and first.is_direct else "{}"
    return {
        b.parameter: tuple(shape.format(row[n]) for row in picked) for n, b in enumerate(bindings)
    }


def _typical(rows: Sequence[TupleRow], binding: _Binding) -> TupleRow:
    if binding.operator in ("like", "contains"):
        return rows[len(rows) // 2]
    return next((row for row in rows if row[-1]), rows[len(rows) // 2])


def _members(rows: Sequence[TupleRow], binding: _Binding, type_name: str) -> tuple[str, ...]:
    values = [row[0] for row in rows]
    if not type_name.endswith("[]"):
        picked = [values[binding.place % len(values)]] * 3
        return tuple(picked)
    middle = len(values) // 2
    parts = (values[:_MEMBERS], values[-_MEMBERS:], values[middle : middle + _MEMBERS])
    return tuple("{" + ",".join(_quoted(v) for v in part) + "}" for part in parts)


def _quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _query(bindings: Sequence[_Binding], type_name: str) -> sql.Composed:
    first = bindings[0]
    subjects = [sql.SQL(b.subject) for b in bindings]
    rows = _sample(first.table, _SAMPLE_ROWS)
    if first.operator == "range":
        return _RANGE.format(subjects[0], rows, *_fractions(first))
    if first.operator == "like":
        return _WORDS.format(subjects[0], _sample(first.table, _WORD_ROWS))
    if first.operator == "contains" and type_name == "jsonb":
        return _PAIRS.format(subjects[0], _sample(first.table, _WORD_ROWS))
    columns = sql.SQL(", ").join(
        sql.SQL("({})::text AS v{}").format(s, sql.Literal(n)) for n, s in enumerate(subjects)
    )
    names = sql.SQL(", ").join(sql.SQL(f"v{n}") for n in range(len(subjects)))
    return _VALUES.format(columns, rows, names, names, names)


def _sample(table: TableInfo, rows: int) -> sql.Composable:
    name = sql.Identifier(table.schema, table.name)
    if table.row_count <= rows:
        return name
    percent = max(0.01, 100.0 * rows / table.row_count)
    return sql.SQL("{} TABLESAMPLE SYSTEM ({}) REPEATABLE (1)").format(name, sql.Literal(percent))


def _fractions(binding: _Binding) -> list[sql.Composable]:
    """Return where in the values' order the bounds lie: wide, narrow, typical."""
    # Of BETWEEN the second parameter is the upper bound.
    wide, narrow, typical = ((0.5, 0.95, 0.8), (0.9, 0.96, 0.85))[binding.place % 2]
    return [sql.Literal(wide), sql.Literal(narrow), sql.Literal(typical)]


# Values by how common they are: the first is frequent, the last rare, and typical is the one
# that the middle row has.
_VALUES = sql.SQL(
    """/* perfcore */
    WITH counted AS (
        SELECT {2}, count(*) AS n FROM (SELECT {0} FROM {1}) r WHERE r IS NOT NULL GROUP BY {3}),
    placed AS (
        SELECT *, sum(n) OVER (ORDER BY n DESC, {4}) AS upto, sum(n) OVER () AS total,
               row_number() OVER (ORDER BY n DESC, {4}) AS place, count(*) OVER () AS of
          FROM counted)
    SELECT {2}, upto >= total / 2 AND upto - n < total / 2 AS is_typical FROM placed
     WHERE place = 1 OR place = of OR (upto >= total / 2 AND upto - n < total / 2)
        OR place <= 10 OR place > of - 10
     ORDER BY place"""
)
_RANGE = sql.SQL(
    """/* perfcore */
    SELECT percentile_disc({2}) WITHIN GROUP (ORDER BY v)::text,
           percentile_disc({3}) WITHIN GROUP (ORDER BY v)::text,
           percentile_disc({4}) WITHIN GROUP (ORDER BY v)::text
      FROM (SELECT {0} AS v FROM {1}) r WHERE v IS NOT NULL"""
)
_WORDS = sql.SQL(
    """/* perfcore */
    SELECT word FROM (
        SELECT regexp_split_to_table(({0})::text, '[^[:alnum:]]+') AS word FROM {1} LIMIT 50000) w
     WHERE length(word) >= 4 GROUP BY word ORDER BY count(*) DESC, word"""
)
_PAIRS = sql.SQL(
    """/* perfcore */
    SELECT jsonb_build_object(p.key, p.value)::text AS pair
      FROM (SELECT ({0}) AS document FROM {1}) r,
           LATERAL jsonb_each(CASE jsonb_typeof(document) WHEN 'object' THEN document END) p
     WHERE jsonb_typeof(p.value) NOT IN ('object', 'array', 'null')
     GROUP BY pair ORDER BY count(*) DESC, pair"""
)
