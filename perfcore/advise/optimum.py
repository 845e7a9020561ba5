"""The best set of indexes as an integer programme.

After Dash, Polyzotis and Ailamaki, "CoPhy: A Scalable, Portable, and Interactive Index Advisor
for Large Workloads" (PVLDB 4(6), 2011), section 3: each statement takes one of its atomic
configurations, and the programme decides which indexes exist so that what is saved less what they
cost is greatest. Ours has only the configurations that the planner itself chose, and asks it again
with the solution until it finds nothing new: then the programme's promise is the planner's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array, csr_array

from perfcore.advise.candidates import Candidate, serving
from perfcore.advise.configurations import Configuration, Configurations
from perfcore.advise.costs import CostBook, OutOfTime
from perfcore.advise.merging import merged, narrower
from perfcore.advise.selection import Progress, Selection, Work, reserved_bytes, silent
from perfcore.advise.workload import Options, Writes
from perfcore.types import Catalog, IndexDefinition

_MOST_ROUNDS = 10
_SOLVE_LIMIT_S = 20.0
_LEAST_COVERING_MS = 0.5  # per call
_NEEDED = 0.01  # of a statement's cost: a column that saves less is not needed
_MOST_NARROWINGS = 3
_LEAST_OF_REST = 0.005  # of what the workload costs after all
_STEADY = 0.05  # of a statement's cost: for less what was suggested before is not replaced
# Without a budget a statement may lose so much of its best cost for a smaller index ...
_TRIMMED_SHARE = 0.2
_TRIMMED_LEAST = 0.02  # ... or of its first one, below which nothing is worth an index


@dataclass(frozen=True, slots=True)
class _Row:
    """A statement's choice: the indexes it needs, and its cost."""

    number: int
    needs: Configuration
    cost: float


