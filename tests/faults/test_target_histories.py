"""A thousand histories of a target whose truth is known, through the whole collector."""

from __future__ import annotations

import random
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from perfcore.collect.reading import Collector
from perfcore.collect.statements import COUNTERS, VIEW
from tests.collect.model import VERSIONS, Killed, Line, Server, Store

HISTORIES = 1000
_AT_ONCE = 50
_PASSES = 14
_NAMES = (*COUNTERS,)


class History:
    """One random course of events, and the collectors that watch it."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.major = (13, 16, 18)[seed % 3]
        # A quarter of the histories loses nothing, so that all of the truth must be found.
        self.is_calm = seed % 4 == 0
        self.server = Server(
            self.major, self.chance, max_entries=40 if self.is_calm else self.chance.choice((9, 40))
        )
        self.store = Store()
        self.read_at: dict[datetime, int] = {}  # the tick at which each reading's entries were read
        self.counted_at: dict[datetime, int] = {}  # and the database's transactions
        self.seen: dict[datetime, dict[tuple[int, int, bool], Any]] = {}
        self.kills_done = self.races = 0
        self.watchers = [Watcher(self), Watcher(self)]

    def run(self) -> None:
        for _ in range(_PASSES):
            for _ in range(self.chance.randrange(12)):
                self.event()
            self.watchers[self.chance.choice((0, 0, 0, 1))].watch()

    def event(self) -> None:
        server, number = self.server, self.chance.random()
        server.tick += 1
        if self.is_calm or number < 0.86:
            server.execute()
            return
        self.chance.choice(
            (server.reset, server.reset_one, server.reset_one, server.reset_extremes,
             server.restart, server.crash, server.fail_over, server.step_clock,
             server.change_rights)
        )()  # fmt: skip

    # What must hold.

    def check(self) -> Counter[str]:
        told: Counter[str] = Counter(kills=self.kills_done, races=self.races)
        truth: dict[int, list[tuple[int, list[float]]]] = defaultdict(list)
        for execution in self.server.executions:
            truth[execution.queryid].append((execution.tick, execution.change))
        for start, end in self._intervals(VIEW):
            self._check_interval(start, end, truth, told)
        self._check_database(told)
        told["executions"] = len(self.server.executions)
        return told

    def _intervals(self, view: str) -> Iterator[tuple[datetime, datetime]]:
        """Yield the readings that follow on each other; none is left out, none comes twice."""
        last: datetime | None = None
        for of, expected, taken_at in self.store.taken:
            if of == view:
                assert expected == last
                if last is not None:
                    yield last, taken_at
                last = taken_at

    def _check_interval(
        self,
        start: datetime,
        end: datetime,
        truth: dict[int, list[tuple[int, list[float]]]],
        told: Counter[str],
    ) -> None:
        first, last = self.read_at[start], self.read_at[end]
        gaps = [g for g in self.store.gaps if g["view"] == VIEW and g["end"] == end]
        assert len(gaps) <= 1
        gap = gaps[0] if gaps else None
        counted = {d["queryid"]: d for d in self.store.deltas if d["end"] == end}
        losses = [x for x in self.server.losses if first < x[0] <= last]
        is_broken = any(first < at <= last for at in self.server.breaks)
        hides = any(first <= at <= last for at in self.server.hidden_at)
        interval = [i for i in self.store.intervals if i["end"] == end]
        if is_broken and (self.major > 13 or self._is_certain(first, last)):
            # A restart, a crash, a reset or a failover is never read over.
            assert gap is not None and gap["queryids"] is None or self._reset_while_reading(last)
        told["whole gaps"] += gap is not None and gap["queryids"] is None
        told["gaps of statements"] += gap is not None and gap["queryids"] is not None
        for queryid in range(1, 9):
            ran = _sums(truth[queryid], first, last)
            found = [counted[queryid][n] for n in _NAMES] if queryid in counted else None
            is_gap = gap is not None and (gap["queryids"] is None or queryid in gap["queryids"])
            assert not (found and is_gap), "an interval is counted or a gap, never both"
            if found:
                assert found[0] > 0 and all(0 <= f <= r for f, r in zip(found, ran, strict=True))
            mine = [x for x in losses if x[1] == queryid]
            if not is_gap and (found or [0.0] * len(ran)) != ran:
                told["partly counted"] += 1
                evicted = interval and (interval[0]["evictions"] or 0) > 0
                assert mine or hides, "less than the truth, and nothing was lost"
                assert evicted or hides or is_broken or self._is_unknowable(queryid, start, end)
            if is_gap and not (mine or hides or is_broken):
                assert self.major == 13 and losses, "a gap, and nothing was lost"
            told["counted"] += found == ran
            told["lost"] += len(mine)

    def _is_certain(self, first: int, last: int) -> bool:
        """Say whether what broke the epoch can be seen on 13: not a reset alone."""
        return not any(first < x[0] <= last for x in self.server.losses)

    def _reset_while_reading(self, last: int) -> bool:
        """Say whether the epoch ended after the reading asked for it: the next one sees it."""
        return any(last - 8 <= at <= last for at in self.server.breaks)

    def _is_unknowable(self, queryid: int, start: datetime, end: datetime) -> bool:
        """Say whether no reading can show that entries of the statement were lost.

        Either they came and went between two readings, or (up to 16) the new one is larger in
        every counter, and its extremes are wider.
        """
        before, after = self.seen[start], self.seen[end]
        for key in (k for k in before if k[0] == queryid):
            if key not in after:
                return False
            (old, since, shortest, longest), new = before[key], after[key]
            if self.major >= 17 and new[1] != since:
                return False
            fell = any(n < o for n, o in zip(new[0], old, strict=True))
            if fell or (self.major < 17 and (new[2] > shortest or new[3] < longest)):
                return False
        return True

    def _check_database(self, told: Counter[str]) -> None:
        for start, end in self._intervals("pg_stat_database"):
            first, last = self.counted_at[start], self.counted_at[end]
            ran = sum(first < at <= last for at in self.server.transactions)
            found = [d for d in self.store.database if d["end"] == end]
            lost = [g for g in self.store.gaps if g["view"] != VIEW and g["end"] == end]
            assert len(found) + len(lost) == 1
            assert lost or not any(first < at <= last for at in self.server.crashes)
            if found:
                assert found[0]["xact_commit"] <= ran
                told["database counted"] += found[0]["xact_commit"] == ran


class Watcher:
    """A collector's process, which may be killed at any step and is then begun anew.

    Nothing keeps two of them apart but the store: the lock that should is not modelled.
    """

    def __init__(self, history: History) -> None:
        self.history = history
        self.server = history.server
        self.steps_to_live = 0
        self.identified: datetime | None = None
        self.is_watching = False
        self.begin()

    def begin(self) -> None:
        target: Any = Line(self.server, self._at_target, VERSIONS[self.history.major])
        store: Any = Line(self.history.store, lambda name: self._maybe_die())
        self.collector = Collector(target, store, 1, clock=lambda: self.server.now)

    def watch(self) -> None:
        chance = self.history.chance
        self.steps_to_live = chance.randrange(1, 60) if chance.random() < 0.25 else 0
        self.identified, self.is_watching = None, True
        try:
            self.collector.collect()
        except Killed:
            self.history.kills_done += 1
            self.begin()
        self.steps_to_live, self.is_watching = 0, False

    def _at_target(self, name: str) -> None:
        """The world goes on between two questions of the collector."""
        history, server = self.history, self.server
        self._maybe_die()
        if history.chance.random() < 0.1:
            history.event()
        if history.chance.random() < 0.01:
            for other in history.watchers:
                if not other.is_watching:
                    history.races += 1
                    other.watch()
        server.tick += 1
        if name == "target_identity" and self.identified is None:
            self.identified = server.now
        assert self.identified is not None
        if name == "statements_read":
            history.read_at[self.identified] = server.tick
            history.seen[self.identified] = {
                key: ([*e.counters], e.since, e.shortest_ms, e.longest_ms)
                for key, e in server.life.entries.items()
            }
        if name == "target_database":
            history.counted_at[self.identified] = server.tick

    def _maybe_die(self) -> None:
        if self.steps_to_live:
            self.steps_to_live -= 1
            if not self.steps_to_live:
                raise Killed


def _sums(ran: list[tuple[int, list[float]]], first: int, last: int) -> list[float]:
    ticks = [tick for tick, _ in ran]
    within = ran[bisect_right(ticks, first) : bisect_right(ticks, last)]
    return [sum(column) for column in zip(*(c for _, c in within), strict=True)] or [0.0] * len(
        _NAMES
    )


@pytest.mark.fault(60, 61, 62, 63, 64, 79, 80)
@pytest.mark.parametrize("block", range(HISTORIES // _AT_ONCE))
def test_no_history_is_ever_told_larger_than_it_was(block: int) -> None:
    told: Counter[str] = Counter()
    for seed in range(block * _AT_ONCE, (block + 1) * _AT_ONCE):
        history = History(seed)
        history.run()
        try:
            told += history.check()
        except AssertionError as error:
            error.add_note(f"history {seed}, PostgreSQL {history.major}")
            raise
    # The histories are worth something: all of this happened in each block.
    for what in ("counted", "lost", "whole gaps", "gaps of statements", "kills"):
        assert told[what] > 10, (what, told)
    print(dict(told))
