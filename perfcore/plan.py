"""EXPLAIN trees: parsing, identity by shape, where their time goes, and reading as text.

Time of a node, of itself and with its children, is counted as PEV2 and explain.depesz.com count
it: per-loop time times loops, less the children's. Three things that they know are kept in mind.
Below a Gather the loops of all processes are added up, so the elapsed time is the loops' time
divided by the processes (PEV2 divides by the launched workers and the leader). An InitPlan runs
when someone first needs its value, a CTE when a CTE Scan reads it: their time is inside of that
reader's, and taken from it, not from the node they hang below (PEV2's `fixCteScansDuration`).
What is left below zero comes from rounding of per-loop times and counts as zero (depesz).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from perfcore.errors import PlanUnreadable
from perfcore.plan_text import read_text

# What a node does and to which object: equal trees of these are the same plan,
# whatever the constants, the costs and the timings.
_SHAPE_KEYS = (
    "Node Type", "Join Type", "Strategy", "Partial Mode", "Relation Name", "Schema",
    "Index Name", "Scan Direction", "Subplan Name", "Parent Relationship", "Sort Key",
    "Group Key", "Command", "Operation",
)  # fmt: skip
# Deeper trees would end in Python's recursion limit; the planner makes none that people write.
MAX_DEPTH = 200
MAX_PASTED_BYTES = 4_000_000


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
    total_ms: float | None = None  # elapsed over all loops, inclusive of children
    self_ms: float | None = None  # elapsed in the node itself over all loops
    processes: float = 1.0  # that ran it side by side, the leader included

    @property
    def self_cost(self) -> float:
        """Return the cost that the node adds to its children's, never negative."""
        return max(0.0, self.total_cost - sum(c.total_cost for c in self.children))

    @property
    def is_executed(self) -> bool:
        """Say whether the node ran: never in a plan that was only estimated."""
        return bool(self.loops)

    @property
    def rows_out(self) -> float:
        """Return the rows it gave over all loops, or the planner's estimate of one loop's."""
        if self.actual_rows is None or self.loops is None:
            return self.plan_rows
        return self.actual_rows * self.loops

    @property
    def misestimate(self) -> float | None:
        """Return by what factor the rows of a loop were misjudged, at least 1; None if not run.

        Less than a row counts as one: the planner never estimates less.
        """
        if self.actual_rows is None or not self.loops:
            return None
        actual, estimated = max(1.0, self.actual_rows), max(1.0, self.plan_rows)
        return max(actual / estimated, estimated / actual)

    @property
    def is_underestimated(self) -> bool:
        """Say whether more rows came than the planner expected."""
        return self.actual_rows is not None and self.actual_rows > self.plan_rows

    @property
    def rows_removed_by_filter(self) -> float:
        """Return the rows that its Filter threw away, over all loops; 0 where not executed."""
        return self._over_loops("Rows Removed by Filter")

    @property
    def rows_removed_by_join_filter(self) -> float:
        return self._over_loops("Rows Removed by Join Filter")

    @property
    def rows_removed_by_recheck(self) -> float:
        """Return the rows that an index found and the table's row contradicted."""
        return self._over_loops("Rows Removed by Index Recheck")

    @property
    def rows_removed(self) -> float:
        return (
            self.rows_removed_by_filter
            + self.rows_removed_by_join_filter
            + self.rows_removed_by_recheck
        )

    @property
    def shared_hit_blocks(self) -> int:
        return self._whole("Shared Hit Blocks")

    @property
    def shared_read_blocks(self) -> int:
        return self._whole("Shared Read Blocks")

    @property
    def shared_dirtied_blocks(self) -> int:
        return self._whole("Shared Dirtied Blocks")

    @property
    def temp_read_blocks(self) -> int:
        return self._whole("Temp Read Blocks")

    @property
    def temp_written_blocks(self) -> int:
        return self._whole("Temp Written Blocks")

    @property
    def has_buffers(self) -> bool:
        """Say whether blocks were counted: EXPLAIN (ANALYZE, BUFFERS)."""
        return any(key.endswith(" Blocks") and "Heap" not in key for key in self.properties)

    @property
    def sort_method(self) -> str:
        return str(self.properties.get("Sort Method", ""))

    @property
    def sort_space_kb(self) -> int:
        """Return what the sort used, on disk or in memory, in kB; of the workers' the largest."""
        spaces = [self._whole("Sort Space Used")]
        spaces += [int(_number(w.get("Sort Space Used"))) for w in self.workers]
        return max(spaces)

    @property
    def sort_is_on_disk(self) -> bool:
        places = [self.properties.get("Sort Space Type")]
        places += [w.get("Sort Space Type") for w in self.workers]
        groups = (self.properties.get(f"{g} Groups") for g in ("Full-sort", "Pre-sorted"))
        in_groups = any(isinstance(g, Mapping) and "Sort Space Disk" in g for g in groups)
        return "Disk" in places or in_groups

    @property
    def hash_batches(self) -> int:
        """Return the batches of a hash table; more than one means that it went to disk."""
        return max(self._whole("Hash Batches"), self._whole("HashAgg Batches"))

    @property
    def peak_memory_kb(self) -> int:
        return self._whole("Peak Memory Usage")

    @property
    def disk_kb(self) -> int:
        """Return what a hash aggregate wrote to disk, in kB."""
        return self._whole("Disk Usage")

    @property
    def is_spilled(self) -> bool:
        """Say whether the node itself went to disk for want of work_mem."""
        spilled_hash = self.node_type == "Hash" and self.hash_batches > 1
        on_disk = self.properties.get("Storage") == "Disk"
        return self.sort_is_on_disk or spilled_hash or self.disk_kb > 0 or on_disk

    @property
    def heap_fetches(self) -> float:
        """Return the rows of the table that an index-only scan had to look at, over all loops."""
        return self._number("Heap Fetches")

    @property
    def exact_heap_blocks(self) -> int:
        return self._whole("Exact Heap Blocks")

    @property
    def lossy_heap_blocks(self) -> int:
        return self._whole("Lossy Heap Blocks")

    @property
    def workers_planned(self) -> int:
        return self._whole("Workers Planned")

    @property
    def workers_launched(self) -> int:
        return self._whole("Workers Launched")

    @property
    def workers(self) -> tuple[Mapping[str, Any], ...]:
        """Return what each worker told of itself."""
        found = self.properties.get("Workers", ())
        return tuple(w for w in found if isinstance(w, Mapping)) if _is_list(found) else ()

    @property
    def is_parallel_aware(self) -> bool:
        return self.properties.get("Parallel Aware") is True

    @property
    def subplan_name(self) -> str:
        """Return "InitPlan 1", "SubPlan 2", "CTE recent" for the top of such a plan."""
        return str(self.properties.get("Subplan Name", ""))

    @property
    def cte_name(self) -> str:
        """Return the CTE that a CTE Scan reads."""
        return str(self.properties.get("CTE Name", ""))

    @property
    def alias(self) -> str:
        return str(self.properties.get("Alias", ""))

    @property
    def schema(self) -> str:
        """Return the relation's schema, which EXPLAIN tells only where it is VERBOSE."""
        return str(self.properties.get("Schema", ""))

    def condition(self, name: str) -> str:
        """Return a condition by PostgreSQL's name for it ("Filter"), "" where there is none."""
        value = self.properties.get(name, "")
        return ", ".join(map(str, value)) if _is_list(value) else str(value)

    def walk(self) -> Iterator[tuple[int, PlanNode]]:
        """Yield (depth, node) in the order EXPLAIN prints them."""
        stack = [(0, self)]
        while stack:
            depth, node = stack.pop()
            yield depth, node
            stack.extend((depth + 1, c) for c in reversed(node.children))

    def _number(self, key: str) -> float:
        return _number(self.properties.get(key))

    def _whole(self, key: str) -> int:
        return int(self._number(key))

    def _over_loops(self, key: str) -> float:
        return self._number(key) * (self.loops or 0)


