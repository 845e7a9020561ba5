"""What a plan shows to be wrong, in one sentence with its numbers."""

from __future__ import annotations

from perfcore.advise.candidates import rows_of
from perfcore.plan import Plan, PlanNode
from perfcore.types import Finding, TableInfo, WorkloadStatement

BLOCK_BYTES = 8192


def explain(plan: Plan, table: TableInfo, statement: WorkloadStatement) -> Finding:
    """Return the finding that an index on the table answers, the costliest node first."""
    nodes = [n for _, n in plan.root.walk() if n.relation == table.name]
    worst = max(nodes, key=lambda n: n.total_cost, default=None)
    numbers = _numbers(statement)
    if worst is None:
        return Finding("costly", f"It spends its time around {table.name}.", numbers)
    if spill := _spilling_sort(plan, statement):
        return Finding("sort_spill", spill, numbers)
    if worst.node_type == "Seq Scan":
        return Finding("seq_scan", _seq_scan(worst, table), (*_read(worst, table), *numbers))
    if _sorts(plan):
        kept = f"{worst.plan_rows:,.0f}"
        return Finding("sort", f"It sorts {kept} rows of {table.name} on every call.", numbers)
    return Finding("index_filter", _index_scan(worst, table), numbers)


def _seq_scan(node: PlanNode, table: TableInfo) -> str:
    rows = rows_of(table)
    if "Filter" not in node.properties:
        return f"It reads all {rows:,.0f} rows of {table.name} on every call."
    return (
        f"It reads all {rows:,.0f} rows of {table.name} on every call to keep about "
        f"{max(1.0, node.plan_rows):,.0f}."
    )


def _index_scan(node: PlanNode, table: TableInfo) -> str:
    index = f" through {node.index}" if node.index else ""
    if "Filter" in node.properties:
        return f"It reads {table.name}{index} and then drops rows that do not match."
    return f"It fetches about {node.plan_rows:,.0f} rows of {table.name}{index}."


def _read(node: PlanNode, table: TableInfo) -> tuple[tuple[str, str], ...]:
    removed = max(0.0, rows_of(table) - node.plan_rows)
    size = f"{table.table_bytes / 1e6:,.1f} MB"
    return (("rows read and dropped per call", f"{removed:,.0f}"), ("table size", size))


def _numbers(statement: WorkloadStatement) -> tuple[tuple[str, str], ...]:
    return (
        ("mean time", f"{statement.mean_exec_time_ms:,.2f} ms"),
        ("calls", f"{statement.calls_per_hour:,.0f} per hour"),
    )


def _sorts(plan: Plan) -> bool:
    return any("Sort" in n.node_type for _, n in plan.root.walk())


def _spilling_sort(plan: Plan, statement: WorkloadStatement) -> str:
    if not statement.temp_blks_written or not _sorts(plan):
        return ""
    return (
        f"Its sort does not fit into memory: {spilled_mb(statement):,.1f} MB per call go to disk."
    )


def spilled_mb(statement: WorkloadStatement) -> float:
    """Return the megabytes that one call writes to temporary files."""
    return statement.temp_blks_written * BLOCK_BYTES / max(statement.calls, 1) / 1e6
