"""What everyone relies on: 1 % error, merging in any order, bytes that come back the same."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perfcore.histogram import Histogram

_VALUES = st.floats(1e-6, 1e9) | st.floats(-1e9, -1e-6) | st.just(0.0)
_SAMPLES = st.lists(_VALUES, min_size=1, max_size=200)


def _of(values: list[float]) -> Histogram:
    histogram = Histogram()
    for value in values:
        histogram.record(value)
    return histogram


@settings(deadline=None)
@given(_SAMPLES, st.floats(0, 1))
def test_quantile_is_within_one_percent_of_the_exact_one(values: list[float], q: float) -> None:
    exact = sorted(values)[math.floor(q * (len(values) - 1))]
    assert abs(_of(values).quantile(q) - exact) <= 0.01 * abs(exact)


@settings(deadline=None)
@given(st.lists(_SAMPLES, min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_merging_in_any_order_is_recording_everything(
    parts: list[list[float]], shuffler: random.Random
) -> None:
    whole = _of([v for part in parts for v in part])
    histograms = [_of(part) for part in parts]
    shuffler.shuffle(histograms)
    merged = Histogram.merged(histograms)
    assert merged.buckets() == whole.buckets()
    assert (merged.count, merged.min, merged.max) == (whole.count, whole.min, whole.max)
    assert merged.sum == pytest.approx(whole.sum, rel=1e-9, abs=1e-3)


@settings(deadline=None)
@given(st.lists(_VALUES, max_size=200), st.integers(0, 5))
def test_bytes_round_trip(values: list[float], errors: int) -> None:
    histogram = _of(values)
    for _ in range(errors):
        histogram.record(3.5, is_error=True)
    assert Histogram.from_bytes(histogram.to_bytes()) == histogram


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_foreign_bytes_are_refused_or_read_but_never_crash(data: bytes) -> None:
    try:
        Histogram.from_bytes(data)
    except ValueError as error:
        assert "not a histogram" in str(error)


def test_lognormal_tail_keeps_the_guarantee() -> None:
    generator = random.Random(7)
    values = [generator.lognormvariate(1, 1.5) for _ in range(20_000)]
    histogram, ordered = _of(values), sorted(values)
    for q in (0.5, 0.95, 0.99, 0.999):
        exact = ordered[math.floor(q * (len(values) - 1))]
        assert histogram.quantile(q) == pytest.approx(exact, rel=0.01)


def test_an_empty_histogram_has_no_quantile_and_survives_bytes() -> None:
    empty = Histogram()
    assert math.isnan(empty.quantile(0.5)) and math.isnan(empty.mean)
    assert Histogram.from_bytes(empty.to_bytes()) == empty


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_refused_and_changes_nothing(value: float) -> None:
    histogram = Histogram()
    with pytest.raises(ValueError, match="finite"):
        histogram.record(value)
    assert histogram == Histogram()


def test_errors_are_counted_and_remain_samples() -> None:
    histogram = Histogram()
    histogram.record(5.0, is_error=True, times=3)
    histogram.record(7.0)
    assert (histogram.count, histogram.error_count, histogram.sum) == (4, 3, 22.0)


def test_a_minute_of_samples_is_small() -> None:
    generator = random.Random(1)
    assert len(_of([generator.lognormvariate(3, 0.5) for _ in range(694)]).to_bytes()) < 500


def test_count_above_a_limit() -> None:
    assert _of([1.0, 10.0, 100.0, 1000.0]).count_above(50) == 2