@dataclass(frozen=True, slots=True)
class Jit:
    """What just-in-time compilation took."""

    functions: int
    options: Mapping[str, bool]
    generation_ms: float
    inlining_ms: float
    optimization_ms: float
    emission_ms: float
    total_ms: float


@dataclass(frozen=True, slots=True)
class Trigger:
    """A trigger that the statement fired."""

    name: str  # the constraint's name where it belongs to one
    relation: str
    calls: int
    total_ms: float | None  # None with TIMING OFF


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
    def is_executed(self) -> bool:
        """Say whether it holds measurements: EXPLAIN ANALYZE."""
        return self.root.is_executed

    @property
    def shape_hash(self) -> str:
        """Return 16 hex digits that change only when the plan does something else.

        Partitions that are read alike count once, by what their names have in common: a new
        month's partition or one pruned more is the same plan. So are other numbers of workers.
        """
        shape = json.dumps(_shape(self.document["Plan"]), sort_keys=True)
        return hashlib.sha256(shape.encode()).hexdigest()[:16]

    @property
    def settings(self) -> Mapping[str, str]:
        """Return the planner settings that are not the default: EXPLAIN (SETTINGS)."""
        found = self.document.get("Settings")
        return found if isinstance(found, Mapping) else {}

    @property
    def jit(self) -> Jit | None:
        """Return what just-in-time compilation took, None where it was not used."""
        found = self.document.get("JIT")
        if not isinstance(found, Mapping):
            return None
        timing, options = found.get("Timing"), found.get("Options")
        times = timing if isinstance(timing, Mapping) else {}
        return Jit(
            functions=int(_number(found.get("Functions"))),
            options=options if isinstance(options, Mapping) else {},
            generation_ms=_jit_ms(times, "Generation"),
            inlining_ms=_jit_ms(times, "Inlining"),
            optimization_ms=_jit_ms(times, "Optimization"),
            emission_ms=_jit_ms(times, "Emission"),
            total_ms=_jit_ms(times, "Total"),
        )

    @property
    def triggers(self) -> tuple[Trigger, ...]:
        found = self.document.get("Triggers", ())
        return tuple(
            Trigger(
                name=str(t.get("Constraint Name") or t.get("Trigger Name", "")),
                relation=str(t.get("Relation", "")),
                calls=int(_number(t.get("Calls"))),
                total_ms=_number(t["Time"]) if "Time" in t else None,
            )
            for t in (found if _is_list(found) else ())
            if isinstance(t, Mapping)
        )

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
    if not isinstance(document, Mapping) or not isinstance(document.get("Plan"), Mapping):
        raise ValueError('not an EXPLAIN (FORMAT JSON) answer: it has no "Plan"')
    top = document["Plan"]
    return Plan(
        root=_tree(top),
        document=document,
        planning_ms=_maybe(document.get("Planning Time")),
        execution_ms=_maybe(document.get("Execution Time")),
        shared_hit_blocks=int(_number(top.get("Shared Hit Blocks"))),
        shared_read_blocks=int(_number(top.get("Shared Read Blocks"))),
    )