@dataclass
class Optimum:
    """One solution for a workload; the budget and the number of indexes are bounds, not aims.

    Without a budget bytes are not free either: of all sets with which no statement is much
    dearer than with the best one, the smallest is taken.
    """

    book: CostBook
    works: Sequence[Work]
    candidates: dict[str, Candidate]  # by digest of the index; merged ones are added
    writes: Writes
    options: Options
    catalog: Catalog
    progress: Progress = silent
    standing: Configuration = frozenset()  # what was suggested before
    known: Configurations = field(init=False)
    is_late: bool = False
    least_ms_per_hour: float = field(init=False)  # that an index must save
    _room: dict[str, int] = field(default_factory=dict)  # to keep, by digest

    def __post_init__(self) -> None:
        self.known = Configurations(self.book, self.works, self.candidates, self.options)
        self.least_ms_per_hour = self.options.min_saved_ms_per_hour

    def select(self) -> Selection:
        """Return the best set found, its indexes by name."""
        self._in_time(self._explore)
        chosen = self._improve(self._best)
        self._lower_threshold(chosen)
        for look in (self._merge, self._look_around):
            if not self.is_late:
                self._in_time(partial(look, chosen))
                chosen = self._improve(self._best)
        if self.options.storage_budget_bytes is None:
            chosen = self._trimmed(chosen)
        chosen = self._steadied(self._narrowed(chosen))
        found = tuple(sorted((self.candidates[d] for d in chosen), key=lambda c: c.index.name))
        return Selection(
            found,
            stopped_early=self.is_late,
            saved_ms_per_hour=self._saved(chosen),
            bound_ms_per_hour=self._bound(),
            least_ms_per_hour=self.least_ms_per_hour,
        )

    def _lower_threshold(self, chosen: Configuration) -> None:
        """Ask less of an index where one statement's cost hid what all the others can save.

        A threshold in milliseconds is the reader's own; a share of a workload's cost is ours.
        """
        if not self.options.is_timed:
            rest = sum(
                work.mean_ms_at(self.known.best(n, chosen)[1], 0.0) * work.calls_per_hour
                for n, work in enumerate(self.works)
            )
            self.least_ms_per_hour = min(self.least_ms_per_hour, _LEAST_OF_REST * rest)

    def _in_time(self, look: Callable[[], object]) -> None:
        """Do it as far as the time goes."""
        try:
            look()
        except OutOfTime:
            self.is_late = True

    def _explore(self) -> None:
        words = f"asking how {len(self.works)} statements use {len(self.candidates)} candidates"
        self.known.explore(lambda share: self.progress(0.3 + 0.45 * share, words))

    def _merge(self, chosen: Configuration) -> None:
        """Make candidates of pairs that plans use, and learn what they would do."""
        self.progress(0.75, "merging indexes")
        used = {d for n in range(len(self.works)) for c, _ in self.known.useful(n) for d in c}
        new = {c.index.digest: c for c in merged(self.candidates[d] for d in sorted(used))}
        new = {d: c for d, c in new.items() if d not in self.candidates}
        self.candidates.update(new)
        for number in range(len(self.works)):
            mine = self.known.of(number)
            for digest in sorted(new.keys() & mine):
                self.known.ask(number, frozenset([digest]))
                self.known.ask(number, (chosen & mine) | {digest})

    def _look_around(self, chosen: Configuration) -> None:
        self.progress(0.8, "looking around the best set")
        self.known.look_around(chosen)

    def _improve(self, solve: Callable[[], Configuration]) -> Configuration:
        """Solve and ask the planner about the solution until it knows nothing new."""
        chosen: Configuration = frozenset()
        for number in range(_MOST_ROUNDS):
            self.progress(0.82 + 0.005 * number, f"solving, round {number + 1}")
            chosen = solve()
            try:
                if not self.known.learn(chosen):
                    break
            except OutOfTime:
                self.is_late = True
                break
        return chosen

    def _trimmed(self, chosen: Configuration) -> Configuration:
        try:
            self._ask_narrower(chosen)
            return self._improve(partial(self._smallest, chosen))
        except OutOfTime:
            self.is_late = True
            return chosen

    def _ask_narrower(self, chosen: Configuration) -> None:
        """Learn what the set would do with a beginning of each of its indexes instead."""
        for digest in sorted(chosen):
            users = [n for n in range(len(self.works)) if digest in self.known.best(n, chosen)[0]]
            less = self._less_than(digest)
            while less is not None:
                for number in users:
                    self.known.ask(number, ((chosen - {digest}) | {less}) & self.known.of(number))
                less = self._less_than(less)

    def _narrowed(self, chosen: Configuration) -> Configuration:
        """Cut off what no statement needs; the room it leaves may hold another index."""
        for _ in range(_MOST_NARROWINGS):
            try:
                less = self._cut(chosen)
                if less == chosen:
                    break
                self.known.narrowed |= chosen - less
                chosen = less
                if self.options.storage_budget_bytes is not None:
                    chosen = self._improve(self._best)
            except OutOfTime:
                self.is_late = True
                break
        return chosen

    def _steadied(self, chosen: Configuration) -> Configuration:
        """Let what was suggested before stand where it does as well as what is new.

        Among sets that are as good as each other small changes of the workload decide; people who
        read the list are to find in it what they read before.
        """
        kept = self.standing & self.candidates.keys() - self.known.banned
        if kept <= chosen or self.is_late:
            return chosen
        steady = chosen | kept
        try:
            for digest in [*sorted(chosen - kept), *sorted(kept - chosen)]:
                if self._does_as_well(chosen, steady - {digest}, _STEADY):
                    steady -= {digest}
        except OutOfTime:
            self.is_late = True
            return chosen
        return steady if self._fits(steady) else chosen

    def _fits(self, chosen: Configuration) -> bool:
        budget = self.options.storage_budget_bytes
        room = sum(self._reserved(d, self._bytes(d) or 0) for d in chosen)
        return len(chosen) <= self.options.max_indexes and (budget is None or room <= budget)

    def _cut(self, chosen: Configuration) -> Configuration:
        """Return the set with each index as narrow as it can be, or gone."""
        for digest in sorted(chosen):
            rest = chosen - {digest}
            if self._does_as_well(chosen, rest):
                chosen = rest
                continue
            while (less := self._less_than(digest)) is not None:
                if not self._does_as_well(rest | {digest}, rest | {less}):
                    break
                digest = less
            chosen = rest | {digest}
        return chosen

    def _does_as_well(
        self, chosen: Configuration, other: Configuration, tolerance: float = _NEEDED
    ) -> bool:
        if not self.known.does_as_well(chosen, other, tolerance):
            return False
        # A few rows are sorted for nothing today; without a budget the order keeps it so.
        return self.options.storage_budget_bytes is not None or not any(
            self._sorts_few(work, self.known.best(number, other)[0])
            and not self._sorts_few(work, self.known.best(number, chosen)[0])
            for number, work in enumerate(self.works)
        )

    def _less_than(self, digest: str) -> str | None:
        candidate = narrower(self.candidates[digest])
        if candidate is None or self._is_served(candidate.index):
            return None
        return self.candidates.setdefault(candidate.index.digest, candidate).index.digest

    def _is_served(self, index: IndexDefinition) -> bool:
        table = self.catalog.table(index.table, index.schema)
        return table is not None and serving(index, table) is not None

    def _saved(self, chosen: Configuration) -> float:
        """Return what the set saves in an hour, less its writes."""
        saved = sum(
            self.known.saved_ms_per_hour(n, self.known.best(n, chosen)[1])
            for n in range(len(self.works))
        )
        return saved - sum(self._writes(d) for d in chosen)

    # The programmes

    def _best(self) -> Configuration:
        """Return the indexes whose savings, less their price, are greatest within the bounds."""
        rows = [
            _Row(number, needs, cost)
            for number in range(len(self.works))
            for needs, cost in self._worthwhile(number)
        ]
        names = self._names(rows)
        gains = [-self.known.saved_ms_per_hour(r.number, r.cost) for r in rows]
        prices = [self._writes(d) + self.least_ms_per_hour for d in names]
        answer = self._solve(names, rows, prices + gains)
        return _taken(names, answer)

    def _worthwhile(self, number: int) -> Iterator[tuple[Configuration, float]]:
        """Yield what gains enough; without a budget a covering index must earn its room.

        It promises what only freshly vacuumed pages keep: so it must save a share of the whole
        more than the best plan without one.
        """
        useful = sorted(self.known.useful(number), key=lambda pair: sorted(pair[0]))
        if self.options.storage_budget_bytes is not None:
            yield from useful
            return
        work = self.works[number]
        bare = min((c for u, c in useful if not self._covers(u)), default=work.base_cost)
        needed = self.options.min_gain * work.base_cost
        for needs, cost in useful:
            if self._hashes(needs):
                continue  # it saves room and does less: only a budget asks for that
            if self._covers(needs):
                saved_ms = work.mean_ms_at(bare, 0.0) - work.mean_ms_at(cost, 0.0)
                if bare - cost < needed or saved_ms < _LEAST_COVERING_MS:
                    continue
            yield needs, cost

    def _covers(self, used: Configuration) -> bool:
        return any(self.candidates[d].index.include for d in used)

    def _hashes(self, used: Configuration) -> bool:
        return any(self.candidates[d].index.method == "hash" for d in used)

    def _smallest(self, best: Configuration) -> Configuration:
        """Return the smallest set with which no statement is much dearer than with the best.

        That is the epsilon-constraint method (Haimes, Lasdon and Wismer, 1971), a bound for each
        statement in the place of one for the sum: else a few would decide for all the others.
        """
        rows = []
        for number, work in enumerate(self.works):
            used, cost = self.known.best(number, best)
            if not used:
                continue
            limit = max(cost * (1 + _TRIMMED_SHARE), cost + _TRIMMED_LEAST * work.base_cost)
            near = [_Row(number, u, c) for u, c in self._worthwhile(number) if c <= limit]
            rows += [r for r in near if not self._sorts_few(work, r.needs)] or near
        names = self._names(rows)
        sizes = [self._megabytes(d) for d in names]
        answer = self._solve(names, rows, sizes + [0.0] * len(rows), all_of=True)
        return _taken(names, answer) or best

    def _megabytes(self, digest: str) -> float:
        """Return the size, a little more for each index and for one that is two in one."""
        is_merged = self.candidates[digest].pattern == "merged"
        return (self._bytes(digest) or 0) / 1e6 + (0.02 if is_merged else 0.01)

    def _sorts_few(self, work: Work, used: Configuration) -> bool:
        """Say whether the plan sorts under a LIMIT.

        One that does not stays fast however many rows match; among those that the planner takes
        to be few a sort costs nothing.
        """
        plan = self.book.plan(work.text, self.known.indexes(used))
        kinds = [n.node_type for _, n in plan.root.walk()] if plan is not None else []
        return "Limit" in kinds and any("Sort" in kind for kind in kinds)

    def _bound(self) -> float | None:
        """Return what no set of the candidates can save more than in an hour.

        The programme's own bound over every configuration known, small gains included; for
        plans that nobody asked for, the best that they could be with any one of their indexes.
        Pairs merged into one count as far as the planner was asked about them.
        """
        rows = [
            _Row(number, needs, cost)
            for number, costs in enumerate(self.known.costs)
            for needs, cost in sorted(costs.items(), key=lambda pair: sorted(pair[0]))
            if needs
        ]
        loose = [
            _Row(number, available, cost)
            for number, unknown in enumerate(self.known.unknown)
            for available, cost in unknown
            if available
        ]
        names = self._names([*rows, *loose])
        gains = [-self.known.saved_ms_per_hour(r.number, r.cost) for r in [*rows, *loose]]
        prices = [self._writes(d) for d in names]
        answer = self._solve(names, rows, prices + gains, loose=loose, is_exact=True)
        bound = getattr(answer, "mip_dual_bound", None)
        return None if bound is None else max(0.0, -float(bound))

    def _solve(
        self,
        names: Sequence[str],
        rows: Sequence[_Row],
        weights: Sequence[float],
        *,
        loose: Sequence[_Row] = (),
        all_of: bool = False,
        is_exact: bool = False,
    ) -> Any:
        """Return HiGHS' answer: one variable an index, then one a row, then one a loose row."""
        if not names:
            return None
        width = len(names) + len(rows) + len(loose)
        place = {digest: n for n, digest in enumerate(names)}
        every = [*rows, *loose]
        links = _Links(width, len(names), place)
        return milp(
            np.array(weights),
            integrality=np.array([1] * len(names) + [0] * len(every)),
            bounds=Bounds(0, 1),
            constraints=[
                self._within(names, width, is_exact=is_exact),
                links.one_each(every, exactly=all_of),
                *links.needs(rows, loose),
            ],
            options={"time_limit": _SOLVE_LIMIT_S, "mip_rel_gap": 1e-4},
        )

    def _names(self, rows: Sequence[_Row]) -> list[str]:
        needed = {d for row in rows for d in row.needs}
        return sorted(d for d in needed if self._bytes(d))

    def _within(self, names: Sequence[str], width: int, *, is_exact: bool) -> LinearConstraint:
        """Bound the bytes, in megabytes, and the number of the indexes."""
        budget = self.options.storage_budget_bytes
        room = np.inf if budget is None else budget / 1e6
        sizes = np.zeros((2, width))
        for n, digest in enumerate(names):
            size = self._bytes(digest) or 0
            kept = size if is_exact else self._reserved(digest, size)
            sizes[0, n], sizes[1, n] = kept / 1e6, 1.0
        return LinearConstraint(sizes, ub=np.array([room, float(self.options.max_indexes)]))

    def _reserved(self, digest: str, size: int) -> int:
        if digest not in self._room:
            self._room[digest] = reserved_bytes(self.candidates[digest].index, size, self.catalog)
        return self._room[digest]

    def _bytes(self, digest: str) -> int | None:
        return self.book.index_bytes(self.candidates[digest].index)

    def _writes(self, digest: str) -> float:
        return self.writes.cost_ms_per_hour(self.candidates[digest].index)


