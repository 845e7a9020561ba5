"""Adding up by arrays gives the bytes that Histogram.merge gives, whatever the values."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from perfcore.histogram import Histogram
from perfcore.store.vectors import add_up, encode

VALUES = st.one_of(
    st.floats(0.01, 1e5), st.floats(-1e12, 1e12), st.just(0.0), st.floats(1e-13, 1e-11),
    st.sampled_from([1.7e308, -1.7e308, 5e-324, 2.0**-8, 1e-300, -1e-300]),
)  # fmt: skip
# Plain and deflated bytes of the versions that kept the sum as a double.
OLD = [
    bytes.fromhex(text)
    for text in (
        "02789c6360008203d10e0c60c0720042473a303332c631b23030aa30ca30af6464040052320411",
        "01000000988c2a8141000000000000f03f00000000882a814106000008000915090f090b0909080808070"
        "8a80601",
    )
]


def recorded(values: list[tuple[float, bool, int]]) -> bytes:
    histogram = Histogram()
    for value, is_error, times in values:
        histogram.record(value, is_error=is_error, times=times)
    return histogram.to_bytes()


HISTOGRAMS = st.lists(
    st.tuples(VALUES, st.booleans(), st.sampled_from([1, 2, 15, 16, 300, 10**9])), max_size=40
).map(recorded)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), HISTOGRAMS | st.sampled_from(OLD)), max_size=12))
def test_it_equals_merging_one_by_one(parts: list[tuple[int, bytes]]) -> None:
    groups = np.array([group for group, _ in parts], np.int64)
    found = encode(add_up([blob for _, blob in parts], groups, 4))
    assert found == [
        Histogram.merged(Histogram.from_bytes(b) for g, b in parts if g == group).to_bytes()
        for group in range(4)
    ]


def test_many_alike_are_counted_in_a_table_and_few_unlike_by_sorting() -> None:
    alike = [recorded([(float(v), False, 1) for v in range(1, 200)])] * 50
    unlike = [recorded([(10.0**n, False, 1)]) for n in range(-9, 300)]
    for blobs, groups in ((alike, 7), (unlike, 7), (unlike * 40, 10_000)):
        group = np.arange(len(blobs)) % groups
        wanted = [
            Histogram.merged(map(Histogram.from_bytes, blobs[n::groups])).to_bytes()
            for n in range(groups)
        ]
        assert encode(add_up(blobs, group, groups)) == wanted


def test_positions_that_need_more_than_32_bits_come_out_right() -> None:
    apart = [recorded([(1e-11, False, 1), (1e300, False, 1)])] * 70_000
    wanted = Histogram.merged([Histogram.from_bytes(apart[0])])
    for groups in (1, 10_000):
        found = encode(add_up(apart, np.arange(len(apart)) % groups, groups))
        whole = Histogram.merged(map(Histogram.from_bytes, found))
        assert [v for v, _ in whole.buckets()] == [v for v, _ in wanted.buckets()]
        assert [n for _, n in whole.buckets()] == [70_000, 70_000]
