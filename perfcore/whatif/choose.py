"""Which engine answers: the twin, or HypoPG on the target itself.

Where the twin plans as the target's own major does, it is the better one: its indexes are real
ones, of every access method and of a size estimated well. Where the majors differ, HypoPG plans
as the target does, for the questions that it can answer at all. docs/what-if.md has the figures.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from perfcore.errors import PlanningFailed, TargetUnavailable
from perfcore.plan import Plan
from perfcore.types import IndexDefinition
from perfcore.whatif.hypopg import HypoPG
from perfcore.whatif.planner import Planner


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

    def __init__(self, twin: Planner, hypopg: HypoPG | None = None) -> None:
        self.twin = twin
        self.hypopg = hypopg
        self.why = ""  # of the last answer

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
        advisory = self.twin.advisory
        if not advisory:
            return self.twin, "the twin answers: it plans as the target's own version does"
        if self.hypopg is None:
            return self.twin, f"the twin answers, as the target has no HypoPG: {advisory}"
        if words := self.hypopg.cannot(statement, indexes, hidden):
            return self.twin, f"the twin answers, not HypoPG ({words}): {advisory}"
        return self.hypopg, "HypoPG answers, on the target itself: the twin is of another version"


@contextmanager
def best_planner(dsn: str, twin: Planner, data_dir: Path) -> Iterator[BestPlanner]:
    """Yield the planner that joins a target's twin with HypoPG, where the target has it."""
    try:
        hypopg = HypoPG(dsn, data_dir)
    except (PlanningFailed, TargetUnavailable):
        yield BestPlanner(twin)
        return
    with hypopg:
        yield BestPlanner(twin, hypopg)
