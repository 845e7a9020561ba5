"""A histogram whose buckets grow by 2 %: any quantile within 1 %, merging is addition.

Bucket `i` holds the values in (1.02^(i-1), 1.02^i] and answers with the point that is equally
far, relatively, from both ends: at most 0.02 / 2.02 = 0.99 % from any value inside. This is the
logarithmic mapping of DDSketch (Masson, Rim, Lee: VLDB 2019). Merging in any order and any
grouping gives the same histogram, to the last bit of the sum, which no digest of centroids can
say: the sum is a whole number of 2^-60, and whole numbers do not round.

As bytes (version 3): minimum and maximum as doubles, a byte with the length of the sum and the
sum, then varints: errors, zeros, how many tokens the negative side has; then for each side that
holds values its first bucket (zigzag) and its tokens. A token `count << 3 | step - 1` goes up
1 to 8 buckets and counts there; a token below 8 goes up `8 << token` buckets and counts nothing.
Versions 1 and 2 (plain and deflated, with the sum as a double) stay readable.
"""

from __future__ import annotations

import math
import struct
import sys
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain, repeat
from operator import mul, truediv

GAMMA = 1.02
RELATIVE_ERROR = (GAMMA - 1) / (GAMMA + 1)
# Below this a value counts as zero: no clock and no allocator measures less.
_TINY = 1e-12
_LOG_GAMMA = math.log(GAMMA)
_PLAIN, _DEFLATED, _TOKENS = 1, 2, 3
_OLD_HEADER = struct.Struct("<ddd")  # sum, minimum, maximum
_HEADER = struct.Struct("<Bdd")  # version, minimum, maximum
UNITS_BITS = 60
_UNITS = 2.0**UNITS_BITS
# The product with _UNITS stays finite below; far larger values are whole numbers anyway.
_SCALABLE = 2.0**900
# Between these a sum of doubles fits into two of them without a bit lost.
_LEAST_EXACT, _MOST_EXACT = 2.0**-8, 2.0**44
_FEW = 16  # values for which the loop is faster


