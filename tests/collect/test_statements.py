"""Differences of pg_stat_statements against histories whose truth is known."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import pytest

from perfcore.collect.statements import COUNTERS, clean, describe, differences, is_own


@dataclass
class Server:
    """A model of pg_stat_statements: it counts, evicts, and is reset entry by entry."""

    says_since: bool
    entries: dict[str, list[Any]] = field(default_factory=dict)
    truth: dict[int, int] = field(default_factory=dict)  # calls that really ran, by queryid
    created: int = 0

    def execute(self, queryid: int, user: int, calls: int) -> None:
        key = f"{queryid}/{user}/1"
        if key not in self.entries:
            self.created += 1
            since = str(self.created) if self.says_since else ""
            self.entries[key] = [since] + [0] * len(COUNTERS)
        for place in range(1, len(COUNTERS) + 1):
            self.entries[key][place] += calls
        self.truth[queryid] = self.truth.get(queryid, 0) + calls

    def lose(self, key: str) -> None:
        self.entries.pop(key, None)

    def read(self) -> dict[str, list[Any]]:
        return {key: list(value) for key, value in self.entries.items()}


@pytest.mark.parametrize("seed", range(400))
def test_differences_never_exceed_the_truth_and_equal_it_when_nothing_is_lost(seed: int) -> None:
    rng = random.Random(seed)
    server = Server(says_since=seed % 2 == 0)
    loses = seed % 4 >= 2
    before = server.read()
    for _ in range(20):
        server.truth.clear()
        lost: set[int] = set()
        for _ in range(rng.randrange(12)):
            server.execute(rng.randrange(6), rng.randrange(2), rng.randrange(1, 50))
            if loses and server.entries and rng.random() < 0.2:
                key = rng.choice(sorted(server.entries))
                lost.add(int(key.split("/")[0]))
                server.lose(key)
        now = server.read()
        found = {q: d["calls"] for q, d in differences(before, now).items()}
        for queryid, calls in found.items():
            assert 0 < calls <= server.truth[queryid]
        for queryid, calls in server.truth.items():
            if queryid not in lost:
                assert found[queryid] == calls
        before = now


def entry(*counters: float, since: str = "") -> list[Any]:
    return [since, *counters]


def test_users_are_summed_and_idle_statements_absent() -> None:
    zero = entry(*[0] * 8)
    before = {"7/1/1": zero, "7/2/1": zero, "8/1/1": entry(*[3] * 8)}
    now = {"7/1/1": entry(*[2] * 8), "7/2/1": entry(*[5] * 8), "8/1/1": entry(*[3] * 8)}
    assert differences(before, now) == {7: dict.fromkeys(COUNTERS, 7)}


def test_one_counter_that_went_down_leaves_the_entry_out() -> None:
    before = {"7/1/1": entry(5, 50.0, 9, 9, 9, 0, 0, 0)}
    now = {"7/1/1": entry(8, 60.0, 3, 9, 9, 0, 0, 0)}
    assert differences(before, now) == {}


def test_an_entry_that_says_it_began_later_counts_whole() -> None:
    before = {"7/1/1": entry(*[5] * 8, since="a")}
    now = {"7/1/1": entry(*[9] * 8, since="b")}
    assert differences(before, now)[7]["calls"] == 9


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("CREATE ROLE a PASSWORD 'x''y' LOGIN", "CREATE ROLE a PASSWORD '***' LOGIN"),
        ("alter user a with encrypted password E'x'", "alter user a with encrypted password '***'"),
        ("CREATE ROLE a PASSWORD 'cut", "CREATE ROLE a PASSWORD '***'"),
        (
            "CREATE USER MAPPING FOR a SERVER s OPTIONS (user 'a', password 'x')",
            "CREATE USER MAPPING FOR a SERVER s OPTIONS (user 'a', password '***')",
        ),
        (
            "CREATE SUBSCRIPTION s CONNECTION 'host=h password=x dbname=d' PUBLICATION p",
            "CREATE SUBSCRIPTION s CONNECTION 'host=h password=*** dbname=d' PUBLICATION p",
        ),
        ("SELECT password FROM users WHERE id = $1", "SELECT password FROM users WHERE id = $1"),
    ],
)
def test_passwords_do_not_reach_the_store(text: str, kept: str) -> None:
    assert clean(text) == kept


def test_long_texts_are_cut_and_ours_left_out() -> None:
    assert len(clean("é" * 70_000).encode()) <= 65_536
    assert is_own("SELECT /* perfcore */ 1")
    assert [d[0] for d in describe([(1, "SELECT 1 /* perfcore */"), (2, "SELECT 2")])] == [2]