def parse_text_plan(text: str) -> Plan:
    """Return the plan in EXPLAIN's text format, with or without ANALYZE, BUFFERS and VERBOSE.

    psql's frame, its "QUERY PLAN", what stands before and after, and the quotes of a copied
    cell are taken off. Raises ValueError when no line is a node of a plan.
    """
    document = read_text(_unframed(text))
    if document is None:
        raise ValueError("not a plan: no line reads like a node of EXPLAIN")
    return parse_plan(document)


def read_plan(pasted: str) -> Plan:
    """Return the plan in what a user pasted: EXPLAIN's JSON or text format.

    Raises PlanUnreadable with a reason and what to paste instead.
    """
    size = len(pasted.encode("utf-8", "replace"))
    if not pasted.strip():
        raise PlanUnreadable("no plan: nothing was pasted", hint=_REMEDY)
    if size > MAX_PASTED_BYTES:
        raise PlanUnreadable(
            f"no plan: {size / 1e6:.1f} MB were pasted, at most "
            f"{MAX_PASTED_BYTES / 1e6:.0f} MB are read",
            hint="leave out VERBOSE, or paste the plan of one statement",
        )
    lines = _unframed(pasted)
    try:
        if document := _json_in("\n".join(lines)):
            return parse_plan(document)
        found = read_text(lines)
        if found is None:
            raise PlanUnreadable(f"no plan: {_other_format(pasted)}", hint=_REMEDY)
        return parse_plan(found)
    except RecursionError:
        raise PlanUnreadable(_too_deep(), hint="paste the part that matters") from None
    except (ValueError, TypeError, OverflowError) as error:
        if isinstance(error, PlanUnreadable):
            raise
        raise PlanUnreadable(f"no plan: {error}", hint=_REMEDY) from error


