"""The replay against a naive cache, and the sampled replay against the whole one."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perfcore.advise.caching import (
    ENTRIES,
    TTLS_S,
    CacheCurves,
    Replay,
    _Groups,
    change_instants,
    misses,
    reuse_distances,
)
from perfcore.collect.stream import Stream, encoded
from perfcore.store.read_streams import (
    MOST_ROWS,
    Floats,
    Ints,
    References,
    ReferenceStream,
    unpacked,
)

FP, OTHER = 7, 8


def references(
    key: Ints, at_s: Floats, *, weight: float = 1.0, process: Ints | None = None
) -> References:
    """Return reads of one statement, one execution of 10 ms a row."""
    count = len(key)
    return References(
        fingerprint=np.full(count, FP),
        endpoint=np.zeros(count, dtype=np.int64),
        process=np.zeros(count, dtype=np.int64) if process is None else process,
        key=key,
        at_s=at_s,
        calls=np.ones(count, dtype=np.int64),
        duration_ms=np.full(count, 10.0),
        weight=np.full(count, weight),
    )


def naive_misses(keys: list[int], at: list[float], ttl_s: float, entries: int | None) -> list[bool]:
    """Play the reads through a cache that is a dict."""
    held: OrderedDict[int, float] = OrderedDict()
    missed = []
    for key, now in zip(keys, at, strict=True):
        is_miss = key not in held or now >= held[key] + ttl_s
        missed.append(is_miss)
        if is_miss:
            held[key] = now
        held.move_to_end(key)
        if entries is not None and len(held) > entries:
            held.popitem(last=False)
    return missed


_READS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 5)), min_size=1, max_size=200)


@settings(max_examples=80, deadline=None)
@given(_READS, st.integers(1, 20), st.none() | st.integers(1, 12))
def test_misses_are_those_of_a_naive_cache(
    reads: list[tuple[int, int]], ttl_s: int, entries: int | None
) -> None:
    key = np.array([k for k, _ in reads], dtype=np.int64)
    at = np.cumsum([gap for _, gap in reads]).astype(np.float64)
    groups = _Groups.of(key, at, TTLS_S[-1])
    forced = None
    if entries is not None:
        forced = reuse_distances(key, np.ones(len(key)))[groups.order] >= entries
    found = np.zeros(len(key), dtype=np.bool_)
    found[groups.order] = misses(groups, float(ttl_s), forced)
    assert found.tolist() == naive_misses(key.tolist(), at.tolist(), float(ttl_s), entries)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=300))
def test_reuse_distances_are_those_of_a_stack(keys: list[int]) -> None:
    stack: list[int] = []
    expected = []
    for key in keys:
        expected.append(float(stack.index(key)) if key in stack else np.inf)
        if key in stack:
            stack.remove(key)
        stack.insert(0, key)
    found = reuse_distances(np.array(keys, dtype=np.int64), np.ones(len(keys)))
    assert found.tolist() == expected


def test_keys_weigh_what_they_stand_for() -> None:
    key, weight = np.array([1, 2, 3, 1]), np.array([1.0, 4.0, 8.0, 1.0])
    assert reuse_distances(key, weight)[-1] == 12


def replayed(
    refs: References,
    reads: float | None = None,
    changes: Floats | None = None,
    span_s: float | None = None,
) -> CacheCurves:
    span = span_s or float(refs.at_s.max())
    changed: Mapping[int, Floats] = {} if changes is None else {FP: changes}
    return Replay(refs, {FP: reads or len(refs)}, changed, span).curves()


def zipf(count: int = 60_000, span_s: float = 3600.0) -> tuple[Ints, Floats]:
    """Return an hour of reads, some keys far more often than others."""
    chance = np.random.default_rng(20261124)
    key = chance.zipf(1.2, count) % 20_000
    return key.astype(np.int64), np.sort(chance.uniform(0, span_s, count))


def streamed(
    key: Ints, at: Floats, references_per_s: float, most: int = MOST_ROWS
) -> ReferenceStream:
    """Send the reads through the collector's own stream, flushed each second."""
    stream = Stream(b"k", references_per_s)
    text = "SELECT * FROM t WHERE id = %s"
    stream.learn(text, FP, text)
    followed, rows, end = stream.follow[text], [], len(key)
    place = 0
    for second in range(1, int(at[-1]) + 2):
        while place < end and at[place] < second:
            data = encoded((int(key[place]),))
            stream.take(followed, data, int(at[place] * 1e9), 10_000_000, None)
            place += 1
        chunk = stream.chunk(second * 10**9, second * 10**9, lambda context: "")
        if chunk is not None:
            rows.append((chunk.started_at, "shop", "p", chunk.content))
    return unpacked(rows, most)


