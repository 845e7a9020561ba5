"""How far the planner's promises held here, by what became of the plan, and what follows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median
from uuid import UUID

import psycopg
from psycopg.rows import TupleRow

from perfcore.store.gains import DeliveredGain, read_gains
from perfcore.types import Evidence, Suggestion

# So many whole promises are taken as kept before the first is measured.
PRIOR_PROMISES = 3.0
# An index that was tried itself is known better: half a promise of its kind stands beside that.
OWN_PRIOR = 0.5
# Live traffic has the cold caches, the rare values and the neighbours that a lab lacks.
EVIDENCE_WEIGHTS = {Evidence.MEASURED: 1.0, Evidence.PROVEN: 2.0}
# Other databases have other data, but the same planner with the same blind spots.
ELSEWHERE_WEIGHT = 0.25
LEAST, MOST = 0.05, 1.25


@dataclass(frozen=True, slots=True)
class Observation:
    """What one index did to one statement: shares of its time saved, negative where it grew."""

    target_id: int
    target: str
    index_digest: str
    plan_change: str
    evidence: Evidence  # measured, proven
    promised: float  # by the planner's costs
    delivered: float  # by the clock; the mean over the sets of values of a trial
    low: float  # the interval of what was delivered
    high: float
    fingerprint: int
    text: str
    trial_id: UUID | None
    change_id: UUID | None

    @property
    def kept(self) -> float:
        """Return what was delivered, at most what would count: nobody learns from one freak."""
        return min(max(self.delivered, 0.0), MOST * self.promised)


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of plan change on one target, with what is known of it."""

    plan_change: str
    measured: int  # observations on this target
    proven: int
    elsewhere: int  # observations on other targets
    promised: float  # medians, of this target's observations if it has any
    delivered: float
    share: float  # of what was promised, what was delivered, before shrinking
    factor: float

    @property
    def count(self) -> int:
        return self.measured + self.proven


@dataclass(frozen=True, slots=True)
class Calibration:
    """What was promised and delivered so far, as seen from one target."""

    target_id: int = 0
    observations: tuple[Observation, ...] = ()  # of all targets

    def factor(self, plan_change: str) -> float:
        """Return the share of a promised saving to expect of such a change, 0.05 to 1.25.

        It is the sum of the savings delivered by the sum of those promised (the ratio
        estimator, Cochran, "Sampling Techniques", 1977, ch. 6: a large promise says more of
        the ratio than a small one), with `PRIOR_PROMISES` whole promises added that were kept.
        That is the credibility estimator of Bühlmann ("Experience rating and credibility",
        ASTIN Bulletin 4, 1967): with n observations their own mean counts n / (n + prior).
        What was proven counts twice as much as what was measured, what other targets saw a
        quarter; no single observation counts for less than nothing or more than `MOST` of
        its promise. Without observations it is 1.
        """
        found = [o for o in self.observations if o.plan_change == plan_change]
        return self._believed(found, PRIOR_PROMISES, 1.0)

    def index_factor(self, plan_change: str, index_digest: str) -> float:
        """Return the same for one index: what it did itself here goes before its kind.

        This is the second level of the hierarchy (Jewell, "The use of collateral data in
        credibility theory", 1975): the factor of its kind is the prior, `OWN_PRIOR` promises
        strong.
        """
        return self._believed(self._of(index_digest), OWN_PRIOR, self.factor(plan_change))

    def _believed(self, found: Sequence[Observation], prior: float, mean: float) -> float:
        """Return the ratio of the sums with so many promises of that mean beside them."""
        weighed = [(self._weight(o), o) for o in found]
        delivered = prior * mean + sum(w * o.kept for w, o in weighed)
        promised = prior + sum(w * o.promised for w, o in weighed)
        return min(max(delivered / promised, LEAST), MOST)

    def _of(self, index_digest: str) -> list[Observation]:
        """Return what the index itself did on this target."""
        return [o for o in self.observations
                if o.target_id == self.target_id and o.index_digest == index_digest]  # fmt: skip

    def kind(self, plan_change: str) -> Kind | None:
        """Return what is known of such changes, None where nothing is."""
        found = [o for o in self.observations if o.plan_change == plan_change]
        own = [o for o in found if o.target_id == self.target_id]
        if not found:
            return None
        shown = own or found
        return Kind(
            plan_change,
            sum(o.evidence is Evidence.MEASURED for o in own),
            sum(o.evidence is Evidence.PROVEN for o in own),
            len(found) - len(own),
            median(o.promised for o in shown),
            median(o.delivered for o in shown),
            _share(shown),
            self.factor(plan_change),
        )

    def kinds(self) -> tuple[Kind, ...]:
        """Return every kind that was seen, the most often seen on this target first."""
        names = {o.plan_change for o in self.observations}
        found = [k for k in map(self.kind, names) if k is not None]
        return tuple(sorted(found, key=lambda k: (-k.count, -k.elsewhere, k.plan_change)))

    def words(self, plan_change: str, index_digest: str = "") -> str:
        """Return in a sentence how such changes kept their promise, "" where nothing is known.

        Where the index itself was tried here, that is told instead.
        """
        own = self._of(index_digest)
        kind = self.kind(plan_change)
        if own:
            return _own_words(own, self.index_factor(plan_change, index_digest))
        if kind is None:
            return ""
        where, seen = ("On this database", _counted(kind.measured, kind.proven)) if kind.count \
            else ("On other databases", f"{kind.elsewhere} seen")  # fmt: skip
        return (
            f"{where} such changes ({plan_change}) delivered {_percent(kind.share)} of what the "
            f"planner promised ({seen}), so its saving is counted at {_percent(kind.factor)}."
        )

    def _weight(self, observation: Observation) -> float:
        own = observation.target_id == self.target_id
        return EVIDENCE_WEIGHTS[observation.evidence] * (1.0 if own else ELSEWHERE_WEIGHT)