class Histogram:
    """Counts of values in logarithmic buckets, with their exact count, sum, minimum and maximum.

    >>> h = Histogram()
    >>> for value in (1.0, 2.0, 100.0):
    ...     h.record(value)
    >>> h.count, h.sum, h.max, round(h.quantile(0.5), 1)
    (3, 103.0, 100.0, 2.0)
    """

    __slots__ = ("_above", "_below", "_units", "_zero", "count", "error_count", "max", "min")

    def __init__(self) -> None:
        self.count = 0
        self.error_count = 0  # samples that are errors; they are in the buckets too
        self.min = math.inf
        self.max = -math.inf
        self._units = 0  # the sum, in 2^-60
        self._zero = 0
        self._above: dict[int, int] = {}
        self._below: dict[int, int] = {}  # negative values, by the bucket of their amount

    def record(self, value: float, *, is_error: bool = False, times: int = 1) -> None:
        """Count a value; ValueError for one that is not finite."""
        if not math.isfinite(value):
            raise ValueError(f"cannot record {value}: a sample must be a finite number")
        if value > _TINY:
            _add(self._above, math.ceil(math.log(value) / _LOG_GAMMA), times)
        elif value < -_TINY:
            _add(self._below, math.ceil(math.log(-value) / _LOG_GAMMA), times)
        else:
            self._zero += times
        self.count += times
        self._units += (
            int(value * _UNITS) if -_SCALABLE < value < _SCALABLE else to_units(value)
        ) * times
        if is_error:
            self.error_count += times
        if value < self.min:
            self.min = value
        if value > self.max:
            self.max = value

    def record_all(self, values: Sequence[float], *, errors: int = 0) -> None:
        """Count many values, `errors` of them errors; the same as recording one by one.

        ValueError when one is not finite, and then nothing is counted.
        """
        if len(values) < _FEW or not (least := min(values)) > _LEAST_EXACT:
            self._record_each(values)
        elif math.isfinite(total := _sum(values)):
            # map and Counter loop in C: a third of the time of a loop over record.
            scaled = map(truediv, map(math.log, values), repeat(_LOG_GAMMA))
            for index, times in Counter(map(math.ceil, scaled)).items():
                _add(self._above, index, times)
            most = max(values)
            self.count += len(values)
            self._units += _sum_units(values, total, most)
            self.min, self.max = min(self.min, least), max(self.max, most)
        else:
            self._record_each(values)
        self.error_count += errors

    def _record_each(self, values: Sequence[float]) -> None:
        for value in values:
            if not math.isfinite(value):
                raise ValueError(f"cannot record {value}: a sample must be a finite number")
        for value in values:
            self.record(value)

    def merge(self, other: Histogram) -> None:
        """Add the other's counts to this one; the other stays as it is."""
        for mine, theirs in ((self._above, other._above), (self._below, other._below)):
            for index, times in tuple(theirs.items()):
                _add(mine, index, times)
        self._zero += other._zero
        self.count += other.count
        self.error_count += other.error_count
        self._units += other._units
        self.min = min(self.min, other.min)
        self.max = max(self.max, other.max)

    @classmethod
    def merged(cls, parts: Iterable[Histogram]) -> Histogram:
        """Return the sum of all parts, an empty histogram when there are none."""
        total = cls()
        for part in parts:
            total.merge(part)
        return total

    @property
    def sum(self) -> float:
        """Return the sum of all values, rounded once; infinite when no double is that large."""
        return units_to_float(self._units)

    @property
    def mean(self) -> float:
        """Return the exact mean, nan when nothing was recorded."""
        return self.sum / self.count if self.count else math.nan

    def quantile(self, q: float) -> float:
        """Return the value at rank floor(q * (count - 1)), within 1 %; nan when empty.

        The smallest and the largest value are exact.
        """
        if not 0 <= q <= 1:
            raise ValueError(f"quantile {q}: it must lie between 0 and 1")
        if not self.count:
            return math.nan
        rank = math.floor(q * (self.count - 1))
        if rank == 0:
            return self.min
        if rank == self.count - 1:
            return self.max
        for value, times in self.buckets():
            rank -= times
            if rank < 0:
                return min(max(value, self.min), self.max)
        return self.max

    def count_above(self, limit: float) -> int:
        """Return how many values lie above the limit, counting whole buckets."""
        return sum(times for value, times in self.buckets() if value > limit)

    def buckets(self) -> list[tuple[float, int]]:
        """Return (representative value, count), smallest value first."""
        below = [(-_value(i), self._below[i]) for i in sorted(self._below, reverse=True)]
        zero = [(0.0, self._zero)] if self._zero else []
        return below + zero + [(_value(i), self._above[i]) for i in sorted(self._above)]

    def to_bytes(self) -> bytes:
        """Return all of it in about 30 bytes plus a byte a bucket; equal ones as equal bytes."""
        body = bytearray(pack_header(self.min, self.max))
        body += units_to_bytes(self._units)
        below = _tokens(self._below)
        for number in (self.error_count, self._zero, max(0, len(below) - 1)):
            _write(body, number)
        for tokens in (below, _tokens(self._above)):
            _write_all(body, tokens)
        return bytes(body)

    @classmethod
    def from_bytes(cls, data: bytes | memoryview) -> Histogram:
        """Return what `to_bytes` wrote, now or in an earlier version; ValueError for others."""
        data = bytes(data)
        try:
            if data[0] == _TOKENS:
                return cls._decode(data)
            if data[0] not in (_PLAIN, _DEFLATED):
                raise ValueError(f"version {data[0]}")
            return cls._decode_old(zlib.decompress(data[1:]) if data[0] == _DEFLATED else data[1:])
        except (IndexError, ValueError, struct.error, zlib.error) as error:
            raise ValueError(f"not a histogram of this program: {error}") from error

    @classmethod
    def _decode(cls, data: bytes) -> Histogram:
        histogram = cls()
        _, histogram.min, histogram.max = _HEADER.unpack_from(data)
        position = _HEADER.size + 1 + data[_HEADER.size]
        if position >= len(data):
            raise ValueError("cut off")
        histogram._units = int.from_bytes(data[_HEADER.size + 1 : position], "little", signed=True)
        numbers = _read_all(data, position)
        histogram.error_count, histogram._zero, below = numbers[:3]
        middle = 3 + (below and 1 + below)
        if middle > len(numbers):
            raise ValueError("cut off")
        histogram._below = _from_tokens(numbers[3:middle])
        histogram._above = _from_tokens(numbers[middle:])
        histogram._count()
        return histogram

    @classmethod
    def _decode_old(cls, body: bytes) -> Histogram:
        histogram = cls()
        total, histogram.min, histogram.max = _OLD_HEADER.unpack_from(body)
        histogram._units = to_units(total)
        position = _OLD_HEADER.size
        histogram.error_count, position = _read(body, position)
        histogram._zero, position = _read(body, position)
        histogram._below, position = _read_counts(body, position)
        histogram._above, position = _read_counts(body, position)
        if position != len(body):
            raise ValueError(f"{len(body) - position} bytes left over")
        histogram._count()
        return histogram

    def _count(self) -> None:
        self.count = self._zero + sum(self._below.values()) + sum(self._above.values())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Histogram):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.__slots__)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Histogram(count={self.count}, min={self.min}, max={self.max})"