@pytest.mark.parametrize(
    ("references_per_s", "bound", "share"), [(1000, 0.02, 1.0), (12, 0.07, 0.8), (8, 0.07, 0.6)]
)
def test_a_sampled_stream_gives_the_curve_of_the_whole(
    references_per_s: int, bound: float, share: float
) -> None:
    """Each second's executions of a key are one row, which alone bends a TTL of a second."""
    key, at = zipf(20_000, 900.0)
    whole = replayed(references(key, at))
    stream = streamed(key, at, references_per_s)
    part = replayed(stream.references, stream.calls[FP], span_s=float(at.max()))
    assert stream.calls == {FP: 20_000}
    by_ttl = [abs(a.hit_rate - b.hit_rate) for a, b in zip(whole.by_ttl, part.by_ttl, strict=True)]
    sizes = zip(whole.by_entries, part.by_entries, strict=False)
    by_entries = [abs(a.hit_rate - b.hit_rate) for a, b in sizes if (a.entries or 0) >= 100]
    assert max(by_ttl) < bound
    assert max(by_entries) < bound
    assert part.keys == pytest.approx(whole.keys, rel=0.1)
    assert part.references <= share * whole.references


def test_a_long_stream_is_sampled_further_before_it_is_replayed() -> None:
    key, at = zipf(10_000, 450.0)
    whole = replayed(references(key, at))
    stream = streamed(key, at, 1000, most=5_000)
    part = replayed(stream.references, stream.calls[FP], span_s=float(at.max()))
    assert part.references <= 5_000
    assert max(stream.references.weight) > 1
    for mine, wanted in zip(part.by_ttl, whole.by_ttl, strict=True):
        assert abs(mine.hit_rate - wanted.hit_rate) < 0.08


def test_a_long_stream_of_few_keys_stays_whole() -> None:
    key = np.arange(2_000) % 60
    stream = streamed(key, np.linspace(0.1, 400, 2_000), 1000, most=100)
    assert len(stream.references) == 2_000


def test_longer_and_larger_hit_more() -> None:
    curves = replayed(references(*zipf(20_000)))
    for points in (curves.by_ttl, curves.by_entries):
        rates = [p.hit_rate for p in points]
        assert rates == sorted(rates)
        assert 0 <= rates[0] < rates[-1] < 1
    assert [p.entries for p in curves.by_entries] == list(ENTRIES[: len(curves.by_entries)])


def test_saved_time_is_that_of_the_hits() -> None:
    at = np.arange(0, 3600, 1.0)
    curves = replayed(references(np.zeros(3600, dtype=np.int64), at), span_s=3600.0)
    ten = next(p for p in curves.by_ttl if p.ttl_s == 10)
    assert ten.hit_rate == pytest.approx(0.9)
    assert ten.saved_ms_per_hour == pytest.approx(0.9 * 3600 * 10)
    assert curves.total_ms_per_hour == pytest.approx(36_000)


