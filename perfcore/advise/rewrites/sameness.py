"""A comparison in which NULL equals NULL, with a value that is none."""

from __future__ import annotations

from sqlglot import exp

from perfcore.advise.rewrites.reading import Field, parameter, tested
from perfcore.advise.rewrites.rewrite import Equality, Parsed, Rewrite
from perfcore.advise.rewrites.writing import brief, build, counterpart, index_on, written


def not_distinct(parsed: Parsed) -> Rewrite | None:
    """Write IS NOT DISTINCT FROM a value as an equality, which an index can answer."""
    for node in tested(parsed.tree):
        if not isinstance(node, exp.NullSafeEQ):
            continue
        for mine, other in ((node.this, node.expression), (node.expression, node.this)):
            field, value = parsed.reader.field(mine.unnest()), other.unnest()
            inner = value.this.unnest() if isinstance(value, exp.Cast) else value
            if field is not None and (isinstance(inner, exp.Literal) or parameter(inner)):
                return _equality(parsed, node, field, mine, value, hidden=parameter(inner))
    return None


def _equality(
    parsed: Parsed, node: exp.Expr, field: Field, mine: exp.Expr, value: exp.Expr, *, hidden: str
) -> Rewrite:
    tree = parsed.tree.copy()
    counterpart(tree, node).replace(build(":mine = :value", mine=mine, value=value))
    name = field.column.name
    return Rewrite(
        rule="not_distinct",
        title=f"Compare {field.table.name}.{name} with =",
        why=(
            f"No index answers {brief(node)}: every row is compared. With a value that is not "
            "NULL it asks for the same rows as =, which an index finds."
        ),
        sql=written(tree),
        obligation=(
            f"The same rows as long as {hidden} is not NULL. Where it may be, add OR ({name} IS "
            f"NULL AND {hidden} IS NULL)."
            if hidden
            else "The same rows in every case: the value is not NULL."
        ),
        finding="not_distinct",
        equality=Equality.CONDITION if hidden else Equality.ALWAYS,
        indexes=index_on(field),
    )
