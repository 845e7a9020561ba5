"""work_mem for a statement that spills: as much as it needs, as much as the server can bear."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from perfcore.advise import findings
from perfcore.advise.gains import gain_of, short
from perfcore.advise.server_state import MB, ServerState
from perfcore.advise.upkeep import (
    assumed_memory,
    power_of_two_mb,
    setting_words,
    size_words,
    suggest,
)
from perfcore.advise.workload import Options
from perfcore.plan import Plan, PlanNode
from perfcore.types import Finding, Suggestion, WorkloadStatement

MIN_SPILL_MB = 1.0
MIN_WORK_MEM_MB = 8
MAX_WORK_MEM_MB = 256  # where nothing is known of the server
SPILL_TO_MEMORY = 2.5  # a sort needs more room in memory than its tapes take on disk
MEMORY_SHARE = 0.5  # of what shared_buffers leaves: the rest is the operating system's cache
_HASHES = ("Hash", "Aggregate")


@dataclass(frozen=True, slots=True)
class Ceiling:
    """The most work_mem at which all connections may run the statement at a time."""

    work_mem_bytes: float
    words: str
    budget_bytes: float
    per_call: int  # times that one call may take it


@dataclass(frozen=True, slots=True)
class _Wanted:
    work_mem_mb: int
    seen: str
    numbers: tuple[tuple[str, str], ...] = ()


def work_mem_advice(
    statement: WorkloadStatement, plan: Plan | None, server: ServerState | None, options: Options
) -> list[Suggestion]:
    """Return work_mem for a statement whose sorts or hashes go to disk.

    What they need is taken from a plan that was executed, where there is one, else from the
    temporary files that pg_stat_statements counted. `plan` tells how often a call takes it.
    """
    wanted = _from_executed(statement, server) or _from_counters(statement)
    if wanted is None:
        return []
    limit = ceiling(server, plan)
    most = MAX_WORK_MEM_MB if limit is None else int(limit.work_mem_bytes / MB)
    work_mem = min(wanted.work_mem_mb, most)
    present = server.size_bytes("work_mem") if server else None
    if present is not None and wanted.work_mem_mb * MB <= present:
        return []  # it was raised since
    is_safe = present is None or work_mem * MB > present
    return [_suggestion(statement, wanted, work_mem if is_safe else 0, limit, server, options)]


def _from_counters(statement: WorkloadStatement) -> _Wanted | None:
    spilled = findings.spilled_mb(statement)
    if spilled < MIN_SPILL_MB:
        return None
    needed = power_of_two_mb(math.ceil(spilled * SPILL_TO_MEMORY) * MB)
    return _Wanted(
        max(MIN_WORK_MEM_MB, needed), f"Each call writes {spilled:,.1f} MB to temporary files."
    )


def _from_executed(statement: WorkloadStatement, server: ServerState | None) -> _Wanted | None:
    if server is None:
        return None
    plans = [e.plan for e in server.observed.executed if e.fingerprint == statement.fingerprint]
    nodes = [n for p in plans for _, n in p.root.walk() if n.is_spilled]
    multiplier = server.number("hash_mem_multiplier", 1.0)
    worst = max(nodes, key=lambda n: _needed_bytes(n, multiplier), default=None)
    if worst is None or _needed_bytes(worst, multiplier) < MIN_SPILL_MB * MB:
        return None
    needed = power_of_two_mb(_needed_bytes(worst, multiplier))
    return _Wanted(
        max(MIN_WORK_MEM_MB, needed),
        f"Its {worst.node_type} went to disk when it was executed: {_spill_words(worst)}.",
    )


def _needed_bytes(node: PlanNode, hash_multiplier: float) -> float:
    """Return the work_mem with which the node would have stayed in memory."""
    if node.sort_is_on_disk:
        return node.sort_space_kb * 1024 * SPILL_TO_MEMORY
    if node.node_type == "Hash":
        return node.peak_memory_kb * 1024 * node.hash_batches / hash_multiplier
    return (node.peak_memory_kb + node.disk_kb * SPILL_TO_MEMORY) * 1024 / hash_multiplier


def _spill_words(node: PlanNode) -> str:
    if node.sort_is_on_disk:
        return f"{size_words(node.sort_space_kb * 1024)} on disk"
    if node.node_type == "Hash":
        return f"{node.hash_batches} batches of {size_words(node.peak_memory_kb * 1024)}"
    return f"{size_words(node.disk_kb * 1024)} on disk"


def ceiling(server: ServerState | None, plan: Plan | None) -> Ceiling | None:
    """Return how far work_mem may go if every connection ran the statement at the same moment.

    Half of the memory that shared_buffers leaves, divided by max_connections, by the plan's
    sorts and hashes (a hash may take hash_mem_multiplier times as much) and by its processes.
    """
    if server is None:
        return None
    memory, memory_words = assumed_memory(server)
    shared = server.size_bytes("shared_buffers") or 0.0
    connections = server.number("max_connections", 100.0)
    multiplier = server.number("hash_mem_multiplier", 1.0)
    nodes = _takers([n for _, n in plan.root.walk()] if plan else (), multiplier)
    processes = 1 + max((n.workers_planned for _, n in plan.root.walk()), default=0) if plan else 1
    budget = max(memory - shared, 0.0) * MEMORY_SHARE
    per_call = math.ceil(max(nodes, 1.0) * processes)
    words = (
        f"{size_words(budget)} (half of what shared_buffers leaves; {memory_words}) for "
        f"{connections:,.0f} connections, each up to {per_call} times"
    )
    return Ceiling(budget / connections / per_call, words, budget, per_call)


def _takers(nodes: Iterable[PlanNode], hash_multiplier: float) -> float:
    """Return how many times work_mem the nodes may take together."""
    times = 0.0
    for node in nodes:
        if node.node_type == "Hash" or node.condition("Strategy") in ("Hashed", "Mixed"):
            times += hash_multiplier
        elif node.node_type in ("Sort", "Incremental Sort", "Materialize"):
            times += 1
    return times


def _suggestion(
    statement: WorkloadStatement,
    wanted: _Wanted,
    work_mem_mb: int,
    limit: Ceiling | None,
    server: ServerState | None,
    options: Options,
) -> Suggestion:
    mean = statement.mean_exec_time_ms
    setting = server.setting("work_mem") if server else None
    numbers = (("mean time", f"{mean:,.2f} ms"), ("needed", f"{wanted.work_mem_mb} MB"))
    reason = (
        "A sort or hash that does not fit into work_mem goes through temporary files. Raise it for "
        "this statement's transaction, not for the server: every connection may take it several "
        "times over."
    )
    if limit is not None:
        reason += f" The ceiling: {limit.words}, makes {size_words(limit.work_mem_bytes)}."
    title = (
        f"Give {short(statement.text)} {work_mem_mb} MB of work_mem"
        if work_mem_mb
        else f"{short(statement.text)} spills, and no more work_mem is safe"
    )
    return suggest(
        options,
        "setting",
        f"work_mem/{statement.fingerprint}",
        title,
        Finding("sort_spill", wanted.seen, numbers),
        reason,
        ddl=f"SET LOCAL work_mem = '{work_mem_mb}MB'" if work_mem_mb else "",
        undo="RESET work_mem" if work_mem_mb else "",
        present=setting_words(setting) if setting else "",
        proposed=f"{work_mem_mb} MB, in its transaction" if work_mem_mb else "as it is",
        verify="EXPLAIN (ANALYZE, BUFFERS): Sort Method quicksort in Memory, Batches: 1, no temp "
        "blocks; temp_blks_written in pg_stat_statements stays.",
        risk="Too much of it for too many sessions at a time, and the server is ended for want of "
        "memory.",
        statements=(gain_of(statement, 1.0, 1.0, mean),),
        caveats=_caveats(wanted, work_mem_mb, limit),
    )


def _caveats(wanted: _Wanted, work_mem_mb: int, limit: Ceiling | None) -> tuple[str, ...]:
    found = [
        "How much time it saves is only known by trying.",
        "A role that runs only such statements may have it as a whole: ALTER ROLE … SET work_mem.",
    ]
    if wanted.work_mem_mb > work_mem_mb:
        more = f"It would need {wanted.work_mem_mb} MB"
        if limit is not None:
            at_once = limit.budget_bytes / (wanted.work_mem_mb * MB * limit.per_call)
            more += f", which is safe while at most {max(int(at_once), 0)} run it at a time"
        found.append(more + ".")
    return tuple(found)
