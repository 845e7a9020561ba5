"""The contract of the engines that answer what a statement would cost, and a cache before them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Protocol

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from perfcore.plan import Plan
from perfcore.types import Catalog, IndexDefinition


class Planner(Protocol):
    """An engine that plans statements as if indexes existed, or did not.

    `calls` counts the plans that the engine really made. `advisory` says in words why the
    answers may differ from the target's own, and is empty where they should not.
    """

    name: str
    calls: int

    @property
    def advisory(self) -> str: ...

    def plan(
        self,
        statement: str,
        parameters: Sequence[str | None] | None = None,
        *,
        indexes: Sequence[IndexDefinition] = (),
        hidden: Sequence[str] = (),
    ) -> Plan:
        """Return the plan of a statement whose constants are `$1`, `$2`, … .

        Without parameters it is the generic plan; with them the plan for these values,
        given as text. `indexes` are taken to exist, under their own `name`; `hidden` names
        existing ones, bare or with their schema, that are taken not to. Raises
        StatementRefused for what must not be planned, PlanningFailed for what cannot be.
        """
        ...

    def index_bytes(self, index: IndexDefinition) -> int:
        """Return the size that the index would have."""
        ...


class CachedPlanner:
    """A planner that never asks the same question twice.

    A plan depends on the statement and on the indexes of the tables it reads, so indexes
    of other tables are neither part of the question nor handed on. With a catalogue,
    a statement that reads anything but its tables (a view) is taken to read all of them.
    """

    def __init__(self, planner: Planner, catalog: Catalog | None = None) -> None:
        self.planner = planner
        self.name = planner.name
        self.answered_from_cache = 0
        self._known = None if catalog is None else {t.name for t in catalog.tables}
        self._plans: dict[tuple[object, ...], Plan] = {}
        self._bytes: dict[str, int] = {}

    @property
    def advisory(self) -> str:
        return self.planner.advisory

    @property
    def calls(self) -> int:
        return self.planner.calls

    @calls.setter
    def calls(self, value: int) -> None:
        self.planner.calls = value

    def plan(
        self,
        statement: str,
        parameters: Sequence[str | None] | None = None,
        *,
        indexes: Sequence[IndexDefinition] = (),
        hidden: Sequence[str] = (),
    ) -> Plan:
        relevant = self.relevant(statement, indexes)
        values = None if parameters is None else tuple(parameters)
        key = (statement, values, frozenset(i.digest for i in relevant), frozenset(hidden))
        found = self._plans.get(key)
        if found is not None:
            self.answered_from_cache += 1
            return found
        plan = self.planner.plan(statement, values, indexes=relevant, hidden=hidden)
        self._plans[key] = plan
        return plan

    def index_bytes(self, index: IndexDefinition) -> int:
        if index.digest not in self._bytes:
            self._bytes[index.digest] = self.planner.index_bytes(index)
        return self._bytes[index.digest]

    def relevant(
        self, statement: str, indexes: Sequence[IndexDefinition]
    ) -> tuple[IndexDefinition, ...]:
        """Return those of the indexes whose table the statement reads."""
        tables = tables_of(statement)
        if tables is None or (self._known is not None and not tables <= self._known):
            return tuple(indexes)
        return tuple(i for i in indexes if i.table in tables)


@lru_cache(maxsize=4096)
def tables_of(statement: str) -> frozenset[str] | None:
    """Return the bare names of the relations a statement names, None if it cannot be parsed.

    >>> sorted(tables_of('WITH r AS (SELECT * FROM a) SELECT * FROM r JOIN "B" ON x = $1'))
    ['B', 'a']
    """
    try:
        trees = sqlglot.parse(statement, read="postgres")
    except (SqlglotError, RecursionError):
        return None
    names: set[str] = set()
    for tree in trees:
        if tree is None or isinstance(tree, exp.Command):
            return None
        own = {_folded(c.args["alias"].this) for c in tree.find_all(exp.CTE)}
        for table in tree.find_all(exp.Table):
            if isinstance(table.this, exp.Identifier):
                name = _folded(table.this)
                if table.args.get("db") or name not in own:
                    names.add(name)
    return frozenset(names)


def _folded(name: exp.Identifier) -> str:
    text = str(name.this)
    return text if name.args.get("quoted") else text.lower()
