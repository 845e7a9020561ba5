"""What a plan shows to be wrong, node by node: few, ranked, each with what follows from it.

Where the plan was executed its times and rows are taken, else the planner's costs and estimates;
a finding that only an execution can show is never made out of an estimate.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from perfcore.plan import Plan, PlanNode
from perfcore.types import ColumnInfo, PlanFinding, TableInfo

# A plan that answers within this is no one's problem; findings on it would be noise.
MIN_PLAN_MS = 10.0
# A cost of 1,000 is about that of reading 8 MB in sequence: a few milliseconds.
MIN_PLAN_COST = 1_000.0
# A node below a tenth of the plan's time is not what makes it slow.
MIN_SHARE = 0.1
# Reading fewer rows takes a few milliseconds, whatever the plan.
MANY_ROWS = 10_000.0
# Below a twentieth an index usually wins against reading the table in sequence.
KEPT_FEW = 0.05
# random_page_cost: at worst each kept row is fetched from a page of its own.
PAGE_COST = 4.0
# Nine of ten rows that were fetched for nothing: the index serves another condition.
REMOVED_MOST = 0.9
# Up to here the planner's choices rarely differ; ten times is the rule of thumb of its authors.
MISESTIMATE = 10.0
# A wrong estimate about fewer rows than this seldom picks the wrong join.
MISESTIMATED_ROWS = 1_000.0
# From here on starting the inner side anew costs more than reading it once for a hash join.
MANY_LOOPS = 10_000.0
# Smaller temporary files stay in the page cache and cost little.
SPILLED_KB = 1_024
# A tenth of the rows looked up in the table: the visibility map is behind.
HEAP_FETCHES = 1_000.0
HEAP_FETCHES_SHARE = 0.1
LOSSY_SHARE = 0.1
# LIMIT wants so few of what was sorted that the order should come from an index.
LIMIT_TO_INPUT = 100.0
# JIT repays its compilation in long queries only; a third of the time is surely too much.
JIT_SHARE = 0.3
JIT_MS = 10.0
# With fewer partitions there is nothing to prune; three of four empty is no accident.
PARTITIONS = 4
EMPTY_PARTITIONS = 0.75
# autovacuum analyses at 10 % by default: at twice that it is behind, or off.
MODIFIED_SHARE = 0.2
ROWS_OFF = 2.0
# More than a reader takes in; the costliest come first.
MAX_FINDINGS = 6

_BLOCKING = ("Sort", "Hash", "Aggregate", "SetOp", "Bitmap Index Scan")
_COMPARISONS = (
    exp.EQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.Like, exp.ILike, exp.In, exp.Between,
)  # fmt: skip
_TEXT_TYPES = ("text", "character varying", "character", "varchar", "bpchar")


@dataclass(frozen=True, slots=True)
class _Place:
    """A node, where it stands, and what is known of its table."""

    number: int
    node: PlanNode
    above: tuple[PlanNode, ...]  # from the parent up to the root
    share: float  # of the plan's time, or of its cost where it was not executed
    share_below: float  # the same with everything below it
    table: TableInfo | None

    @property
    def is_executed(self) -> bool:
        return self.node.is_executed

    @property
    def name(self) -> str:
        """Return the table in words, with its alias where the statement gives another."""
        relation = self.node.relation or (self.table.name if self.table else "")
        alias = self.node.alias
        return f"{relation} ({alias})" if alias and alias != relation else relation

    def finding(
        self, kind: str, summary: str, numbers: Iterable[tuple[str, str]], consequence: str
    ) -> PlanFinding:
        share = self.share_below if kind in _BY_SUBTREE else self.share
        word = "time" if self.is_executed and self.node.total_ms is not None else "estimated cost"
        told = (f"share of the {word}", f"{min(share, 1.0):.0%}")
        return PlanFinding(kind, self.number, summary, (*numbers, told), consequence)


# What these say is about all that runs below the node.
_BY_SUBTREE = {"late_limit", "deep_offset", "nested_loop", "misestimate", "partitions_not_pruned",
               "hash_spill"}  # fmt: skip

_Check = Callable[[_Place], PlanFinding | None]


@dataclass
class _Tables:
    known: Iterable[TableInfo]
    by_name: dict[str, list[TableInfo]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for table in self.known:
            self.by_name.setdefault(table.name, []).append(table)

    def of(self, node: PlanNode) -> TableInfo | None:
        found = self.by_name.get(node.relation, []) if node.relation else []
        if node.schema:
            return next((t for t in found if t.schema == node.schema), None)
        # Two tables of that name: which of them is not known.
        return found[0] if len(found) == 1 else next(
            (t for t in found if t.schema == "public"), None
        )  # fmt: skip


def plan_findings(plan: Plan, tables: Iterable[TableInfo] = ()) -> list[PlanFinding]:
    """Return what the plan shows to be wrong, the costliest node first, at most six.

    `tables` add what a plan does not tell: sizes, indexes, when statistics were taken. A plan
    that is fast, or cheap where it was only estimated, has no findings.
    """
    if _is_small(plan):
        return []
    weighed: list[tuple[float, PlanFinding]] = []
    for place in _places(plan, _Tables(tables)):
        for check in _CHECKS:
            found = check(place)
            if found:
                by_subtree = found.kind in _BY_SUBTREE
                weighed.append((place.share_below if by_subtree else place.share, found))
    if found := _jit(plan):
        assert plan.jit is not None
        weighed.append((plan.jit.total_ms / (plan.execution_ms or plan.jit.total_ms), found))
    weighed.sort(key=lambda pair: (-pair[0], pair[1].node))
    return _without_repetition([found for _, found in weighed])[:MAX_FINDINGS]


def _is_small(plan: Plan) -> bool:
    elapsed = plan.execution_ms if plan.execution_ms is not None else plan.root.total_ms
    if plan.is_executed and elapsed is not None:
        return elapsed < MIN_PLAN_MS
    return plan.total_cost < MIN_PLAN_COST


def _places(plan: Plan, tables: _Tables) -> Iterator[_Place]:
    above: list[PlanNode] = []
    whole_ms, whole_cost = plan.root.total_ms, plan.root.total_cost or 1.0
    for number, (depth, node) in enumerate(plan.root.walk()):
        del above[depth:]
        if whole_ms:
            share, below = (node.self_ms or 0.0) / whole_ms, (node.total_ms or 0.0) / whole_ms
        else:
            share, below = node.self_cost / whole_cost, node.total_cost / whole_cost
        yield _Place(number, node, tuple(reversed(above)), share, below, tables.of(node))
        above.append(node)


def _without_repetition(findings: list[PlanFinding]) -> list[PlanFinding]:
    """Leave out what another finding on the same node explains, and repeats of one kind."""
    better = {
        "seq_scan_keeps_few": {"function_on_column", "stale_statistics"},
        "misestimate": {"stale_statistics"},
        "rows_removed_by_filter": {"function_on_column"},
    }
    kinds: dict[int, set[str]] = {}
    for found in findings:
        kinds.setdefault(found.node, set()).add(found.kind)
    kept, seen = [], set()
    for found in findings:
        # Twelve partitions read in the same way are one finding.
        alike = (found.kind, re.sub(r"[\d,.]+", "#", found.summary))
        explained = better.get(found.kind, set()) & kinds[found.node]
        if alike not in seen and not (explained - {"stale_statistics"} or (
            found.kind == "misestimate" and explained
        )):  # fmt: skip
            kept.append(found)
            seen.add(alike)
    return kept


def _seq_scan_keeps_few(place: _Place) -> PlanFinding | None:
    node = place.node
    if node.node_type != "Seq Scan" or not node.condition("Filter") or place.share < MIN_SHARE:
        return None
    if place.is_executed:
        kept, read = node.rows_out, node.rows_out + node.rows_removed_by_filter
    elif place.table is not None:
        kept, read = node.plan_rows, place.table.row_count
    else:
        return _costly_seq_scan(place)
    if read < MANY_ROWS or kept > read * KEPT_FEW:
        return None
    about = "" if place.is_executed else "about "
    numbers = [("rows read", f"{about}{_n(read)}"), ("rows kept", f"{about}{_n(kept)}")]
    if place.table:
        numbers.append(("table size", f"{place.table.table_bytes / 1e6:,.1f} MB"))
    return place.finding(
        "seq_scan_keeps_few",
        f"It reads {place.name} from end to end, {about}{_n(read)} rows, to keep "
        f"{about}{_n(kept)}.",
        numbers,
        f"An index on what it filters by would fetch only the rows kept: "
        f"{_shortened(node.condition('Filter'))}.",
    )


def _costly_seq_scan(place: _Place) -> PlanFinding | None:
    """An estimate does not tell how many rows are read, but what that costs."""
    node = place.node
    if node.total_cost < MIN_PLAN_COST or node.plan_rows * PAGE_COST > node.total_cost * MIN_SHARE:
        return None
    return place.finding(
        "seq_scan_keeps_few",
        f"It reads {place.name} from end to end, at an estimated cost of {_n(node.total_cost)}, "
        f"to keep about {_n(node.plan_rows)} of its rows.",
        [("rows kept", f"about {_n(node.plan_rows)}"), ("cost", _n(node.total_cost))],
        f"An index on what it filters by would fetch only the rows kept: "
        f"{_shortened(node.condition('Filter'))}.",
    )


def _rows_removed_by_filter(place: _Place) -> PlanFinding | None:
    """Rows that an index found and the rest of the condition threw away."""
    node = place.node
    is_by_index = node.node_type in ("Index Scan", "Index Only Scan", "Bitmap Heap Scan")
    removed = node.rows_removed_by_filter
    if not is_by_index or place.share < MIN_SHARE or removed < MANY_ROWS:
        return None
    if removed < REMOVED_MOST * (removed + node.rows_out):
        return None
    through = f" through {node.index}" if node.index else " through an index"
    return place.finding(
        "rows_removed_by_filter",
        f"Of the {_n(removed + node.rows_out)} rows it fetches from {place.name}{through}, its "
        f"filter throws {_n(removed)} away.",
        [("rows fetched", _n(removed + node.rows_out)), ("rows thrown away", _n(removed))],
        f"An index that also holds the columns of the filter would not fetch them: "
        f"{_shortened(node.condition('Filter'))}.",
    )


def _rows_removed_by_join_filter(place: _Place) -> PlanFinding | None:
    node, removed = place.node, place.node.rows_removed_by_join_filter
    if removed < MANY_ROWS or place.share_below < MIN_SHARE:
        return None
    if removed < REMOVED_MOST * (removed + node.rows_out):
        return None
    return place.finding(
        "rows_removed_by_join_filter",
        f"It compares {_n(removed + node.rows_out)} pairs of rows, and {_n(removed)} of them do "
        f"not belong together.",
        [("pairs compared", _n(removed + node.rows_out)), ("pairs thrown away", _n(removed))],
        "An equality between the two sides lets them be joined by hash, or through an index on "
        f"the inner side; now it tests each pair: {_shortened(node.condition('Join Filter'))}.",
    )


def _misestimate(place: _Place) -> PlanFinding | None:
    node = place.node
    factor = _misestimated(node)
    if factor is None or max([place.share_below, *(_share_of(place, n) for n in place.above)]) < (
        MIN_SHARE
    ):
        return None
    if not node.is_underestimated and _may_stop_early(place):
        return None
    if any(_misestimated(c) for _, c in node.walk() if c is not node):
        return None  # it begins further down
    direction = "more" if node.is_underestimated else "fewer"
    rows, expected = node.actual_rows or 0.0, node.plan_rows
    where = f"from {place.name}" if node.relation else f"from {_words(node)}"
    return place.finding(
        "misestimate",
        f"{_n(factor)} times {direction} rows came {where} than the planner expected: {_n(rows)} "
        f"in place of {_n(expected)}{' each time' if (node.loops or 1) > 1 else ''}.",
        [("rows expected", _n(expected)), ("rows that came", _n(rows)),
         ("factor", f"{factor:,.0f}")],
        _better_estimate(place),
    )  # fmt: skip


def _misestimated(node: PlanNode) -> float | None:
    """Return the factor of a misestimate that matters."""
    if node.node_type in ("BitmapAnd", "BitmapOr", "Bitmap Index Scan", "Hash", "Materialize",
                          "Memoize", "Limit", "ModifyTable", "Result"):  # fmt: skip
        return None  # these tell no rows of their own, or those of the node below
    factor = node.misestimate
    if factor is None or factor < MISESTIMATE:
        return None
    most = max(node.actual_rows or 0.0, node.plan_rows) * (node.loops or 1) / node.processes
    return factor if most >= MISESTIMATED_ROWS else None


def _may_stop_early(place: _Place) -> bool:
    """Say whether somebody above may have asked for less than all rows."""
    node = place.node
    for parent in place.above:
        if node.subplan_name:
            return True  # EXISTS is content with the first row
        if parent.node_type in ("Limit", "Merge Join"):
            return True
        if parent.node_type == "Nested Loop" and parent.condition("Join Type") in ("Semi", "Anti"):
            return True
        if parent.node_type in _BLOCKING:
            return False
        node = parent
    return False


def _better_estimate(place: _Place) -> str:
    node = place.node
    if not node.relation:
        return (
            "The statistics of the joined or grouped columns do not show how they depend on each "
            "other: what was planned above may be the wrong join. Look at what its condition says."
        )
    table = node.relation
    condition = node.condition("Filter") + node.condition("Index Cond")
    if re.search(r"\b[a-z_]\w*\(|\)::", condition):
        return (
            f"The planner knows nothing of the expression in its condition: compare the column "
            f"itself, or CREATE STATISTICS on the expression and ANALYZE {table}."
        )
    if " AND " in condition:
        return (
            f"Its conditions depend on each other: CREATE STATISTICS on their columns together, "
            f"then ANALYZE {table}."
        )
    return (
        f"ANALYZE {table}; if that does not help, raise the statistics target of the columns it "
        "filters by."
    )


def _spill(place: _Place) -> PlanFinding | None:
    node = place.node
    # A Hash only hands its child's rows on: by cost it has no share of its own.
    share = place.share_below if node.node_type == "Hash" else place.share
    if not node.is_spilled or share < MIN_SHARE / 2:
        return None
    if node.sort_is_on_disk:
        # Blocks count the children's, and each pass of a merge anew.
        below = sum(child.temp_written_blocks for child in node.children)
        space = node.sort_space_kb or 8 * max(0, node.temp_written_blocks - below)
        if space < SPILLED_KB:
            return None
        # Rows in memory carry more overhead than on disk: about twice is needed.
        return place.finding(
            "sort_spill",
            f"Its sort does not fit into memory: {_mb(space)} went to disk.",
            [("on disk", _mb(space)), ("method", node.sort_method or "external merge")],
            f"About {_mb(2 * space)} of work_mem for this statement keeps it in memory "
            f"(SET LOCAL work_mem); an index in the order of {_shortened(_sort_key(node))} needs "
            "no sort.",
        )
    needed = max(node.peak_memory_kb * max(node.hash_batches, 2), node.disk_kb)
    if needed < SPILLED_KB:
        return None
    what = "hash table" if node.node_type == "Hash" else "grouping"
    return place.finding(
        "hash_spill",
        f"Its {what} does not fit into memory and went to disk in {_n(max(1, node.hash_batches))} "
        "parts.",
        [("batches", _n(max(1, node.hash_batches))), ("memory", _mb(node.peak_memory_kb))],
        f"About {_mb(needed)} for it, by work_mem or hash_mem_multiplier (SET LOCAL), keeps it in "
        "memory; fewer or narrower rows help as much.",
    )


def _nested_loop(place: _Place) -> PlanFinding | None:
    node = place.node
    if node.node_type != "Nested Loop" or len(node.children) < 2:
        return None
    sides = [c for c in node.children if not c.subplan_name]
    if len(sides) < 2:
        return None
    outer, inner = sides[0], sides[1]
    if place.is_executed:
        loops = (inner.loops or 0) / inner.processes
    else:
        loops = outer.plan_rows
    if inner.total_ms is not None:
        share = _share_of(place, inner)
    else:
        # A cost is that of one loop: what the outer side leaves is that of all of them.
        share = place.share_below - _share_of(place, outer)
    if loops < MANY_LOOPS or share < 3 * MIN_SHARE:
        return None
    target = next((n.relation for _, n in inner.walk() if n.relation), "") or _words(inner)
    times = "" if place.is_executed else "an estimated "
    factor = outer.misestimate or 1.0
    if place.is_executed and factor >= MISESTIMATE and outer.is_underestimated:
        follows = (
            f"The planner expected {_n(outer.plan_rows)} rows there: with a better estimate it "
            "would read the inner side once, for a hash join."
        )
    elif any(n.node_type == "Seq Scan" for _, n in inner.walk()):
        follows = f"An index on what {target} is joined by would end the scan in each loop."
    else:
        follows = (
            "A hash join would read the inner side once: fewer rows on the outer side, or more "
            "work_mem for the hash, lets the planner choose it."
        )
    return place.finding(
        "nested_loop",
        f"It starts on {target} anew {times}{_n(loops)} times, once for each row of the outer "
        "side.",
        [("loops", f"{times}{_n(loops)}"), ("rows of a loop", _n(inner.actual_rows
          if inner.actual_rows is not None else inner.plan_rows))],
        follows,
    )  # fmt: skip


def _heap_fetches(place: _Place) -> PlanFinding | None:
    node = place.node
    if node.node_type != "Index Only Scan" or place.share < MIN_SHARE / 2:
        return None
    found = node.rows_out + node.rows_removed_by_filter
    if node.heap_fetches < max(HEAP_FETCHES, HEAP_FETCHES_SHARE * found):
        return None
    return place.finding(
        "heap_fetches",
        f"It should need only the index {node.index}, but looked {_n(node.heap_fetches)} rows up "
        f"in {place.name}: those pages are not marked as visible to everyone.",
        [("rows looked up", _n(node.heap_fetches)), ("rows found", _n(found))],
        f"VACUUM {node.relation} marks them; have autovacuum come by more often "
        "(autovacuum_vacuum_scale_factor, autovacuum_vacuum_insert_scale_factor).",
    )


def _lossy_bitmap(place: _Place) -> PlanFinding | None:
    node = place.node
    blocks = node.exact_heap_blocks + node.lossy_heap_blocks
    if not node.lossy_heap_blocks or node.lossy_heap_blocks < LOSSY_SHARE * blocks:
        return None
    removed = node.rows_removed_by_recheck
    if place.share < MIN_SHARE or removed < MANY_ROWS:
        return None
    return place.finding(
        "lossy_bitmap",
        f"Its list of rows did not fit into memory, so it kept whole pages of {place.name} for "
        f"{_n(node.lossy_heap_blocks)} of {_n(blocks)} and tested {_n(removed)} rows in vain.",
        [("pages known only as a whole", _n(node.lossy_heap_blocks)), ("pages", _n(blocks)),
         ("rows tested in vain", _n(removed))],
        "More work_mem for this statement (SET LOCAL work_mem) keeps the list exact; so does an "
        "index that finds fewer rows.",
    )  # fmt: skip


def _function_on_column(place: _Place) -> PlanFinding | None:
    node, table = place.node, place.table
    if table is None or place.share < MIN_SHARE or not node.condition("Filter"):
        return None
    read = node.rows_out + node.rows_removed_by_filter if place.is_executed else table.row_count
    if max(read, table.row_count) < MANY_ROWS or node.node_type == "Index Only Scan":
        return None
    if node.rows_out > max(read, 1.0) * (1 - REMOVED_MOST):
        return None  # an index would not be chosen for so many rows
    for column, wrapped in _wrapped_columns(node.condition("Filter"), table):
        index = _plain_index(table, column.name)
        if index and not any(_is_same(wrapped, key) for i in table.indexes for key in i.keys):
            return place.finding(
                "function_on_column",
                f"{index} on {column.name} cannot be used: the filter compares {wrapped}, not the "
                "column.",
                [("index", index), ("compared", wrapped), ("column's type", column.type)],
                f"Compare {column.name} itself, with a value of type {column.type} or a range of "
                f"it, or create an index on the expression: ({wrapped}).",
            )
    return None


def _wrapped_columns(condition: str, table: TableInfo) -> Iterator[tuple[ColumnInfo, str]]:
    """Yield (column, expression) for each comparison of something made of one column."""
    try:
        tree = sqlglot.parse_one(condition, read="postgres")
    except (SqlglotError, RecursionError):
        return
    for comparison in tree.find_all(*_COMPARISONS):
        for side in (comparison.this, comparison.args.get("expression")):
            if not isinstance(side, exp.Expr):
                continue
            inside = side.unnest()
            names = {c.name for c in inside.find_all(exp.Column)}
            column = table.column(next(iter(names))) if len(names) == 1 else None
            if column and not isinstance(_without_relabel(inside, column), exp.Column):
                yield column, _plain_sql(inside)


def _without_relabel(side: exp.Expr, column: ColumnInfo) -> exp.Expr:
    """Return the column under a cast from varchar to text, which hinders no index."""
    is_text = column.type.partition("(")[0] in _TEXT_TYPES
    while isinstance(side, exp.Paren) or (
        isinstance(side, exp.Cast) and is_text and side.to.is_type("text", "varchar", "bpchar")
    ):
        side = side.this
    return side


def _plain_sql(tree: exp.Expr) -> str:
    bare = tree.copy()
    for column in bare.find_all(exp.Column):
        column.set("table", None)
        if isinstance(column.parent, exp.Paren):
            column.parent.replace(column)
    return bare.sql(dialect="postgres").replace("CAST(", "cast(")


def _plain_index(table: TableInfo, column: str) -> str:
    """Return an index that begins with the column, "" where there is none."""
    return next(
        (
            i.name
            for i in table.indexes
            if i.keys and i.keys[0].strip('"') == column and i.is_valid and not i.predicate
        ),
        "",
    )


def _is_same(wrapped: str, key: str) -> bool:
    """Say whether an index holds the expression already: by its letters, casts left out."""

    def letters(text: str) -> str:
        return re.sub(r"::\w[\w ]*|[^\w]", "", text.lower())

    return letters(wrapped) == letters(key)


def _late_limit(place: _Place) -> PlanFinding | None:
    node = place.node
    if node.node_type != "Limit" or not node.children or place.share_below < 3 * MIN_SHARE:
        return None
    sides = [c for c in node.children if c.condition("Parent Relationship") != "InitPlan"]
    if not sides:
        return None
    kept, given = max(1.0, node.rows_out), sides[0].rows_out
    if place.is_executed and given >= max(MANY_ROWS, LIMIT_TO_INPUT * kept):
        return place.finding(
            "deep_offset",
            f"OFFSET lets it make {_n(given)} rows to show {_n(node.rows_out)}.",
            [("rows made", _n(given)), ("rows shown", _n(node.rows_out))],
            "Remember the last row of the page before and ask for what follows it "
            "(WHERE (key) > (last key) ORDER BY key LIMIT n), through an index on the key.",
        )
    sort = sides[0]
    while sort.node_type in ("Gather Merge", "Gather", "Subquery Scan", "Result", "LockRows"):
        if not sort.children:
            return None
        sort = sort.children[0]
    if sort.node_type != "Sort" or not sort.children:
        return None
    below = sort.children[0]
    if any(n.node_type in ("Aggregate", "Group") for _, n in below.walk()):
        return None  # groups must all be made before they are sorted
    read = below.rows_out
    if read < max(MANY_ROWS, LIMIT_TO_INPUT * kept):
        return None
    about = "" if place.is_executed else "about "
    return place.finding(
        "late_limit",
        f"It makes and sorts {about}{_n(read)} rows to return the first {_n(kept)}.",
        [("rows sorted", f"{about}{_n(read)}"), ("rows returned", _n(kept))],
        f"An index in the order of {_shortened(_sort_key(sort))}, after the columns compared for "
        "equality, lets it stop after the first rows.",
    )


def _partitions_not_pruned(place: _Place) -> PlanFinding | None:
    node = place.node
    if node.node_type not in ("Append", "Merge Append") or not place.is_executed:
        return None
    members = [c for c in node.children if c.is_executed and c.relation]
    stems = {re.sub(r"_\d+$", "", c.alias) for c in members}
    if len(members) < PARTITIONS or len(stems) != 1 or place.share_below < MIN_SHARE:
        return None
    if not all(c.condition("Filter") or c.condition("Index Cond") for c in members):
        return None
    empty = [c for c in members if not c.actual_rows]
    if len(empty) < EMPTY_PARTITIONS * len(members) or _may_stop_early(place):
        return None
    return place.finding(
        "partitions_not_pruned",
        f"It looked into {len(members)} partitions of {next(iter(stems))} and found rows in "
        f"{len(members) - len(empty)}.",
        [("partitions read", str(len(members))), ("without a row", str(len(empty)))],
        "Compare the partition key itself with a constant or a parameter, without a function or "
        "cast around it: then the other partitions are left out before they are read.",
    )


def _stale_statistics(place: _Place) -> PlanFinding | None:
    node, table = place.node, place.table
    if table is None or not node.node_type.endswith("Scan"):
        return None
    if max([place.share_below, *(_share_of(place, n) for n in place.above)]) < MIN_SHARE:
        return None
    rows = max(table.row_count, float(table.live_rows))
    read = node.rows_out + node.rows_removed_by_filter
    is_whole = node.node_type == "Seq Scan" and not _may_stop_early(place)
    told = (node.loops or 0) / node.processes
    if place.is_executed and is_whole and table.row_count >= 0 and told == 1:
        off = max(read, 1.0) / max(table.row_count, 1.0)
        if max(read, table.row_count) >= MANY_ROWS and max(off, 1 / off) >= ROWS_OFF:
            return place.finding(
                "stale_statistics",
                f"The planner believes that {place.name} has {_n(table.row_count)} rows; "
                f"{_n(read)} were read.",
                [("rows by the statistics", _n(table.row_count)), ("rows read", _n(read)),
                 ("last analysed", _when(table))],
                f"ANALYZE {table.qualified_name}, and see why autovacuum did not.",
            )  # fmt: skip
    if rows < MANY_ROWS or table.row_count < 0:
        if table.row_count >= 0 or rows < MANY_ROWS:
            return None
        return place.finding(
            "stale_statistics",
            f"{place.name} was never analysed: what the planner expects of it is a guess.",
            [("rows", _n(rows)), ("last analysed", _when(table))],
            f"ANALYZE {table.qualified_name}.",
        )
    if table.modified_since_analyze < MODIFIED_SHARE * rows:
        return None
    return place.finding(
        "stale_statistics",
        f"{_n(table.modified_since_analyze)} rows of {place.name} changed since its statistics "
        f"were taken, of {_n(rows)}.",
        [("changed since", _n(table.modified_since_analyze)), ("rows", _n(rows)),
         ("last analysed", _when(table))],
        f"ANALYZE {table.qualified_name}; lower its autovacuum_analyze_scale_factor if this "
        "happens again.",
    )  # fmt: skip


def _when(table: TableInfo) -> str:
    return f"{table.last_analyze:%d %b %Y %H.%M}" if table.last_analyze else "never"


def _jit(plan: Plan) -> PlanFinding | None:
    jit, whole = plan.jit, plan.execution_ms
    if jit is None or not whole or jit.total_ms < max(JIT_MS, JIT_SHARE * whole):
        return None
    return PlanFinding(
        "jit",
        0,
        f"{jit.total_ms:,.0f} of {whole:,.0f} ms went into compiling {jit.functions} functions of "
        "this statement.",
        (("compiling", f"{jit.total_ms:,.0f} ms"), ("functions", str(jit.functions)),
         ("share of the time", f"{min(1.0, jit.total_ms / whole):.0%}")),
        f"Turn it off for this statement (SET LOCAL jit = off), or set jit_above_cost above its "
        f"cost of {_n(plan.total_cost)}.",
    )  # fmt: skip


_CHECKS: tuple[_Check, ...] = (
    _seq_scan_keeps_few,
    _rows_removed_by_filter,
    _rows_removed_by_join_filter,
    _misestimate,
    _spill,
    _nested_loop,
    _heap_fetches,
    _lossy_bitmap,
    _function_on_column,
    _late_limit,
    _partitions_not_pruned,
    _stale_statistics,
)


def _share_of(place: _Place, node: PlanNode) -> float:
    """Return another node's share, with what is below it."""
    root = place.above[-1] if place.above else place.node
    if root.total_ms:
        return (node.total_ms or 0.0) / root.total_ms
    return node.total_cost / (root.total_cost or 1.0)


def _sort_key(node: PlanNode) -> str:
    return node.condition("Sort Key") or "the sort's columns"


def _words(node: PlanNode) -> str:
    named = node.relation or node.cte_name or node.alias
    return f"the {node.node_type.lower()}" + (f" of {named}" if named else "")


def _shortened(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 120 else text[:119] + "…"


def _n(number: float) -> str:
    return f"{number:,.0f}"


def _mb(kilobytes: float) -> str:
    return f"{kilobytes / 1000:,.1f} MB"
