"""A model of a PostgreSQL server and of a store, fast enough for a thousand histories.

Both answer the SQL files that the real ones answer, so the collector that runs on them is the
whole one. The server knows what really ran; it evicts, is reset, crashes and is taken over.
"""

from __future__ import annotations

import contextlib
import json
import math
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from perfcore.collect.statements import COUNTERS
from perfcore.db import QUERIES, query

_START = datetime(2026, 11, 24, tzinfo=UTC)
# Multiples of it add up without a rounding error, so truth and differences can be equal.
GRAIN_MS = 1 / 64
VERSIONS = {13: 130020, 16: 160010, 18: 180006}


def _names() -> dict[bytes, str]:
    found = {}
    for path in QUERIES.glob("*.sql"):
        name = path.name.split(".")[0]
        for version in (*VERSIONS.values(), 999999):
            text = query(name, version)
            for known in (text, text.replace("{schema}", '"public"')):
                found[known.encode()] = name
    return found


NAMES = _names()


class Killed(BaseException):
    """kill -9 of the collector."""


@dataclass
class Entry:
    """One entry of pg_stat_statements."""

    since: float
    counters: list[float] = field(default_factory=lambda: [0.0] * len(COUNTERS))
    shortest_ms: float = 0.0
    longest_ms: float = 0.0

    def count(self, change: list[float], ms: float) -> None:
        self.counters = [c + n for c, n in zip(self.counters, change, strict=True)]
        self.shortest_ms = min(self.shortest_ms or ms, ms)
        self.longest_ms = max(self.longest_ms, ms)


@dataclass
class Life:
    """A server between two failovers: its entries, and what its identity says."""

    system_identifier: str
    timeline: int
    started_at: datetime
    launched_at: datetime
    stats_reset: datetime
    entries: dict[tuple[int, int, bool], Entry] = field(default_factory=dict)
    evictions: int = 0
    transactions: int = 0


@dataclass(frozen=True)
class Execution:
    """What really ran, and when in the order of events."""

    tick: int
    queryid: int
    change: list[float]


