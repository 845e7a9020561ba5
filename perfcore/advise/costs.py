"""What statements cost under sets of indexes, asked of the planner as seldom as possible."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import psycopg

from perfcore.errors import PerfcoreError
from perfcore.plan import Plan, PlanNode
from perfcore.types import IndexDefinition, IndexKey
from perfcore.whatif.planner import Planner

_FEW = 0.1  # of a table's rows
_NEEDS_ALL = frozenset({"Sort", "Aggregate", "Hash", "Materialize", "ModifyTable"})


class OutOfTime(PerfcoreError):
    """The round's time is over."""


@dataclass(frozen=True, slots=True)
class _Answer:
    available: frozenset[str]
    used: frozenset[str]
    plan: Plan


@dataclass
class CostBook:
    """Plans by statement and index set; failures are kept and not asked again.

    If the plan under S used only the indexes U, it is the plan under every set between U
    and S as well: taking away what was not used changes nothing.
    """

    planner: Planner
    time_limit_s: float
    clock: Callable[[], float] = time.monotonic
    row_counts: Mapping[str, float] = field(default_factory=dict)  # by bare name of the table
    calls: int = 0
    hits: int = 0  # questions whose answer followed from an earlier one
    failures: dict[str, str] = field(default_factory=dict)  # digest or text -> planner's words
    _answers: dict[str, list[_Answer]] = field(default_factory=dict)
    _bytes: dict[str, int] = field(default_factory=dict)
    _started: float = 0.0

    def __post_init__(self) -> None:
        self._started = self.clock()

    @property
    def elapsed_s(self) -> float:
        return self.clock() - self._started

    def plan(self, text: str, indexes: Iterable[IndexDefinition] = ()) -> Plan | None:
        """Return the plan, None when the planner cannot make it.

        Raises OutOfTime instead of asking the planner once the limit has passed.
        """
        wanted = {i.digest: i for i in indexes}
        names = frozenset(wanted)
        for answer in self._answers.get(text, ()):
            if answer.used <= names <= answer.available:
                self.hits += 1
                return answer.plan
        if self._failed(text, names):
            return None
        if self.elapsed_s > self.time_limit_s:
            raise OutOfTime
        self.calls += 1
        try:
            plan = self.planner.plan(text, indexes=[wanted[d] for d in sorted(wanted)])
        except (PerfcoreError, psycopg.Error) as error:
            self.failures[_key(text, names)] = str(error)
            return None
        used = frozenset(d for d, i in wanted.items() if plan.uses_index(i.name))
        self._answers.setdefault(text, []).append(_Answer(names, used, plan))
        return plan

    def cost(self, text: str, indexes: Iterable[IndexDefinition] = ()) -> float | None:
        """Return the plan's total cost, None when there is no plan.

        A proposed index that the plan would only walk from end to end, fetching every row of
        the table in the index's order, earns nothing: the planner takes those fetches to find
        each page once, and on the demo's orders what it promised 20 % faster took 70 % longer.
        Nor does one that is walked under a LIMIT until enough of few matching rows are met: the
        planner takes them to lie evenly, and where they lay at the far end, what it promised 94 %
        faster took twice as long. And a merge join that would end where the NULLs begin must read
        an index without NULLs to its end.
        """
        wanted = tuple(indexes)
        plan = self.plan(text, wanted)
        if plan is None:
            return None
        cost = max(plan.total_cost, 0.01)
        walked = walked_whole(plan, wanted, self.row_counts)
        if walked:
            without = self.cost(text, [i for i in wanted if i.name not in walked])
            return cost if without is None else max(cost, without)
        return cost

    def index_bytes(self, index: IndexDefinition) -> int | None:
        """Return the index's size by the planner's estimate, None when it has none."""
        if index.digest not in self._bytes:
            try:
                self._bytes[index.digest] = self.planner.index_bytes(index)
            except PerfcoreError as error:
                self.failures[index.digest] = str(error)
                return None
        return self._bytes[index.digest]

    def why_failed(self, text: str, indexes: Iterable[IndexDefinition] = ()) -> str:
        """Return the planner's words about the statement with the indexes."""
        return self.failures.get(_key(text, frozenset(i.digest for i in indexes)), "")

    def _failed(self, text: str, names: frozenset[str]) -> bool:
        return _key(text, names) in self.failures or _key(text, frozenset()) in self.failures


def walked_whole(
    plan: Plan,
    indexes: Iterable[IndexDefinition],
    row_counts: Mapping[str, float] | None = None,
) -> frozenset[str]:
    """Return those of the indexes that the plan reads from end to end, fetching each row.

    That is an Index Scan without a condition on the first key; one on a later key narrows the walk
    only where it keeps few rows. A LIMIT above ends the walk early, unless a node between them
    needs all rows first, or so few rows pass a filter or such a condition that nobody knows how
    far the walk goes. A partial index is short by itself, but one without NULLs is no shorter for
    a merge join that would end where the NULLs begin.
    """
    first_key = {i.name: i.keys[0] for i in indexes if not i.predicate}
    without_nulls = {i.name for i in indexes if _leaves_out_nulls(i)}
    found = set()
    stack = [(plan.root, False, False)]
    while stack:
        node, is_limited, is_merged = stack.pop()
        is_limited = node.node_type == "Limit" or (is_limited and node.node_type not in _NEEDS_ALL)
        if is_limited:
            is_walk = node.node_type in _INDEX_SCANS and _keeps_few(node, row_counts or {})
            if is_walk and node.index in first_key and not _seeks(node, first_key[node.index]):
                found.add(node.index)
        elif node.node_type == "Index Scan":
            has_condition = "Index Cond" in node.properties or "Order By" in node.properties
            if node.index in first_key and not _seeks(node, first_key[node.index]):
                if not (has_condition and _keeps_few(node, row_counts or {})):
                    found.add(node.index)
            elif is_merged and node.index in without_nulls and not has_condition:
                found.add(node.index)
        is_merge = node.node_type == "Merge Join"
        stack.extend((child, is_limited, is_merge) for child in node.children)
    return frozenset(found)


_INDEX_SCANS = ("Index Scan", "Index Only Scan")


def ranges_with_nulls(plan: Plan, indexes: Iterable[IndexDefinition]) -> frozenset[str]:
    """Return those of the indexes that are asked for the ranges of pages which hold a NULL.

    The planner takes NULLs to lie as much in order as the values do. Where they lie anywhere, each
    range holds one, and the whole table is read in the dearest way: twice the time of a sequential
    scan was measured where 44 % less was promised.
    """
    brins = {i.name for i in indexes if i.method == "brin"}
    return frozenset(
        node.index
        for _, node in plan.root.walk()
        if node.index in brins and "IS NULL" in str(node.properties.get("Index Cond", ""))
    )


def _leaves_out_nulls(index: IndexDefinition) -> bool:
    return f"{index.keys[0].expression} IS NOT NULL" in index.predicate.replace('"', "")


def _keeps_few(node: PlanNode, row_counts: Mapping[str, float]) -> bool:
    rows = row_counts.get(node.relation or "", 0.0)
    is_picky = "Filter" in node.properties or "Index Cond" in node.properties
    return is_picky and node.plan_rows < _FEW * rows


def _seeks(node: PlanNode, key: IndexKey) -> bool:
    condition = str(node.properties.get("Index Cond", ""))
    if "Order By" in node.properties or (condition and key.is_expression):
        return True
    return re.search(rf"\b{re.escape(key.expression)}\b", condition) is not None


def _key(text: str, names: frozenset[str]) -> str:
    return "\0".join([text, *sorted(names)])
