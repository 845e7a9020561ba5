"""What was delivered corrects what is promised, more so the more was seen."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfcore.advise.calibration import (
    LEAST,
    MOST,
    Calibration,
    calibrate,
    corrected,
)
from perfcore.store.gains import DeliveredGain
from perfcore.types import Evidence, Finding, IndexDefinition, IndexKey, Suggestion

SEQ = "Seq Scan -> Index Scan"
BITMAP = "Seq Scan -> Bitmap Heap Scan"
HERE, THERE = 1, 2
AT = datetime(2026, 11, 1, tzinfo=UTC)
shares = st.floats(-2.0, 1.0)
promises = st.floats(0.0, 1.0)


def gain(
    promised: float,
    delivered: float,
    *,
    kind: str = SEQ,
    target_id: int = HERE,
    evidence: Evidence = Evidence.MEASURED,
    trial_id: UUID | None = None,
    parameters: str = "typical",
    digest: str = "d",
) -> DeliveredGain:
    """Return a gain by the shares of the time that were promised and saved."""
    is_trial = evidence is Evidence.MEASURED
    return DeliveredGain(
        target_id, "shop", "s", (trial_id or uuid4()) if is_trial else None,
        None if is_trial else uuid4(), digest, 7, "SELECT 1", parameters, kind, evidence,
        1 - promised, None, 1 - delivered, 0.9 - delivered, 1.1 - delivered, 1.0, AT,
    )  # fmt: skip


def factor(*gains: DeliveredGain, kind: str = SEQ) -> float:
    return calibrate(gains, HERE).factor(kind)


def test_a_promise_is_believed_until_something_was_seen() -> None:
    assert Calibration().factor(SEQ) == 1.0
    assert factor(gain(0.9, 0.1), kind=BITMAP) == 1.0
    assert factor(kind="") == 1.0


def test_the_factor_is_the_ratio_of_the_sums_beside_three_kept_promises() -> None:
    assert factor(gain(1.0, 0.5)) == pytest.approx((3 + 0.5) / (3 + 1.0))
    assert factor(*(gain(0.8, 0.4) for _ in range(5))) == pytest.approx((3 + 2.0) / (3 + 4.0))


@given(promises, shares, st.integers(1, 60))
def test_more_observations_bring_it_closer_to_their_mean(
    promised: float, delivered: float, count: int
) -> None:
    fewer, more = (factor(*several(promised, delivered, n)) for n in (count, count + 1))
    if promised < 1e-6:
        assert more == pytest.approx(1.0, abs=1e-3)
        return
    mean = min(max(delivered / promised, 0.0), MOST)
    assert abs(more - mean) <= abs(fewer - mean) + 1e-9 or fewer == LEAST
    assert min(mean, 1.0) - 1e-9 <= more <= max(mean, 1.0) + 1e-9 or more == LEAST


def several(promised: float, delivered: float, count: int) -> list[DeliveredGain]:
    return [gain(promised, delivered) for _ in range(count)]


@given(st.lists(st.tuples(promises, shares), max_size=12), st.integers(0, 11), st.floats(0.0, 1.0))
def test_it_is_bounded_and_never_falls_when_more_was_delivered(
    seen: list[tuple[float, float]], which: int, more: float
) -> None:
    before = factor(*(gain(p, d) for p, d in seen))
    assert LEAST <= before <= MOST
    better = [(p, d + more if n == which else d) for n, (p, d) in enumerate(seen)]
    assert factor(*(gain(p, d) for p, d in better)) >= before - 1e-12


def test_what_promised_nothing_teaches_nothing() -> None:
    assert factor(gain(0.0, 0.5), gain(-0.2, 0.5)) == 1.0
    assert calibrate([gain(0.0, 0.5)], HERE).kinds() == ()


def test_what_was_proven_counts_more_and_what_others_saw_less() -> None:
    measured = factor(gain(1.0, 0.2))
    assert factor(gain(1.0, 0.2, evidence=Evidence.PROVEN)) < measured
    assert measured < factor(gain(1.0, 0.2, target_id=THERE)) < 1.0


def test_the_sets_of_values_of_one_trial_are_one_observation() -> None:
    trial = uuid4()
    sets = [
        gain(0.9, delivered, trial_id=trial, parameters=label)
        for delivered, label in ((0.9, "rare"), (0.0, "frequent"))
    ]
    assert factor(*sets) == pytest.approx(factor(gain(0.9, 0.45)))
    (kind,) = calibrate(sets, HERE).kinds()
    assert (kind.measured, kind.proven) == (1, 0)
    assert kind.delivered == pytest.approx(0.45)


def test_words_say_where_it_was_seen_how_often_and_what_is_made_of_it() -> None:
    here = [gain(1.0, 0.5), gain(1.0, 0.72, evidence=Evidence.PROVEN)]
    assert calibrate(here, HERE).words(SEQ) == (
        "On this database such changes (Seq Scan -> Index Scan) delivered 61 % of what the "
        "planner promised (1 measured, 1 proven), so its saving is counted at 82 %."
    )
    assert (
        calibrate(here, THERE)
        .words(SEQ)
        .startswith("On other databases such changes (Seq Scan -> Index Scan) delivered 61 %")
    )
    assert calibrate(here, HERE).words(BITMAP) == ""


def test_kinds_are_listed_by_how_often_they_were_seen_here() -> None:
    seen = [
        *several(0.9, 0.9, 2),
        gain(0.8, 0.1, kind=BITMAP, evidence=Evidence.PROVEN),
        *(gain(0.8, 0.1, kind="Sort -> ordered index", target_id=THERE) for _ in range(5)),
    ]
    kinds = calibrate(seen, HERE).kinds()
    assert [(k.plan_change, k.count, k.elsewhere) for k in kinds] == [
        (SEQ, 2, 0), (BITMAP, 1, 0), ("Sort -> ordered index", 0, 5),
    ]  # fmt: skip
    assert kinds[1].promised == pytest.approx(0.8) and kinds[1].delivered == pytest.approx(0.1)


def suggestion(title: str, saved: float, plan_change: str) -> Suggestion:
    return Suggestion(
        title, HERE, "index", title, "why", Finding("seq_scan", ""), Evidence.ESTIMATED, saved,
        plan_change=plan_change,
    )  # fmt: skip


def test_what_held_less_well_is_ranked_lower_and_says_why() -> None:
    known = calibrate([gain(1.0, 0.0) for _ in range(9)], HERE)
    boastful, honest = suggestion("a", 1000.0, SEQ), suggestion("b", 600.0, BITMAP)
    other = replace(suggestion("c", 700.0, ""), kind="rewrite")
    first, second, third = corrected([boastful, honest, other], known)
    assert (first, second.title, third.title) == (other, "b", "a")
    assert (third.promised_ms_per_hour, third.saved_ms_per_hour) == (1000.0, 250.0)
    assert "counted at 25 %" in third.caveats[-1]
    assert second.saved_ms_per_hour == second.promised_ms_per_hour == 600.0
    assert second.caveats == ()


def test_what_an_index_did_itself_goes_before_its_kind() -> None:
    index = IndexDefinition("public", "orders", (IndexKey("placed_at"),))
    known = calibrate([*several(0.9, 0.9, 9), gain(0.9, -1.2, digest=index.digest)], HERE)
    tried = replace(suggestion("a", 1000.0, SEQ), index=index)
    (found,) = corrected([tried], known)
    kind = known.factor(SEQ)
    assert found.saved_ms_per_hour == pytest.approx(1000 * 0.5 * kind / (0.5 + 0.9))
    assert found.caveats == (
        "Tried here, this index made its statements slower (1 measured): its saving is counted "
        "at 33 %.",
    )
    elsewhere = replace(known, target_id=THERE)
    assert elsewhere.index_factor(SEQ, index.digest) == elsewhere.factor(SEQ)
    kept = calibrate([gain(0.9, 0.45, digest=index.digest)], HERE)
    assert "Tried here, this index delivered 50 % of what" in kept.words(SEQ, index.digest)


def test_correcting_twice_corrects_once() -> None:
    known = calibrate([gain(1.0, 0.4)], HERE)
    once = corrected([suggestion("a", 1000.0, SEQ)], known)
    assert corrected(once, known) == once


def test_without_a_calibration_the_promise_stands() -> None:
    (kept,) = corrected([suggestion("a", 1000.0, SEQ)], None)
    assert (kept.saved_ms_per_hour, kept.promised_ms_per_hour) == (1000.0, 1000.0)
