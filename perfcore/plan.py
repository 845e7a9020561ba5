"""EXPLAIN trees: parsing, identity by shape, and reading as text."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

# What a node does and to which object: equal trees of these are the same plan,
# whatever the constants, the costs and the timings.
_SHAPE_KEYS = (
    "Node Type", "Join Type", "Strategy", "Partial Mode", "Relation Name", "Schema",
    "Index Name", "Scan Direction", "Subplan Name", "Parent Relationship", "Sort Key",
    "Group Key", "Command", "Operation",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class PlanNode:
    """One node with what PostgreSQL said of it; times are inclusive and per loop, as in EXPLAIN."""

    node_type: str
    relation: str
    index: str
    startup_cost: float
    total_cost: float
    plan_rows: float
    plan_width: int
    actual_rows: float | None  # per loop; None when not executed
    actual_total_ms: float | None  # per loop, inclusive of children
    loops: int | None
    properties: Mapping[str, Any] = field(repr=False)
    children: tuple[PlanNode, ...] = ()

    @property
    def self_cost(self) -> float:
        """Return the cost that the node adds to its children's, never negative."""
        return max(0.0, self.total_cost - sum(c.total_cost for c in self.children))

    @property
    def total_ms(self) -> float | None:
        """Return the time over all loops, inclusive of children."""
        if self.actual_total_ms is None or self.loops is None:
            return None
        return self.actual_total_ms * self.loops

    @property
    def self_ms(self) -> float | None:
        """Return the time spent in the node itself over all loops."""
        if self.total_ms is None:
            return None
        return max(0.0, self.total_ms - sum(c.total_ms or 0.0 for c in self.children))

    def walk(self) -> Iterator[tuple[int, PlanNode]]:
        """Yield (depth, node) in the order EXPLAIN prints them."""
        stack = [(0, self)]
        while stack:
            depth, node = stack.pop()
            yield depth, node
            stack.extend((depth + 1, c) for c in reversed(node.children))


@dataclass(frozen=True, slots=True)
class Plan:
    """An EXPLAIN (FORMAT JSON) answer."""

    root: PlanNode
    document: Mapping[str, Any] = field(repr=False)
    planning_ms: float | None = None
    execution_ms: float | None = None
    shared_hit_blocks: int = 0
    shared_read_blocks: int = 0

    @property
    def total_cost(self) -> float:
        return self.root.total_cost

    @property
    def shape_hash(self) -> str:
        """Return 16 hex digits that change only when the plan does something else."""
        return hashlib.sha256(json.dumps(_shape(self.document["Plan"])).encode()).hexdigest()[:16]

    def uses_index(self, name: str) -> bool:
        """Say whether any node scans the index of that name."""
        return any(node.index == name for _, node in self.root.walk())

    def to_text(self) -> str:
        """Return the tree as EXPLAIN's text format would show it, the essentials only."""
        return "\n".join(_line(depth, node) for depth, node in self.root.walk())


def parse_plan(answer: Any) -> Plan:
    """Return the plan in an EXPLAIN (FORMAT JSON) answer, given as text, list or object.

    Raises ValueError when the answer holds no plan.
    """
    document = json.loads(answer) if isinstance(answer, str | bytes) else answer
    if isinstance(document, list):
        document = document[0] if document else {}
    if not isinstance(document, Mapping) or "Plan" not in document:
        raise ValueError('not an EXPLAIN (FORMAT JSON) answer: it has no "Plan"')
    top = document["Plan"]
    return Plan(
        root=_node(top),
        document=document,
        planning_ms=document.get("Planning Time"),
        execution_ms=document.get("Execution Time"),
        shared_hit_blocks=int(top.get("Shared Hit Blocks", 0)),
        shared_read_blocks=int(top.get("Shared Read Blocks", 0)),
    )


def _node(raw: Mapping[str, Any]) -> PlanNode:
    return PlanNode(
        node_type=raw.get("Node Type", "?"),
        relation=raw.get("Relation Name", ""),
        index=raw.get("Index Name", ""),
        startup_cost=float(raw.get("Startup Cost", 0.0)),
        total_cost=float(raw.get("Total Cost", 0.0)),
        plan_rows=float(raw.get("Plan Rows", 0.0)),
        plan_width=int(raw.get("Plan Width", 0)),
        actual_rows=raw.get("Actual Rows"),
        actual_total_ms=raw.get("Actual Total Time"),
        loops=raw.get("Actual Loops"),
        properties={k: v for k, v in raw.items() if k != "Plans"},
        children=tuple(_node(c) for c in raw.get("Plans", ())),
    )


def _shape(raw: Mapping[str, Any]) -> list[Any]:
    return [
        {k: raw[k] for k in _SHAPE_KEYS if k in raw},
        [_shape(c) for c in raw.get("Plans", ())],
    ]


_CONDITIONS = (
    "Index Cond", "Recheck Cond", "Filter", "Hash Cond", "Merge Cond", "Join Filter", "Sort Key",
)  # fmt: skip


def _line(depth: int, node: PlanNode) -> str:
    what = node.node_type
    if node.index:
        what += f" using {node.index}"
    if node.relation:
        what += f" on {node.relation}"
    cost = f"cost={node.startup_cost:.2f}..{node.total_cost:.2f} rows={node.plan_rows:.0f}"
    text = f"{'  ' * depth}{'-> ' if depth else ''}{what}  ({cost})"
    if node.actual_rows is not None:
        ms = node.actual_total_ms or 0.0
        text += f" (actual time={ms:.3f} rows={node.actual_rows:.0f} loops={node.loops})"
    for key in _CONDITIONS:
        if key in node.properties:
            value = node.properties[key]
            words = ", ".join(value) if isinstance(value, list) else value
            text += f"\n{'  ' * (depth + 2)}{key}: {words}"
    return text
