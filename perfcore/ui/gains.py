"""What a suggestion gains, as far as it is known: estimated, measured in the lab, proven live."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from perfcore.codec import from_json
from perfcore.lab.equality import Sameness
from perfcore.lab.report import TrialReport
from perfcore.lab.verdict import VerdictReport
from perfcore.store.read import StoredChange, StoredTrial
from perfcore.types import ConfidenceInterval, Evidence, StatementGain, Suggestion


@dataclass(frozen=True, slots=True)
class Level:
    """One statement's time before and after, by one kind of evidence."""

    evidence: Evidence
    how: str  # in a few words
    before_ms: float
    after_ms: float
    low_ms: float
    high_ms: float


def levels(
    suggestion: Suggestion, trials: Sequence[StoredTrial], changes: Sequence[StoredChange]
) -> list[Level]:
    """Return what is known of the most saving statement's time, the weakest evidence first.

    The newest trial and the newest judged change of the suggestion count.
    """
    gain = most_saving(suggestion)
    if gain is None:
        return []
    found = [*_estimated(gain, suggestion.kind), *_measured(suggestion, trials)]
    return [*found, *_proven(suggestion, changes, gain.fingerprint)]


def most_saving(suggestion: Suggestion) -> StatementGain | None:
    """Return the statement that the suggestion saves most, None where it names none."""
    return max(suggestion.statements, key=lambda g: g.saved_ms_per_hour, default=None)


def _estimated(gain: StatementGain, kind: str) -> Iterator[Level]:
    if gain.mean_ms_after < gain.mean_ms_before:
        after = gain.mean_ms_after
        how = "the mean, hits and misses" if kind == "cache" else "the mean by the planner's costs"
        yield Level(Evidence.ESTIMATED, how, gain.mean_ms_before, after, after, after)


def _measured(suggestion: Suggestion, trials: Sequence[StoredTrial]) -> Iterator[Level]:
    for trial in trials:
        if trial.suggestion_id != suggestion.suggestion_id or trial.state != "done":
            continue
        report = from_json(TrialReport, trial.result or {})
        if report.rewrite is not None and report.rewrite.sameness is Sameness.DIFFERENT:
            return  # how fast other rows come is no gain
        measured = report.measured
        if measured is not None and measured.sets:
            count = len(measured.sets)
            before = sum(s.baseline.median_ms for s in measured.sets) / count
            after = sum(s.variant.median_ms for s in measured.sets) / count
            how = f"in the lab, {measured.pairs} pairs of runs"
            yield Level(Evidence.MEASURED, how, before, after, *_bounds(before, measured.ratio))
            return


def _proven(
    suggestion: Suggestion, changes: Sequence[StoredChange], fingerprint: int
) -> Iterator[Level]:
    for change in changes:
        if change.suggestion_id != suggestion.suggestion_id or not change.verdict:
            continue
        report = from_json(VerdictReport, change.verdict)
        for each in report.statements:
            before, after = each.mean_ms_before, each.mean_ms_after
            if each.fingerprint == fingerprint and before is not None and after is not None:
                bounds = _bounds(before, each.ratio) if each.ratio else (after, after)
                how = f"by {each.calls_after:,} calls of live traffic, {report.verdict.value}"
                yield Level(Evidence.PROVEN, how, before, after, *bounds)
                return


def _bounds(before_ms: float, ratio: ConfidenceInterval) -> tuple[float, float]:
    return before_ms * ratio.low, before_ms * ratio.high


def bars(found: Sequence[Level]) -> pd.DataFrame:
    """Return the levels as the chart of before and after wants them."""
    return pd.DataFrame(
        [
            {
                "label": f"{each.evidence.value}: {each.how}",
                "before_ms": each.before_ms,
                "after_ms": each.after_ms,
                "low_ms": each.low_ms,
                "high_ms": each.high_ms,
            }
            for each in found
        ]
    )
