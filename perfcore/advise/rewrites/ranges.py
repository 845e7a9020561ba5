"""A function or a wildcard before the column: a range, or an index that knows the function."""

from __future__ import annotations

from dataclasses import dataclass

from sqlglot import exp

from perfcore.advise.rewrites.reading import (
    FLIPPED,
    SIGNS,
    TEXTS,
    Field,
    bare_type,
    is_constant,
    number,
    parameter,
    tested,
)
from perfcore.advise.rewrites.rewrite import Equality, Parsed, Rewrite
from perfcore.advise.rewrites.writing import brief, build, cast, counterpart, index_on, written
from perfcore.types import IndexDefinition, IndexKey

_ZONED, _PLAIN, _DATE = "timestamp with time zone", "timestamp without time zone", "date"
_UNITS = {"quarter": "3 months"} | {
    unit: f"1 {unit}" for unit in ("second", "minute", "hour", "day", "week", "month", "year")
}
_IMMUTABLE = (exp.Lower, exp.Upper, exp.Trim, exp.MD5, exp.Length)
_PATTERNS = (exp.Like, exp.ILike)


@dataclass(frozen=True, slots=True)
class _Comparison:
    """A function of a column compared with a constant."""

    function: exp.Expr
    sign: str
    other: exp.Expr
    upper: exp.Expr | None = None  # of BETWEEN


@dataclass(frozen=True, slots=True)
class _Range:
    """The column's range, and what must be true of the constant besides."""

    condition: exp.Expr
    unless: str = ""  # in words: where the rows differ


def function_range(parsed: Parsed) -> Rewrite | None:
    """Compare the column with a range instead of a function of it with one value."""
    for node in tested(parsed.tree):
        for comparison in _comparisons(node):
            inner = _column_in(comparison.function)
            field = parsed.reader.field(inner)
            if inner is None or field is None or not is_constant(comparison.other):
                continue
            found = _range_of(inner, field, comparison)
            if found is not None:
                return _as_range(parsed, node, field, comparison, found)
    return None


def _comparisons(node: exp.Expr) -> list[_Comparison]:
    if isinstance(node, exp.Between):
        return [_Comparison(node.this.unnest(), "between", node.args["low"], node.args["high"])]
    sign = SIGNS.get(type(node))
    if sign is None or sign == "<>":
        return []
    left, right = node.this.unnest(), node.expression.unnest()
    return [_Comparison(left, sign, right), _Comparison(right, FLIPPED[sign], left)]


def _column_in(function: exp.Expr) -> exp.Column | None:
    """Return the column that a function cuts to a unit of time."""
    inner = None
    if isinstance(function, exp.TimestampTrunc) and function.args.get("zone") is None:
        inner = function.this
    elif isinstance(function, exp.Cast) and function.to.this is exp.DType.DATE:
        inner = function.this
    elif isinstance(function, exp.Date) and not function.expressions:
        inner = function.this
    elif isinstance(function, exp.Extract) and function.this.name.lower() == "year":
        inner = function.expression
    bare = inner.unnest() if inner is not None else None
    return bare if isinstance(bare, exp.Column) else None


def _range_of(column: exp.Column, field: Field, comparison: _Comparison) -> _Range | None:
    kind = field.column.type
    if kind not in (_ZONED, _PLAIN, _DATE):
        return None
    if isinstance(comparison.function, exp.TimestampTrunc):
        return _truncated(column, kind, comparison)
    if isinstance(comparison.function, exp.Extract):
        return _year(column, comparison)
    return _day(column, kind, comparison)


