"""Casts that hide a column from its index: the other side is cast instead."""

from __future__ import annotations

import math
import re

from sqlglot import exp

from perfcore.advise.rewrites.reading import (
    FLIPPED,
    INTEGERS,
    SIGNS,
    TEXTS,
    Field,
    bare_type,
    is_constant,
    parameter,
    tested,
)
from perfcore.advise.rewrites.rewrite import Equality, Parsed, Rewrite
from perfcore.advise.rewrites.writing import brief, build, cast, counterpart, index_on, written

_WIDE = (exp.DType.DECIMAL, exp.DType.DOUBLE, exp.DType.FLOAT)
_MOST_EXACT = 2**24  # from here on a real leaves out whole numbers
_TEXT = (exp.DType.TEXT, exp.DType.VARCHAR)
_NUMBERS = (exp.DType.INT, exp.DType.BIGINT, exp.DType.SMALLINT)


def column_cast(parsed: Parsed) -> Rewrite | None:
    """Cast the constant to the column's type, not the column to the constant's."""
    for node in tested(parsed.tree):
        sign = SIGNS.get(type(node))
        if sign is None or sign == "<>":
            continue
        left, right = node.this.unnest(), node.expression.unnest()
        for mine, turned, other in ((left, sign, right), (right, FLIPPED[sign], left)):
            found = is_constant(other) and _recognised(parsed, node, mine, turned, other)
            if found:
                return found
    return None


def _recognised(
    parsed: Parsed, node: exp.Expr, mine: exp.Expr, sign: str, other: exp.Expr
) -> Rewrite | None:
    inner = mine.this.unnest() if isinstance(mine, exp.Cast) else mine
    zone = None
    if isinstance(mine, exp.AtTimeZone):
        inner, zone = mine.this.unnest(), mine.args["zone"]
    field = parsed.reader.field(inner)
    if field is None:
        return None
    if zone is not None:
        return _utc(parsed, node, field, inner, zone, sign, other)
    if not isinstance(mine, exp.Cast):
        return _uncast(parsed, node, field, inner, sign, other)
    if mine.to.this in _TEXT and not mine.to.expressions and sign == "=":
        return _as_text(parsed, node, field, inner, other)
    if mine.to.this in _NUMBERS and bare_type(field.column.type) in TEXTS and sign == "=":
        return _as_number(parsed, node, field, inner, mine, other)
    return None


def _uncast(
    parsed: Parsed, node: exp.Expr, field: Field, inner: exp.Expr, sign: str, other: exp.Expr
) -> Rewrite | None:
    kind = field.column.type
    if kind in INTEGERS and _decimal(other) is not None:
        return _whole_literal(parsed, node, field, inner, sign, other)
    if kind in INTEGERS and _is_wide_parameter(other) and sign == "=":
        return _whole_parameter(parsed, node, field, inner, other)
    if re.fullmatch(r"character\(\d+\)", kind) and _is_text_parameter(other) and sign == "=":
        return _padded(parsed, node, field, inner, other)
    return None


def _decimal(node: exp.Expr) -> float | None:
    """Return the value of a literal that is written as a decimal, or cast to one."""
    bare, is_wide = node, False
    if isinstance(bare, exp.Cast):
        if bare.to.expressions:
            return None  # numeric(10, 0) rounds
        bare, is_wide = bare.this.unnest(), bare.to.this in _WIDE
    sign = 1
    if isinstance(bare, exp.Neg):
        bare, sign = bare.this.unnest(), -1
    if not isinstance(bare, exp.Literal) or bare.is_string:
        return None
    value = sign * float(bare.name)
    written_wide = is_wide or not bare.name.isdigit()
    return value if written_wide and abs(value) < _MOST_EXACT else None


def _whole_literal(
    parsed: Parsed, node: exp.Expr, field: Field, inner: exp.Expr, sign: str, other: exp.Expr
) -> Rewrite | None:
    value = _decimal(other)
    assert value is not None
    if value != int(value):
        if sign == "=":
            return None
        value, sign = math.floor(value), (">" if sign in (">", ">=") else "<=")
    condition = build(f":c {sign} {int(value)}", c=inner)
    return _rewrite(
        parsed,
        node,
        field,
        condition,
        f"{brief(other)} is a decimal number, so each {field.column.type} is cast to one before "
        "it is compared.",
        "The same rows in every case: between whole numbers there is nothing.",
        Equality.ALWAYS,
    )


def _is_wide_parameter(node: exp.Expr) -> bool:
    return isinstance(node, exp.Cast) and node.to.this in _WIDE and bool(parameter(node.this))


def _is_text_parameter(node: exp.Expr) -> bool:
    return isinstance(node, exp.Cast) and node.to.this in _TEXT and bool(parameter(node.this))


