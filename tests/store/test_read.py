"""Records of the store come back as they were written; what is not there is None or empty."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy

from perfcore.db import QUERIES, connect, engine
from perfcore.errors import StoreUnavailable
from perfcore.store import read
from perfcore.store.fetch import snapshot
from perfcore.store.read import ProcessState
from perfcore.types import SilenceReason, TimeRange
from tests.seeding import (
    INDEX,
    STATEMENTS,
    Seeded,
    add_series,
    insert,
    rollup_row,
    seed_store,
    suggestions,
)

NOW = datetime(2026, 11, 23, 12, 30, 20, tzinfo=UTC)
LAST_HOUR = TimeRange(NOW - timedelta(hours=1), NOW)


@pytest.fixture
def reader(store: str) -> Iterator[sqlalchemy.Engine]:
    made = engine(store)
    yield made
    made.dispose()


@pytest.fixture
def seeded(store: str) -> Seeded:
    return seed_store(store, now=NOW)


def test_suggestions_come_back_whole(reader: sqlalchemy.Engine, seeded: Seeded) -> None:
    found = read.suggestions(reader, seeded.target_id)
    assert {s.suggestion_id: s.suggestion for s in found} == {
        s.suggestion_id: s for s in suggestions(seeded.target_id)
    }
    saved = [s.suggestion.saved_ms_per_hour for s in found]
    assert saved == sorted(saved, reverse=True)
    assert read.suggestions(reader, 999) == [] and read.suggestions(reader, state="gone") == []


def test_a_dismissed_suggestion_is_found_by_id(
    store: str, reader: sqlalchemy.Engine, seeded: Seeded
) -> None:
    with connect(store) as connection:
        connection.execute(
            "UPDATE perfcore.suggestions SET state = 'dismissed', state_reason = 'too large'"
            " WHERE suggestion_id = %s",
            (seeded.suggestion_id,),
        )
    assert seeded.suggestion_id not in {s.suggestion_id for s in read.suggestions(reader)}
    found = read.suggestion(reader, seeded.suggestion_id)
    assert found is not None and (found.state, found.state_reason) == ("dismissed", "too large")
    assert read.suggestion(reader, "unknown") is None


def test_silences_speak_in_sentences(reader: sqlalchemy.Engine, seeded: Seeded) -> None:
    found = {s.queryid: s for s in read.silences(reader, seeded.target_id)}
    assert found[7002].reason == SilenceReason.SERVED.value
    assert found[7002].text == STATEMENTS[1].text


def test_trials_and_changes(reader: sqlalchemy.Engine, seeded: Seeded) -> None:
    [trial] = read.trials(reader, seeded.suggestion_id)
    assert trial == read.trial(reader, str(seeded.trial_id)) and trial.index == INDEX
    [change] = read.changes(reader)
    assert change == read.change(reader, seeded.change_id) and change.target == "shop"
    assert change.fingerprints == (STATEMENTS[3].fingerprint,)
    assert read.trial(reader, "not a uuid") is None and read.change(reader, "x") is None
    assert read.trials(reader, "unknown") == []


def test_markers_of_a_range(reader: sqlalchemy.Engine, seeded: Seeded) -> None:
    assert [m.kind for m in read.markers(reader, LAST_HOUR)] == ["release", "change"]
    assert read.markers(reader, LAST_HOUR.previous()) == []


def test_collection_state(reader: sqlalchemy.Engine, seeded: Seeded) -> None:
    state = read.collection_state(reader, NOW)
    assert state.last_seen_at == NOW and state.targets[0].name == "shop"
    assert state.samples == state.processes[0].totals["generated"]
    assert len(state.sending) == 1
    assert read.collection_state(reader, NOW + timedelta(hours=1)).sending == ()
    assert read.services(reader) == ["shop"]


def _process(samples: int, **totals: Any) -> ProcessState:
    return ProcessState("shop", "host:1:2", 3, samples, 0, 1, NOW, NOW, totals)


def test_an_account_adds_up_whoever_delivered() -> None:
    told = {"generated": 100, "stored": 60, "spooled": 25, "buffered": 5, "dropped": {"full": 10}}
    alive = _process(60, **told).account
    assert (alive.stored, alive.spooled, alive.buffered, alive.missing) == (60, 25, 5, 0)
    adopted = _process(85, **told).account  # another process has delivered its spool
    assert (adopted.stored, adopted.spooled, adopted.buffered, adopted.missing) == (85, 5, 0, 0)
    assert _process(95, **told).account.missing == -5  # more than it generated: stored twice
    assert _process(60, **told | {"spooled": 20}).account.missing == 5
    restored = _process(50, **told).account
    assert (restored.stored, restored.gone, restored.missing) == (60, 10, 0)
    for account in (alive, adopted, restored):
        parts = (account.stored, account.spooled, account.buffered, account.missing)
        assert account.generated == sum(parts) + sum(account.dropped.values())


def test_an_account_of_a_sender_that_tells_nothing_is_what_arrived() -> None:
    account = _process(7).account
    assert (account.generated, account.stored, account.missing, account.trouble) == (7, 7, 0, "")


def test_a_trouble_is_told_with_its_beginning_and_its_end() -> None:
    trouble = {"reason": "disk full", "since": "2026-11-23T12:03:00+00:00", "until": None}
    assert _process(1, trouble=trouble).account.trouble == "disk full since 23 Nov 12:03 UTC"
    over = trouble | {"until": "2026-11-23T12:14:00+00:00"}
    assert _process(1, trouble=over).account.trouble == (
        "disk full since 23 Nov 12:03 UTC until 23 Nov 12:14 UTC"
    )


def test_rollups_are_half_open_from_a_whole_minute(store: str, reader: sqlalchemy.Engine) -> None:
    at = NOW.replace(minute=10, second=0)
    with connect(store) as connection:
        series_id = add_series(connection, "api_endpoint", "GET /", "ms")
        rows = [rollup_row(series_id, at + timedelta(minutes=n), [n + 1.0]) for n in range(4)]
        insert(connection, "metric_rollups", rows)
    r = TimeRange(at + timedelta(seconds=90), at + timedelta(minutes=3))
    found = read.series_rollups(reader, r, "api_endpoint", names=["GET /"], now=NOW)
    assert sorted(row.max for row in found) == [2.0, 3.0]
    assert read.series_rollups(reader, r, "api_endpoint", names=[], now=NOW) == []


def test_hours_and_minutes_meet_without_gap_or_overlap(
    store: str, reader: sqlalchemy.Engine
) -> None:
    start = NOW.replace(minute=0, second=0) - timedelta(hours=10)
    with connect(store) as connection:
        series_id = add_series(connection, "api_endpoint", "GET /", "ms")
        minutes = [rollup_row(series_id, start + timedelta(minutes=n), [1.0]) for n in range(600)]
        hours = [
            rollup_row(series_id, start + timedelta(hours=n), [1.0] * 60, resolution="hour")
            for n in range(6)
        ]
        insert(connection, "metric_rollups", minutes)
        insert(connection, "metric_rollups", hours)
        connection.execute(
            "INSERT INTO perfcore.rollup_progress VALUES ('hour', %s)",
            (start + timedelta(hours=6),),
        )
    r = TimeRange(start + timedelta(minutes=20), start + timedelta(hours=10))
    found = read.series_rollups(reader, r, "api_endpoint", resolution="hour", now=NOW)
    counted = {
        kind: sum(row.count for row in found if row.resolution == kind)
        for kind in ("minute", "hour")
    }
    assert counted == {"minute": 40 + 240, "hour": 300}


def test_a_snapshot_does_not_see_what_is_written_meanwhile(
    store: str, reader: sqlalchemy.Engine
) -> None:
    with snapshot(reader) as seen:
        assert seen.rows("read_targets") == []
        with connect(store) as connection:
            connection.execute("INSERT INTO perfcore.targets (name) VALUES ('new')")
        assert seen.rows("read_targets") == []
    assert [t.name for t in read.targets(reader)] == ["new"]


def test_a_store_away_is_said_with_the_remedy() -> None:
    away = engine("postgresql://u:secret@127.0.0.1:1/none")
    with pytest.raises(StoreUnavailable) as caught:
        read.targets(away)
    assert "PERFCORE_STORE" in caught.value.hint and "secret" not in str(caught.value)
    away.dispose()


def test_a_store_without_tables_is_said_with_the_remedy(dsn: str) -> None:
    bare = engine(dsn)
    with pytest.raises(StoreUnavailable) as caught:
        read.targets(bare)
    assert "migrate" in caught.value.hint
    bare.dispose()


def test_a_store_that_is_too_slow_is_said_so(store: str) -> None:
    slow = sqlalchemy.create_engine(
        engine(store).url, connect_args={"options": "-c statement_timeout=50ms"}
    )
    with slow.connect() as holder, holder.begin():
        holder.exec_driver_sql("LOCK TABLE perfcore.targets IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(StoreUnavailable, match="in time"):
            read.targets(slow)
    slow.dispose()


def test_every_reading_query_says_what_it_is_for() -> None:
    for path in QUERIES.glob("read_*.sql"):
        assert path.read_text().startswith("-- "), path.name
