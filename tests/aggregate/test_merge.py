"""Merging by arrays gives what Histogram.merge gives, whatever the values and the grouping."""

from __future__ import annotations

import math
from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from perfcore.aggregate.merge import Merged, merge_rows
from perfcore.histogram import Histogram
from perfcore.store.read import RollupRow

AT = datetime(2026, 1, 1, tzinfo=UTC)
VALUES = st.one_of(
    st.floats(0.01, 1e5), st.floats(-1e12, 1e12), st.just(0.0), st.floats(1e-13, 1e-11),
    st.sampled_from([1.7e308, -1.7e308, 5e-324]),
)  # fmt: skip


def row(histogram: Histogram) -> RollupRow:
    return RollupRow(
        "shop", "GET /", "ms", "minute", AT, histogram.count, histogram.error_count,
        histogram.sum, histogram.min, histogram.max, histogram.to_bytes(),
    )  # fmt: skip


def recorded(values: list[tuple[float, bool]]) -> Histogram:
    histogram = Histogram()
    for value, is_error in values:
        histogram.record(value, is_error=is_error)
    return histogram


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 3),
            st.lists(st.tuples(VALUES, st.booleans()), min_size=1, max_size=40),
        ),
        max_size=12,
    )
)
def test_it_equals_merging_one_by_one(parts: list[tuple[int, list[tuple[float, bool]]]]) -> None:
    histograms = [(key, recorded(values)) for key, values in parts]
    merged = merge_rows([row(h) for _, h in histograms], [key for key, _ in histograms])
    assert list(merged) == list(dict.fromkeys(key for key, _ in histograms))
    for key, found in merged.items():
        wanted = Histogram.merged(h for k, h in histograms if k == key)
        assert (found.count, found.error_count) == (wanted.count, wanted.error_count)
        assert (found.min, found.max) == (wanted.min, wanted.max)
        assert found.sum == wanted.sum
        for q in (0.0, 0.1, 0.5, 0.9, 0.95, 0.99, 0.999, 1.0):
            assert math.isclose(found.quantile(q), wanted.quantile(q), rel_tol=1e-12), q


def test_nothing_merges_to_nothing() -> None:
    assert merge_rows([], []) == {}
    assert math.isnan(Merged().quantile(0.5)) and math.isnan(Merged().error_rate)


def test_a_percentile_of_two_unequal_minutes_is_not_their_average() -> None:
    busy, idle = recorded([(10.0, False)] * 990), recorded([(1000.0, False)] * 10)
    merged = merge_rows([row(busy), row(idle)], ["", ""])[""]
    assert math.isclose(merged.quantile(0.95), 10.0, rel_tol=0.01)
    assert math.isclose(merged.quantile(0.999), 1000.0, rel_tol=0.01)
