"""The reference stream as columns: what the replay of a cache works on."""

from __future__ import annotations

import json
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

VERSION = 1
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
MOST_ROWS = 100_000  # that a replay is worth the time of
_MANY_KEYS, _HOT_KEYS = 64, 16


@dataclass(frozen=True, slots=True)
class References:
    """Reads in the order of time; a row stands for a key's executions within one second."""

    fingerprint: Ints
    endpoint: Ints  # place in `ReferenceStream.endpoints`
    process: Ints  # place in `ReferenceStream.processes`
    key: Ints  # of statement and parameters, numbered from 0
    at_s: Floats  # of the first execution, since the epoch
    calls: Ints
    duration_ms: Floats  # all executions together, as the application measured
    weight: Floats  # how many keys of its statement this one stands for

    def __len__(self) -> int:
        return len(self.at_s)

    def where(self, chosen: Bools | Ints) -> References:
        """Return the chosen rows."""
        return References(*(getattr(self, name)[chosen] for name in self.__slots__))


@dataclass(frozen=True, slots=True)
class ReferenceStream:
    """What the instrumented applications sent between two instants."""

    references: References
    calls: Mapping[int, int]  # by fingerprint: executions with a key, those left out included
    without_key: Mapping[int, int]  # by fingerprint: no key could be made of their parameters
    late: int  # executions that found no room to wait
    writes: Mapping[int, Floats]  # by fingerprint: when they ran, s since the epoch, a second apart
    endpoints: tuple[tuple[str, str], ...] = ()  # service, endpoint
    processes: tuple[str, ...] = ()
    start_s: float = 0.0
    end_s: float = 0.0
    unreadable: int = 0  # pieces that are damaged, or of a release to come

    @property
    def span_s(self) -> float:
        return max(self.end_s - self.start_s, 0.0)


@dataclass(slots=True)
class _Columns:
    rows: dict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))
    calls: Counter[int] = field(default_factory=Counter)
    without_key: Counter[int] = field(default_factory=Counter)
    levels: dict[int, int] = field(default_factory=dict)
    writes: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
    endpoints: dict[tuple[str, str], int] = field(default_factory=dict)
    processes: dict[str, int] = field(default_factory=dict)
    hot: set[int] = field(default_factory=set)  # keys that are kept at any rate
    late: int = 0

    def add(
        self, started_at: datetime, service: str, process: str, document: Mapping[str, Any]
    ) -> None:
        fps = document["fingerprints"]
        for fp, level, calls, without in zip(
            fps, document["levels"], document["calls"], document["without_key"], strict=True
        ):
            self.calls[fp] += calls
            self.without_key[fp] += without
            self.levels[fp] = max(level, self.levels.get(fp, 0))
        places = [self._place(self.endpoints, (service, e)) for e in document["endpoints"]]
        start = started_at.timestamp()
        self.late += document["late"]
        self.hot.update(document["hot"])
        self.rows["process"] += [self._place(self.processes, process)] * len(document["key"])
        self.rows["fingerprint"] += map(fps.__getitem__, document["statement"])
        self.rows["endpoint"] += map(places.__getitem__, document["endpoint"])
        self.rows["at_s"] += [start + ms / 1000 for ms in document["at_ms"]]
        for name in ("key", "count", "duration_us"):
            self.rows[name] += document[name]
        for fp, at_ms, _ in document["writes"]:
            self.writes[fp].append(start + at_ms / 1000)

    @staticmethod
    def _place(places: dict[Any, int], name: Any) -> int:
        return places.setdefault(name, len(places))

    def references(self, most: int) -> References:
        """Return the rows by time, each statement at the one rate that all of its keys have."""
        fingerprint = np.array(self.rows["fingerprint"], dtype=np.int64)
        key = np.array(self.rows["key"], dtype=np.uint64)
        calls = np.array(self.rows["count"], dtype=np.int64)
        known, place = np.unique(fingerprint, return_inverse=True)
        levels = np.array([self.levels[int(fp)] for fp in known], dtype=np.uint64)
        is_hot = np.isin(key, np.array(sorted(self.hot), dtype=np.uint64))
        kept = is_hot | _is_kept(key, levels[place])
        if kept.sum() > most:
            is_many, hottest = _with_many_keys(place, key, calls, len(known))
            is_hot |= hottest
            while kept.sum() > most and levels.max(initial=0) < 40 and is_many.any():
                levels[is_many] += np.uint64(1)
                kept = is_hot | _is_kept(key, levels[place])
        every = References(
            fingerprint,
            np.array(self.rows["endpoint"], dtype=np.int64),
            np.array(self.rows["process"], dtype=np.int64),
            np.unique(key, return_inverse=True)[1].astype(np.int64),
            np.array(self.rows["at_s"], dtype=np.float64),
            calls,
            np.array(self.rows["duration_us"], dtype=np.float64) / 1000,
            np.where(is_hot, 1.0, np.exp2(levels[place].astype(np.float64))),
        )
        order = np.argsort(every.at_s, kind="stable")
        return every.where(order[kept[order]])


def _is_kept(key: NDArray[np.uint64], level: NDArray[np.uint64]) -> Bools:
    """Say which keys are among the one in 2 ** level."""
    # A shift by all 64 bits is not defined.
    position = key >> (np.uint64(64) - np.maximum(level, np.uint64(1)))
    kept: Bools = (level == 0) | (position == 0)
    return kept


def _with_many_keys(
    place: Ints, key: NDArray[np.uint64], calls: Ints, statements: int
) -> tuple[Bools, Bools]:
    """Return which statements can do with fewer keys, and the rows of their most used ones."""
    is_many = np.zeros(statements, dtype=np.bool_)
    is_hot = np.zeros(len(key), dtype=np.bool_)
    for number in range(statements):
        mine = np.flatnonzero(place == number)
        keys, at = np.unique(key[mine], return_inverse=True)
        if len(keys) > _MANY_KEYS:
            is_many[number] = True
            used = np.bincount(at, weights=calls[mine])
            is_hot[mine] = np.isin(at, np.argsort(-used, kind="stable")[:_HOT_KEYS])
    return is_many, is_hot


def unpacked(
    rows: Iterable[tuple[datetime, str, str, bytes]], most: int = MOST_ROWS
) -> ReferenceStream:
    """Return the stream that these pieces hold: (started_at, service, process, content).

    While the stream ran, the rate of a statement may have fallen: of what was kept before, only
    the keys count that were kept to the end. Where there are more than `most` rows, statements
    with many keys are sampled further.
    """
    columns = _Columns()
    starts: list[float] = []
    unreadable = 0
    for started_at, service, process, content in rows:
        document = _opened(content)
        if document is None:
            unreadable += 1
            continue
        columns.add(started_at, service, process, document)
        starts.append(started_at.timestamp())
    references = columns.references(most)
    ends = [references.at_s[-1]] if len(references) else []
    return ReferenceStream(
        references,
        columns.calls,
        {fp: n for fp, n in columns.without_key.items() if n},
        columns.late,
        {fp: np.unique(np.array(at, dtype=np.float64)) for fp, at in columns.writes.items()},
        tuple(columns.endpoints),
        tuple(columns.processes),
        min(starts, default=0.0),
        max([*starts, *ends], default=0.0),
        unreadable,
    )


def _opened(content: bytes) -> Mapping[str, Any] | None:
    """Return a piece's document, None for one that is damaged or of a release to come."""
    try:
        document: Mapping[str, Any] = json.loads(zlib.decompress(content))
        return document if document["version"] == VERSION else None
    except (zlib.error, ValueError, LookupError, TypeError):
        return None
