"""How much of a plan's time, or of its cost, each of its nodes takes."""

from __future__ import annotations

from dataclasses import dataclass

from perfcore.plan import Plan, PlanNode


@dataclass(frozen=True, slots=True)
class Share:
    """What a node takes itself, with its children, and of the whole; ms or planner's cost."""

    own: float
    inclusive: float
    part: float  # own, of all nodes' own


def is_timed(plan: Plan) -> bool:
    """Say whether the shares are of time; else they are of the planner's cost."""
    return plan.root.self_ms is not None


def shares(plan: Plan) -> list[Share]:
    """Return each node's share, in the order of `plan.root.walk()`.

    Costs are shared out as the planner adds them up: the inner side of a nested loop counts
    once per outer row, what a LIMIT leaves unread does not count.
    """
    nodes = [node for _, node in plan.root.walk()]
    if is_timed(plan):
        owns = [node.self_ms or 0.0 for node in nodes]
        inclusive = [node.total_ms or 0.0 for node in nodes]
    else:
        inclusive, owns = _shared_costs(plan)
    whole = sum(owns) or 1.0
    return [Share(o, i, o / whole) for o, i in zip(owns, inclusive, strict=True)]


def _shared_costs(plan: Plan) -> tuple[list[float], list[float]]:
    inclusive: list[float] = []
    owns: list[float] = []
    stack = [(plan.root, plan.root.total_cost)]
    while stack:
        node, granted = stack.pop()
        claims = _claims(node)
        claimed, scale = sum(claims), granted / node.total_cost if node.total_cost else 0.0
        if claimed * scale > granted:
            scale = granted / claimed
        inclusive.append(granted)
        owns.append(max(0.0, granted - claimed * scale))
        stack += [(c, v * scale) for c, v in zip(node.children[::-1], claims[::-1], strict=True)]
    return inclusive, owns


def _claims(node: PlanNode) -> list[float]:
    """Return what each child costs its parent, over all the times that it is to run."""
    claims = [child.total_cost for child in node.children]
    for n, child in enumerate(node.children):
        times = _runs(node, n, child)
        if times > 1:
            rest = node.total_cost - sum(claims) + claims[n]
            claims[n] = max(claims[n], min(rest, times * child.total_cost))
    return claims


def _runs(node: PlanNode, n: int, child: PlanNode) -> float:
    """Return how often the planner expects a child to run for one run of its parent."""
    if node.node_type == "Nested Loop" and n == 1:
        return node.children[0].plan_rows
    name = str(child.properties.get("Subplan Name", ""))
    if child.properties.get("Parent Relationship") == "SubPlan":
        return 1.0 if f"hashed {name}" in str(node.properties) else node.plan_rows
    return 1.0