@dataclass
class Server:
    """What is behind the target's DSN; time is a count of events."""

    major: int
    chance: random.Random
    max_entries: int = 40
    tick: int = 0
    clock_offset_s: float = 0.0
    hides: bool = False  # the statements of user 2 from the collector
    executions: list[Execution] = field(default_factory=list)
    losses: list[tuple[int, int, str]] = field(default_factory=list)  # tick, queryid, how
    breaks: list[int] = field(default_factory=list)  # ticks at which an epoch ended
    crashes: list[int] = field(default_factory=list)
    transactions: list[int] = field(default_factory=list)  # the tick of each
    hidden_at: list[int] = field(default_factory=list)  # ticks at which rights were missing
    life: Life = field(init=False)

    def __post_init__(self) -> None:
        self.life = self._born("1", 1)

    @property
    def now(self) -> datetime:
        # The microseconds keep two instants apart though the clock was set back.
        return _START + timedelta(seconds=self.tick + self.clock_offset_s, microseconds=self.tick)

    def _born(self, system_identifier: str, timeline: int) -> Life:
        return Life(system_identifier, timeline, self.now, self.now, self.now)

    def execute(self) -> None:
        queryid = self.chance.randrange(1, 9)
        key = (queryid, self.chance.randrange(1, 3), self.chance.random() < 0.8)
        if self.major < 14:
            key = (*key[:2], True)
        calls = self.chance.choice((1, 1, 2, 50, 3000))
        ms = self.chance.randrange(1, 6400) * GRAIN_MS
        change = [float(calls), calls * ms] + [
            float(calls * self.chance.randrange(3)) for _ in COUNTERS[2:]
        ]
        if key not in self.life.entries:
            self._make_room()
            self.life.entries[key] = Entry(self.now.timestamp())
        self.life.entries[key].count(change, ms)
        self.life.transactions += calls
        self.executions.append(Execution(self.tick, queryid, change))
        self.transactions += [self.tick] * calls

    def _make_room(self) -> None:
        if len(self.life.entries) < self.max_entries:
            return
        self.life.evictions += 1
        by_use = sorted(self.life.entries, key=lambda k: self.life.entries[k].counters[0])
        for key in by_use[: max(1, len(by_use) // 3)]:
            self._lose(key, "eviction")

    def _lose(self, key: tuple[int, int, bool], how: str) -> None:
        del self.life.entries[key]
        self.losses.append((self.tick, key[0], how))

    def reset(self) -> None:
        for key in list(self.life.entries):
            self._lose(key, "reset")
        self.life.stats_reset = self.now
        self.life.evictions = 0
        self.breaks.append(self.tick)

    def reset_one(self) -> None:
        if self.life.entries:
            key = self.chance.choice(list(self.life.entries))
            self._lose(key, "reset of one")
            if not self.life.entries:
                self.life.stats_reset = self.now
                self.breaks.append(self.tick)

    def reset_extremes(self) -> None:
        if self.major >= 17:
            for entry in self.life.entries.values():
                entry.shortest_ms = entry.longest_ms = 0.0

    def restart(self) -> None:
        """Stop and start: the statistics are kept."""
        self.life.started_at = self.life.launched_at = self.now
        self.breaks.append(self.tick)

    def crash(self) -> None:
        """Lose all statistics; the postmaster may live through it."""
        self.reset()
        self.crashes.append(self.tick)
        self.life.transactions = 0
        self.life.launched_at = self.now
        if self.chance.random() < 0.5:
            self.life.started_at = self.now

    def fail_over(self) -> None:
        """Be another server, which may have been busier or idler, and had its own restarts."""
        old = self.life
        same = self.chance.random() < 0.6
        self.life = self._born(
            old.system_identifier if same else str(self.tick),
            old.timeline + self.chance.randrange(2),
        )
        self.life.transactions = self.chance.choice((0, 10, 10**9))
        for key, entry in old.entries.items():
            factor = self.chance.choice((0, 0.5, 1, 2, 1000))
            if factor:
                counters = [float(math.ceil(c * factor)) for c in entry.counters]
                self.life.entries[key] = Entry(
                    entry.since, counters, entry.shortest_ms, entry.longest_ms * 2
                )
        self.breaks.append(self.tick)

    def step_clock(self) -> None:
        self.clock_offset_s += self.chance.choice((-3600, -90, -7.5, 0.25, 60, 86_400))

    def change_rights(self) -> None:
        self.hides = not self.hides

    # What the collector asks.

    def answer(self, name: str, parameters: Mapping[str, Any]) -> list[dict[str, Any]]:
        asked: Callable[[], list[dict[str, Any]]] | None = getattr(self, f"_{name}", None)
        return asked() if asked else []

    def _target_identity(self) -> list[dict[str, Any]]:
        life = self.life
        return [{
            "system_identifier": life.system_identifier, "timeline": life.timeline,
            "started_at": life.started_at, "launched_at": life.launched_at, "is_standby": False,
            "server_version": VERSIONS[self.major], "database": "shop", "database_oid": 5,
            "stats_reset": None, "active_ms": None if self.major < 14 else 0.0, "now": self.now,
        }]  # fmt: skip

    def _target_extension(self) -> list[dict[str, Any]]:
        version = {13: "1.8", 16: "1.10", 18: "1.12"}[self.major]
        return [{"schema": "public", "version": version}]

    def _statements_epoch(self) -> list[dict[str, Any]]:
        old = self.major < 14
        return [{
            "stats_reset": None if old else self.life.stats_reset,
            "evictions": None if old else self.life.evictions, "max_entries": self.max_entries,
        }]  # fmt: skip

    def _statements_read(self) -> list[dict[str, Any]]:
        if self.hides:
            self.hidden_at.append(self.tick)
        return [
            {
                "queryid": None if self.hides and user == 2 else queryid,
                "userid": user, "toplevel": top_level,
                "since": str(entry.since) if self.major >= 17 else "",
                **dict(zip(COUNTERS, entry.counters, strict=True)),
                "min_exec_time": entry.shortest_ms,
                "mean_exec_time": entry.counters[1] / entry.counters[0],
                "max_exec_time": entry.longest_ms, "stddev_exec_time": 0.0,
                "entries": len(self.life.entries),
            }
            for (queryid, user, top_level), entry in self.life.entries.items()
        ]  # fmt: skip

    def _statements_fetch_texts(self) -> list[dict[str, Any]]:
        return []

    def _target_database(self) -> list[dict[str, Any]]:
        zero = dict.fromkeys(("blks_hit", "blks_read", "xact_rollback", "temp_bytes"), 0)
        return [{
            **zero, "deadlocks": 0, "backends": 1, "database_bytes": 1,
            "xact_commit": self.life.transactions,
        }]  # fmt: skip


@dataclass
class Store:
    """What the collector has written; a transaction that is not committed leaves nothing."""

    snapshots: dict[str, tuple[datetime, str, str]] = field(default_factory=dict)
    deltas: list[dict[str, Any]] = field(default_factory=list)
    gaps: list[dict[str, Any]] = field(default_factory=list)
    intervals: list[dict[str, Any]] = field(default_factory=list)
    database: list[dict[str, Any]] = field(default_factory=list)
    markers: list[dict[str, Any]] = field(default_factory=list)
    taken: list[tuple[str, datetime | None, datetime]] = field(default_factory=list)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        lists: tuple[list[Any], ...] = (
            self.deltas, self.gaps, self.intervals, self.database, self.markers, self.taken,
        )  # fmt: skip
        before, lengths = dict(self.snapshots), [len(of) for of in lists]
        try:
            yield
        except BaseException:
            self.snapshots = before
            for of, length in zip(lists, lengths, strict=True):
                del of[length:]
            raise

    def answer(self, name: str, parameters: Mapping[str, Any]) -> list[dict[str, Any]]:
        asked: Callable[[Mapping[str, Any]], list[dict[str, Any]] | None] | None = getattr(
            self, f"_{name}", None
        )
        return (asked(parameters) if asked else None) or []

    def _store_read_target_settings(self, _: Mapping[str, Any]) -> list[dict[str, Any]]:
        return [{"settings": {}}]

    def _store_read_snapshot(self, of: Mapping[str, Any]) -> list[dict[str, Any]]:
        if of["view"] not in self.snapshots:
            return []
        taken_at, epoch, body = self.snapshots[of["view"]]
        return [{"taken_at": taken_at, "epoch": epoch, "snapshot": json.loads(body)}]

    def _store_save_snapshot(self, of: Mapping[str, Any]) -> list[dict[str, Any]]:
        there = self.snapshots.get(of["view"])
        if there is not None and there[0] != of["expected"]:
            return []
        self.snapshots[of["view"]] = (
            of["taken_at"], of["epoch"], json.dumps(of["snapshot"].obj)
        )  # fmt: skip
        self.taken.append((of["view"], of["expected"] if there else None, of["taken_at"]))
        return [{"view": of["view"]}]

    def _store_insert_statement_delta(self, row: Mapping[str, Any]) -> None:
        self.deltas.append(dict(row))

    def _store_insert_gap(self, row: Mapping[str, Any]) -> None:
        self.gaps.append(dict(row))

    def _store_insert_interval(self, row: Mapping[str, Any]) -> None:
        self.intervals.append(dict(row))

    def _store_insert_database_delta(self, row: Mapping[str, Any]) -> None:
        self.database.append(dict(row))

    def _store_insert_marker(self, row: Mapping[str, Any]) -> None:
        self.markers.append(dict(row))

    def _store_insert_marker_once(self, row: Mapping[str, Any]) -> None:
        self.markers.append(dict(row))


class Line:
    """A connection to the model of a server or of a store, as far as the collector uses it."""

    closed = False
    connection = None

    def __init__(
        self, of: Server | Store, interfere: Callable[[str], None], version: int = 180006
    ) -> None:
        self._of = of
        self._interfere = interfere
        self._rows: list[dict[str, Any]] = []
        self.server_version = version

    @property
    def info(self) -> Line:
        return self

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        if isinstance(self._of, Server):
            yield
            return
        with self._of.transaction():
            yield
        self._interfere("after the commit")

    def cursor(self, **_: Any) -> Line:
        return self

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    description = True

    def execute(self, statement: bytes, parameters: Mapping[str, Any] | None = None) -> Line:
        name = NAMES.get(statement, "")
        self._interfere(name)
        self._rows = self._of.answer(name, parameters or {})
        return self

    def executemany(self, statement: bytes, rows: list[Mapping[str, Any]]) -> None:
        for row in rows:
            self.execute(statement, row)

    def fetchall(self) -> list[dict[str, Any]]:
        return self._rows
