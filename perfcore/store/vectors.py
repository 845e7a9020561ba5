"""Adding up many stored histograms at once: the same bytes as Histogram.merge, by arrays.

All varints of all histograms are read in one pass, where a token costs a few nanoseconds.
Only the roller and the readers import this module: an application does not pay for numpy.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perfcore.histogram import pack_header, to_units, units_to_bytes, units_to_float

Ints = NDArray[np.int64]
_Numbers = NDArray[np.signedinteger[Any]]
Floats = NDArray[np.float64]
_Bytes = NDArray[np.uint8]
# Buckets are put in the order of their values: -(index + SHIFT) for negative values,
# 0 for zero, index + SHIFT for positive ones. No double has an index beyond 36,000.
SHIFT = 65_536
_HALF = 2 * SHIFT
_SPAN = 4 * SHIFT
_DEFLATED, _TOKENS = 2, 3  # the first byte
_HEADER = 17  # version, minimum, maximum
_OLD_HEADER = struct.Struct("<ddd")  # sum, minimum, maximum
_LIMBS = 4  # of 32 bits: sums of up to 16 bytes are added by arrays
# A histogram of a series with what the store's columns say of it: series_id, count, error_count,
# sum, min, max and the bytes.
SummedRow = tuple[int, int, int, float, float, float, bytes]
_CELLS_A_BUCKET = 16  # up to here a table with a cell for each place is faster than sorting
_MOST_CELLS = 1 << 28
_MOST_FLOAT = 1 << 53  # numpy's counting by weight is exact up to here


@dataclass(frozen=True, slots=True)
class Sums:
    """A sum of histograms per group; the buckets of group g lie in bounds[g]:bounds[g + 1]."""

    counts: Ints
    error_counts: Ints
    units: list[int]  # the sums, in 2^-60
    least: Floats
    most: Floats
    orders: Ints
    times: Ints
    bounds: Ints


@dataclass(frozen=True, slots=True)
class _Side:
    """Buckets of one sign, of many histograms; in the order sign * (running + offset).

    Some may count 0: tokens that only go up.
    """

    sign: int
    group: Ints  # a value for each histogram
    sizes: _Numbers  # how many buckets
    offset: _Numbers
    running: _Numbers  # a value for each bucket
    times: _Numbers

    def places(self, group_width: int, low: int) -> _Numbers:
        """Return group * width + order - low of each bucket."""
        start = self.group * group_width - low + self.sign * self.offset.astype(np.int64)
        spread = np.repeat(start.astype(self.running.dtype), self.sizes)
        return spread + self.running if self.sign > 0 else spread - self.running

    def bounds(self) -> tuple[int, int]:
        """Return the least and the most order."""
        ends = np.cumsum(self.sizes)
        first = self.sign * (self.running[ends - self.sizes] + self.offset)
        last = self.sign * (self.running[ends - 1] + self.offset)
        return int(min(first.min(), last.min())), int(max(first.max(), last.max()))


@dataclass(frozen=True, slots=True)
class _Read:
    """What histograms hold: a value each, and all their buckets."""

    group: Ints
    errors: _Numbers
    limbs: Ints  # of the sums, low ones first; 0 for those in `long_units`
    long_units: Mapping[int, int]  # row -> sum
    least: Floats
    most: Floats
    sides: list[_Side]


def add_up(blobs: Sequence[bytes], group: Ints, groups: int) -> Sums:
    """Return the sum of the histograms of each group; `group` has the number of each one's."""
    lengths = np.fromiter(map(len, blobs), np.int64, len(blobs))
    return add_up_joined(b"".join(blobs), lengths, group, groups)


def add_up_joined(joined: bytes, lengths: Ints, group: Ints, groups: int) -> Sums:
    """Return the same for histograms that lie one behind the other, of these lengths."""
    data = np.frombuffer(joined, np.uint8)
    starts = np.cumsum(lengths) - lengths
    is_new = data[starts] == _TOKENS
    parts = [
        read(data, group[rows], starts[rows], lengths[rows])
        for read, rows in (
            (_read_new, np.flatnonzero(is_new)),
            (_read_old, np.flatnonzero(~is_new)),
        )
        if len(rows)
    ]
    return _add(parts, groups)


def add_up_rows(rows: Iterable[tuple[int, bytes]]) -> list[SummedRow]:
    """Return the sum of the histograms of each series, given as (series, histogram)."""
    groups: dict[int, int] = {}
    blobs, group = [], []
    for series_id, blob in rows:
        blobs.append(blob)
        group.append(groups.setdefault(series_id, len(groups)))
    return _rows(list(groups), add_up(blobs, np.array(group, np.int64), len(groups)))


