"""Which reads get a cache suggested, and what is said of all others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from perfcore.advise.cache_advice import (
    CacheAdvice,
    CacheReplay,
    UnseenWrites,
    advise_caches,
    seconds,
)
from perfcore.advise.caching import unseen_instants
from perfcore.advise.workload import EndpointUse, Options
from perfcore.codec import from_json, to_json
from perfcore.store.read_streams import Floats, Ints, References, ReferenceStream
from perfcore.types import Catalog, ColumnInfo, TableInfo, WorkloadStatement
from tests.advise.conftest import hash_of, statement

READ = "SELECT id, name FROM products WHERE category_id = $1"
COUNT = "SELECT count(*) FROM categories"
RENAME = "UPDATE products SET name = $1 WHERE id = $2"
STOCK = "UPDATE products SET stock = stock - $1 WHERE id = $2"
ADD = "INSERT INTO products (id, name) VALUES ($1, $2)"
SPAN_S = 3600.0
ENDPOINTS = (("shop", "GET /products"), ("shop", "GET /home"))


def _table(name: str, *columns: str) -> TableInfo:
    made = tuple(ColumnInfo(c, "integer", True, avg_width_bytes=10) for c in columns)
    return TableInfo(1, "public", name, 1000.0, 80_000, made)


CATALOG = Catalog(
    180000, "shop", datetime(2026, 11, 24, tzinfo=UTC),
    (_table("products", "id", "name", "stock", "category_id"), _table("categories", "id")),
)  # fmt: skip


def a_stream(
    *reads: tuple[str, Ints],
    writes: dict[str, Floats] | None = None,
    span_s: float = SPAN_S,
    without_key: dict[int, int] | None = None,
) -> ReferenceStream:
    """Return an hour in which each statement read its keys in even steps, 20 ms each."""
    parts, offset = [], 0
    for number, (text, key) in enumerate(reads):
        count = len(key)
        parts.append(
            References(
                np.full(count, hash_of(text)), np.full(count, number % 2),
                np.arange(count) % 2, key + offset,
                np.linspace(0.0, span_s, count, endpoint=False), np.ones(count, dtype=np.int64),
                np.full(count, 20.0), np.ones(count),
            )
        )  # fmt: skip
        offset += int(key.max()) + 1 if count else 0
    whole = References(
        *(np.concatenate([getattr(p, n) for p in parts]) for n in parts[0].__slots__)
    )
    order = np.argsort(whole.at_s, kind="stable")
    return ReferenceStream(
        References(*(getattr(whole, n)[order] for n in whole.__slots__)),
        {hash_of(text): len(key) for text, key in reads},
        without_key or {},
        0,
        {hash_of(text): at for text, at in (writes or {}).items()},
        ENDPOINTS,
        ("a", "b"),
        0.0,
        span_s,
    )


def twenty_keys(count: int = 3600) -> Ints:
    return np.random.default_rng(1).integers(0, 20, count)


def advise(
    stream: ReferenceStream,
    *texts: str | WorkloadStatement,
    unseen_writes: UnseenWrites | None = None,
) -> CacheAdvice:
    workload = [statement(t, calls=3600, mean_ms=18.0) if isinstance(t, str) else t for t in texts]
    uses = {hash_of(READ): (EndpointUse("shop", "GET /products", 1.0, 3600.0, 20.0),)}
    return advise_caches(
        CATALOG,
        workload,
        stream,
        endpoints=uses,
        options=Options(target_id=1),
        unseen_writes=unseen_writes,
    )


def of(advice: CacheAdvice, text: str) -> CacheReplay:
    return next(r for r in advice.replays if r.fingerprint == hash_of(text))


def test_keys_that_come_again_are_worth_a_cache() -> None:
    advice = advise(a_stream((READ, twenty_keys())), READ)
    (found,) = advice.suggestions
    assert found.kind == "cache" and found.finding.kind == "cacheable"
    numbers = dict(found.finding.numbers)
    assert numbers["TTL"] == "5 min"
    assert numbers["size"] == "32 entries, about 19.6 kB"
    rate = float(numbers["hit rate, one cache for all processes"].removesuffix(" %"))
    each = float(numbers["hit rate, a cache in each process"].removesuffix(" %"))
    assert 85 < each < rate < 95
    # 3,600 calls of 18 ms at the server, of which so many are not made any more.
    assert found.saved_ms_per_hour == pytest.approx(3600 * 18 * rate / 100, rel=0.01)
    assert found.endpoints[0].endpoint == "GET /products"
    assert "no answer is older than 5 min" in found.risk
    replay = of(advice, READ)
    assert replay.is_suggested and replay.endpoints == ("GET /products",)
    assert replay.tables == ("public.products",)


def test_what_is_said_survives_the_store() -> None:
    for replay in advise(a_stream((READ, twenty_keys()), (COUNT, twenty_keys())), READ).replays:
        assert from_json(CacheReplay, to_json(replay)) == replay


def test_parameters_that_seldom_come_again_are_not() -> None:
    key = np.arange(3600) // 2 % 1800  # twice each, and never later
    advice = advise(a_stream((READ, np.random.default_rng(2).permutation(key))), READ)
    assert advice.suggestions == ()
    assert "parameters seldom come again: kept for 10 min" in of(advice, READ).reason


@pytest.mark.parametrize(("write", "every_s"), [(RENAME, 0.7), (ADD, 1.0)])
def test_no_cache_where_results_change_faster_than_any_ttl(write: str, every_s: float) -> None:
    stream = a_stream((READ, twenty_keys()), writes={write: np.arange(0.1, SPAN_S, every_s)})
    advice = advise(stream, READ, write)
    assert advice.suggestions == ()
    replay = of(advice, READ)
    assert "its results may change every 1 s" in replay.reason
    assert replay.curves is not None and replay.curves.best is None


def test_a_ttl_is_shorter_than_the_time_between_changes() -> None:
    stream = a_stream((READ, twenty_keys(20_000)), writes={RENAME: np.arange(50.0, SPAN_S, 100.0)})
    advice = advise(stream, READ, RENAME)
    (found,) = advice.suggestions
    curves = of(advice, READ).curves
    assert curves is not None and curves.best is not None
    assert curves.best.ttl_s < 100
    assert 0 < curves.best.stale_share <= 0.05
    assert "% of the hits would show an answer that a write had changed" in found.risk
    assert any("Each write to public.products" in c for c in found.caveats)


def test_columns_that_it_does_not_read_change_nothing() -> None:
    stream = a_stream((READ, twenty_keys()), writes={STOCK: np.arange(0.1, SPAN_S, 0.5)})
    advice = advise(stream, READ, STOCK)
    assert len(advice.suggestions) == 1
    curves = of(advice, READ).curves
    assert curves is not None and curves.changes_per_hour == 0


def test_writes_that_no_hook_saw_count_too() -> None:
    """Another application, or psql: the server counts the rows."""
    stream = a_stream((READ, twenty_keys()))
    steps = [(float(at), at + 10.0, 100.0) for at in range(0, 3600, 10)]
    advice = advise(stream, READ, unseen_writes={"public.products": steps})
    assert advice.suggestions == ()
    explained = a_stream((READ, twenty_keys()), writes={STOCK: np.arange(0.1, SPAN_S, 5)})
    advice = advise(explained, READ, STOCK, unseen_writes={"public.products": steps})
    assert len(advice.suggestions) == 1


def test_unseen_instants_lie_where_the_server_counted() -> None:
    found = unseen_instants([np.array([95.0])], [(0, 10, 2), (90, 100, 5), (100, 110, 5)])
    # Those of 100 to 110 may be the late counters of the write at 95.
    assert found.tolist() == [2.5, 7.5]
    assert len(unseen_instants([], [(0.0, 10.0, 1e6)])) == 10


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("SELECT id, random() FROM products WHERE id = $1", "it calls random()"),
        ("SELECT id FROM products WHERE name = current_user", "not the same for every session"),
        ("SELECT a FROM some_view WHERE a = $1", "it reads some_view, which is no table"),
        ("SELECT id FROM products WHERE ((", "could not be parsed"),
    ],
)
def test_what_must_never_be_kept(text: str, why: str) -> None:
    advice = advise(a_stream((text, twenty_keys())), text)
    assert advice.suggestions == ()
    replay = of(advice, text)
    assert why in replay.reason and replay.is_judged and replay.curves is None


def test_what_asks_for_the_time_says_so() -> None:
    text = "SELECT id FROM products WHERE name < now()"
    (found,) = advise(a_stream((text, twenty_keys())), text).suggestions
    assert any("asks for the time" in c for c in found.caveats)


@pytest.mark.parametrize("case", ["few", "short", "no keys"])
def test_too_little_is_no_answer(case: str) -> None:
    key = twenty_keys(30 if case == "few" else 3600)
    stream = a_stream((READ, key), span_s=50.0 if case == "short" else SPAN_S)
    if case == "no keys":
        stream = replace(stream, without_key={hash_of(READ): 9_999})
    advice = advise(stream, READ)
    assert advice.suggestions == ()
    replay = of(advice, READ)
    assert not replay.is_judged
    wanted = "no key can be made" if case == "no keys" else "too little is known"
    assert wanted in replay.reason


def test_little_time_is_not_worth_it() -> None:
    advice = advise(a_stream((READ, twenty_keys(200))), READ)
    assert "worth its upkeep" in of(advice, READ).reason


def test_an_endpoint_is_replayed_as_a_whole() -> None:
    stream = a_stream(
        (READ, twenty_keys()), (COUNT, np.zeros(3600, dtype=np.int64)),
        writes={RENAME: np.arange(0.1, SPAN_S, 1.0)},
    )  # fmt: skip
    advice = advise(stream, READ, COUNT, RENAME)
    by_name = {r.name: r for r in advice.replays if r.fingerprint is None}
    assert by_name["GET /home"].is_suggested
    assert not by_name["GET /products"].is_suggested
    assert [s.statements[0].text for s in advice.suggestions] == [COUNT]


def test_what_there_was_no_time_for_says_so() -> None:
    ticks = iter([0.0, 0.0, 9.0, 9.0, 9.0])
    texts = [statement(t, calls=3600, mean_ms=18.0) for t in (READ, COUNT)]
    stream = a_stream((READ, twenty_keys()), (COUNT, twenty_keys()))
    advice = advise_caches(CATALOG, texts, stream, clock=lambda: next(ticks))
    judged = {r.name: r.is_judged for r in advice.replays if r.fingerprint}
    assert sorted(judged.values()) == [False, True]
    late = [r.reason for r in advice.replays if "time was over" in r.reason]
    assert len(late) == 2  # of the one statement, and of the endpoint that runs the other


def _reads(names: Sequence[str]) -> list[str]:
    return [f"SELECT {name} FROM products ORDER BY {name}" for name in names]


def test_only_what_runs_in_the_target_is_told() -> None:
    mine, other = _reads(["id", "stock"])
    advice = advise(a_stream((mine, twenty_keys()), (other, twenty_keys())), mine)
    assert [r.fingerprint for r in advice.replays if r.fingerprint] == [hash_of(mine)]


def test_lengths_of_time_in_words() -> None:
    assert [seconds(s) for s in (1.5, 90, 150, 7200)] == ["1.5 s", "90 s", "2.5 min", "2 h"]


def test_an_endpoint_tells_which_of_its_statements_are_kept_and_what_bounds_the_ttl() -> None:
    texts = [*_reads(["id", "stock"]), COUNT, "SELECT random() FROM products ORDER BY name"]
    reads = [(text, np.zeros(600, dtype=np.int64)) for text in texts]
    stream = in_one_endpoint(a_stream(*reads, writes={STOCK: np.arange(0.5, SPAN_S, 3.0)}))
    advice = advise(stream, *texts, STOCK)
    (found,) = (r for r in advice.replays if r.fingerprint is None)
    kept = {s.text: s for s in found.statements}
    assert [s.text for s in found.statements if s.is_kept] == [texts[0], COUNT]
    assert kept[texts[1]].reason == "public.products changes every 3 s, faster than a TTL of 60 s"
    assert "it calls random()" in kept[texts[3]].reason
    assert (found.fastest_table, found.fastest_changes_per_hour) == ("public.products", 1200.0)
    assert found.curves is not None and found.curves.best is not None
    assert sum(s.saved_ms_per_hour for s in found.statements) == pytest.approx(
        found.curves.best.saved_ms_per_hour
    )
    # Half of the reads are never kept; of the others nine in ten are found.
    assert found.curves.best.hit_rate == pytest.approx(0.45, abs=0.01)
    assert found.curves.changes_per_hour == 1200.0


def test_answers_that_are_each_too_cheap_may_be_worth_it_together() -> None:
    texts = _reads(["id", "name", "category_id"])
    stream = in_one_endpoint(a_stream(*((t, np.zeros(200, dtype=np.int64)) for t in texts)))
    uses = {hash_of(t): (EndpointUse("shop", "GET /products", 2.0, 100.0, 20.0),) for t in texts}
    workload = [statement(t, calls=200, mean_ms=18.0) for t in texts]
    advice = advise_caches(
        CATALOG, workload, stream, endpoints=uses, options=Options(target_id=1)
    )  # fmt: skip
    assert all("worth its upkeep" in of(advice, t).reason for t in texts)
    (found,) = advice.suggestions
    assert found.title == "Keep the answers of 3 statements in GET /products for 5 min"
    # 600 calls of 18 ms, nearly all found; two of each statement a request.
    assert found.saved_ms_per_hour == pytest.approx(600 * 18, rel=0.1)
    assert found.endpoints[0].saved_ms_per_request == pytest.approx(6 * 18, rel=0.1)
    assert {g.text for g in found.statements} == set(texts)


def in_one_endpoint(stream: ReferenceStream) -> ReferenceStream:
    every = stream.references
    return replace(stream, references=replace(every, endpoint=np.zeros_like(every.endpoint)))
