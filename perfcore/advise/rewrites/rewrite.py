"""What a rule says: the new wording, when it gives the same rows, and what its gain rests on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from sqlglot import exp

from perfcore.advise.rewrites.reading import Reader, columns
from perfcore.advise.rewrites.writing import identifier
from perfcore.types import IndexDefinition


class Equality(StrEnum):
    """Whether the new wording returns the rows of the old one."""

    ALWAYS = "always the same rows"
    CONDITION = "the same rows if a condition holds"
    DIFFERENT = "other rows, on purpose"


class Pricing(StrEnum):
    """What tells the gain."""

    PLANNER = "the planner's costs of both wordings"
    FIRST_PAGE = "the planner's cost of a page that starts at its first row"
    NOTHING = "no planner's cost: see the reason"


@dataclass(frozen=True, slots=True)
class Rewrite:
    """A new wording of a statement.

    `obligation` says in words when the rows are the same, whatever the data where `equality`
    is ALWAYS. New values that the application passes stand in `sql` as `:name`. `indexes` are
    those without which the wording gains nothing; `setup` is DDL that has to come before them.
    """

    rule: str
    title: str
    why: str
    sql: str
    obligation: str
    finding: str
    equality: Equality = Equality.ALWAYS
    pricing: Pricing = Pricing.PLANNER
    indexes: tuple[IndexDefinition, ...] = ()
    setup: str = ""
    saved_bytes_per_row: int = 0  # that are no longer sent


@dataclass(frozen=True, slots=True)
class Parsed:
    """A statement's tree and what the catalogue knows of its names."""

    tree: exp.Expr
    reader: Reader

    def qualified(self) -> Parsed:
        """Return the statement with its table's alias before every bare column.

        Its parts can then be moved to where other tables have columns of the same names.
        """
        new = self.tree.copy()
        pairs = zip(columns(self.tree), columns(new), strict=True)
        for column, copy in pairs:
            field = self.reader.field(column)
            if field is not None and not column.table and not is_output(column):
                copy.set("table", identifier(field.source.alias))
        return Parsed(new, Reader(new, self.reader.catalog))


def is_output(column: exp.Column) -> bool:
    """Say whether ORDER BY takes the name for one of the output's."""
    select = column.parent_select
    if not isinstance(column.parent, exp.Ordered) or not isinstance(select, exp.Select):
        return False
    return column.name in {p.alias for p in select.expressions if isinstance(p, exp.Alias)}


Recognise = Callable[[Parsed], Rewrite | None]
