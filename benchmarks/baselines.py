"""Other ways to choose indexes, after their papers, to compare the advice with.

Each is given the statements, a budget in bytes and an end of its time, asks the twin for costs,
and returns the best set that it has found. They choose among plain B-trees on columns that a
statement reads, the first of which it compares, joins, orders or groups by, much as in Kossmann et
al., "Magic mirror in my hand, which is the best in the land? An Experimental Evaluation of Index
Selection Algorithms" (PVLDB 13(11), 2020); only "per statement" has our candidates of every kind.
"""

from __future__ import annotations

import time
from bisect import insort
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import combinations, permutations

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array

from perfcore.advise.account import MS_PER_COST
from perfcore.advise.candidates import Candidate, propose, rows_of, serving
from perfcore.advise.statement import (
    StatementShape,
    TableUse,
    Unparsable,
    plannable,
    read_statement,
)
from perfcore.advise.workload import Writes, writes_of
from perfcore.advise.workload_file import Item
from perfcore.errors import PerfcoreError
from perfcore.plan import Plan
from perfcore.types import Catalog, IndexDefinition, IndexKey, TableInfo, WorkloadStatement
from perfcore.whatif.twin import Twin

WIDTH = 2  # of the candidates' keys
WIDEST = 3  # of Extend's keys, and of the linear programme's where the third column helps
MIN_TABLE_ROWS = 10_000
MAX_COLUMN_BYTES = 64
_IMPOSSIBLE = 1e12  # the cost of what cannot be planned
_LEAST_GAIN = 0.0005  # of the workload's cost, in a step
_SET_AT_ONCE = 2  # m of Greedy(m, k): so many indexes are tried in every combination ...
_SET_AT_MOST = 4  # ... and k: so many are found for one statement
_PAIRED = 12  # of a statement's indexes that help it, the best, in combinations
_MERGED_WIDTH = 4
_ROUNDS = 5  # of the linear programme
_WAYS = 30  # that Relaxation goes
_UNSORTABLE = ("json", "jsonb", "xml", "point", "tsvector", "tsquery")

Indexes = frozenset[IndexDefinition]
NONE: Indexes = frozenset()


class OutOfTime(Exception):
    """The search's time is over."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a search chose; `bound_cost` where it knows that nothing of its kind costs less."""

    indexes: Indexes
    bound_cost: float | None = None
    stopped_early: bool = False


@dataclass(frozen=True, slots=True)
class _Answer:
    available: Indexes
    used: Indexes
    cost: float


@dataclass
class _Statement:
    """A statement, what it reads of each table, and what the twin said of it."""

    item: Item
    text: str
    shape: StatementShape | None
    reads: frozenset[tuple[str, str]]  # (schema.table, column)
    answers: list[_Answer] = field(default_factory=list)
    known: dict[Indexes, _Answer] = field(default_factory=dict)
    plans: list[tuple[float, Indexes]] = field(default_factory=list)  # the cheapest first

    def keep(self, answer: _Answer) -> None:
        """Remember an answer, and among the plans if it is a new one."""
        self.answers.append(answer)
        if answer.cost < self.derived_cost(answer.used):
            insort(self.plans, (answer.cost, answer.used), key=lambda p: p[0])

    def derived_cost(self, indexes: Indexes) -> float:
        """Return the least cost of the plans known whose indexes are all there."""
        return next((cost for cost, used in self.plans if used <= indexes), float("inf"))

    def relevant(self, indexes: Iterable[IndexDefinition]) -> Indexes:
        """Return the indexes with a column that the statement reads, or with an expression."""
        return frozenset(
            i
            for i in indexes
            if any(k.is_expression or (_table(i), k.expression) in self.reads for k in i.keys)
        )


