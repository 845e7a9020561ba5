"""What everyone relies on: 1 % error, merging in any order, bytes that come back the same."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perfcore.histogram import Histogram

_VALUES = st.floats(1e-6, 1e9) | st.floats(-1e9, -1e-6) | st.just(0.0)
_SAMPLES = st.lists(_VALUES, min_size=1, max_size=200)
_EXTREMES = st.sampled_from([1.7e308, -1.7e308, 5e-324, 1e-12, 2.0**-8, 2.0**53 + 2, 3e17])
_HOUR_MS = 3.6e6
# What one is asked about in practice, in milliseconds: from 1 us to 10 h.
_SHAPES: dict[str, Callable[[random.Random], float]] = {
    "uniform": lambda r: r.uniform(1e-3, 10 * _HOUR_MS),
    "lognormal": lambda r: r.lognormvariate(3, 1.5),
    "bimodal": lambda r: r.gauss(5, 0.5) if r.random() < 0.9 else r.gauss(2000, 100),
    "constant": lambda r: 12.5,
    "heavy tail": lambda r: min(r.paretovariate(0.7), 10 * _HOUR_MS),
    "every magnitude": lambda r: 10 ** r.uniform(-3, math.log10(10 * _HOUR_MS)),
}
# Written by the versions that kept the sum as a double. Whatever comes, they stay readable.
_OLD_DEFLATED = bytes.fromhex(
    "02789c6360008203d10e0c60c0720042473a303332c631b23030aa30ca30af6464040052320411"
)
_OLD_PLAIN = bytes.fromhex(
    "01000000988c2a8141000000000000f03f00000000882a814106000008000915090f090b09090808080708a80601"
)


def _of(values: list[float]) -> Histogram:
    histogram = Histogram()
    for value in values:
        histogram.record(value)
    return histogram


def _of_all(values: list[float]) -> Histogram:
    histogram = Histogram()
    histogram.record_all(values)
    return histogram


@settings(deadline=None)
@given(_SAMPLES, st.floats(0, 1))
def test_quantile_is_within_one_percent_of_the_exact_one(values: list[float], q: float) -> None:
    exact = sorted(values)[math.floor(q * (len(values) - 1))]
    assert abs(_of(values).quantile(q) - exact) <= 0.01 * abs(exact)


@pytest.mark.parametrize("shape", sorted(_SHAPES))
@pytest.mark.parametrize("size", [1, 2, 7, 1000, 20_000])
def test_any_quantile_of_any_merge_is_within_one_percent(shape: str, size: int) -> None:
    chance = random.Random(f"{shape} {size}")
    values = [_SHAPES[shape](chance) for _ in range(size)]
    parts = [values[n::7] for n in range(7)]
    chance.shuffle(parts)
    merged = Histogram.merged(_of_all(part) for part in parts)
    ordered = sorted(values)
    for q in (0, 0.001, 0.25, 0.5, 0.9, 0.95, 0.99, 0.999, 0.9999, 1, *(chance.random(),) * 3):
        exact = ordered[math.floor(q * (size - 1))]
        assert abs(merged.quantile(q) - exact) <= 0.01 * exact, q
    assert (merged.count, merged.max, merged.min) == (size, ordered[-1], ordered[0])


@settings(deadline=None)
@given(
    st.lists(st.lists(_VALUES | _EXTREMES, max_size=60), min_size=1, max_size=5),
    st.randoms(use_true_random=False),
)
def test_merging_in_any_order_and_grouping_is_recording_everything(
    parts: list[list[float]], shuffler: random.Random
) -> None:
    whole = _of([v for part in parts for v in part])
    histograms = [_of(part) for part in parts]
    while len(histograms) > 1:
        shuffler.shuffle(histograms)
        histograms.append(Histogram.merged([histograms.pop(), histograms.pop()]))
    [merged] = histograms
    assert merged == whole
    assert merged.to_bytes() == whole.to_bytes()
    assert (merged.sum, merged.mean) == pytest.approx((whole.sum, whole.mean), abs=0, nan_ok=True)


@settings(deadline=None)
@given(st.lists(st.floats(2.0**-8, 1e300) | st.floats(-1e300, -(2.0**-8)), max_size=50))
def test_the_sum_is_exact_and_rounded_once(values: list[float]) -> None:
    exact = sum(map(Fraction, values), Fraction())
    assert _of(values).sum == float(exact)
    assert _of_all(values).sum == float(exact)


def test_a_sum_that_no_double_holds_is_infinite_and_comes_back() -> None:
    huge = _of([1.7e308, 1.7e308])
    assert huge.sum == math.inf and Histogram.from_bytes(huge.to_bytes()) == huge
    huge.merge(_of([-1.7e308]))
    assert huge.sum == 1.7e308


_SIXTEEN_OR_MORE = st.lists(st.floats(2.0**-8, 1e6), min_size=16, max_size=100)


@settings(deadline=None, max_examples=300)
@given(_SIXTEEN_OR_MORE, st.lists(_VALUES | _EXTREMES | st.integers(-5, 10**6), max_size=5))
def test_recording_all_at_once_equals_one_by_one(common: list[float], rare: list[float]) -> None:
    for values in (common, [*common, *rare], [1e16, *common], rare):
        many = _of([3.0])
        many.record_all(values, errors=2)
        single = _of([3.0, *values])
        single.error_count = 2
        assert many == single and many.to_bytes() == single.to_bytes()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [0, 1, 30])
@pytest.mark.parametrize("others", [1, 40])
def test_recording_all_refuses_what_is_not_finite_and_changes_nothing(
    value: float, place: int, others: int
) -> None:
    values = [5.0] * others
    values.insert(place, value)
    histogram = _of([1.0])
    with pytest.raises(ValueError, match="finite"):
        histogram.record_all(values, errors=1)
    assert histogram == _of([1.0])


@settings(deadline=None)
@given(st.lists(_VALUES | _EXTREMES, max_size=200), st.integers(0, 5))
def test_bytes_round_trip(values: list[float], errors: int) -> None:
    histogram = _of(values)
    for _ in range(errors):
        histogram.record(3.5, is_error=True)
    assert Histogram.from_bytes(histogram.to_bytes()) == histogram


def test_bytes_of_earlier_versions_are_read() -> None:
    deflated = _of([-2.5, 0.0, 1.0, 2.0, 100.0])
    deflated.record(3.5, is_error=True, times=3)
    assert Histogram.from_bytes(_OLD_DEFLATED) == deflated
    plain = Histogram.from_bytes(_OLD_PLAIN)
    assert (plain.count, plain.error_count, plain.sum) == (61, 6, 36_000_147.0)
    assert (plain.min, plain.max) == (1.0, 36_000_000.0)
    for old in (deflated, plain):
        assert Histogram.from_bytes(old.to_bytes()) == old


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=60) | st.binary(max_size=60).map(b"\3".__add__))
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