def _truncated(column: exp.Column, kind: str, comparison: _Comparison) -> _Range | None:
    """date_trunc(unit, c) = x: from x on, before the next unit; x itself must start one."""
    unit = comparison.function.args["unit"]
    hidden = parameter(unit)
    length = _UNITS.get(unit.name.lower()) if not hidden else None
    if comparison.sign != "=" or not (hidden or length):
        return None
    unit_text = unit if hidden else exp.Literal.string(unit.name.lower())
    step = (
        build("CAST('1 ' || :u AS INTERVAL)", u=unit)
        if hidden
        else exp.cast(exp.Literal.string(length), "interval")
    )
    other_kind = _PLAIN if kind == _PLAIN else _ZONED
    start = comparison.other
    is_aligned = isinstance(start, exp.TimestampTrunc) and start.args["unit"] == unit
    if not is_aligned:
        start = cast(start, other_kind)
    end = build(":x + :s", x=start, s=step)
    if kind != _PLAIN:
        # Midnight may not exist where clocks go forward at it: the unit then starts later.
        end = build("date_trunc(:u, :e)", u=unit_text, e=end)
    bounds = (cast(start, _DATE), cast(end, _DATE)) if kind == _DATE else (start, end)
    condition = build(":c >= :a AND :c < :b", c=column, a=bounds[0], b=bounds[1])
    if not is_aligned:
        guard = build("date_trunc(:u, :x) = :x", u=unit_text, x=start)
        condition = exp.And(this=condition, expression=guard)
    unless = _unless_infinite(comparison.other)
    if hidden:
        unless += (
            f" {hidden} is the unit, which pg_stat_statements hides: an error and no rows for "
            "quarter and longer than year."
        )
    return _Range(condition, unless)


def _day(column: exp.Column, kind: str, comparison: _Comparison) -> _Range | None:
    low = _date(comparison.other)
    high = _date(comparison.upper) if comparison.upper is not None else low
    if low is None or high is None or kind == _DATE:
        return None
    templates = {
        "=": ":c >= :x AND :c < :y + 1",
        "between": ":c >= :x AND :c < :y + 1",
        ">=": ":c >= :x",
        "<": ":c < :x",
        ">": ":c >= :x + 1",
        "<=": ":c < :y + 1",
    }
    condition = build(templates[comparison.sign], c=column, x=low, y=high)
    steps = "+ 1" in templates[comparison.sign]
    return _Range(
        condition, _unless_infinite(comparison.upper or comparison.other) if steps else ""
    )


def _date(node: exp.Expr | None) -> exp.Expr | None:
    """Return the constant as a date, None where it may be something finer."""
    bare = node.unnest() if node is not None else None
    if isinstance(bare, (exp.Add, exp.Sub)):
        inner = _date(bare.this)
        whole = number(bare.expression) is not None
        return bare.copy() if inner is not None and inner == bare.this and whole else None
    if isinstance(bare, exp.CurrentDate):
        return bare
    if isinstance(bare, exp.Cast):
        return bare if bare.to.this is exp.DType.DATE and is_constant(bare) else None
    if parameter(bare) or (isinstance(bare, exp.Literal) and bare.is_string):
        assert bare is not None
        return cast(bare, _DATE)
    return None


def _year(column: exp.Column, comparison: _Comparison) -> _Range | None:
    year, start, end = number(comparison.other), None, None
    if year is not None and year == int(year) and 1 <= year <= 9998:
        start = cast(exp.Literal.string(f"{int(year):04}-01-01"), _DATE)
        end = cast(exp.Literal.string(f"{int(year) + 1:04}-01-01"), _DATE)
    elif parameter(comparison.other):
        whole = cast(comparison.other, "integer")
        start = build("make_date(:y, 1, 1)", y=whole)
        end = build("make_date(:y + 1, 1, 1)", y=whole)
    if start is None or end is None or comparison.sign == "between":
        return None
    templates = {
        "=": ":c >= :a AND :c < :b",
        ">=": ":c >= :a",
        "<": ":c < :a",
        ">": ":c >= :b",
        "<=": ":c < :b",
    }
    unless = (
        ""
        if year is not None
        else "The year is a whole number other than 0 and -1, beside which there is no date."
    )
    return _Range(build(templates[comparison.sign], c=column, a=start, b=end), unless)


def _unless_infinite(node: exp.Expr) -> str:
    text = brief(node)
    hidden = "$" in text or "infinity" in text.lower()
    return f"{text} is no 'infinity', which has no next one." if hidden else ""


