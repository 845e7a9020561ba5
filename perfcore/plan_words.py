"""What a node of a plan is called and what it does, in PostgreSQL's own words."""

from __future__ import annotations

from perfcore.plan import PlanNode

# In the order in which they explain a node best.
_CONDITIONS = (
    "Index Cond", "Recheck Cond", "Hash Cond", "Merge Cond", "Join Filter", "Filter",
    "One-Time Filter", "TID Cond", "Order By",
)  # fmt: skip
_KEYS = ("Sort Key", "Presorted Key", "Group Key", "Cache Key")


def title(node: PlanNode) -> str:
    """Return the node's name as EXPLAIN's text format has it: "Parallel Seq Scan".

    A join or an aggregate says its kind: "Hash Left Join", "Partial HashAggregate".
    """
    kind = node.node_type
    if kind == "Aggregate":
        strategy = str(node.properties.get("Strategy", "Plain"))
        kind = {"Hashed": "Hash", "Sorted": "Group", "Mixed": "Mixed"}.get(strategy, "") + kind
    elif kind == "ModifyTable":
        kind = str(node.properties.get("Operation", kind))
    join = str(node.properties.get("Join Type", "Inner"))
    if join != "Inner":
        kind = f"{kind.removesuffix(' Join')} {join} Join"
    if node.properties.get("Scan Direction") == "Backward":
        kind += " Backward"
    partial = str(node.properties.get("Partial Mode", "Simple"))
    if partial != "Simple":
        kind = f"{partial} {kind}"
    if node.properties.get("Parallel Aware") is True:
        kind = f"Parallel {kind}"
    return kind


def subject(node: PlanNode) -> str:
    """Return what the node works on: the relation, or the function, CTE or subquery it reads."""
    named = ("Function Name", "Table Function Name", "CTE Name", "Tuplestore Name")
    found = node.relation or next(
        (str(node.properties[key]) for key in named if node.properties.get(key)), ""
    )
    alias = str(node.properties.get("Alias", ""))
    if not found:
        return alias
    return f"{found} {alias}" if alias and alias != found else found


def conditions(node: PlanNode) -> list[tuple[str, str]]:
    """Return (name, text) of what it searches by, filters by and orders by."""
    found = [(name, str(node.properties[name])) for name in _CONDITIONS if name in node.properties]
    for name in _KEYS:
        value = node.properties.get(name)
        if value:
            keys = value if isinstance(value, list) else [value]
            found.append((name, ", ".join(map(str, keys))))
    return found


def phrase(node: PlanNode) -> str:
    """Return the node in a few words: "Index Scan using orders_pkey on orders"."""
    words = title(node)
    if node.index:
        words += f" using {node.index}"
    if node.relation:
        words += f" on {node.relation}"
    elif what := subject(node):
        words += f" on {what}"
    return words