def _taken(names: Sequence[str], answer: Any) -> Configuration:
    if answer is None or answer.x is None:
        return frozenset()
    return frozenset(d for n, d in enumerate(names) if answer.x[n] > 0.5)


@dataclass(frozen=True, slots=True)
class _Links:
    """The constraints that tie the statements' choices to the indexes."""

    width: int
    first: int  # the place of the first row's variable
    place: dict[str, int]  # of each index's

    def one_each(self, rows: Sequence[_Row], *, exactly: bool) -> LinearConstraint:
        """A statement takes one configuration at most, or exactly one."""
        numbers = {number: n for n, number in enumerate(sorted({r.number for r in rows}))}
        entries = [(numbers[r.number], self.first + n, 1.0) for n, r in enumerate(rows)]
        least = 1.0 if exactly else 0.0
        return LinearConstraint(self._matrix(entries, len(numbers)), lb=least, ub=1.0)

    def needs(self, rows: Sequence[_Row], loose: Sequence[_Row]) -> Iterator[LinearConstraint]:
        """A configuration needs all its indexes, a loose one any of them."""
        entries, line = [], 0
        for n, row in enumerate(rows):
            for digest in sorted(row.needs):
                entries += [(line, self.first + n, 1.0)]
                entries += [(line, self.place[digest], -1.0)] if digest in self.place else []
                line += 1
        for n, row in enumerate(loose, start=len(rows)):
            entries.append((line, self.first + n, 1.0))
            entries += [(line, self.place[d], -1.0) for d in row.needs if d in self.place]
            line += 1
        if line:
            yield LinearConstraint(self._matrix(entries, line), lb=-np.inf, ub=0.0)

    def _matrix(self, entries: Sequence[tuple[int, int, float]], height: int) -> csr_array:
        rows, columns, values = zip(*entries, strict=True) if entries else ((), (), ())
        return coo_array(
            (values, (rows, columns)), shape=(max(height, 1), self.width), dtype=float
        ).tocsr()