def _as_range(
    parsed: Parsed, node: exp.Expr, field: Field, comparison: _Comparison, found: _Range
) -> Rewrite:
    new = parsed.tree.copy()
    counterpart(new, node).replace(exp.Paren(this=found.condition))
    name = f"{field.table.name}.{field.column.name}"
    conditions = [found.unless.strip()] if found.unless else []
    if field.column.type == _ZONED:
        conditions.append(
            "The time zone's clocks never pass midnight twice, as those of Havana and the Azores "
            "do in autumn."
        )
    zoned = field.column.type == _ZONED
    zone = " Days are those of the session's TimeZone in both forms." if zoned else ""
    return Rewrite(
        rule="range",
        title=f"Compare {name} with a range instead of {brief(comparison.function)}",
        why=(
            f"{brief(comparison.function)} is computed for every row, and no index on {name} "
            "serves it. A half-open range says the same of the bare column, so the index leads "
            "to the rows, and the planner can estimate how many there are."
        ),
        sql=written(new),
        obligation=(
            f"The same rows if: {' '.join(conditions)}{zone}"
            if conditions
            else "The same rows in every case; the range ends before the next unit begins."
        ),
        finding="function_on_column",
        equality=Equality.CONDITION if conditions else Equality.ALWAYS,
        indexes=index_on(field),
    )


def expression_index(parsed: Parsed) -> Rewrite | None:
    """Index the function's value where no range says the same."""
    for node in tested(parsed.tree):
        for comparison in _comparisons(node):
            function = comparison.function
            if comparison.sign != "=" or not isinstance(function, _IMMUTABLE):
                continue
            fields = parsed.reader.fields(function)
            if len(fields) != 1 or fields[0] is None or not is_constant(comparison.other):
                continue
            if bare_type(fields[0].column.type) in TEXTS:
                return _indexed(parsed, fields[0], function)
    return None


def _indexed(parsed: Parsed, field: Field, function: exp.Expr) -> Rewrite | None:
    bare = function.copy()
    for column in bare.find_all(exp.Column):
        column.set("table", None)
    key = IndexKey(brief(bare), is_expression=True)
    if any(key.expression in i.keys for i in field.table.indexes):
        return None
    return Rewrite(
        rule="expression_index",
        title=f"Index {key.expression} of {field.table.name}",
        why=(
            f"{key.expression} is computed for every row, because an index on the column "
            "alone does not know it. An index on the expression holds its values in order."
        ),
        sql=written(parsed.tree),
        obligation="The same rows in every case: the statement stays as it is.",
        finding="function_on_column",
        indexes=(IndexDefinition(field.table.schema, field.table.name, (key,)),),
    )


def leading_wildcard(parsed: Parsed) -> Rewrite | None:
    """Index the trigrams of a text that is searched for something inside it."""
    for node in tested(parsed.tree):
        if not isinstance(node, _PATTERNS) or node.args.get("negate"):
            continue
        field, pattern = parsed.reader.field(node.this), node.expression.unnest()
        if field is None or bare_type(field.column.type) not in TEXTS or _has_trigrams(field):
            continue
        if parameter(pattern) or _is_floating(pattern):
            return _trigrams(parsed, field, hidden=parameter(pattern))
    return None


def _is_floating(pattern: exp.Expr) -> bool:
    """Say whether a pattern starts anywhere and has three letters in a row to look for."""
    if not isinstance(pattern, exp.Literal) or pattern.name[:1] not in ("%", "_"):
        return False
    pieces = pattern.name.replace("_", "%").split("%")
    return max(len(piece) for piece in pieces) >= 3


def _has_trigrams(field: Field) -> bool:
    return any(
        "trgm" in " ".join(i.opclasses) and field.column.name in i.keys for i in field.table.indexes
    )


def _trigrams(parsed: Parsed, field: Field, hidden: str) -> Rewrite:
    key = IndexKey(field.column.name, operator_class="gin_trgm_ops")
    index = IndexDefinition(field.table.schema, field.table.name, (key,), method="gin")
    missing = "pg_trgm" not in parsed.reader.catalog.extensions
    whether = (
        f" It helps if {hidden}, which pg_stat_statements hides, has three letters in a row."
        if hidden
        else ""
    )
    return Rewrite(
        rule="trigram",
        title=f"Search {field.table.name}.{field.column.name} by its trigrams",
        why=(
            "A pattern that starts with a wildcard has no beginning that a B-tree could look up, "
            "so every row is compared. A GIN index on the text's trigrams finds the few rows "
            "that hold all of the pattern's."
        ),
        sql=written(parsed.tree),
        obligation=f"The same rows in every case: the statement stays as it is.{whether}",
        finding="leading_wildcard",
        indexes=(index,),
        setup="CREATE EXTENSION IF NOT EXISTS pg_trgm" if missing else "",
    )