def read_calibration(store: psycopg.Connection[TupleRow], target_id: int) -> Calibration:
    """Return what the store knows of promises and deliveries, as seen from the target."""
    return calibrate(read_gains(store), target_id)


def calibrate(gains: Iterable[DeliveredGain], target_id: int) -> Calibration:
    """Return the calibration in stored gains; the sets of values of a trial count as one.

    A change that promised nothing tells nothing of promises and is left out.
    """
    grouped: dict[tuple[object, ...], list[DeliveredGain]] = defaultdict(list)
    for gain in gains:
        grouped[gain.trial_id, gain.change_id, gain.fingerprint].append(gain)
    observations = (_observation(sets) for sets in grouped.values())
    return Calibration(target_id, tuple(o for o in observations if o.promised > 0))


def corrected(
    suggestions: Sequence[Suggestion], calibration: Calibration | None
) -> tuple[Suggestion, ...]:
    """Return the suggestions with savings as they are to be expected, the largest first.

    What the planner promised stays in `promised_ms_per_hour`, and a caveat says why the two
    differ.
    """
    known = calibration or Calibration()
    found = [_corrected(s, known) if s.plan_change else s for s in suggestions]
    return tuple(sorted(found, key=lambda s: (-s.saved_ms_per_hour, s.kind, s.title)))


def _corrected(suggestion: Suggestion, calibration: Calibration) -> Suggestion:
    promised = suggestion.promised_ms_per_hour or suggestion.saved_ms_per_hour
    digest = suggestion.index.digest if suggestion.index else ""
    why = calibration.words(suggestion.plan_change, digest)
    added = (why,) if why and why not in suggestion.caveats else ()
    return replace(
        suggestion,
        promised_ms_per_hour=promised,
        saved_ms_per_hour=promised * calibration.index_factor(suggestion.plan_change, digest),
        caveats=(*suggestion.caveats, *added),
    )


def _observation(sets: Sequence[DeliveredGain]) -> Observation:
    first = sets[0]
    return Observation(
        first.target_id,
        first.target,
        first.index_digest,
        first.plan_change,
        first.evidence,
        fmean(1 - g.promised_ratio for g in sets),
        fmean(1 - g.delivered_ratio for g in sets),
        fmean(1 - g.delivered_high for g in sets),
        fmean(1 - g.delivered_low for g in sets),
        first.fingerprint,
        first.text,
        first.trial_id,
        first.change_id,
    )


def _share(observations: Sequence[Observation]) -> float:
    """Return the savings delivered by those promised; every promise is above zero."""
    return sum(o.kept for o in observations) / sum(o.promised for o in observations)


def _percent(share: float) -> str:
    return f"{share * 100:.0f} %"


def _own_words(own: Sequence[Observation], factor: float) -> str:
    proven = sum(o.evidence is Evidence.PROVEN for o in own)
    counted = f"its saving is counted at {_percent(factor)}"
    seen = _counted(len(own) - proven, proven)
    if sum(o.delivered for o in own) < 0:
        return f"Tried here, this index made its statements slower ({seen}): {counted}."
    return (
        f"Tried here, this index delivered {_percent(_share(own))} of what the planner promised "
        f"({seen}), so {counted}."
    )


def _counted(measured: int, proven: int) -> str:
    """Return how much was seen in words.

    >>> _counted(5, 2), _counted(0, 1)
    ('5 measured, 2 proven', '1 proven')
    """
    parts = ((measured, "measured"), (proven, "proven"))
    return ", ".join(f"{n} {word}" for n, word in parts if n)
