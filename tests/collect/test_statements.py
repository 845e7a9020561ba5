"""Differences of pg_stat_statements, case by case; histories are in test_histories.py."""

from __future__ import annotations

import random
import statistics
from datetime import UTC, datetime
from typing import Any

import pytest

from perfcore.collect.statements import (
    COUNTERS,
    Reading,
    clean,
    compare,
    describe,
    is_own,
    server_times,
)


def entry(*counters: float, since: str = "", low: float = 1.0, high: float = 1.0) -> list[Any]:
    return [since, *counters, low, 1.0, high, 0.0]


def reading(entries: dict[str, list[Any]], **rest: Any) -> Reading:
    return Reading(entries, **{"evictions": 0, "evictions_after": 0, **rest})


def test_users_are_summed_and_idle_statements_absent() -> None:
    zero = entry(*[0] * 8)
    before = reading({"7/1/1": zero, "7/2/1": zero, "8/1/1": entry(*[3] * 8)})
    now = reading({"7/1/1": entry(*[2] * 8), "7/2/0": entry(*[5] * 8), "7/2/1": zero,
                   "8/1/1": entry(*[3] * 8)})  # fmt: skip
    found = compare(before, now)
    assert found.deltas == {7: dict.fromkeys(COUNTERS, 7)}
    assert found.top_level_ms == {7: 2}
    assert not found.lost


@pytest.mark.parametrize(
    "anew",
    [
        entry(8, 60.0, 3, 9, 9, 0, 0, 0),
        entry(8, 60.0, 9, 9, 9, 0, 0, 0, low=1.5, high=2),
        entry(8, 60.0, 9, 9, 9, 0, 0, 0, high=0.5, low=0.5),
        entry(8, 60.0, 9, 9, 9, 0, 0, 0, since="2"),
    ],
    ids=["a counter fell", "the shortest is longer", "the longest is shorter", "a later since"],
)
def test_an_entry_that_began_anew_is_a_gap_of_its_statement(anew: list[Any]) -> None:
    before = reading({"7/1/1": entry(5, 50.0, 9, 9, 9, 0, 0, 0), "7/2/1": entry(*[1] * 8)})
    found = compare(before, reading({"7/1/1": anew, "7/2/1": entry(*[4] * 8)}))
    assert not found.deltas
    assert found.lost == {7} and found.reason == "statistics reset"


def test_only_the_extremes_were_reset() -> None:
    before = reading({"7/1/1": entry(*[5] * 8, since="1", low=1, high=9)})
    now = reading({"7/1/1": entry(*[6] * 8, since="1", low=3, high=3)})
    assert compare(before, now).deltas == {7: dict.fromkeys(COUNTERS, 1)}


def test_why_an_entry_vanished() -> None:
    before = reading({"7/1/1": entry(*[5] * 8)})
    assert compare(before, reading({})).reason == "statistics reset"
    assert compare(before, reading({}, evictions_after=1)).reason == "eviction"
    unknown = reading({"8/1/1": entry(*[9] * 8), "7/1/1": entry(*[5] * 8)}, evictions=None)
    rest = reading({"8/1/1": entry(*[9] * 8)}, evictions_after=None)
    assert compare(unknown, rest).reason == "eviction or reset"
    assert not compare(unknown, rest).is_reset


def test_what_was_hidden_is_not_what_began() -> None:
    """Rights that are granted show counters of a lifetime."""
    before = reading({"7/1/1": entry(*[5] * 8)}, hidden=2)
    now = {"7/1/1": entry(*[6] * 8), "8/2/1": entry(*[900] * 8)}
    found = compare(before, reading(now))
    assert set(found.deltas) == {7}
    assert found.lost == {8} and found.reason == "rights changed"


def test_the_times_of_several_entries_are_those_of_all_executions() -> None:
    rng = random.Random(4)
    samples = [[rng.lognormvariate(1, 1) for _ in range(n)] for n in (3, 40, 500)]
    entries = {
        f"7/{user}/1": [
            str(1000 + user), len(of), *[0] * 7,
            min(of), statistics.fmean(of), max(of), statistics.pstdev(of),
        ]
        for user, of in enumerate(samples)
    }  # fmt: skip
    times = server_times(entries | {"8/1/1": entry(*[0] * 8)}, {7, 8})
    every = [ms for of in samples for ms in of]
    assert list(times) == [7]
    assert times[7].calls == 543
    assert times[7].mean_ms == pytest.approx(statistics.fmean(every))
    assert times[7].stddev_ms == pytest.approx(statistics.pstdev(every))
    assert (times[7].min_ms, times[7].max_ms) == (min(every), max(every))
    assert times[7].counted_since == datetime.fromtimestamp(1000, UTC)


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
