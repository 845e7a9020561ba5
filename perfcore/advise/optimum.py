"""The best set of indexes within a budget, as an integer programme.

After Dash, Polyzotis and Ailamaki, "CoPhy: A Scalable, Portable, and Interactive Index Advisor
for Large Workloads" (PVLDB 4(6), 2011), section 3: each statement takes one of its atomic
configurations, a set of indexes that some plan of it uses, and the programme decides which indexes
exist so that what is saved less what they cost is greatest. Ours has only the configurations that
the planner itself chose, and asks it again with the solution until it finds nothing new: then the
programme's promise is the planner's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array, csr_array

from perfcore.advise.candidates import Candidate
from perfcore.advise.costs import CostBook, OutOfTime
from perfcore.advise.selection import Progress, Selection, Work, silent, table_of
from perfcore.advise.workload import Options, Writes
from perfcore.types import IndexDefinition

_PLANS_A_STATEMENT = 24  # looked at for one statement before the first solution
_MOST_ROUNDS = 10
_SOLVE_LIMIT_S = 20.0

Configuration = frozenset[str]  # digests of the indexes that a plan uses


@dataclass
class Optimum:
    """One solution for a workload; the budget and the number of indexes are bounds, not aims."""

    book: CostBook
    works: Sequence[Work]
    candidates: Mapping[str, Candidate]  # by digest of the index
    writes: Writes
    options: Options
    progress: Progress = silent
    # By the work's place: what each configuration saves, in ms an hour.
    _saved: list[dict[Configuration, float]] = field(default_factory=list)
    _banned: set[str] = field(default_factory=set)

    def select(self) -> Selection:
        """Return the best set found, its indexes by name."""
        self._saved = [{} for _ in self.works]
        is_late = False
        chosen: Configuration = frozenset()
        try:
            for number in range(len(self.works)):
                share = 0.3 + 0.5 * number / len(self.works)
                self.progress(share, f"configurations of {number + 1} of {len(self.works)}")
                self._explore(number)
        except OutOfTime:
            is_late = True
        for number in range(_MOST_ROUNDS):
            self.progress(0.8 + 0.01 * number, f"solving, round {number + 1}")
            chosen = self._solve()
            try:
                if not self._learn(chosen):
                    break
            except OutOfTime:
                is_late = True
                break
        found = (self.candidates[digest] for digest in chosen)
        return Selection(tuple(sorted(found, key=lambda c: c.index.name)), stopped_early=is_late)

    def _explore(self, number: int) -> None:
        """Learn how the statement would use its candidates, alone and together.

        With all of them the planner takes the best plan; without one that it took, the next
        best. What these plans use are the configurations worth knowing.
        """
        work = self.works[number]
        mine = frozenset(self._of(work))
        for digest in sorted(mine):
            self._ask(number, frozenset([digest]))
        pending, asked = [mine], {mine}
        while pending and len(asked) <= _PLANS_A_STATEMENT:
            available = pending.pop(0)
            for digest in sorted(self._ask(number, available)):
                less = available - {digest}
                if less not in asked:
                    asked.add(less)
                    pending.append(less)

    def _learn(self, chosen: Configuration) -> bool:
        """Ask the planner about the solution; return whether it knew better."""
        is_new = False
        for number, work in enumerate(self.works):
            mine = chosen & frozenset(self._of(work))
            before = len(self._saved[number])
            used = self._ask(number, mine)
            is_new |= len(self._saved[number]) > before
            cost = self.book.cost(work.text, self._indexes(mine))
            if cost is not None and cost > work.base_cost * (1 + self.options.max_regression):
                self._banned |= used
                is_new = True
        return is_new

    def _ask(self, number: int, available: Configuration) -> Configuration:
        """Return what the plan uses of the indexes, and keep what it saves where that counts."""
        work = self.works[number]
        indexes = self._indexes(available)
        plan = self.book.plan(work.text, indexes)
        cost = self.book.cost(work.text, indexes)
        if plan is None or cost is None:
            return frozenset()
        used = frozenset(i.digest for i in indexes if plan.uses_index(i.name))
        floor = self.options.floor_ms
        saved = work.mean_ms_at(work.base_cost, floor) - work.mean_ms_at(cost, floor)
        if used and cost <= work.base_cost * (1 - self.options.min_gain) and saved > 0:
            self._saved[number][used] = saved * work.statement.calls_per_hour
        return used

    def _of(self, work: Work) -> Iterator[str]:
        for digest, candidate in self.candidates.items():
            if table_of(candidate.index) in work.tables and digest not in self.book.failures:
                yield digest

    def _indexes(self, digests: Iterable[str]) -> list[IndexDefinition]:
        return [self.candidates[d].index for d in sorted(digests)]

    # The programme

    def _solve(self) -> Configuration:
        """Return the indexes whose savings, less their price, are greatest within the bounds."""
        known = sorted(d for d in set().union(*self._used()) - self._banned if self._bytes(d))
        if not known:
            return frozenset()
        place = {digest: n for n, digest in enumerate(known)}
        rows = [
            (number, configuration, saved)
            for number, saved_by in enumerate(self._saved)
            for configuration, saved in sorted(saved_by.items(), key=lambda kv: sorted(kv[0]))
            if configuration <= place.keys()
        ]
        gains = [-saved for _, _, saved in rows]
        prices = [self._price(d) for d in known]
        answer = milp(
            np.array(prices + gains),
            integrality=np.array([1] * len(known) + [0] * len(rows)),
            bounds=Bounds(0, 1),
            constraints=[self._bounds(known, rows), *self._links(place, rows)],
            options={"time_limit": _SOLVE_LIMIT_S, "mip_rel_gap": 1e-4},
        )
        if answer.x is None:
            return frozenset()
        return frozenset(d for d, n in place.items() if answer.x[n] > 0.5)

    def _used(self) -> list[Configuration]:
        return [c for saved_by in self._saved for c in saved_by]

    def _price(self, digest: str) -> float:
        """Return what an index must earn: its writes, and the least that is worth a suggestion."""
        index = self.candidates[digest].index
        return self.writes.cost_ms_per_hour(index) + self.options.min_saved_ms_per_hour

    def _bytes(self, digest: str) -> int | None:
        return self.book.index_bytes(self.candidates[digest].index)

    def _bounds(
        self, known: Sequence[str], rows: Sequence[tuple[int, Configuration, float]]
    ) -> LinearConstraint:
        """Bound the bytes, in the budget's own size, and the number of the indexes."""
        budget = self.options.storage_budget_bytes
        whole = budget if budget is not None else np.inf
        sizes = [(self._bytes(d) or 0) / 1e6 for d in known] + [0.0] * len(rows)
        ones = [1.0] * len(known) + [0.0] * len(rows)
        return LinearConstraint(
            np.array([sizes, ones]), ub=np.array([whole / 1e6, float(self.options.max_indexes)])
        )

    def _links(
        self, place: Mapping[str, int], rows: Sequence[tuple[int, Configuration, float]]
    ) -> list[LinearConstraint]:
        """A statement takes one configuration at most, and only one whose indexes exist."""
        first = len(place)
        width = first + len(rows)
        one = _Sparse(width)
        for n, (number, _, _) in enumerate(rows):
            one.put(number, first + n, 1.0)
        exists = _Sparse(width)
        line = 0
        for n, (_, configuration, _) in enumerate(rows):
            for digest in sorted(configuration):
                exists.put(line, first + n, 1.0)
                exists.put(line, place[digest], -1.0)
                line += 1
        return [
            LinearConstraint(one.matrix(len(self.works)), ub=1.0),
            LinearConstraint(exists.matrix(line), ub=0.0),
        ]


class _Sparse:
    """Collects the entries of a sparse matrix."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._values: list[float] = []
        self._rows: list[int] = []
        self._columns: list[int] = []

    def put(self, row: int, column: int, value: float) -> None:
        self._rows.append(row)
        self._columns.append(column)
        self._values.append(value)

    def matrix(self, height: int) -> csr_array:
        return coo_array(
            (self._values, (self._rows, self._columns)), shape=(max(height, 1), self._width)
        ).tocsr()