def _add(counts: dict[int, int], index: int, times: int) -> None:
    counts[index] = counts.get(index, 0) + times


def _value(index: int) -> float:
    return 2 * math.exp(index * _LOG_GAMMA) / (GAMMA + 1)


def _write(body: bytearray, number: int) -> None:
    """Append a whole number from 0 up as a varint: seven bits a byte, low ones first."""
    while number > 0x7F:
        body.append(number & 0x7F | 0x80)
        number >>= 7
    body.append(number)


def _write_all(body: bytearray, numbers: list[int]) -> None:
    """Append the numbers as varints; most fit into a byte, and most runs of them do."""
    for start in range(0, len(numbers), 32):
        part = numbers[start : start + 32]
        if max(part) < 0x80:
            body += bytes(part)
        else:
            for number in part:
                if number < 0x80:
                    body.append(number)
                else:
                    _write(body, number)


def _read(body: bytes, position: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = body[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, position
        shift += 7


def _read_all(data: bytes, position: int) -> list[int]:
    numbers = []
    while position < len(data):
        number = data[position]
        if number < 0x80:
            position += 1
        else:
            number, position = _read(data, position)
        numbers.append(number)
    return numbers


def _read_counts(body: bytes, position: int) -> tuple[dict[int, int], int]:
    length, position = _read(body, position)
    counts: dict[int, int] = {}
    index = 0
    for nth in range(length):
        gap, position = _read(body, position)
        index = index + gap if nth else _from_zigzag(gap)
        counts[index], position = _read(body, position)
    return counts, position


def _tokens(counts: dict[int, int]) -> list[int]:
    """Return the first bucket and the tokens of a side, empty when it holds nothing."""
    if not counts:
        return []
    ordered = sorted(counts)
    previous = ordered[0] - 1
    found = [_to_zigzag(ordered[0])]
    for index in ordered:
        step = index - previous - 1
        if step > 7:
            found += _skips(step >> 3)
        found.append(counts[index] << 3 | step & 7)
        previous = index
    return found


def _skips(eights: int) -> list[int]:
    found = []
    while eights:
        token = min(eights.bit_length() - 1, 7)
        found.append(token)
        eights -= 1 << token
    return found


def _from_tokens(numbers: list[int]) -> dict[int, int]:
    counts: dict[int, int] = {}
    if not numbers:
        return counts
    index = _from_zigzag(numbers[0]) - 1
    for token in numbers[1:]:
        if token < 8:
            index += 8 << token
        else:
            index += (token & 7) + 1
            counts[index] = token >> 3
    return counts


def _to_zigzag(number: int) -> int:
    return number << 1 if number >= 0 else -(number << 1) - 1


def _from_zigzag(number: int) -> int:
    return (number >> 1) ^ -(number & 1)


def to_units(value: float) -> int:
    """Return a sum in 2^-60; what overflowed in an earlier version is as large as a double."""
    if math.isnan(value):
        return 0
    largest = sys.float_info.max
    value = min(max(value, -largest), largest)
    return int(value * _UNITS) if abs(value) < _SCALABLE else int(value) << UNITS_BITS


def units_to_float(units: int) -> float:
    """Return a number of 2^-60 as the nearest double, infinite when there is none so large."""
    try:
        return units / (1 << UNITS_BITS)
    except OverflowError:
        return math.inf if units > 0 else -math.inf


def pack_header(least: float, most: float) -> bytes:
    """Return what stands before the sum."""
    return _HEADER.pack(_TOKENS, least, most)


def units_to_bytes(units: int) -> bytes:
    """Return a byte that says how many follow, then the number, low bytes first."""
    length = units.bit_length() // 8 + 1
    return bytes((length,)) + units.to_bytes(length, "little", signed=True)


def _sum(values: Sequence[float]) -> float:
    """Return the sum, rounded once; nan when a value is not finite or the sum overflows."""
    try:
        return math.fsum(values)
    except (OverflowError, ValueError):
        return math.nan


def _sum_units(values: Sequence[float], total: float, most: float) -> int:
    """Return the exact sum in 2^-60 of values above 2^-8, whose rounded sum is known."""
    if total < _MOST_EXACT:
        # What rounding took away has no bit below 2^-60 and none above 2^-9: it is a double.
        rest = math.fsum(chain(values, (-total,)))
        return int(total * _UNITS) + int(rest * _UNITS)
    if most < _SCALABLE:
        return sum(map(int, map(mul, values, repeat(_UNITS))))
    return sum(map(to_units, values))
