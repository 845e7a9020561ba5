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
class _Read:
    """What histograms hold: a value each, and all their buckets with the row they are of."""

    errors: Ints
    limbs: NDArray[np.int64]  # of the sums, low ones first; 0 for those in `long_units`
    long_units: Mapping[int, int]  # row -> sum
    least: Floats
    most: Floats
    row: Ints
    order: Ints
    times: Ints


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
        (group[rows], read(data, starts[rows], lengths[rows]))
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


def add_up_joined_rows(rows: Iterable[tuple[Any, ...]]) -> list[SummedRow]:
    """Return the same from (series, its histograms one behind the other, their lengths)."""
    series, joined, packed = zip(*rows, strict=True) if rows else ((), (), ())
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


def _add(parts: Sequence[tuple[Ints, _Read]], groups: int) -> Sums:
    errors, least, most = (
        np.zeros(groups, np.int64),
        np.full(groups, np.inf),
        np.full(groups, -np.inf),
    )
    for group, read in parts:
        np.add.at(errors, group, read.errors)
        np.minimum.at(least, group, read.least)
        np.maximum.at(most, group, read.most)
    empty = [np.empty(0, np.int64)]
    group_of, orders, times = _count(
        np.concatenate([group[read.row] for group, read in parts] or empty),
        np.concatenate([read.order for _, read in parts] or empty),
        np.concatenate([read.times for _, read in parts] or empty),
        groups,
    )
    counts = np.zeros(groups, np.int64)
    np.add.at(counts, group_of, times)
    bounds = np.searchsorted(group_of, np.arange(groups + 1))
    return Sums(counts, errors, _units(parts, groups), least, most, orders, times, bounds)


def _units(parts: Sequence[tuple[Ints, _Read]], groups: int) -> list[int]:
    limbs = np.zeros((_LIMBS, groups), np.int64)
    for group, read in parts:
        for limb in range(_LIMBS):
            np.add.at(limbs[limb], group, read.limbs[:, limb])
    units = [sum(n << 32 * i for i, n in enumerate(column)) for column in limbs.T.tolist()]
    for group, read in parts:
        for row, amount in read.long_units.items():
            units[group[row]] += amount
    return units


def _count(group: Ints, order: Ints, times: Ints, groups: int) -> tuple[Ints, Ints, Ints]:
    """Return group, order and count of each bucket, in that order."""
    is_used = np.zeros(_SPAN, np.bool_)
    is_used[order + _HALF] = True
    used = np.flatnonzero(is_used)
    if groups * len(used) > _CELLS_A_BUCKET * len(order):
        flat, inverse = np.unique(group * _SPAN + order + _HALF, return_inverse=True)
        counts = np.zeros(len(flat), np.int64)
        np.add.at(counts, inverse, times)
        return flat // _SPAN, flat % _SPAN - _HALF, counts
    column = np.zeros(_SPAN, np.int64)
    column[used] = np.arange(len(used))
    cells = np.zeros(groups * len(used), np.int64)
    np.add.at(cells, group * len(used) + column[order + _HALF], times)
    filled = np.flatnonzero(cells)
    return filled // max(len(used), 1), used[filled % max(len(used), 1)] - _HALF, cells[filled]


def _read_new(data: _Bytes, starts: Ints, lengths: Ints) -> _Read:
    sum_starts = starts + _HEADER + 1
    body_starts = sum_starts + data[sum_starts - 1]
    edges = np.asarray(data[starts[:, None] + np.arange(1, _HEADER)]).view("<f8")
    body, body_lengths = _cut(data, body_starts, starts + lengths)
    numbers, first = _varints(body, body_lengths)
    ends = np.append(first[1:], len(numbers))
    below = numbers[first + 2]
    middle = first + 3 + np.where(below > 0, below + 1, 0)
    zeros = numbers[first + 1]
    some = np.flatnonzero(zeros)
    sides = [
        (some, np.zeros(len(some), np.int64), zeros[some]),
        _side(numbers, first + 3, below, -1),
        _side(numbers, middle, ends - middle - 1, 1),
    ]
    row, order, times = (np.concatenate(column) for column in zip(*sides, strict=True))
    limbs, long_units = _read_units(data, sum_starts, body_starts)
    return _Read(numbers[first], limbs, long_units, edges[:, 0], edges[:, 1], row, order, times)


def _cut(data: _Bytes, starts: Ints, ends: Ints) -> tuple[_Bytes, Ints]:
    """Return the bytes of all [start, end) in a row, and how many each has."""
    inside = np.zeros(len(data) + 1, np.int8)
    inside[starts] = 1
    inside[ends] = -1
    # One that ends where the data end is followed by nothing; none begins where another ends.
    return data[np.cumsum(inside[:-1], dtype=np.int8).view(np.bool_)], ends - starts


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


def _side(numbers: Ints, start: Ints, tokens: Ints, sign: int) -> tuple[Ints, Ints, Ints]:
    """Return row, order and count of one side's buckets; its first index lies at `start`."""
    filled = np.flatnonzero(tokens > 0)
    start, tokens = start[filled], tokens[filled]
    place = np.repeat(np.arange(len(filled)), tokens)
    before = np.cumsum(tokens) - tokens
    token = numbers[np.arange(len(place)) + (start + 1 - before)[place]]
    times = token >> 3
    step = np.where(times, (token & 7) + 1, 8 << np.minimum(token, 7))
    running = np.cumsum(step)
    first = numbers[start]
    base = (first >> 1) ^ -(first & 1)
    if len(filled):
        base = base - 1 - (running[before] - step[before])
    some = np.flatnonzero(times)
    place = place[some]
    return filled[place], sign * (running[some] + base[place] + SHIFT), times[some]


def _read_old(data: _Bytes, starts: Ints, lengths: Ints) -> _Read:
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
    some = np.flatnonzero(zeros)
    middle = first + 3 + 2 * below
    sides = [
        (some, np.zeros(len(some), np.int64), zeros[some]),
        _old_side(numbers, first + 3, below, -1),
        _old_side(numbers, middle + 1, numbers[middle], 1),
    ]
    row, order, times = (np.concatenate(column) for column in zip(*sides, strict=True))
    units = dict(enumerate(map(to_units, heads[:, 0].tolist())))
    limbs = np.zeros((len(heads), _LIMBS), np.int64)
    return _Read(numbers[first], limbs, units, heads[:, 1], heads[:, 2], row, order, times)


def _old_side(numbers: Ints, start: Ints, length: Ints, sign: int) -> tuple[Ints, Ints, Ints]:
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
    return row, sign * (running - earlier[row] + SHIFT), numbers[gap_at + 1]


def _varints(data: _Bytes, lengths: Ints) -> tuple[Ints, Ints]:
    """Return all whole numbers of all bodies, and where in them each body's begin."""
    is_end = data < 0x80
    body_starts = np.cumsum(lengths) - lengths
    if is_end.all():
        return data.astype(np.int64), body_starts
    ends = np.flatnonzero(is_end)
    starts = np.concatenate(([0], ends[:-1] + 1))
    numbers = data[ends].astype(np.int64)
    sizes = ends - starts
    for nth in range(1, int(sizes.max()) + 1):
        # Byte by byte from the end: few numbers have more than two.
        longer = np.flatnonzero(sizes >= nth)
        numbers[longer] = numbers[longer] << 7 | data[ends[longer] - nth] & 0x7F
    first = np.cumsum(is_end)
    return numbers, np.where(body_starts, first[body_starts - 1], 0)


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
