"""What becomes of a plan, in a few kinds that the planner misjudges each in its own way.

How far a planner's promise may be believed depends on the operators of the two plans (Ding et
al., "AI Meets AI: Leveraging Query Executions to Improve Index Recommendations", SIGMOD 2019)
and on the cardinalities below them (Leis et al., "How Good Are Query Optimizers, Really?", PVLDB
2015). The kinds are few on purpose: each must be met often enough to be learned.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from perfcore.plan import Plan, PlanNode

SAME_PLAN = "same plan"
OTHER_CHANGE = "other change"
ORDERED_INDEX = "Sort -> ordered index"

_SCANS = ("Seq Scan", "Index Scan", "Index Only Scan", "Bitmap Heap Scan")
_SORTS = ("Sort", "Incremental Sort")
_JOINS = ("Hash Join", "Merge Join", "Nested Loop")


@dataclass(frozen=True, slots=True)
class _Scan:
    """How a plan reaches a table once, and what it does with the rows above."""

    node: PlanNode
    above: tuple[tuple[PlanNode, int], ...]  # from the top down: a node, which child leads here

    @property
    def key(self) -> str:
        return self.node.alias or self.node.relation

    @property
    def has_condition(self) -> bool:
        """Say whether an index narrows the rows down, not only gives them an order."""
        names = ("Index Cond", "Recheck Cond", "Order By")
        return any(self.node.condition(c) for c in names)

    @property
    def join(self) -> tuple[str, bool]:
        """Return the nearest join above, and whether the table is its inner side."""
        joins = ((n.node_type, child == 1) for n, child in reversed(self.above)
                 if n.node_type in _JOINS)  # fmt: skip
        return next(joins, ("", False))

    @property
    def is_sorted(self) -> bool:
        return any(n.node_type in _SORTS for n, _ in self.above)

    @property
    def way(self) -> tuple[str, ...]:
        """Return what tells two ways to the rows apart: the scan and its indexes."""
        below = (n.index for _, n in self.node.walk() if n.index)
        return (self.node.node_type, *sorted(below))


def plan_change(before: Plan, after: Plan, table: str, *, method: str = "") -> str:
    """Return what becomes of the plan's way to a table: "Seq Scan -> Index Scan".

    `table` may carry its schema; where no scan bears its name, as with partitions, all scans are
    looked at. `method` is the new index's access method, which EXPLAIN does not tell: any but
    btree is named. A join that begins to look rows up, and a sort that ends, are told before the
    scan below them, unless that scan was sequential and is now narrowed down: then most is saved
    there.
    """
    pairs = _changed(before, after, table)
    if not pairs:
        return _without_scans(before, after)
    one, other = max(pairs, key=lambda pair: pair[0].node.total_cost)
    return _joined(one, other) or _ordered(one, other) or _scanned(one, other, method)


def _changed(before: Plan, after: Plan, table: str) -> list[tuple[_Scan, _Scan]]:
    new = {s.key: s for s in _scans(after)}
    pairs = [(s, new[s.key]) for s in _scans(before) if s.key in new]
    named = [p for p in pairs if _is_of(p[0].node, table)] or pairs
    return [(one, other) for one, other in named if one.way != other.way]


def _is_of(node: PlanNode, table: str) -> bool:
    return table == node.relation or table.endswith(f".{node.relation}")


def _scans(plan: Plan) -> Iterator[_Scan]:
    stack: list[tuple[PlanNode, tuple[tuple[PlanNode, int], ...]]] = [(plan.root, ())]
    while stack:
        node, above = stack.pop()
        if node.node_type in _SCANS:
            yield _Scan(node, above)
        stack.extend((c, (*above, (node, n))) for n, c in enumerate(node.children))


def _without_scans(before: Plan, after: Plan) -> str:
    """Name the change of a plan that reads its tables as it did."""
    return SAME_PLAN if _steps(before) == _steps(after) else OTHER_CHANGE


def _steps(plan: Plan) -> list[tuple[int, str, str]]:
    return [(depth, n.node_type, n.index) for depth, n in plan.root.walk()]


def _joined(one: _Scan, other: _Scan) -> str:
    old, _ = one.join
    new, is_inner = other.join
    begins = old in ("Hash Join", "Merge Join") and new == "Nested Loop" and is_inner
    return f"{old} -> Nested Loop with index" if begins and other.has_condition else ""


def _ordered(one: _Scan, other: _Scan) -> str:
    ends = one.is_sorted and not other.is_sorted and other.node.node_type.startswith("Index")
    narrowed = one.node.node_type == "Seq Scan" and other.has_condition
    if not ends or narrowed:
        return ""
    # How far the walk goes until enough rows pass the filter is a guess that they lie evenly.
    return ORDERED_INDEX + (" + filter" if other.node.condition("Filter") else "")


def _scanned(one: _Scan, other: _Scan, method: str) -> str:
    how = f" ({method})" if method not in ("", "btree") and other.node.node_type != "Seq Scan" \
        else ""  # fmt: skip
    return f"{_with_filter(one.node)} -> {other.node.node_type}{how}"


def _with_filter(node: PlanNode) -> str:
    """Return the scan; of one by index also whether it threw rows away afterwards."""
    filters = node.node_type != "Seq Scan" and bool(node.condition("Filter"))
    return f"{node.node_type} + filter" if filters else node.node_type
