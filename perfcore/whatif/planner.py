"""The contract of the engines that answer what a statement would cost, and a cache before them."""

from __future__ import annotations

import re
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Protocol

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from perfcore.errors import PlanningFailed
from perfcore.plan import Plan
from perfcore.types import Catalog, IndexDefinition
from perfcore.whatif.text import spaced


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
    """A planner that never asks the same question twice, and counts what it was asked.

    A plan depends on the statement and on the indexes of the tables it reads, so indexes
    of other tables, proposed or hidden, are neither part of the question nor handed on.
    With a catalogue a partitioned table and its partitions count as one, and a statement
    that reads anything but its tables (a view) is taken to read all of them.
    """

    def __init__(
        self,
        planner: Planner,
        catalog: Catalog | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.planner = planner
        self.name = planner.name
        self.answered_from_cache = 0
        self.planning_s = 0.0  # spent in the planner behind
        self._clock = clock
        self._families = {} if catalog is None else _families(catalog)
        self._known = None if catalog is None else {t.name for t in catalog.tables}
        self._tables = {} if catalog is None else _tables_of_indexes(catalog)
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

    @property
    def effort(self) -> str:
        """Say in words what the answers took."""
        return (
            f"{self.calls:,} plans asked of {self.name} in {self.planning_s:.1f} s, "
            f"{self.answered_from_cache:,} more answered from the cache"
        )

    def plan(
        self,
        statement: str,
        parameters: Sequence[str | None] | None = None,
        *,
        indexes: Sequence[IndexDefinition] = (),
        hidden: Sequence[str] = (),
    ) -> Plan:
        relevant = self.relevant(statement, indexes)
        unseen = self.relevant_hidden(statement, hidden)
        values = None if parameters is None else tuple(parameters)
        key = (statement, values, frozenset(i.digest for i in relevant), frozenset(unseen))
        found = self._plans.get(key)
        if found is not None:
            self.answered_from_cache += 1
            return found
        began = self._clock()
        try:
            plan = self.planner.plan(statement, values, indexes=relevant, hidden=unseen)
        finally:
            self.planning_s += self._clock() - began
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
        tables = self._read_by(statement)
        return tuple(i for i in indexes if tables is None or i.table in tables)

    def relevant_hidden(self, statement: str, hidden: Sequence[str]) -> tuple[str, ...]:
        """Return those of the hidden indexes whose table the statement reads, or nobody knows."""
        tables = self._read_by(statement)
        if tables is None:
            return tuple(hidden)
        return tuple(n for n in hidden if self._tables.get(n, tables) & tables)

    def _read_by(self, statement: str) -> frozenset[str] | None:
        tables = tables_of(statement)
        if tables is None or (self._known is not None and not tables <= self._known):
            return None
        return tables.union(*(self._families.get(t, ()) for t in tables))


def family(catalog: Catalog, name: str) -> frozenset[str]:
    """Return the bare names of all tables in one tree of partitions or heirs with this one."""
    return _families(catalog).get(name, frozenset())


def with_partitions(catalog: Catalog, indexes: Sequence[str]) -> list[str]:
    """Return the names with those of the partitions' indexes that a named index is made of.

    A name may be bare or have its schema; what comes out has it.
    """
    if not indexes:
        return []
    known = [(f"{i.schema}.{i.name}", i) for t in catalog.tables for i in t.indexes]
    wanted = set(indexes)
    found = list(indexes)
    named = {own for own, i in known if own in wanted or i.name in wanted}
    while named:
        named = {own for own, i in known if i.parent in named}
        found += sorted(named)
    return found


def _families(catalog: Catalog) -> dict[str, frozenset[str]]:
    parents = {t.qualified_name: t.parent for t in catalog.tables}

    def root(name: str) -> str:
        while parents.get(name):
            name = parents[name]
        return name

    trees: dict[str, set[str]] = defaultdict(set)
    for table in catalog.tables:
        trees[root(table.qualified_name)].add(table.name)
    found: dict[str, frozenset[str]] = {}
    for names in trees.values():
        for name in names if len(names) > 1 else ():
            found[name] = found.get(name, frozenset()) | names
    return found


def _tables_of_indexes(catalog: Catalog) -> dict[str, frozenset[str]]:
    """Return the tables that an index may be of by its name, bare or with its schema."""
    found: dict[str, frozenset[str]] = {}
    for table in catalog.tables:
        for index in table.indexes:
            for name in (index.name, f"{index.schema}.{index.name}"):
                found[name] = found.get(name, frozenset()) | {table.name}
    return found


@lru_cache(maxsize=4096)
def tables_of(statement: str) -> frozenset[str] | None:
    """Return the bare names of the relations a statement names, None if it cannot be parsed.

    >>> sorted(tables_of('WITH r AS (SELECT * FROM a) SELECT * FROM r JOIN "B" ON x = $1'))
    ['B', 'a']
    """
    try:
        trees = sqlglot.parse(spaced(statement), read="postgres")
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


@lru_cache(maxsize=4096)
def reading_part(statement: str) -> str:
    """Return what of a statement reads, as one that locks nothing; a plain SELECT as it is.

    Raises PlanningFailed where it cannot be told.

    >>> reading_part("UPDATE t SET a = $1 FROM u WHERE t.id = u.id AND u.b = $2")
    'SELECT $1, t.ctid FROM t, u WHERE t.id = u.id AND u.b = $2'
    >>> reading_part("DELETE FROM t USING u WHERE t.id = u.id")
    'SELECT t.ctid FROM t, u WHERE t.id = u.id'
    >>> reading_part("SELECT * FROM t WHERE id = $1 FOR UPDATE")
    'SELECT * FROM t WHERE id = $1'
    """
    try:
        tree = sqlglot.parse_one(spaced(statement), read="postgres")
    except (SqlglotError, RecursionError):
        if _LOCKS_NOTHING.match(statement):
            return statement
        raise _unread(statement) from None
    if isinstance(tree, exp.Update | exp.Delete) and not tree.args.get("with_"):
        return _selected(tree).sql(dialect="postgres")
    if isinstance(tree, exp.Insert) and tree.expression and not tree.args.get("with_"):
        return str(tree.expression.sql(dialect="postgres"))
    if not isinstance(tree, exp.Query | exp.Values) or any(tree.find_all(exp.DML)):
        raise _unread(statement)
    return _unlocked(tree, statement)


_LOCKS_NOTHING = re.compile(
    r"\s*\(*\s*(SELECT|VALUES|TABLE)\b(?!.*\bFOR\s+(UPDATE|NO|SHARE|KEY)\b)", re.I | re.S
)


def _selected(tree: exp.Update | exp.Delete) -> exp.Select:
    """Return a SELECT of the rows that an UPDATE or DELETE would change."""
    values = [e.expression for e in tree.expressions] if isinstance(tree, exp.Update) else []
    target = tree.this
    others = tree.args.get("using") or []
    found = exp.select(*values, f"{target.alias_or_name}.ctid", dialect="postgres").from_(target)
    from_ = tree.args.get("from_")
    if from_ is not None:
        others = [from_.this]  # with its joins
    for other in others:
        found = found.join(other, join_type="")
    where = tree.args.get("where")
    return found.where(where.this) if where is not None else found


def _unlocked(tree: exp.Expr, statement: str) -> str:
    locked = [node for node in tree.walk() if node.args.get("locks")]
    for node in locked:
        node.set("locks", [])
    return tree.sql(dialect="postgres") if locked else statement


def _unread(statement: str) -> PlanningFailed:
    return PlanningFailed(
        "what this statement reads cannot be told apart from what it writes, and planning it "
        f"whole would lock the target's tables: {statement[:200]}",
    )


def _folded(name: exp.Identifier) -> str:
    text = str(name.this)
    return text if name.args.get("quoted") else text.lower()
