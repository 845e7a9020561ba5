"""Which engine answers: the twin, or HypoPG on the target itself.

The twin is the nearer one wherever it plans a statement, as things are, as the target itself
does: its indexes are real ones, of every access method and of a size estimated well. Where it does
not, because the majors differ, HypoPG is asked, if the question is one that it can answer.
docs/benchmarks.md has the figures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from perfcore.errors import PlanningFailed, TargetUnavailable
from perfcore.plan import Plan
from perfcore.types import IndexDefinition
from perfcore.whatif.hypopg import HypoPG
from perfcore.whatif.planner import Planner
from perfcore.whatif.twin import Agreement, Twin


@dataclass(frozen=True, slots=True)
class Comparison:
    """A statement's plan before and after, both from one engine, so that the costs compare."""

    before: Plan
    after: Plan
    engine: str
    why: str  # why it was this engine, and what to make of its answer


class BestPlanner:
    """A planner that asks the engine which knows best, and says which it was.

    It is a Planner too, but a cost is comparable only with those of the same engine: where
    two are set against each other, ask `compare`.
    """

    name = "best"

    def __init__(
        self,
        twin: Planner,
        check: Callable[[str], Agreement],
        hypopg: HypoPG | None = None,
    ) -> None:
        self.twin = twin
        self.hypopg = hypopg
        self.why = ""  # of the last answer
        self._check = check
        self._agreements: dict[str, Agreement] = {}

    @property
    def calls(self) -> int:
        return self.twin.calls + (self.hypopg.calls if self.hypopg is not None else 0)

    @calls.setter
    def calls(self, value: int) -> None:
        self.twin.calls = value - (self.hypopg.calls if self.hypopg is not None else 0)

    @property
    def advisory(self) -> str:
        """Return the twin's reservation, which holds for what HypoPG does not answer."""
        return self.twin.advisory

    def plan(
        self,
        statement: str,
        parameters: Sequence[str | None] | None = None,
        *,
        indexes: Sequence[IndexDefinition] = (),
        hidden: Sequence[str] = (),
    ) -> Plan:
        planner, self.why = self.choose(statement, indexes, hidden)
        return planner.plan(statement, parameters, indexes=indexes, hidden=hidden)

    def index_bytes(self, index: IndexDefinition) -> int:
        return self.twin.index_bytes(index)

    def compare(
        self,
        statement: str,
        parameters: Sequence[str | None] | None = None,
        *,
        indexes: Sequence[IndexDefinition] = (),
        hidden: Sequence[str] = (),
    ) -> Comparison:
        """Return the plans without and with the change, by the engine that can give both."""
        planner, self.why = self.choose(statement, indexes, hidden)
        return Comparison(
            planner.plan(statement, parameters),
            planner.plan(statement, parameters, indexes=indexes, hidden=hidden),
            planner.name,
            self.why,
        )

    def choose(
        self,
        statement: str,
        indexes: Sequence[IndexDefinition] = (),
        hidden: Sequence[str] = (),
    ) -> tuple[Planner, str]:
        """Return the engine for a question and, in words, why it is this one."""
        if not self.twin.advisory:
            return self.twin, "the twin answers: it plans as the target's own version does"
        agreement = self._agreement(statement)
        if agreement.agrees:
            return self.twin, (
                "the twin answers, of another version than the target, but with the target's "
                "own plan of this statement as things are"
            )
        apart = (
            f"the twin plans this statement at {agreement.ratio:.2f} times the target's cost as "
            f"things are: {agreement.advisory}"
        )
        if self.hypopg is None:
            return self.twin, f"the twin answers, as the target has no HypoPG; {apart}"
        if words := self.hypopg.cannot(statement, indexes, hidden):
            return self.twin, f"the twin answers, not HypoPG ({words}); {apart}"
        return self.hypopg, f"HypoPG answers, on the target itself; {apart}"

    def _agreement(self, statement: str) -> Agreement:
        if statement not in self._agreements:
            self._agreements[statement] = self._check(statement)
        return self._agreements[statement]


@contextmanager
def best_planner(twin: Twin, data_dir: Path) -> Iterator[BestPlanner]:
    """Yield the planner that joins a twin with HypoPG on its target, where the target has it."""
    try:
        hypopg = HypoPG(twin.target_dsn, data_dir)
    except (PlanningFailed, TargetUnavailable):
        yield BestPlanner(twin.planner, twin.self_check)
        return
    with hypopg:
        yield BestPlanner(twin.planner, twin.self_check, hypopg)