def add_up_joined_rows(rows: Sequence[tuple[Any, ...]]) -> list[SummedRow]:
    """Return the same from (series, its histograms one behind the other, their lengths)."""
    if not rows:
        return []
    series, joined, packed = zip(*rows, strict=True)
    lengths = np.frombuffer(b"".join(packed), ">i4").astype(np.int64)
    group = np.repeat(np.arange(len(series)), [len(p) // 4 for p in packed])
    return _rows(series, add_up_joined(b"".join(joined), lengths, group, len(series)))


def _rows(series: Sequence[int], sums: Sums) -> list[SummedRow]:
    return list(
        zip(
            series, sums.counts.tolist(), sums.error_counts.tolist(),
            map(units_to_float, sums.units), sums.least.tolist(), sums.most.tolist(),
            encode(sums), strict=True,
        )
    )  # fmt: skip


def _add(parts: Sequence[_Read], groups: int) -> Sums:
    errors, least, most = (
        np.zeros(groups, np.int64),
        np.full(groups, np.inf),
        np.full(groups, -np.inf),
    )
    for read in parts:
        np.add.at(errors, read.group, read.errors)
        np.minimum.at(least, read.group, read.least)
        np.maximum.at(most, read.group, read.most)
    sides = [side for read in parts for side in read.sides if len(side.sizes)]
    group_of, orders, times = _count(sides, groups)
    counts = np.zeros(groups, np.int64)
    np.add.at(counts, group_of, times)
    bounds = np.searchsorted(group_of, np.arange(groups + 1))
    return Sums(counts, errors, _units(parts, groups), least, most, orders, times, bounds)


def _units(parts: Sequence[_Read], groups: int) -> list[int]:
    limbs = np.zeros((_LIMBS, groups), np.int64)
    for read in parts:
        for limb in range(_LIMBS):
            np.add.at(limbs[limb], read.group, read.limbs[:, limb])
    units = [sum(n << 32 * i for i, n in enumerate(column)) for column in limbs.T.tolist()]
    for read in parts:
        for row, amount in read.long_units.items():
            units[read.group[row]] += amount
    return units


def _count(sides: Sequence[_Side], groups: int) -> tuple[Ints, Ints, Ints]:
    """Return group, order and count of each bucket that holds something, in that order."""
    if not sides:
        return (np.empty(0, np.int64),) * 3
    bounds = [side.bounds() for side in sides]
    low = min(least for least, _ in bounds)
    width = max(most for _, most in bounds) - low + 1
    buckets = sum(len(side.times) for side in sides)
    total = sum(int(side.times.sum()) for side in sides)
    if groups * width <= min(_CELLS_A_BUCKET * buckets, _MOST_CELLS) and total < _MOST_FLOAT:
        cells = np.zeros(groups * width)
        for side in sides:
            cells += np.bincount(side.places(width, low), side.times, len(cells))
        filled = np.flatnonzero(cells)
        return filled // width, filled % width + low, cells[filled].astype(np.int64)
    flat = np.concatenate([_wide(side).places(_SPAN, -_HALF) for side in sides])
    times = np.concatenate([side.times for side in sides])
    some = np.flatnonzero(times)
    flat, inverse = np.unique(flat[some], return_inverse=True)
    counts = np.zeros(len(flat), np.int64)
    np.add.at(counts, inverse, times[some])
    return flat // _SPAN, flat % _SPAN - _HALF, counts


def _wide(side: _Side) -> _Side:
    """Return the same with 64 bits, for places that need them."""
    orders = side.running + np.repeat(side.offset, side.sizes)
    group = np.repeat(side.group, side.sizes)
    return _loose(side.sign, group, orders.astype(np.int64), side.times)


def _read_new(data: _Bytes, group: Ints, starts: Ints, lengths: Ints) -> _Read:
    sum_starts = starts + _HEADER + 1
    body_starts = sum_starts + data[sum_starts - 1]
    edges = np.asarray(data[starts[:, None] + np.arange(1, _HEADER)]).view("<f8")
    body_lengths = starts + lengths - body_starts
    numbers, first = _varints(_cut(data, body_starts, body_lengths), body_lengths)
    ends = np.append(first[1:], len(numbers))
    below = numbers[first + 2]
    middle = first + 3 + np.where(below > 0, below + 1, 0)
    zeros = numbers[first + 1]
    sides = [
        _zeros(group, zeros),
        _side(numbers, group, first + 3, below, -1),
        _side(numbers, group, middle, ends - middle - 1, 1),
    ]
    limbs, long_units = _read_units(data, sum_starts, body_starts)
    return _Read(group, numbers[first], limbs, long_units, edges[:, 0], edges[:, 1], sides)


def _cut(values: Any, starts: Ints, lengths: _Numbers) -> Any:
    """Return the values of all runs of these lengths, one run behind the other."""
    if not len(starts):
        return values[:0]
    outside = starts - np.append(0, (starts + lengths)[:-1])
    pieces = np.stack((outside, lengths), 1).ravel()
    inside = np.repeat(np.tile([False, True], len(starts)), pieces)
    return values[: len(inside)][inside]


def _read_units(data: _Bytes, starts: Ints, ends: Ints) -> tuple[Ints, dict[int, int]]:
    size = 4 * _LIMBS
    at = np.arange(size)
    length = ends - starts
    raw = data[np.minimum(starts[:, None] + at, len(data) - 1)]
    sign = np.where(data[ends - 1] >= 0x80, 0xFF, 0).astype(np.uint8)
    raw = np.where(at < length[:, None], raw, sign[:, None])
    limbs = raw.view("<u4").astype(np.int64)
    limbs[:, -1] = raw.view("<i4")[:, -1]
    is_long = np.flatnonzero(length > size)
    limbs[is_long] = 0
    long_units = {
        int(row): int.from_bytes(data[starts[row] : ends[row]].tobytes(), "little", signed=True)
        for row in is_long
    }
    return limbs, long_units


def _zeros(group: Ints, zeros: _Numbers) -> _Side:
    some = np.flatnonzero(zeros)
    return _loose(1, group[some], np.zeros(len(some), np.int64), zeros[some])


def _loose(sign: int, group: Ints, orders: Ints, times: _Numbers) -> _Side:
    """Return buckets as a side on which each is a histogram of its own."""
    ones, none = np.ones(len(group), np.int64), np.zeros(len(group), np.int64)
    return _Side(sign, group, ones, none, orders, times)


def _side(numbers: _Numbers, group: Ints, start: Ints, tokens: _Numbers, sign: int) -> _Side:
    """Return the buckets of one side of many histograms; its first index lies at `start`."""
    filled = np.flatnonzero(tokens > 0)
    start, tokens = start[filled], tokens[filled]
    token = _cut(numbers, start + 1, tokens)
    times = token >> 3
    step = (token & 7) + 1
    far = np.flatnonzero(token < 8)
    step[far] = 8 << token[far]
    # With 32 bits this may wrap around, and the sum with the offset wraps back.
    running = np.cumsum(step, dtype=step.dtype)
    first = numbers[start].astype(np.int64)
    before = np.cumsum(tokens) - tokens
    offset = ((first >> 1) ^ -(first & 1)) - 1 + SHIFT - (running[before] - step[before])
    return _Side(sign, group[filled], tokens, offset.astype(running.dtype), running, times)


def _read_old(data: _Bytes, group: Ints, starts: Ints, lengths: Ints) -> _Read:
    """Read versions 1 and 2: the sum as a double, buckets as pairs of gap and count."""
    blobs = [
        data[s : s + n].tobytes() for s, n in zip(starts.tolist(), lengths.tolist(), strict=True)
    ]
    bodies = [zlib.decompress(b[1:]) if b[0] == _DEFLATED else b[1:] for b in blobs]
    heads = np.array([_OLD_HEADER.unpack_from(body) for body in bodies])
    rests = [body[_OLD_HEADER.size :] for body in bodies]
    lengths = np.fromiter(map(len, rests), np.int64, len(rests))
    numbers, first = _varints(np.frombuffer(b"".join(rests), np.uint8), lengths)
    zeros, below = numbers[first + 1], numbers[first + 2]
    middle = first + 3 + 2 * below
    sides = [
        _zeros(group, zeros),
        _old_side(numbers, group, first + 3, below, -1),
        _old_side(numbers, group, middle + 1, numbers[middle], 1),
    ]
    units = dict(enumerate(map(to_units, heads[:, 0].tolist())))
    limbs = np.zeros((len(heads), _LIMBS), np.int64)
    return _Read(group, numbers[first], limbs, units, heads[:, 1], heads[:, 2], sides)


def _old_side(numbers: _Numbers, group: Ints, start: Ints, length: _Numbers, sign: int) -> _Side:
    row = np.repeat(np.arange(len(length)), length)
    before = np.cumsum(length) - length  # pairs in earlier rows
    nth = np.arange(len(row)) - before[row]
    gap_at = start[row] + 2 * nth
    gaps = numbers[gap_at]
    is_first = nth == 0
    gaps[is_first] = (gaps[is_first] >> 1) ^ -(gaps[is_first] & 1)
    running = np.cumsum(gaps)
    some = length > 0
    earlier = np.zeros(len(length), np.int64)
    earlier[some] = running[before[some]] - gaps[before[some]]
    return _loose(sign, group[row], running - earlier[row] + SHIFT, numbers[gap_at + 1])


def _varints(data: _Bytes, lengths: Ints) -> tuple[_Numbers, Ints]:
    """Return all whole numbers of all bodies, and where in them each body's begin."""
    is_last = data < 0x80
    more = np.flatnonzero(~is_last)  # low bytes of the few numbers over 127
    is_short = len(more) < 4 or not (more[3:] - more[:-3] == 3).any()
    numbers: _Numbers = data[is_last].astype(np.int32 if is_short else np.int64)
    body_starts = np.cumsum(lengths) - lengths
    first = body_starts - np.searchsorted(more, body_starts)
    if len(more):
        number = more - np.arange(len(more))
        begins = np.flatnonzero(np.append(True, number[1:] != number[:-1]))
        sizes = np.diff(np.append(begins, len(more)))
        nth = np.arange(len(more)) - np.repeat(begins, sizes)
        numbers[number[begins]] <<= 7 * sizes
        low = (data[more] & 0x7F).astype(np.int64) << 7 * nth
        np.add.at(numbers, number, low.astype(numbers.dtype))
    return numbers, first


def encode(sums: Sums) -> list[bytes]:
    """Return each group's sum as Histogram.to_bytes writes it."""
    groups = len(sums.counts)
    group = np.repeat(np.arange(groups), np.diff(sums.bounds))
    zeros = np.zeros(groups, np.int64)
    is_zero = sums.orders == 0
    zeros[group[is_zero]] = sums.times[is_zero]
    # The negative side goes up by bucket too, which is from the largest value down.
    below = np.flatnonzero(sums.orders < 0)
    below = below[np.lexsort((-sums.orders[below], group[below]))]
    sides = [
        _tokens(group[side], np.abs(sums.orders[side]) - SHIFT, sums.times[side], groups)
        for side in (below, np.flatnonzero(sums.orders > 0))
    ]
    (low, low_lengths), (high, high_lengths) = sides
    lengths = 3 + low_lengths + high_lengths
    starts = np.cumsum(lengths) - lengths
    numbers = np.empty(int(lengths.sum()), np.int64)
    numbers[starts] = sums.error_counts
    numbers[starts + 1] = zeros
    numbers[starts + 2] = np.maximum(low_lengths - 1, 0)
    numbers[_places(starts + 3, low_lengths)] = low
    numbers[_places(starts + 3 + low_lengths, high_lengths)] = high
    data, ends = _write_varints(numbers)
    edges = np.append(0, ends)[np.append(starts, len(numbers))].tolist()
    heads = zip(sums.least.tolist(), sums.most.tolist(), sums.units, strict=True)
    return [
        pack_header(low, high) + units_to_bytes(units) + data[edges[n] : edges[n + 1]]
        for n, (low, high, units) in enumerate(heads)
    ]


def _places(starts: Ints, lengths: Ints) -> Ints:
    """Return start, start + 1, ... of each run, one run behind the other."""
    return np.arange(int(lengths.sum())) + np.repeat(starts - np.cumsum(lengths) + lengths, lengths)


def _tokens(group: Ints, index: Ints, times: Ints, groups: int) -> tuple[Ints, Ints]:
    """Return the first bucket and the tokens of one side of each group, and how many those are."""
    lengths = np.zeros(groups, np.int64)
    if not len(group):
        return np.empty(0, np.int64), lengths
    is_first = np.append(True, group[1:] != group[:-1])
    step = np.where(is_first, 0, index - np.append(0, index[:-1]) - 1)
    eights = step >> 3
    sevens = eights >> 7
    skips = sevens + sum((eights >> bit & 1) for bit in range(7))
    sizes = 1 + is_first + skips
    ends = np.cumsum(sizes)
    found = np.empty(int(ends[-1]), np.int64)
    found[ends - 1] = times << 3 | step & 7
    at = ends - sizes
    found[at[is_first]] = np.where(index >= 0, index << 1, -(index << 1) - 1)[is_first]
    at += is_first
    for nth in range(int(sevens.max())):
        some = np.flatnonzero(sevens > nth)
        found[at[some]] = 7
        at[some] += 1
    for bit in range(6, -1, -1):
        some = np.flatnonzero(eights >> bit & 1)
        found[at[some]] = bit
        at[some] += 1
    np.add.at(lengths, group, sizes)
    return found, lengths


def _write_varints(numbers: Ints) -> tuple[bytes, Ints]:
    """Return the bytes of all numbers, and where each ends."""
    sizes = np.ones(len(numbers), np.int64)
    for bits in range(7, 63, 7):
        longer = numbers >= 1 << bits
        if not longer.any():
            break
        sizes += longer
    ends = np.cumsum(sizes)
    found = np.empty(int(ends[-1]) if len(ends) else 0, np.uint8)
    for nth in range(int(sizes.max(initial=0))):
        some = np.flatnonzero(sizes > nth)
        rest = np.where(sizes[some] > nth + 1, 0x80, 0)
        found[ends[some] - sizes[some] + nth] = numbers[some] >> 7 * nth & 0x7F | rest
    return found.tobytes(), ends
