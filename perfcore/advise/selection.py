"""Choose few indexes for the whole workload: Extend, with write cost and a byte budget.

After Schlosser, Kossmann and Boissier, "Efficient Scalable Multi-attribute Index Selection
Using Recursive Strategies" (ICDE 2019): each step adds the index, or widens a chosen one,
that gains most per byte given what is chosen already. Ours also charges the writes,
lets every step save a stated share of some statement, and in the end drops whatever no
longer earns its keep.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from perfcore.advise.candidates import Candidate
from perfcore.advise.costs import CostBook, OutOfTime
from perfcore.advise.workload import Options, Writes
from perfcore.types import IndexDefinition, WorkloadStatement

_SMALLEST_BYTES = 1 << 17  # below that nobody chooses by size

_LEAST_COVERING_MS = 0.5  # per call
_LEAST_SHARE = 0.02  # of a statement's first cost: what is left below that is not worth an index


# The share that is done, from 0 to 1, and in words what is being done.
Progress = Callable[[float, str], None]


def silent(share: float, what: str) -> None:
    """Report progress to nobody."""


@dataclass(frozen=True, slots=True)
class Work:
    """A statement that may be helped: its text for the planner and its cost as things are."""

    statement: WorkloadStatement
    text: str
    tables: frozenset[str]  # schema.table
    base_cost: float

    def mean_ms_at(self, cost: float, floor_ms: float) -> float:
        """Return the mean time scaled by cost, never promised below the floor."""
        before = self.statement.mean_exec_time_ms
        return min(max(before * cost / self.base_cost, floor_ms), max(before, floor_ms))


@dataclass
class Selection:
    """The chosen indexes; `stopped_early` when the time ran out on the way."""

    chosen: tuple[Candidate, ...] = ()
    stopped_early: bool = False


@dataclass(frozen=True, slots=True)
class _Move:
    added: tuple[Candidate, ...]
    removed: tuple[Candidate, ...]
    gain: float
    bytes: int

    @property
    def score(self) -> float:
        return self.gain / max(self.bytes, _SMALLEST_BYTES)


@dataclass
class Selector:
    """One run over the candidates of a workload."""

    book: CostBook
    works: Sequence[Work]
    candidates: Mapping[str, Candidate]  # by digest of the index
    writes: Writes
    options: Options
    progress: Progress = silent
    _by_table: dict[str, list[Work]] = field(default_factory=dict)
    _moves: dict[str, _Move | None] = field(default_factory=dict)

    def select(self) -> Selection:
        """Return the indexes worth having, in the order they were chosen."""
        for work in self.works:
            for table in work.tables:
                self._by_table.setdefault(table, []).append(work)
        chosen: list[Candidate] = []
        try:
            # Not a count of steps: when the list is full, a wider index may still replace one.
            while (move := self._best_move(chosen)) is not None:
                chosen = [c for c in chosen if c not in move.removed] + list(move.added)
                self._forget(move)
                # Nobody knows how many steps there will be: each takes a part of what is left.
                self.progress(0.9 - 0.6 * 0.85 ** len(chosen), f"{len(chosen)} indexes chosen")
            return Selection(tuple(self._pruned(chosen)))
        except OutOfTime:
            return Selection(tuple(chosen), stopped_early=True)

    def _best_move(self, chosen: list[Candidate]) -> _Move | None:
        have = {c.index.digest for c in chosen}
        best: _Move | None = None
        for digest in sorted(self.candidates):
            if digest in have:
                continue
            if digest not in self._moves:
                self._moves[digest] = self._move(self.candidates[digest], chosen)
            move = self._moves[digest]
            if move is not None and (best is None or move.score > best.score):
                if self._fits(chosen, move):
                    best = move
        return best

    def _forget(self, move: _Move) -> None:
        """Drop the remembered moves whose gain the last one may have changed."""
        touched = {
            table
            for candidate in (*move.added, *move.removed)
            for work in self._on(candidate.index)
            for table in work.tables
        }
        for digest in list(self._moves):
            if table_of(self.candidates[digest].index) in touched:
                del self._moves[digest]

    def _move(self, candidate: Candidate, chosen: list[Candidate]) -> _Move | None:
        """Return the step that brings the candidate in, None when it gains too little."""
        removed = tuple(c for c in chosen if widens(candidate.index, c.index))
        companions = tuple(
            self.candidates[i.digest]
            for i in candidate.companions
            if i.digest in self.candidates and self.candidates[i.digest] not in chosen
        )
        added = (candidate, *companions)
        after = [c for c in chosen if c not in removed] + list(added)
        gain, worthwhile = self._gain(chosen, after, candidate, widened=bool(removed))
        gain -= sum(self.writes.cost_ms_per_hour(c.index) for c in added)
        gain += sum(self.writes.cost_ms_per_hour(c.index) for c in removed)
        if not worthwhile or gain < self.options.min_saved_ms_per_hour:
            return None
        sizes = [self.book.index_bytes(c.index) for c in added]
        if any(s is None for s in sizes):
            return None
        freed = sum(self.book.index_bytes(c.index) or 0 for c in removed)
        return _Move(added, removed, gain, sum(s or 0 for s in sizes) - freed)

    def _gain(
        self,
        before: Iterable[Candidate],
        after: Iterable[Candidate],
        candidate: Candidate,
        *,
        widened: bool = False,
    ) -> tuple[float, bool]:
        """Return ms saved per hour, and whether some statement gains its share and none loses."""
        was = [c.index for c in before]
        will = [c.index for c in after]
        total, worthwhile = 0.0, False
        for work in self._on(candidate.index):
            cost_before = self.book.cost(work.text, self._relevant(work, was))
            cost_after = self.book.cost(work.text, self._relevant(work, will))
            if cost_after is None or cost_before is None:
                continue
            if cost_after > work.base_cost * (1 + self.options.max_regression):
                return 0.0, False
            floor = self.options.floor_ms
            saved = work.mean_ms_at(cost_before, floor) - work.mean_ms_at(cost_after, floor)
            total += saved * work.statement.calls_per_hour
            # A covering index promises what only freshly vacuumed pages keep: it must save a
            # share of the whole, others a share of what is left.
            covering = candidate.pattern == "covering"
            needed = self.options.min_gain * (work.base_cost if covering else cost_before)
            # An index that ends the sort stays fast however many rows a key has, so it may
            # replace a narrower one for a small gain; anything else must not.
            if not (candidate.pattern == "ordered" and widened):
                needed = max(needed, _LEAST_SHARE * work.base_cost)
            if covering and saved < _LEAST_COVERING_MS:
                continue
            if saved > 0 and cost_before - cost_after >= needed:
                worthwhile = True
        return total, worthwhile

    def _on(self, index: IndexDefinition) -> list[Work]:
        return self._by_table.get(table_of(index), [])

    def _relevant(self, work: Work, indexes: Iterable[IndexDefinition]) -> list[IndexDefinition]:
        return [i for i in indexes if table_of(i) in work.tables]

    def _fits(self, chosen: list[Candidate], move: _Move) -> bool:
        kept = [c for c in chosen if c not in move.removed]
        if len(kept) + len(move.added) > self.options.max_indexes:
            return False
        budget = self.options.storage_budget_bytes
        if budget is None:
            return True
        return self._bytes(kept) + self._bytes(move.added) <= budget

    def _bytes(self, candidates: Iterable[Candidate]) -> int:
        return sum(self.book.index_bytes(c.index) or 0 for c in candidates)

    def _pruned(self, chosen: list[Candidate]) -> list[Candidate]:
        """Drop, worst first, each index without which the rest does as well."""
        while True:
            losses = []
            for candidate in chosen:
                rest = [c for c in chosen if c is not candidate]
                loss, worthwhile = self._gain(rest, chosen, candidate)
                loss -= self.writes.cost_ms_per_hour(candidate.index)
                if not worthwhile or loss < self.options.min_saved_ms_per_hour:
                    losses.append((loss, candidate.index.digest, candidate))
            if not losses:
                return chosen
            idle = min(losses, key=lambda entry: entry[:2])[2]
            chosen = [c for c in chosen if c is not idle]


def table_of(index: IndexDefinition) -> str:
    """Return "schema.table"."""
    return f"{index.schema}.{index.table}"


def widens(wide: IndexDefinition, narrow: IndexDefinition) -> bool:
    """Say whether one index does all that another does, with more keys or columns."""
    same = (wide.schema, wide.table, wide.method, wide.predicate) == (
        narrow.schema,
        narrow.table,
        narrow.method,
        narrow.predicate,
    )
    if not same or wide.method != "btree" or wide == narrow:
        return False
    prefix = tuple(k.expression for k in wide.keys[: len(narrow.keys)])
    return prefix == tuple(k.expression for k in narrow.keys) and set(narrow.include) <= set(
        wide.include
    ) | {k.expression for k in wide.keys}
