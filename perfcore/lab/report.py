"""What a trial found, as it is stored and shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from perfcore.lab.copy import LabDescription
from perfcore.lab.equality import Sameness
from perfcore.lab.trial import SetCheck, TrialResult
from perfcore.types import IndexDefinition

# What an open suggestion is marked with whose new form did not return the same rows.
NOT_SAME = "not the same result in the lab"


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a planner says of a statement without and with the change."""

    planner: str  # twin, hypopg
    advisory: str  # why the target's own planner may differ, empty where it should not
    cost_before: float
    cost_after: float
    index_bytes: int
    used_index: bool
    plan_before_text: str
    plan_after_text: str
    plan_before: dict[str, Any]
    plan_after: dict[str, Any]
    parameters: tuple[str | None, ...] | None = None  # None: the generic plan

    @property
    def ratio(self) -> float:
        return self.cost_after / self.cost_before if self.cost_before else 1.0


@dataclass(frozen=True, slots=True)
class OtherStatement:
    """Another statement that the index is there for, or in the way of."""

    fingerprint: int
    text: str
    estimate: Estimate | None = None
    measured: TrialResult | None = None
    note: str = ""  # why something of it is missing


@dataclass(frozen=True, slots=True)
class TriedRewrite:
    """A statement's rewritten form, with what it needs and how its rows compare."""

    sql: str
    indexes: tuple[IndexDefinition, ...] = ()
    setup: str = ""  # DDL that the indexes need first
    checks: tuple[SetCheck, ...] = ()

    @property
    def sameness(self) -> Sameness:
        """Return the verdict over all sets of values; one difference is enough."""
        found = {c.equality.sameness for c in self.checks}
        order = (Sameness.DIFFERENT, Sameness.SAME)
        return next((s for s in order if s in found), Sameness.UNKNOWN)


@dataclass(frozen=True, slots=True)
class TrialReport:
    """Everything a trial found; parts that were not reached are empty."""

    statement_text: str = ""
    estimates: tuple[Estimate, ...] = ()
    lab: LabDescription | None = None
    measured: TrialResult | None = None
    notes: tuple[str, ...] = ()
    others: tuple[OtherStatement, ...] = ()
    rewrite: TriedRewrite | None = None  # None where an index was tried
