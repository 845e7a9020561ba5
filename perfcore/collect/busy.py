"""How long a request waited for its statements, when some of them ran at the same time."""

from __future__ import annotations

_COMPACT_AT = 128
_KEPT = 32


class BusyTime:
    """The union of intervals of a clock, in a bounded amount of memory.

    Intervals arrive about in the order of their ends. Past some dozens with gaps between
    them the oldest are added up, and what arrives later counts only after them: the total
    may then miss something, and never exceeds the time that passed.

    >>> busy = BusyTime()
    >>> busy.add(0, 10); busy.add(5, 15); busy.add(20, 30)
    >>> busy.total_ns(0, 25)
    20
    """

    __slots__ = ("_folded_ns", "_since_ns", "_spans")

    def __init__(self) -> None:
        self._spans: list[tuple[int, int]] = []
        self._since_ns = 0  # what lies before is in `_folded_ns`
        self._folded_ns = 0

    def add(self, start_ns: int, end_ns: int) -> None:
        self._spans.append((start_ns, end_ns))
        if len(self._spans) >= _COMPACT_AT:
            self._compact()

    def total_ns(self, start_ns: int, end_ns: int) -> int:
        """Return the length of the union within [start, end]."""
        self._compact()
        spans = ((max(start, start_ns), min(end, end_ns)) for start, end in self._spans)
        recent_ns = sum(max(0, end - start) for start, end in spans)
        return min(self._folded_ns + recent_ns, end_ns - start_ns)

    def _compact(self) -> None:
        merged: list[tuple[int, int]] = []
        for start, end in sorted(self._spans):
            start = max(start, self._since_ns)
            if merged and start <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
            elif start < end:
                merged.append((start, end))
        for start, end in merged[:-_KEPT]:
            self._folded_ns += end - start
            self._since_ns = end
        self._spans = merged[-_KEPT:]