_REMEDY = (
    "paste the whole answer of EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON), "
    "or of EXPLAIN in its text format"
)
_FRAME_LINE = re.compile(r"\s*[+|│║╪┼╬├┌└╔╠╚-]?[-─═=+┼╪╬┬┴]{3,}[+|│║┤┐┘╗╣╝]?\s*$")
_BARS = ("|", "│", "║")
_GOES_ON = ("+", "↵")
_HEADER = re.compile(r"\W*QUERY PLAN\W*$")


def _unframed(text: str) -> list[str]:
    """Return the lines without psql's frame and the quotes of a copied cell."""
    text = text.lstrip("\ufeff").replace("\r\n", "\n").replace("\r", "\n").replace("\xa0", " ")
    text = text.expandtabs(8)
    stripped = text.strip()
    lines = [line for line in text.split("\n") if line.strip()]
    filled = [line.strip() for line in lines]
    if filled and all(len(s) > 1 and s[0] == s[-1] == '"' for s in filled):
        # Each row is a cell of its own, as pgAdmin copies them.
        lines = [line.strip()[1:-1].replace('""', '"') for line in lines]
    elif len(stripped) > 1 and stripped[0] == stripped[-1] and stripped[0] in "\"'":
        quote = stripped[0]
        lines = stripped[1:-1].replace(quote * 2, quote).split("\n")
    framed = any(_HEADER.match(line) for line in lines)
    lines = [line for line in lines if not _FRAME_LINE.match(line) and not _HEADER.match(line)]
    bars = sum(line.lstrip()[:1] in _BARS for line in lines if line.strip())
    if bars and bars * 2 > sum(bool(line.strip()) for line in lines):
        lines = [_between_bars(line) for line in lines]
        framed = True
    lines = [line.rstrip() for line in lines]
    if framed:
        # psql's sign that the cell goes on in the next line.
        lines = [line[:-1].rstrip() if line[-1:] in _GOES_ON else line for line in lines]
    return lines


def _between_bars(line: str) -> str:
    text = line.strip()
    if text[:1] not in _BARS:
        return line
    return text[1:-1] if text[-1] in _BARS and len(text) > 1 else text[1:]


def _json_in(text: str) -> Any:
    """Return the first JSON value that begins where a plan's would, None where there is none."""
    start = re.search(r'^[ \t]*(?:\[\s*)?\{\s*"|\[\s*\{\s*"Plan"', text, re.MULTILINE)
    if not start:
        return None
    _check_nesting(text, start.start())
    try:
        return json.JSONDecoder().raw_decode(text[start.start() :].lstrip())[0]
    except json.JSONDecodeError as error:
        raise PlanUnreadable(
            f"no plan: the JSON breaks off or is damaged at character {error.pos}: {error.msg}",
            hint=_REMEDY,
        ) from error


def _check_nesting(text: str, start: int) -> None:
    """Refuse JSON that is nested deeper than any plan, before a parser goes down into it."""
    depth = 0
    for token in re.finditer(
        r'"[^"\\]*+(?:\\.[^"\\]*+)*(?:"|\Z)|[\[{]|[\]}]', text[start:], re.DOTALL
    ):
        if token[0] in "[{":
            depth += 1
            # A node is an object in a list; a worker or a sort's groups lie in it.
            if depth > 2 * MAX_DEPTH + 10:
                raise PlanUnreadable(_too_deep(), hint="paste the part that matters")
        elif token[0] in "]}":
            depth -= 1


def _too_deep() -> str:
    return f"no plan: it is nested more than {MAX_DEPTH} nodes deep"


def _other_format(pasted: str) -> str:
    if pasted.lstrip().startswith("<"):
        return "this looks like XML, which is not read"
    if re.search(r"^[ \t]*-? ?Plan:|^[ \t]*Node Type: ", pasted, re.MULTILINE):
        return "this looks like YAML, which is not read"
    if re.match(r"\s*(SELECT|WITH|INSERT|UPDATE|DELETE|EXPLAIN)\b", pasted, re.IGNORECASE):
        return "this is a statement, not its plan"
    return "nothing in it reads like a node of EXPLAIN"


@dataclass(slots=True)
class _Draft:
    """A node while times are shared out."""

    raw: Mapping[str, Any]
    parent: int  # its place, -1 at the root
    end: int = 0  # the place after its last descendant
    processes: float = 1.0
    total_ms: float | None = None
    self_ms: float | None = None


