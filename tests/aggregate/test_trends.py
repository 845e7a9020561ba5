"""The database's share over time, on the seeded store."""

from __future__ import annotations

from datetime import timedelta

import pytest

from perfcore import db
from perfcore.aggregate.endpoints import summary
from perfcore.aggregate.trends import database_trend
from perfcore.types import TimeRange
from tests.seeding import seed_store


def test_the_steps_agree_with_the_summary(store: str) -> None:
    seeded = seed_store(store, minutes=20)
    engine = db.engine(store)
    r = TimeRange(seeded.start, seeded.now)
    trend, whole = database_trend(engine, r), summary(engine, r)
    assert len(trend) == 20
    assert trend["db_ms_per_request"].mean() == pytest.approx(whole.db_ms_per_request, rel=0.05)
    assert trend["cache_hit_ratio"].mean() == pytest.approx(whole.cache_hit_ratio, rel=0.01)
    engine.dispose()


def test_before_the_first_sample_there_is_no_step(store: str) -> None:
    seeded = seed_store(store, minutes=2)
    engine = db.engine(store)
    earlier = TimeRange(seeded.start - timedelta(hours=2), seeded.start - timedelta(hours=1))
    trend = database_trend(engine, earlier)
    assert trend.empty
    assert list(trend.columns) == ["time", "db_ms_per_request", "cache_hit_ratio"]
    engine.dispose()
