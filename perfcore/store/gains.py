"""What was promised of indexes and what was delivered, as trials and verdicts wrote it down."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
import sqlalchemy
from psycopg.rows import TupleRow

from perfcore.db import query
from perfcore.store.fetch import fetch
from perfcore.types import Evidence

# The latest; more of them would change no factor that two thousand do not settle.
MAX_GAINS = 2000


@dataclass(frozen=True, slots=True)
class DeliveredGain:
    """One statement under one set of values; ratios are after divided by before, 1 is no gain."""

    target_id: int
    target: str
    suggestion_id: str  # the index's own, whether or not it was suggested
    trial_id: UUID | None  # None where live traffic delivered it
    change_id: UUID | None  # None where a trial did
    index_digest: str
    fingerprint: int
    text: str  # empty where the statement is not known any more
    parameters: str  # typical, frequent, rare; empty in live traffic
    plan_change: str
    evidence: Evidence  # measured, proven
    promised_ratio: float  # of the planner's costs
    promised_saved_ms: float | None  # a call, as the suggestion said
    delivered_ratio: float  # of the times
    delivered_low: float
    delivered_high: float
    delivered_saved_ms: float  # a call
    recorded_at: datetime


def read_gains(store: psycopg.Connection[TupleRow]) -> list[DeliveredGain]:
    """Return the gains of all targets, the latest first."""
    return _gains(store.execute(query("read_gains").encode(), {"limit": MAX_GAINS}).fetchall())


def gains(store: sqlalchemy.Engine) -> list[DeliveredGain]:
    """Return the same for the pages."""
    return _gains(fetch(store, "read_gains", {"limit": MAX_GAINS}))


def _gains(rows: Iterable[tuple[Any, ...]]) -> list[DeliveredGain]:
    return [_gain(*row) for row in rows]


def _gain(*row: Any) -> DeliveredGain:
    gain = DeliveredGain(*row)
    return replace(gain, text=gain.text or "", evidence=Evidence(gain.evidence))
