"""What each statement of a workload costs under the sets of indexes that its plans use.

A set that some plan uses whole is an atomic configuration (Finkelstein, Schkolnick and Tiberio,
"Physical Database Design for Relational Databases", ACM TODS 13(1), 1988). All that a statement
can cost is known from them, because taking away what a plan does not use changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from perfcore.advise.candidates import Candidate
from perfcore.advise.costs import CostBook, ranges_with_nulls
from perfcore.advise.selection import Work
from perfcore.advise.workload import Options
from perfcore.types import IndexDefinition

_UNNOTICED = 0.0005  # of what a statement costs without any index
_PLANS_A_STATEMENT = 24  # looked at for one statement before the first solution

Configuration = frozenset[str]  # digests of the indexes that a plan uses


@dataclass
class Configurations:
    """The configurations learned so far; statements go by their place in the workload."""

    book: CostBook
    works: Sequence[Work]
    candidates: Mapping[str, Candidate]  # by digest of the index
    options: Options
    costs: list[dict[Configuration, float]] = field(default_factory=list)
    # Of a statement not looked into to the end: sets that may hold a plan nobody asked for, each
    # with the least that such a plan can cost.
    unknown: list[list[tuple[Configuration, float]]] = field(default_factory=list)
    banned: set[str] = field(default_factory=set)  # make some statement dearer than allowed
    narrowed: set[str] = field(default_factory=set)  # for which less does as well
    _mine: dict[int, tuple[tuple[int, int], Configuration]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.costs = [{frozenset(): work.base_cost} for work in self.works]
        self.unknown = [[(self.of(n), 0.0)] for n in range(len(self.works))]

    def of(self, number: int) -> Configuration:
        """Return the candidates that a plan of the statement may use."""
        # Merging adds candidates, and the planner refuses some.
        extent = len(self.candidates), len(self.book.failures)
        known = self._mine.get(number)
        if known is None or known[0] != extent:
            work = self.works[number]
            mine = frozenset(
                digest
                for digest, candidate in self.candidates.items()
                if work.may_use(candidate.index) and digest not in self.book.failures
            )
            known = self._mine[number] = extent, mine
        return known[1]

    def explore(self, progress: Callable[[float], None]) -> None:
        """Learn how the statements would use their candidates, all together, alone, and some.

        The statement that can save most comes first: when the time ends, the others matter less.
        """
        for number in range(len(self.works)):
            self._ask_for_all(number)
            progress(0.2 * number / len(self.works))
        ordered = sorted(range(len(self.works)), key=lambda n: (-self._most_saved(n), n))
        promising = [n for n in ordered if self._most_saved(n) > 0]
        for place, number in enumerate(promising):
            for digest in sorted(self.of(number)):
                self.ask(number, frozenset([digest]))
            progress(0.2 + 0.4 * place / len(promising))
        for place, number in enumerate(promising):
            self._explore(number)
            progress(0.6 + 0.4 * place / len(promising))

    def _ask_for_all(self, number: int) -> None:
        mine = self.of(number)
        _, cost = self.ask(number, mine)
        self.unknown[number] = [(mine, cost)]

    def _most_saved(self, number: int) -> float:
        """Return what the statement saves at best, nothing where that is too little."""
        least = min((cost for _, cost in self.useful(number)), default=None)
        return 0.0 if least is None else self.saved_ms_per_hour(number, least)

    def _explore(self, number: int) -> None:
        """Learn the next best plans: those without an index that a better plan used."""
        mine = self.of(number)
        pending, asked = [(mine, 0.0)], {mine}
        while pending and len(asked) <= _PLANS_A_STATEMENT:
            available, _ = pending.pop(0)
            used, cost = self.ask(number, available)
            for digest in sorted(used):
                less = available - {digest}
                if less not in asked:
                    asked.add(less)
                    pending.append((less, cost))
        self.unknown[number] = pending

    def ask(self, number: int, available: Configuration) -> tuple[Configuration, float]:
        """Return what the statement's plan uses of the indexes and what it costs, and keep both."""
        work = self.works[number]
        indexes = self.indexes(available)
        plan = self.book.plan(work.text, indexes)
        cost = self.book.cost(work.text, indexes)
        if plan is None or cost is None:
            possible = available - self._impossible(work, available)
            if possible < available:
                return self.ask(number, possible)
            return frozenset(), work.base_cost
        used = frozenset(i.digest for i in indexes if plan.uses_index(i.name))
        if used:
            self.costs[number][used] = min(cost, self.costs[number].get(used, cost))
        overrated = ranges_with_nulls(plan, indexes)
        if overrated:
            self.banned |= frozenset(i.digest for i in indexes if i.name in overrated)
        elif cost > work.base_cost * (1 + self.options.max_regression):
            self.banned |= used
        return used, cost

    def _impossible(self, work: Work, available: Configuration) -> Configuration:
        """Find and remember the indexes that cannot exist: one of them fails a whole set."""
        for digest in sorted(available):
            index = self.candidates[digest].index
            if self.book.plan(work.text, [index]) is None:
                self.book.failures[digest] = self.book.why_failed(work.text, [index])
        return available & self.book.failures.keys()

    def learn(self, chosen: Configuration) -> bool:
        """Ask the planner about a solution; return whether it knew anything new."""
        before = self._extent()
        for number in range(len(self.works)):
            self.ask(number, chosen & self.of(number))
        return self._extent() > before

    def look_around(self, chosen: Configuration) -> None:
        """Ask what one more index beside the solution would do.

        A plan that joins two tables by two small indexes is met neither with one index alone
        nor with all of them; but each of the two was used in one of these plans.
        """
        for number in range(len(self.works)):
            mine = chosen & self.of(number)
            used = frozenset().union(*self.costs[number])
            for digest in sorted(used - chosen - self.banned):
                self.ask(number, mine | {digest})

    def _extent(self) -> int:
        return sum(map(len, self.costs)) + len(self.banned)

    def useful(self, number: int) -> Iterator[tuple[Configuration, float]]:
        """Yield the configurations that gain enough, each with its cost."""
        limit = self.works[number].base_cost * (1 - self.options.min_gain)
        limit = min(limit, self.works[number].base_cost - self.options.min_saved_cost)
        unwanted = self.banned | self.narrowed
        for configuration, cost in self.costs[number].items():
            if configuration and cost <= limit and not configuration & unwanted:
                yield configuration, cost

    def best(self, number: int, chosen: Configuration) -> tuple[Configuration, float]:
        """Return the cheapest known configuration within the set, and its cost."""
        within = [(cost, sorted(c)) for c, cost in self.costs[number].items() if c <= chosen]
        cost, used = min(within)
        return frozenset(used), cost

    def does_as_well(self, chosen: Configuration, other: Configuration, tolerance: float) -> bool:
        """Say whether no statement is dearer, but for the tolerance, with the other set."""
        for number in range(len(self.works)):
            used, cost = self.best(number, chosen)
            if used <= other:
                continue
            self.ask(number, other & self.of(number))
            allowed = cost * (1 + tolerance) + _UNNOTICED * self.works[number].base_cost
            if self.best(number, other)[1] > allowed:
                return False
        return True

    def saved_ms_per_hour(self, number: int, cost: float) -> float:
        """Return what the statement saves in an hour at that cost."""
        work, floor = self.works[number], self.options.floor_ms
        saved = work.mean_ms_at(work.base_cost, floor) - work.mean_ms_at(cost, floor)
        return saved * work.calls_per_hour

    def indexes(self, digests: Iterable[str]) -> list[IndexDefinition]:
        """Return the definitions, in a stable order."""
        return [self.candidates[d].index for d in sorted(digests)]
