"""Everything known of a node of a plan, with the definition of each number."""

from __future__ import annotations

import html
from collections.abc import Iterator

from perfcore import plan_words
from perfcore.fitting import amount, fit, kb, ms, percent
from perfcore.plan import Plan, PlanNode
from perfcore.plan_shares import Share, is_timed


def details(node: PlanNode, share: Share, plan: Plan) -> str:
    """Return everything known of a node with the definition of each number, for the hover."""
    lines = [f"<b>{html.escape(fit(plan_words.phrase(node), 560, 12))}</b>"]
    lines += _time_lines(node, share, is_timed(plan))
    lines.append(
        f"planner's cost {node.startup_cost:,.2f} to its first row, {node.total_cost:,.2f} to its "
        f"last; rows of {node.plan_width} bytes"
    )
    lines += _row_lines(node)
    lines += _block_lines(node)
    lines += [html.escape(line) for line in _rest(node)]
    return "<br>".join(lines[:_MOST_DETAILS])


_MOST_DETAILS = 26


def _time_lines(node: PlanNode, share: Share, timed: bool) -> list[str]:
    if node.loops == 0:
        return ["never executed: nothing asked it for a row"]
    if not timed:
        return [
            f"own cost {amount(share.own)} ({percent(share.part)}): what this step adds",
            f"with its children {amount(share.inclusive)}",
        ]
    lines = [
        f"own time {ms(share.own)} ({percent(share.part)}): in this step itself, over all loops",
        f"with its children {ms(share.inclusive)}",
    ]
    if node.processes > 1:
        lines.append(f"in {node.processes:g} processes side by side: elapsed time, not their sum")
    return lines


def _row_lines(node: PlanNode) -> list[str]:
    if node.actual_rows is None:
        return [f"rows expected {amount(node.plan_rows)}"]
    if not node.loops:
        return []
    factor = node.misestimate or 1.0
    off = ""
    if factor >= 1.5:
        off = f": {amount(factor)}× {'more' if node.is_underestimated else 'fewer'} than expected"
    text = f"rows per loop {amount(node.plan_rows)} expected, {amount(node.actual_rows)} came"
    lines = [text + off]
    if node.loops > 1:
        lines.append(f"loops {node.loops:,}: times it ran; {amount(node.rows_out)} rows together")
    for removed, what in (
        (node.rows_removed_by_filter, "the filter"),
        (node.rows_removed_by_join_filter, "the join filter"),
        (node.rows_removed_by_recheck, "the recheck of the table's row"),
    ):
        if removed:
            lines.append(f"{amount(removed)} rows read and then removed by {what}")
    return lines


def _block_lines(node: PlanNode) -> list[str]:
    if not node.has_buffers:
        return []
    own = [own_blocks(node, f"shared_{verb}_blocks") for verb in ("hit", "read", "dirtied")]
    lines = [
        f"blocks of 8 kB, its own: {own[0]:,} hit (in shared buffers),",
        f"{own[1]:,} read (from the system), {own[2]:,} dirtied",
        f"with its children: {node.shared_hit_blocks:,} hit, {node.shared_read_blocks:,} read",
    ]
    if node.temp_written_blocks or node.temp_read_blocks:
        lines.append(
            f"temporary files: {kb(8 * node.temp_written_blocks)} written, "
            f"{kb(8 * node.temp_read_blocks)} read, with its children"
        )
    return lines


# Told in words above, or in the node's name.
_TOLD = {
    "Node Type", "Plans", "Relation Name", "Index Name", "Parallel Aware", "Async Capable",
    "Startup Cost", "Total Cost", "Plan Rows", "Plan Width", "Actual Rows", "Actual Loops",
    "Actual Total Time", "Actual Startup Time", "Workers", "Parent Relationship", "Disabled",
    "Rows Removed by Filter", "Rows Removed by Join Filter", "Rows Removed by Index Recheck",
    "Alias",
}  # fmt: skip


_KILOBYTES = {"Sort Space Used", "Peak Memory Usage", "Disk Usage", "Maximum Storage"}


def _rest(node: PlanNode) -> Iterator[str]:
    """Yield what else EXPLAIN said, in its own words."""
    for key, value in node.properties.items():
        if key in _TOLD or value in ("", False, None, 0, [], 0.0):
            continue
        if key.endswith(" Blocks") and "Heap" not in key:
            continue
        words = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        unit = " kB" if key in _KILOBYTES else " ms" if key.endswith(" Time") else ""
        yield fit(f"{key}: {words}{unit}", 520, 12)


def own_blocks(node: PlanNode, name: str) -> int:
    """Return the blocks that a node touched itself; EXPLAIN counts its children's with them."""
    below = sum(int(getattr(child, name)) for child in node.children)
    return max(0, int(getattr(node, name)) - below)
