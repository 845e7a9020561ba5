"""A histogram whose buckets grow by 2 %: any quantile within 1 %, merging is addition.

Bucket `i` holds the values in (1.02^(i-1), 1.02^i] and answers with the point that is equally
far, relatively, from both ends: at most 0.02 / 2.02 = 0.99 % from any value inside. This is the
logarithmic mapping of DDSketch (Masson, Rim, Lee: VLDB 2019). Merging in any order and any
grouping gives the same counts, which no digest of centroids can say.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterable

GAMMA = 1.02
RELATIVE_ERROR = (GAMMA - 1) / (GAMMA + 1)
# Below this a value counts as zero: no clock and no allocator measures less.
_TINY = 1e-12
_LOG_GAMMA = math.log(GAMMA)
_PLAIN, _DEFLATED = 1, 2
_HEADER = struct.Struct("<ddd")


class Histogram:
    """Counts of values in logarithmic buckets, with their exact count, sum, minimum and maximum.

    >>> h = Histogram()
    >>> for value in (1.0, 2.0, 100.0):
    ...     h.record(value)
    >>> h.count, h.sum, h.max, round(h.quantile(0.5), 1)
    (3, 103.0, 100.0, 2.0)
    """

    __slots__ = ("_above", "_below", "_zero", "count", "error_count", "max", "min", "sum")

    def __init__(self) -> None:
        self.count = 0
        self.error_count = 0  # samples that are errors; they are in the buckets too
        self.sum = 0.0
        self.min = math.inf
        self.max = -math.inf
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
        self.sum += value * times
        if is_error:
            self.error_count += times
        if value < self.min:
            self.min = value
        if value > self.max:
            self.max = value

    def merge(self, other: Histogram) -> None:
        """Add the other's counts to this one; the other stays as it is."""
        for mine, theirs in ((self._above, other._above), (self._below, other._below)):
            for index, times in tuple(theirs.items()):
                _add(mine, index, times)
        self._zero += other._zero
        self.count += other.count
        self.error_count += other.error_count
        self.sum += other.sum
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
        """Return all of it in about 30 bytes plus half a byte a sample."""
        body = bytearray(_HEADER.pack(self.sum, self.min, self.max))
        for number in (self.error_count, self._zero):
            _write(body, number)
        for counts in (self._below, self._above):
            _write_counts(body, counts)
        deflated = zlib.compress(bytes(body), 6)
        if len(deflated) < len(body):
            return bytes((_DEFLATED,)) + deflated
        return bytes((_PLAIN,)) + bytes(body)

    @classmethod
    def from_bytes(cls, data: bytes | memoryview) -> Histogram:
        """Return what `to_bytes` wrote; ValueError when the bytes are something else."""
        data = bytes(data)
        try:
            body = zlib.decompress(data[1:]) if data[0] == _DEFLATED else data[1:]
            if data[0] not in (_PLAIN, _DEFLATED):
                raise ValueError(f"version {data[0]}")
            return cls._decode(body)
        except (IndexError, ValueError, struct.error, zlib.error) as error:
            raise ValueError(f"not a histogram of this program: {error}") from error

    @classmethod
    def _decode(cls, body: bytes) -> Histogram:
        histogram = cls()
        histogram.sum, histogram.min, histogram.max = _HEADER.unpack_from(body)
        position = _HEADER.size
        histogram.error_count, position = _read(body, position)
        histogram._zero, position = _read(body, position)
        histogram._below, position = _read_counts(body, position)
        histogram._above, position = _read_counts(body, position)
        if position != len(body):
            raise ValueError(f"{len(body) - position} bytes left over")
        histogram.count = (
            histogram._zero + sum(histogram._below.values()) + sum(histogram._above.values())
        )
        return histogram

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


def _read(body: bytes, position: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = body[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, position
        shift += 7


def _write_counts(body: bytearray, counts: dict[int, int]) -> None:
    """Append the buckets as gaps and counts; only the first index can be negative (zigzag)."""
    _write(body, len(counts))
    previous: int | None = None
    for index in sorted(counts):
        gap = (index << 1 if index >= 0 else -(index << 1) - 1) if previous is None else None
        _write(body, gap if gap is not None else index - (previous or 0))
        _write(body, counts[index])
        previous = index


def _read_counts(body: bytes, position: int) -> tuple[dict[int, int], int]:
    length, position = _read(body, position)
    counts: dict[int, int] = {}
    index = 0
    for nth in range(length):
        gap, position = _read(body, position)
        index = index + gap if nth else (gap >> 1) ^ -(gap & 1)
        counts[index], position = _read(body, position)
    return counts, position