def _whole_parameter(
    parsed: Parsed, node: exp.Expr, field: Field, inner: exp.Expr, other: exp.Expr
) -> Rewrite | None:
    if field.column.type == "bigint" and isinstance(other, exp.Cast):
        if other.to.this is not exp.DType.DECIMAL:
            return None  # a double cannot tell large numbers apart, so one value finds several
    condition = build(
        ":c = :n AND :x = trunc(:x)", c=inner, x=other, n=cast(other, field.column.type)
    )
    return _rewrite(
        parsed,
        node,
        field,
        condition,
        f"{brief(other)} is wider than {field.column.type}, so each value of the column is cast "
        "before it is compared.",
        f"The same rows as long as {parameter(_inner(other))} lies within {field.column.type}: "
        "beyond it the old form finds nothing and the new one raises an error.",
        Equality.CONDITION,
    )


def _inner(node: exp.Expr) -> exp.Expr:
    return node.this if isinstance(node, exp.Cast) else node


def _padded(
    parsed: Parsed, node: exp.Expr, field: Field, inner: exp.Expr, other: exp.Expr
) -> Rewrite:
    condition = build(":c = :n AND :x = rtrim(:x)", c=inner, x=other, n=cast(other, "bpchar"))
    return _rewrite(
        parsed,
        node,
        field,
        condition,
        f"Compared with text, each {field.column.type} is cast to text and loses its blanks, "
        "which the column's index knows nothing of.",
        "The same rows in every case; the second comparison keeps out what ends in blanks, as "
        "the old form does.",
        Equality.ALWAYS,
    )


def _as_text(
    parsed: Parsed, node: exp.Expr, field: Field, inner: exp.Expr, other: exp.Expr
) -> Rewrite | None:
    kind = field.column.type
    if kind not in (*INTEGERS, "uuid") or not isinstance(_inner(other), exp.Parameter):
        return None
    # One type for the parameter in all its places: the server takes the first that it meets.
    text = other if isinstance(other, exp.Cast) else cast(other, "text")
    value = cast(text, kind)
    condition = build(":c = :n AND :b = :x", c=inner, n=value, b=cast(value, "text"), x=text)
    return _rewrite(
        parsed,
        node,
        field,
        condition,
        f"Each {kind} of the column is cast to text to be compared, and no index on it serves.",
        f"The same rows as long as {parameter(_inner(other))} can be read as {kind}: of any "
        "other text the old form finds nothing and the new one raises an error. The second "
        "comparison keeps out what is written otherwise, such as 007.",
        Equality.CONDITION,
    )


def _as_number(
    parsed: Parsed,
    node: exp.Expr,
    field: Field,
    inner: exp.Expr,
    mine: exp.Cast,
    other: exp.Expr,
) -> Rewrite:
    target = mine.to.sql(dialect="postgres")
    as_number = cast(_inner(other), target) if parameter(_inner(other)) else other
    condition = build(":c = :x", c=inner, x=cast(as_number, "text"))
    name = f"{field.table.name}.{field.column.name}"
    return _rewrite(
        parsed,
        node,
        field,
        condition,
        f"Each text of {name} is cast to a number to be compared, and no index on it serves. "
        "Better still, give the column the type of what it holds.",
        f"The same rows if {name} holds numbers alone, all written the one way that "
        "PostgreSQL writes them: without leading zeros, sign or blanks (007 is then no longer "
        "found by 7). A text that is no number no longer raises an error.",
        Equality.CONDITION,
    )


def _utc(
    parsed: Parsed,
    node: exp.Expr,
    field: Field,
    inner: exp.Expr,
    zone: exp.Expr,
    sign: str,
    other: exp.Expr,
) -> Rewrite | None:
    zoned = field.column.type == "timestamp with time zone"
    if not zoned or zone.name.upper() not in ("UTC", "GMT", "Z") or not _is_zoneless(other):
        return None
    plain = cast(other, "timestamp without time zone")
    condition = build(f":c {sign} :x AT TIME ZONE :z", c=inner, x=plain, z=zone)
    return _rewrite(
        parsed,
        node,
        field,
        condition,
        f"{brief(inner)} is moved to {zone.name} in every row before it is compared. Moving the "
        "other side instead leaves the column to its index.",
        f"The same rows in every case: {zone.name} has no summer time, so each of its times is "
        "one instant.",
        Equality.ALWAYS,
    )


def _is_zoneless(node: exp.Expr) -> bool:
    """Say whether a constant is a time without zone: one with a zone goes by the session's."""
    if isinstance(node, exp.Cast):
        return node.to.this in (exp.DType.DATE, exp.DType.TIMESTAMP)
    return bool(parameter(node)) or isinstance(node, (exp.Literal, exp.CurrentDate))


def _rewrite(
    parsed: Parsed,
    node: exp.Expr,
    field: Field,
    condition: exp.Expr,
    why: str,
    obligation: str,
    equality: Equality,
) -> Rewrite:
    new = parsed.tree.copy()
    counterpart(new, node).replace(condition)
    name = f"{field.table.name}.{field.column.name}"
    return Rewrite(
        rule="column_cast",
        title=f"Compare {name} as the {field.column.type} it is",
        why=f"{why} With the constant cast instead, the bare column can be looked up.",
        sql=written(new),
        obligation=obligation,
        finding="cast_column",
        equality=equality,
        indexes=index_on(field),
    )
