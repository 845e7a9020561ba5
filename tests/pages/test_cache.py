"""The page on caches, on a store that holds replays, a stream alone, or neither."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from perfcore.advise.cache_store import save_replays
from perfcore.db import connect
from perfcore.normalise import fingerprint_hex
from tests.advise.conftest import hash_of
from tests.advise.test_cache_advice import READ, RENAME, a_stream, advise, twenty_keys
from tests.pages.test_pages import app, seeded, show
from tests.seeding import ENDPOINTS, STATEMENTS, Seeded

__all__ = ["app", "seeded"]

COUNT = "SELECT count(*) FROM categories"
NEVER = "SELECT id, random() FROM products WHERE stock = $1"


@pytest.fixture
def replayed(store: str, seeded: Seeded) -> Seeded:
    """A store with a read worth a cache, one that changes too fast and one never to be kept."""
    stream = a_stream(
        (COUNT, np.zeros(3600, dtype=np.int64)), (READ, twenty_keys()), (NEVER, twenty_keys()),
        writes={RENAME: np.arange(0.5, 3600, 1.0)},
    )  # fmt: skip
    found = advise(stream, COUNT, READ, NEVER, RENAME)
    with connect(store, autocommit=True) as connection:
        save_replays(connection, seeded.target_id, found.replays)
    return seeded


def test_hit_ratios_are_told_of_relations_and_statements(app: AppTest, seeded: Seeded) -> None:
    words = show(app, "cache")
    assert "**Shared buffers**" in words and "**Relations**" in words
    tables = [f.value for f in app.dataframe]
    relations = next(t for t in tables if "seq_scan" in t)
    assert {"orders", "products"} <= set(relations["name"])
    statements = next(t for t in tables if "read_per_call" in t)
    reads = list(statements["blks_read"])
    assert reads == sorted(reads, reverse=True)
    assert 0.3 < statements["hit_ratio"].iloc[0] < 1
    assert {"blks_hit", "calls"} <= set(statements)


def test_the_best_cache_is_shown_with_its_staleness(app: AppTest, replayed: Seeded) -> None:
    words = show(app, "cache").replace("\\", "")
    table = next(f.value for f in app.dataframe if "waited_s" in f.value)
    assert COUNT in table["name"].iloc[0] or table["name"].iloc[0] == "GET /products"
    assert table["saved_s"].iloc[0] > 0
    assert "Nothing was written to its tables in these 60 minutes" in words
    assert "One answer is all there is to keep" in words
    assert len(app.get("plotly_chart")) == 2  # the trend and one curve


def test_a_read_that_changes_too_fast_shows_why(app: AppTest, replayed: Seeded) -> None:
    words = show(app, "cache", subject=fingerprint_hex(hash_of(READ))).replace("\\", "")
    assert "Its results may change every 1 s" in words
    assert "may have changed 3,600 times an hour" in words
    assert len(app.get("plotly_chart")) == 3


def test_a_read_that_must_never_be_kept_says_so(app: AppTest, replayed: Seeded) -> None:
    words = show(app, "cache", subject=fingerprint_hex(hash_of(NEVER))).replace("\\", "")
    assert "It calls random()" in words
    assert len(app.get("plotly_chart")) == 1


def test_the_choice_of_endpoints_is_in_the_address(app: AppTest, replayed: Seeded) -> None:
    words = show(app, "cache", by="endpoints", subject="shop GET /products").replace("\\", "")
    assert "`GET /products` of shop" in words
    table = next(f.value for f in app.dataframe if "waited_s" in f.value and "kept" in f.value)
    assert sorted(table["name"]) == ["GET /home", "GET /products"]
    kept = next(f.value for f in app.dataframe if "reads_per_hour" in f.value)
    said = dict(zip(kept["text"], kept["reason"], strict=True))
    assert said[COUNT] == "kept" and said[NEVER].startswith("not kept: it calls random()")


@pytest.mark.parametrize(
    ("page", "of"),
    [
        ("endpoint", {"service": "shop", "endpoint": ENDPOINTS[0].name}),
        ("query", {"queryid": str(STATEMENTS[0].queryid)}),
    ],
)
def test_endpoints_and_queries_lead_to_their_curves(
    app: AppTest, store: str, seeded: Seeded, page: str, of: dict[str, str]
) -> None:
    found = advise(a_stream((READ, twenty_keys())), READ).replays
    statement = replace(found[0], fingerprint=STATEMENTS[0].fingerprint)
    endpoint = replace(found[1], name=ENDPOINTS[0].name)
    with connect(store, autocommit=True) as connection:
        save_replays(connection, seeded.target_id, (statement, endpoint))
    show(app, page, **of)
    (link,) = (e.proto for e in app.get("page_link") if "A cache of its" in e.proto.label)
    assert "saved per hour" in link.label and "ept for 5 min" in link.help
    assert f"by={'endpoints' if page == 'endpoint' else 'statements'}" in link.query_string


@pytest.mark.parametrize("subject", ["", "gone", "<script>"])
def test_an_unknown_subject_shows_the_best(app: AppTest, replayed: Seeded, subject: str) -> None:
    assert "**Curves**" in show(app, "cache", subject=subject)


def test_without_a_stream_the_page_says_how_to_get_one(app: AppTest, seeded: Seeded) -> None:
    words = show(app, "cache")
    assert "No reference stream came in the last hour" in words
    assert "PERFCORE_CACHE_STREAM=off" in words and "watch(engine)" in words


def test_a_stream_that_waits_for_the_advisor(app: AppTest, store: str, seeded: Seeded) -> None:
    with connect(store, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO perfcore.reference_streams VALUES (%s, 'shop', 'p', 42, '')",
            (datetime.now(UTC),),
        )
    words = show(app, "cache")
    assert "The stream was not replayed yet" in words and "shop (42)" in words


def test_an_empty_store_names_the_next_step(app: AppTest) -> None:
    assert "perfcore" in show(app, "cache")


def test_a_replay_of_another_release_is_left_out(
    app: AppTest, store: str, replayed: Seeded
) -> None:
    with connect(store, autocommit=True) as connection:
        connection.execute("UPDATE perfcore.cache_replays SET body = '{\"name\": 1}'")
    assert "No reference stream" in show(app, "cache")