class Search:
    """What the baselines share: the statements, a twin to ask, and how long there is."""

    def __init__(
        self,
        catalog: Catalog,
        items: Sequence[Item],
        twin: Twin,
        *,
        weigh_writes: bool = False,
        end_s: float = float("inf"),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.catalog, self.twin, self.clock, self.end_s = catalog, twin, clock, float("inf")
        self.statements = [_statement(item, catalog) for item in items]
        self.weigh_writes = weigh_writes
        self._writes = _writes(self.statements, twin, catalog)
        for statement in self.statements:
            self.ask(statement, NONE)
        self.end_s = end_s

    def cost(self, indexes: Iterable[IndexDefinition]) -> float:
        """Return the workload's cost, and that of the writes where they are weighed.

        Raises OutOfTime where the twin would have to be asked after the end.
        """
        chosen = frozenset(indexes)
        written = sum(map(self.write_cost, chosen)) if self.weigh_writes else 0.0
        return self.read_cost(chosen) + written

    def read_cost(self, indexes: Indexes) -> float:
        """Return the statements' cost, whatever keeping the indexes costs."""
        return sum(self.one_cost(s, indexes) for s in self.statements)

    def derived_cost(self, indexes: Indexes) -> float:
        """Return at most what the set costs, from what is known: nothing is asked.

        The cost of a set is the least of its atomic configurations' (Chaudhuri and Narasayya, "An
        Efficient, Cost-Driven Index Selection Tool for Microsoft SQL Server", VLDB 1997).
        """
        written = sum(map(self.write_cost, indexes)) if self.weigh_writes else 0.0
        return written + sum(s.item.calls * s.derived_cost(indexes) for s in self.statements)

    def cost_or_bound(self, indexes: Indexes) -> float:
        """Return the set's cost, when the time is over what is known of it."""
        try:
            return self.cost(indexes)
        except OutOfTime:
            return self.derived_cost(indexes)

    @property
    def left_s(self) -> float:
        return self.end_s - self.clock()

    def learn(self, index: IndexDefinition) -> None:
        """Ask what the index alone does."""
        for statement in self.statements:
            self.ask(statement, [index])

    def one_cost(self, statement: _Statement, indexes: Iterable[IndexDefinition]) -> float:
        """Return what the statement costs in all its calls."""
        return statement.item.calls * self.ask(statement, indexes).cost

    def ask(self, statement: _Statement, indexes: Iterable[IndexDefinition]) -> _Answer:
        """Return the plan's cost and what it uses; what follows from an answer is not asked."""
        wanted = statement.relevant(indexes)
        answer = statement.known.get(wanted) or next(
            (a for a in statement.answers if a.used <= wanted <= a.available), None
        )
        if answer is None:
            if self.left_s < 0:
                raise OutOfTime
            answer = self._asked(statement, wanted)
            statement.keep(answer)
        statement.known[wanted] = answer
        return answer

    def _asked(self, statement: _Statement, wanted: Indexes) -> _Answer:
        ordered = sorted(wanted, key=lambda i: i.digest)
        try:
            plan: Plan = self.twin.planner.plan(statement.text, indexes=ordered)
        except PerfcoreError:
            is_possible = bool(wanted) and self.ask(statement, NONE).cost > 0
            return _Answer(wanted, wanted, _IMPOSSIBLE if is_possible else 0.0)
        used = frozenset(i for i in wanted if plan.uses_index(i.name))
        return _Answer(wanted, used, plan.total_cost)

    def write_cost(self, index: IndexDefinition) -> float:
        """Return what keeping the index costs by Perfcore's own rates."""
        return self._writes.cost_ms_per_hour(index) / MS_PER_COST

    def bytes(self, indexes: Iterable[IndexDefinition]) -> int:
        """Return the twin's estimate of their size."""
        return sum(self.twin.planner.index_bytes(i) for i in indexes)

    def candidates(self, statement: _Statement, width: int = WIDTH) -> list[IndexDefinition]:
        """Return every order of up to so many of the columns that it reads of each table."""
        found: dict[IndexDefinition, None] = {}
        for table, first, read in self.read_by(statement):
            for count in range(1, width + 1):
                for columns in permutations(sorted(read), count):
                    index = _index(table, columns)
                    if columns[0] in first and not serving(index, table):
                        found[index] = None
        return list(found)

    def columns(self) -> list[tuple[TableInfo, str, bool]]:
        """Return each column that a statement reads, and whether an index may begin with it."""
        first: set[tuple[str, str]] = set()
        read: dict[tuple[str, str], TableInfo] = {}
        for statement in self.statements:
            for table, keys, all_read in self.read_by(statement):
                read |= dict.fromkeys(((table.qualified_name, c) for c in sorted(all_read)), table)
                first |= {(table.qualified_name, c) for c in keys}
        return [(table, place[1], place in first) for place, table in read.items()]

    def read_by(self, statement: _Statement) -> Iterator[tuple[TableInfo, set[str], set[str]]]:
        """Yield each large table with the columns it is searched by and all that are read."""
        for use in statement.shape.uses if statement.shape else ():
            table = self.catalog.table(use.table, use.schema)
            if table is None or rows_of(table) < MIN_TABLE_ROWS:
                continue
            keys = {c for c in _keys(use) if _fits_a_key(table, c)}
            yield table, keys, keys | {c for c in use.columns if _fits_a_key(table, c)}


def _statement(item: Item, catalog: Catalog) -> _Statement:
    try:
        shape = read_statement(item.sql, catalog)
    except Unparsable:
        shape = None
    reads = {
        (use.qualified_name, c)
        for use in (shape.uses if shape else ())
        for c in (*_keys(use), *use.columns)
    }
    return _Statement(item, plannable(item.sql, limit_rows=20), shape, frozenset(reads))


def _keys(use: TableUse) -> Iterator[str]:
    """Yield the columns that the statement compares, joins, orders or groups by."""
    keys = [p.key for p in use.predicates] + [j.key for j in use.joins]
    keys += [p.key for branch in use.alternatives for p in branch]
    keys += [o.key for o in use.order_by] + list(use.group_by)
    return (k.expression for k in keys if not k.is_expression)


def _fits_a_key(table: TableInfo, name: str) -> bool:
    column = table.column(name)
    return (
        column is not None
        and column.type.removesuffix("[]") not in _UNSORTABLE
        and (column.avg_width_bytes or 0) <= MAX_COLUMN_BYTES
    )


def _writes(statements: Sequence[_Statement], twin: Twin, catalog: Catalog) -> Writes:
    """Return what the workload's own statements write in an hour, as Perfcore's account does."""
    written = []
    for n, statement in enumerate(statements):
        try:
            root = twin.planner.plan(statement.text).root
        except PerfcoreError:
            continue
        if statement.shape is not None and root.node_type == "ModifyTable":
            rows = max(1.0, *(c.plan_rows for c in root.children), 1.0) * statement.item.calls
            calls = max(1, round(statement.item.calls))
            known = WorkloadStatement(n, n, statement.item.sql, calls, 0.0, 3600.0, round(rows))
            written.append((known, statement.shape))
    return writes_of(written, catalog)


# Without a budget


def single_columns(search: Search, budget_bytes: float) -> Found:
    """Return an index for every column that any statement compares, joins, orders or groups."""
    wanted = [(t, _index(t, (c,))) for t, c, is_first in search.columns() if is_first]
    return Found(frozenset(i for table, i in wanted if not serving(i, table)))


def per_statement(search: Search, budget_bytes: float) -> Found:
    """Return for each statement the one of our own candidates that lowers its cost most."""
    chosen = set()
    try:
        for statement in search.statements:
            costs = [
                (search.one_cost(statement, [c.index]), c.index.digest, c.index)
                for c in _proposed(search, statement)
            ]
            best = min(costs, key=lambda c: c[:2], default=None)
            if best is not None and best[0] < 0.9 * search.one_cost(statement, NONE):
                chosen.add(best[2])
    except OutOfTime:
        return Found(frozenset(chosen), stopped_early=True)
    return Found(frozenset(chosen))


def _proposed(search: Search, statement: _Statement) -> tuple[Candidate, ...]:
    if statement.shape is None:
        return ()
    proposal = propose(statement.shape, search.catalog, min_table_rows=MIN_TABLE_ROWS)
    return proposal.candidates


# Step by step


def greedy(search: Search, budget_bytes: float) -> Found:
    """Add the single column that gains most per byte, until the budget is used."""
    return _grow(search, budget_bytes, width=1)


def extend(search: Search, budget_bytes: float) -> Found:
    """Add an index or a column to one, whichever gains most per byte, until the budget is used.

    Extend: Schlosser, Kossmann and Boissier, "Efficient Scalable Multi-Attribute Index Selection
    Using Recursive Strategies" (ICDE 2019).
    """
    return _grow(search, budget_bytes, width=WIDEST)


def _grow(search: Search, budget_bytes: float, width: int) -> Found:
    columns = search.columns()
    chosen = NONE
    try:
        cost = search.cost(chosen)
        while True:
            used = search.bytes(chosen)
            best: tuple[float, Indexes, float] | None = None
            for new in _steps(chosen, columns, width):
                size = search.bytes(new)
                if size > budget_bytes:
                    continue
                after = search.cost(new)
                ratio = (cost - after) / max(size - used, 1)
                if cost - after > _LEAST_GAIN * cost and (best is None or ratio > best[0]):
                    best = ratio, new, after
            if best is None:
                return Found(chosen)
            chosen, cost = best[1], best[2]
    except OutOfTime:
        return Found(chosen, stopped_early=True)


def _steps(
    chosen: Indexes, columns: Sequence[tuple[TableInfo, str, bool]], width: int
) -> Iterator[Indexes]:
    """Yield the sets that one more index, or one more column of a chosen one, makes."""
    for table, column, is_first in columns:
        single = _index(table, (column,))
        if is_first and single not in chosen:
            yield chosen | {single}
        for index in _ordered(chosen):
            names = _columns(index)
            if _table(index) == table.qualified_name and column not in names and len(names) < width:
                yield chosen - {index} | {_index(table, (*names, column))}


# Database Tuning Advisor


def dta(search: Search, budget_bytes: float) -> Found:
    """Find each statement's best set, merge, and choose greedily for the workload from many seeds.

    Chaudhuri and Narasayya, "Anytime Algorithm of Database Tuning Advisor for Microsoft SQL Server"
    (Microsoft, 2020), with Greedy(m, k) from "An Efficient, Cost-Driven Index Selection Tool for
    Microsoft SQL Server" (VLDB 1997), section 4, and index merging (ICDE 1999). Statements come by
    their cost, as many as half of the time is enough for; the first seed is the empty set, the
    others are single candidates. In the enumeration costs are derived, and each set that is taken
    is asked about.
    """
    half_s = search.left_s / 2
    pool: dict[IndexDefinition, None] = {}
    with suppress(OutOfTime):
        for statement in sorted(search.statements, key=lambda s: -search.one_cost(s, NONE)):
            if search.left_s >= half_s:
                pool |= dict.fromkeys(_ordered(_seed(search, statement, budget_bytes)))
    pool |= dict.fromkeys(_merge(a, b) for a, b in permutations(list(pool), 2) if _same(a, b))
    candidates = [i for i in pool if search.bytes([i]) <= budget_bytes]
    with suppress(OutOfTime):
        for index in candidates:
            search.learn(index)
    best, best_cost = NONE, float("inf")
    for seed in (NONE, *(frozenset({i}) for i in candidates)):
        for chosen, cost in _choose(search, seed, candidates, budget_bytes):
            if cost < best_cost:
                best, best_cost = chosen, cost
        if search.left_s < 0:
            break
    return Found(best, stopped_early=search.left_s < 0)


def _seed(search: Search, statement: _Statement, budget_bytes: float) -> Indexes:
    """Return a statement's own best set by Greedy(m, k)."""
    helping = _helping(search, statement)[:_PAIRED]
    sets = [
        frozenset(c)
        for count in range(1, _SET_AT_ONCE + 1)
        for c in combinations(helping, count)
        if search.bytes(c) <= budget_bytes
    ]
    if not sets:
        return NONE
    chosen = min(sets, key=lambda c: search.one_cost(statement, c))
    while len(chosen) < _SET_AT_MOST:
        more = [chosen | {i} for i in helping if search.bytes(chosen | {i}) <= budget_bytes]
        best = min(more, key=lambda c: search.one_cost(statement, c), default=chosen)
        if search.one_cost(statement, best) >= search.one_cost(statement, chosen):
            break
        chosen = best
    return search.ask(statement, chosen).used


def _helping(search: Search, statement: _Statement, width: int = WIDTH) -> list[IndexDefinition]:
    """Return the candidates that alone make the statement cheaper, the best first."""
    before = search.one_cost(statement, NONE)
    costs = [(search.one_cost(statement, [i]), i) for i in search.candidates(statement, width)]
    return [i for cost, i in sorted(costs, key=lambda c: (c[0], c[1].digest)) if cost < before]


def _choose(
    search: Search, seed: Indexes, candidates: Sequence[IndexDefinition], budget_bytes: float
) -> Iterator[tuple[Indexes, float]]:
    """Yield ever cheaper sets, each with the one index more that lowers the cost most."""
    chosen, cost = seed, search.cost_or_bound(seed)
    while True:
        yield chosen, cost
        more = [
            chosen | {i}
            for i in candidates
            if i not in chosen and search.bytes(chosen | {i}) <= budget_bytes
        ]
        best = min(more, key=search.derived_cost, default=chosen)
        after = search.cost_or_bound(best)
        if after >= cost * (1 - _LEAST_GAIN):
            return
        chosen, cost = best, after


# Relaxation


def relaxation(search: Search, budget_bytes: float) -> Found:
    """Take every statement's best set and make it smaller where that costs least per byte.

    Bruno and Chaudhuri, "Automatic Physical Database Tuning: A Relaxation-based Approach" (SIGMOD
    2005), section 3. As there a relaxed set's cost is bounded from known plans, and only the set
    that is taken is asked about; a byte freed beyond what is needed does not count; and when a set
    fits, the dearest step that led to it is gone another way, while there is time.
    """
    best: tuple[float, Indexes] = (float("inf"), NONE)
    chosen = NONE
    try:
        for statement in search.statements:
            chosen |= search.ask(statement, search.candidates(statement)).used
        path: list[_Step] = []
        for _ in range(_WAYS):
            while search.bytes(chosen) > budget_bytes:
                path.append(_step(search, chosen, budget_bytes))
                chosen = path[-1].take(search)
            best = min(best, (search.cost(chosen), chosen), key=lambda b: b[0])
            path = path[: 1 + max(range(len(path)), key=lambda n: path[n].penalty, default=-1)]
            if not path or not path[-1].ways:
                break
            chosen = path[-1].take(search)
    except OutOfTime:
        return Found(best[1] or _removed(search, chosen, budget_bytes), stopped_early=True)
    return Found(best[1])


def _removed(search: Search, chosen: Indexes, budget_bytes: float) -> Indexes:
    """Return what is left when nothing but removal is tried, and nothing asked."""
    while (now := search.bytes(chosen)) > budget_bytes:
        cost = search.derived_cost(chosen)
        smaller = [chosen - {i} for i in _ordered(chosen)]
        lost = [(search.derived_cost(c) - cost) / (now - search.bytes(c)) for c in smaller]
        chosen = smaller[lost.index(min(lost))]
    return chosen


@dataclass
class _Step:
    """A set that is too large, and what it can be relaxed to: the dearest first."""

    cost: float
    ways: list[tuple[float, float, Indexes]]  # bound of the penalty per byte, bytes freed, set
    penalty: float = 0.0  # per byte, of the way that was taken

    def take(self, search: Search) -> Indexes:
        """Return the next best set."""
        _, freed, less = self.ways.pop()
        self.penalty = (search.cost(less) - self.cost) / freed
        return less


def _step(search: Search, chosen: Indexes, budget_bytes: float) -> _Step:
    now, cost = search.bytes(chosen), search.cost(chosen)
    ways = []
    for less in _relaxed(chosen):
        freed = min(now - search.bytes(less), now - budget_bytes)
        if freed > 0:
            for index in _ordered(less - chosen):
                search.learn(index)
            ways.append(((search.derived_cost(less) - cost) / freed, freed, less))
    return _Step(cost, sorted(ways, key=lambda w: -w[0]))


def _relaxed(chosen: Indexes) -> Iterator[Indexes]:
    """Yield what removing, prefixing, merging and splitting make of a set."""
    for index in _ordered(chosen):
        rest = chosen - {index}
        yield rest
        for count in range(1, len(index.keys)):
            yield rest | {replace(index, keys=index.keys[:count])}
    for a, b in permutations(_ordered(chosen), 2):
        if _same(a, b):
            rest = chosen - {a, b}
            yield rest | {_merge(a, b)}
            if parts := _split(a, b):
                yield rest | parts


def _split(a: IndexDefinition, b: IndexDefinition) -> Indexes:
    """Return the columns that two indexes share, and what each has besides, as indexes."""
    common = tuple(k for k in a.keys if k in b.keys)
    parts = [common, *(tuple(k for k in i.keys if k not in common) for i in (a, b))]
    return frozenset(replace(a, keys=p) for p in parts if p) if common else NONE


# Linear programming


def linear_programme(search: Search, budget_bytes: float) -> Found:
    """Let HiGHS choose each statement's atomic configuration, and so the indexes.

    CoPhy: Dash, Polyzotis and Ailamaki, "CoPhy: A Scalable, Portable, and Interactive Index Advisor
    for Large Workloads" (PVLDB 4(6), 2011), section 3. Atomic configurations are an index that
    helps alone, each two of them on different tables, and what the plan uses when all are there;
    a third column is tried behind pairs that help, and each index on every statement. It is solved
    again while the planner does better with the solution than was known. The bound is the
    programme's own: of configurations that it does not know, it knows nothing.
    """
    chosen, bound, is_proven, stopped_early = NONE, None, True, False
    try:
        for statement in search.statements:
            for indexes in _atomic(search, statement):
                search.ask(statement, indexes)
        for index in _ordered({i for s in search.statements for _, used in s.plans for i in used}):
            search.learn(index)
        for _ in range(_ROUNDS):
            chosen, bound, is_proven = _solve(search, budget_bytes)
            promised = search.derived_cost(chosen)
            if search.cost(chosen) >= promised:
                break
    except OutOfTime:
        stopped_early = True
        if not chosen:
            chosen, bound, is_proven = _solve(search, budget_bytes)
    if bound is not None and (stopped_early or search.cost_or_bound(chosen) < bound):
        bound = None  # the planner knows of more than the programme did
    return Found(chosen, bound, stopped_early or not is_proven)


def _atomic(search: Search, statement: _Statement) -> Iterator[Iterable[IndexDefinition]]:
    helping = _helping(search, statement)
    wider = [
        replace(i, keys=(*i.keys, IndexKey(c)))
        for i in helping
        for table, _, read in search.read_by(statement)
        if len(i.keys) == WIDTH and _table(i) == table.qualified_name
        for c in sorted(read - set(_columns(i)))
    ]
    yield from ([i] for i in (*helping, *wider))
    yield search.candidates(statement)
    best = sorted((*helping, *wider), key=lambda i: search.one_cost(statement, [i]))
    tables = {_table(i) for i in best}
    few = [i for t in sorted(tables) for i in [b for b in best if _table(b) == t][:_PAIRED]]
    yield from ((a, b) for a, b in combinations(few, 2) if not _same(a, b))


def _solve(search: Search, budget_bytes: float) -> tuple[Indexes, float | None, bool]:
    """Return the chosen indexes, the bound, and whether there was time to prove the choice."""
    rows = [  # the statement's place, an atomic configuration, its cost
        (n, used, statement.item.calls * cost)
        for n, statement in enumerate(search.statements)
        for cost, used in statement.plans
    ]
    names = _ordered({i for _, used, _ in rows for i in used})
    place = {index: n for n, index in enumerate(names)}
    first, width = len(names), len(names) + len(rows)
    sizes = np.zeros((1, width))
    sizes[0, :first] = [search.bytes([i]) / 1e6 for i in names]
    each = coo_array(
        ([1.0] * len(rows), ([r[0] for r in rows], range(first, width))),
        shape=(len(search.statements), width),
    )
    needs = [(first + n, place[i]) for n, (_, used, _) in enumerate(rows) for i in used]
    links = coo_array(
        (
            [1.0, -1.0] * len(needs),
            ([n for n in range(len(needs)) for _ in (0, 1)], [p for pair in needs for p in pair]),
        ),
        shape=(max(len(needs), 1), width),
    )
    prices = [search.write_cost(i) if search.weigh_writes else 0.0 for i in names]
    answer = milp(
        np.array([*prices, *(cost for _, _, cost in rows)]),
        integrality=np.array([1] * first + [0] * len(rows)),
        bounds=Bounds(0, 1),
        constraints=[
            LinearConstraint(sizes, ub=budget_bytes / 1e6),
            LinearConstraint(each.tocsr(), lb=1.0, ub=1.0),
            LinearConstraint(links.tocsr(), ub=0.0),
        ],
        options={"time_limit": max(search.left_s, 5.0), "mip_rel_gap": 1e-4},
    )
    if answer.x is None:
        return NONE, None, False
    chosen = frozenset(i for i, taken in zip(names, answer.x, strict=False) if taken > 0.5)
    return chosen, answer.mip_dual_bound, answer.status == 0


# Indexes


def _index(table: TableInfo, columns: Sequence[str]) -> IndexDefinition:
    return IndexDefinition(table.schema, table.name, tuple(IndexKey(c) for c in columns))


def _table(index: IndexDefinition) -> str:
    return f"{index.schema}.{index.table}"


def _columns(index: IndexDefinition) -> tuple[str, ...]:
    return tuple(k.expression for k in index.keys)


def _same(a: IndexDefinition, b: IndexDefinition) -> bool:
    return _table(a) == _table(b)


def _merge(a: IndexDefinition, b: IndexDefinition) -> IndexDefinition:
    """Return the first index with what the second has besides, as far as it is not too wide."""
    keys = (*a.keys, *(k for k in b.keys if k not in a.keys))
    return replace(a, keys=keys[:_MERGED_WIDTH])


def _ordered(indexes: Iterable[IndexDefinition]) -> list[IndexDefinition]:
    return sorted(indexes, key=lambda i: i.digest)


BASELINES: dict[str, Callable[[Search, float], Found]] = {
    "extend": extend,
    "dta": dta,
    "relaxation": relaxation,
    "linear programme": linear_programme,
    "greedy": greedy,
    "per statement": per_statement,
    "single columns": single_columns,
}
UNBOUNDED = frozenset({"per statement", "single columns"})
