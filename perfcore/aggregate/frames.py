"""Data frames with the same columns and types whether they hold rows or none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd

from perfcore.store.resolution import MINUTE, aligned, floor
from perfcore.types import TimeRange

TIME = "datetime64[us, UTC]"
WHOLE = "int64"
MAYBE_WHOLE = "Int64"
NUMBER = "float64"
TEXT = "str"
FLAG = "bool"
ANY = "object"


def frame(columns: Mapping[str, str], rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Return the rows with exactly these columns, in this order, of these types."""
    table = pd.DataFrame(list(rows), columns=list(columns), dtype=object)
    return pd.DataFrame({name: _typed(table[name], kind) for name, kind in columns.items()})


def _typed(values: Any, kind: str) -> Any:
    if kind == TIME:
        return pd.to_datetime(values, utc=True).astype(TIME)
    if kind == NUMBER:
        return pd.to_numeric(values).astype(NUMBER)
    return values if kind == ANY else values.astype(kind)


class Buckets:
    """The equal steps of a trend over a range, from the one that holds its start.

    The last step may reach past the range's end or past now: it is partial, and rates are
    taken over the seconds that it really covers.
    """

    def __init__(self, r: TimeRange, width: timedelta, now: datetime | None = None) -> None:
        self.range = aligned(r, width)
        self.width = width
        self.until = max(min(r.end, now or datetime.now(UTC)), self.range.start)

    def of(self, at: datetime) -> datetime:
        """Return the start of the step that an instant lies in."""
        return floor(at, self.width)

    def starts(self, first: datetime) -> list[datetime]:
        """Return the starts of all steps from the one of `first` to the range's end."""
        at, found = self.of(first), []
        while at < self.until:
            found.append(at)
            at += self.width
        return found

    def minutes(self, start: datetime) -> float:
        """Return how many minutes of the step lie before the range's end and before now."""
        covered = min(start + self.width, self.until) - start
        return max(covered / MINUTE, 1 / 60)

    def is_partial(self, start: datetime) -> bool:
        return start + self.width > self.until


def ratio(part: float, whole: float) -> float:
    """Return part / whole, nan where there is no whole."""
    return part / whole if whole else float("nan")