def _tree(top: Mapping[str, Any]) -> PlanNode:
    drafts = _drafts(top)
    _add_times(drafts)
    children: list[list[PlanNode]] = [[] for _ in drafts]
    nodes: list[PlanNode | None] = [None] * len(drafts)
    for place in range(len(drafts) - 1, -1, -1):
        node = _node(drafts[place], tuple(reversed(children[place])))
        nodes[place] = node
        if drafts[place].parent >= 0:
            children[drafts[place].parent].append(node)
    root = nodes[0]
    assert root is not None
    return root


def _drafts(top: Mapping[str, Any]) -> list[_Draft]:
    """Return the nodes in EXPLAIN's order, each with the end of what hangs below it."""
    drafts: list[_Draft] = []
    stack: list[tuple[Mapping[str, Any], int, int]] = [(top, -1, 1)]
    while stack:
        raw, parent, depth = stack.pop()
        if depth > MAX_DEPTH:
            raise ValueError(f"it is nested more than {MAX_DEPTH} nodes deep")
        place = len(drafts)
        drafts.append(_Draft(raw, parent))
        stack += [(child, place, depth + 1) for child in reversed(_below(raw))]
    for place in range(len(drafts) - 1, -1, -1):
        drafts[place].end = max(drafts[place].end, place + 1)
        if drafts[place].parent >= 0:
            parent_draft = drafts[drafts[place].parent]
            parent_draft.end = max(parent_draft.end, drafts[place].end)
    return drafts


def _add_times(drafts: Sequence[_Draft]) -> None:
    """Set how long each node took with and without its children, as time that passed."""
    for draft in drafts:
        above = drafts[draft.parent] if draft.parent >= 0 else None
        draft.processes = _processes(draft.raw, above)
        per_loop = _maybe(draft.raw.get("Actual Total Time"))
        loops = _maybe(draft.raw.get("Actual Loops"))
        if per_loop is not None and loops is not None:
            draft.total_ms = draft.self_ms = per_loop * loops / draft.processes
    for draft in drafts:
        if draft.parent >= 0 and not _is_init_plan(draft.raw):
            _take(drafts[draft.parent], draft.total_ms)
    for place, draft in enumerate(drafts):
        if draft.parent >= 0 and _is_init_plan(draft.raw):
            _take_from_readers(drafts, place)
    for draft in drafts:
        if draft.self_ms is not None:
            draft.self_ms = max(0.0, draft.self_ms)


def _processes(raw: Mapping[str, Any], above: _Draft | None) -> float:
    """Return how many processes ran the node: a Gather's child has the loops of all of them."""
    if above is None or _is_init_plan(raw):
        return 1.0
    if above.raw.get("Node Type") not in ("Gather", "Gather Merge"):
        return above.processes
    loops, own = _number(raw.get("Actual Loops")), _number(above.raw.get("Actual Loops"))
    return max(1.0, loops / own) * above.processes if own else 1.0


def _take_from_readers(drafts: Sequence[_Draft], place: int) -> None:
    """Take an InitPlan's or a CTE's time from those who waited for it, as far as theirs goes."""
    plan, left = drafts[place], drafts[place].total_ms
    name = str(plan.raw.get("Subplan Name", ""))
    for other in range(plan.parent, drafts[plan.parent].end):
        if place <= other < plan.end or not left:
            continue
        reader = drafts[other]
        if reader.self_ms is not None and reader.self_ms > 0 and _reads(reader.raw, name):
            taken = min(left, reader.self_ms)
            reader.self_ms -= taken
            left -= taken


def _reads(raw: Mapping[str, Any], name: str) -> bool:
    if name.startswith("CTE "):
        return raw.get("Node Type") == "CTE Scan" and raw.get("CTE Name") == name[4:]
    # "InitPlan 1 (returns $0)" gives $0; from PostgreSQL 17 on it is (InitPlan 1).col1.
    returned = re.findall(r"\$\d+", name)
    words = [rf"{re.escape(r)}(?!\d)" for r in returned]
    words.append(rf"\({re.escape(name.split(' (')[0])}\)\.")
    pattern = re.compile("|".join(words))
    return any(
        pattern.search(text)
        for key, value in raw.items()
        if key not in ("Plans", "Subplan Name", "Workers")
        for text in (value if _is_list(value) else (value,))
        if isinstance(text, str)
    )


def _take(draft: _Draft, time_ms: float | None) -> None:
    if draft.self_ms is not None and time_ms is not None:
        draft.self_ms -= time_ms


