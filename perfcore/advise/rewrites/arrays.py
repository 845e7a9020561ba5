"""A value looked for among the members of a column's array."""

from __future__ import annotations

from sqlglot import exp

from perfcore.advise.rewrites.reading import TEXTS, Field, bare_type, parameter, tested
from perfcore.advise.rewrites.rewrite import Parsed, Rewrite
from perfcore.advise.rewrites.writing import brief, build, cast, counterpart, written
from perfcore.types import IndexDefinition, IndexKey

_WHOLE = ("smallint", "integer", "bigint")


def array_member(parsed: Parsed) -> Rewrite | None:
    """Ask whether the array contains the value, which an index on the array can answer."""
    for node in tested(parsed.tree):
        if not isinstance(node, exp.EQ) or not isinstance(node.expression.unnest(), exp.Any):
            continue
        member, array = node.this.unnest(), node.expression.unnest().this.unnest()
        field = parsed.reader.field(array)
        if field is not None and _is_member(member, bare_type(field.column.type)):
            return _contained(parsed, node, field, member, array)
    return None


def _is_member(node: exp.Expr, array_type: str) -> bool:
    """Say whether a constant has the type of the array's members, not one compared with it."""
    kind = array_type.removesuffix("[]")
    if kind == array_type or kind.startswith("character("):
        return False
    if isinstance(node, exp.Cast):
        same = node.to == exp.DataType.build(kind, dialect="postgres", udt=True)
        return same or (kind in TEXTS and _is_text(node))
    if isinstance(node, exp.Literal):
        return node.is_string or (kind in _WHOLE and node.name.isdigit())
    return bool(parameter(node))


def _is_text(node: exp.Cast) -> bool:
    return node.to.this in (exp.DType.TEXT, exp.DType.VARCHAR) and not node.to.expressions


def _contained(
    parsed: Parsed, node: exp.Expr, field: Field, member: exp.Expr, array: exp.Expr
) -> Rewrite:
    tree = parsed.tree.copy()
    one = cast(build("ARRAY[:member]", member=member), bare_type(field.column.type))
    condition = build(":array @> :one", array=array, one=one)
    counterpart(tree, node).replace(condition)
    key = IndexKey(field.column.name)
    index = IndexDefinition(field.table.schema, field.table.name, (key,), method="gin")
    return Rewrite(
        rule="array_member",
        title=f"Ask whether {field.table.name}.{field.column.name} contains the value",
        why=(
            f"No index answers {brief(node)}: = ANY looks through the array of every row. @> asks "
            "the same, and a GIN index on the array finds the rows that hold the value."
        ),
        sql=written(tree),
        obligation=(
            "The same rows in every case: an array without the value, one that is NULL and a "
            "value that is NULL are no match in either wording."
        ),
        finding="array_member",
        indexes=() if _has_gin(field) else (index,),
    )


def _has_gin(field: Field) -> bool:
    return any(
        i.method == "gin" and i.is_valid and i.keys[0] == field.column.name and not i.predicate
        for i in field.table.indexes
    )
