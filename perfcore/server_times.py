"""A statement's times as the server keeps them: mean and extremes, no percentiles."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class ServerTimes:
    """Execution times of a statement over the lifetime of the server's entries for it.

    The extremes are 0 after they alone were reset (17 and above) and nothing ran since.
    """

    calls: int
    min_ms: float
    mean_ms: float
    max_ms: float
    stddev_ms: float  # of the population, as pg_stat_statements has it
    counted_since: datetime | None  # None: the server does not say (up to 16)


def merged(parts: Iterable[ServerTimes]) -> ServerTimes | None:
    """Return the times of all executions together, None when there were none.

    Exact: the variance of the whole is the mean of the parts' variances plus that of their means.

    >>> a, b = ServerTimes(1, 2.0, 2.0, 2.0, 0.0, None), ServerTimes(3, 6.0, 6.0, 6.0, 0.0, None)
    >>> both = merged([a, b])
    >>> (both.mean_ms, round(both.stddev_ms, 3), both.min_ms, both.max_ms)
    (5.0, 1.732, 2.0, 6.0)
    """
    ran = [p for p in parts if p.calls > 0]
    if not ran:
        return None
    calls = sum(p.calls for p in ran)
    mean_ms = sum(p.calls * p.mean_ms for p in ran) / calls
    variance = sum(p.calls * (p.stddev_ms**2 + (p.mean_ms - mean_ms) ** 2) for p in ran) / calls
    extremes = [p for p in ran if p.max_ms > 0] or ran
    since = [p.counted_since for p in ran]
    return ServerTimes(
        calls=calls,
        min_ms=min(p.min_ms for p in extremes),
        mean_ms=mean_ms,
        max_ms=max(p.max_ms for p in extremes),
        stddev_ms=math.sqrt(variance),
        counted_since=min((s for s in since if s), default=None) if all(since) else None,
    )