def _below(raw: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    found = raw.get("Plans") or []
    if not _is_list(found) or not all(isinstance(c, Mapping) for c in found):
        raise ValueError('"Plans" is not a list of nodes')
    return list(found)


def _is_init_plan(raw: Mapping[str, Any]) -> bool:
    return raw.get("Parent Relationship") == "InitPlan"


def _node(draft: _Draft, children: tuple[PlanNode, ...]) -> PlanNode:
    raw = draft.raw
    loops = _maybe(raw.get("Actual Loops"))
    return PlanNode(
        node_type=str(raw.get("Node Type", "?")),
        relation=str(raw.get("Relation Name", "")),
        index=str(raw.get("Index Name", "")),
        startup_cost=_maybe(raw.get("Startup Cost")) or 0.0,
        total_cost=_maybe(raw.get("Total Cost")) or 0.0,
        plan_rows=_maybe(raw.get("Plan Rows")) or 0.0,
        plan_width=int(_maybe(raw.get("Plan Width")) or 0),
        actual_rows=_maybe(raw.get("Actual Rows")),
        actual_total_ms=_maybe(raw.get("Actual Total Time")),
        loops=None if loops is None else int(loops),
        properties={k: v for k, v in raw.items() if k != "Plans"},
        children=children,
        total_ms=draft.total_ms,
        self_ms=draft.self_ms,
        processes=draft.processes,
    )


def _maybe(value: Any) -> float | None:
    """Return the number, None where there is none; ValueError for what is no number."""
    if value is None:
        return None
    number = float(value)
    if number != number or number in (float("inf"), float("-inf")):
        raise ValueError(f"{value!r} is not a finite number")
    return number


def _number(value: Any) -> float:
    """Return the number of a detail, 0 where there is none or it is none."""
    try:
        return _maybe(value) or 0.0
    except (TypeError, ValueError):
        return 0.0


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _jit_ms(timing: Mapping[str, Any], name: str) -> float:
    value = timing.get(name)
    # From PostgreSQL 17 on deforming is told as a part of Generation.
    return _number(value.get("Total") if isinstance(value, Mapping) else value)


def _shape(raw: Mapping[str, Any], is_member: bool = False, relation: str = "") -> list[Any]:
    relation = str(raw.get("Relation Name", relation))
    is_append = raw.get("Node Type") in ("Append", "Merge Append")
    rest: list[Any] = []
    members: list[Any] = []
    for child in _below(raw):
        is_one = child.get("Parent Relationship") == "Member" and is_append
        shape = _shape(child, is_member or is_one, relation)
        (members if is_one else rest).append(shape)
    kinds = sorted({json.dumps(m, sort_keys=True): m for m in members}.items())
    own = _what(raw, is_member, relation)
    if len(kinds) == 1 and not rest:
        # With one partition left the planner puts no Append above it.
        (what, below) = kinds[0][1]
        where = "Parent Relationship"
        return [{**what, where: own.get(where)}, below]
    return [own, rest + [m for _, m in kinds]]


def _what(raw: Mapping[str, Any], is_member: bool, relation: str) -> dict[str, Any]:
    """Return what identifies a node, with the names of partitions cut to what they share."""
    what = {k: raw[k] for k in _SHAPE_KEYS if k in raw}
    if "Relation Name" in what:
        alias = str(raw.get("Alias", relation))
        what["Alias"] = re.sub(r"_\d+$", "", alias) if is_member else alias
        what["Relation Name"] = _without_digits(relation)
    if "Index Name" in what:
        index = str(what["Index Name"])
        if relation and index.startswith(relation + "_"):
            index = "*" + index[len(relation) :]
        what["Index Name"] = _without_digits(index) if is_member else index
    if is_member:
        for key in ("Sort Key", "Group Key"):
            if _is_list(what.get(key)):
                what[key] = [re.sub(r"_\d+(?=\.)", "", str(k)) for k in what[key]]
    return {"Parent Relationship": None, **what}


def _without_digits(name: str) -> str:
    """Return a partition's name as its neighbours have it too.

    >>> _without_digits("orders_2026_01")
    'orders_#_#'
    """
    return re.sub(r"\d+", "#", name)


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
            text += f"\n{'  ' * (depth + 2)}{key}: {node.condition(key)}"
    return text