def test_of_executions_in_one_second_only_the_first_can_miss() -> None:
    refs = references(np.zeros(10, dtype=np.int64), np.arange(0, 1000, 100.0))
    counted = replace(refs, calls=np.full(10, 50), duration_ms=np.full(10, 500.0))
    curves = replayed(counted, reads=500)
    assert curves.by_ttl[0].hit_rate == pytest.approx(0.98)


def test_staleness_is_what_later_writes_make_it() -> None:
    """One key each second, a write each 100 s: of a TTL of 10 s at most 9 reads are stale."""
    at = np.arange(0, 3600, 1.0)
    changes = np.arange(50.5, 3600, 100.0)
    curves = replayed(references(np.zeros(3600, dtype=np.int64), at), changes=changes)
    ten = next(p for p in curves.by_ttl if p.ttl_s == 10)
    # Filled at 50, changed at 50.5, shown to the reads of 51 ... 59: nine of a hundred.
    assert ten.stale_share == pytest.approx(9 / 90, abs=0.002)
    assert ten.stale_age_s == pytest.approx(4.5, abs=0.01)
    assert not ten.is_allowed
    five = next(p for p in curves.by_ttl if p.ttl_s == 5)
    assert five.is_allowed
    assert curves.best is not None and curves.best.ttl_s <= 5


@pytest.mark.parametrize("every_s", [1.0, 7.0, 60.0])
def test_no_ttl_is_suggested_within_which_results_change(every_s: float) -> None:
    key, at = zipf(20_000)
    changes = np.arange(0.3, 3600, every_s)
    curves = replayed(references(key, at), changes=changes, span_s=3600.0)
    assert all(p.ttl_s <= every_s for p in curves.by_ttl if p.is_allowed)
    assert curves.best is None or curves.best.ttl_s <= every_s


def test_no_ttl_is_suggested_of_which_too_little_was_seen() -> None:
    refs = references(np.zeros(200, dtype=np.int64), np.arange(0, 100, 0.5))
    curves = replayed(refs)
    assert curves.longest_ttl_s == 20
    assert curves.best is not None and curves.best.ttl_s <= 20


def test_the_smallest_cache_that_serves_is_chosen() -> None:
    """A thousand keys, ten of which are read nearly always."""
    chance = np.random.default_rng(3)
    hot = chance.integers(0, 10, 20_000)
    key = np.where(chance.uniform(size=20_000) < 0.02, chance.integers(10, 1000, 20_000), hot)
    curves = replayed(references(key, np.sort(chance.uniform(0, 3600, 20_000))))
    assert curves.best is not None and curves.best.entries is not None
    assert 10 <= curves.best.entries <= 32


def test_each_process_with_a_cache_of_its_own_hits_less() -> None:
    count = 3600
    refs = references(
        np.arange(count) // 8 % 100, np.arange(0, count, 1.0), process=np.arange(count) % 4
    )
    curves = replayed(refs)
    assert curves.best is not None
    assert curves.per_process_hit_rate < curves.best.hit_rate


def test_an_endpoint_keeps_only_what_changes_slowly() -> None:
    at = np.arange(0, 3600, 1.0)
    one = references(np.zeros(3600, dtype=np.int64), at)
    fingerprint = np.where(np.arange(3600) % 2 == 0, FP, OTHER)
    both = replace(one, fingerprint=fingerprint, key=(fingerprint == FP).astype(np.int64))
    busy = {OTHER: np.arange(0.0, 3600, 1.0)}
    curves = Replay(both, {FP: 1800, OTHER: 1800}, busy, 3600.0, is_endpoint=True).curves()
    assert curves.best is not None
    assert 0.3 < curves.best.hit_rate <= 0.5
    assert curves.best.stale_share == 0


def test_writes_of_one_second_are_one_change() -> None:
    writes = [np.array([5.1, 1.0, 1.2]), np.array([1.9, 9.0, 20.0])]
    assert change_instants(writes, 0.5, 10.0).tolist() == [1.0, 5.1, 9.0]
    assert change_instants([], 0, 1).tolist() == []
