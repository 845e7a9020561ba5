"""What runs on a target at this moment, and who waits for whom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from perfcore.collect.statements import clean
from perfcore.collect.target import Connection, read


@dataclass(frozen=True, slots=True)
class Activity:
    """One session that is doing something, or holds a transaction open."""

    pid: int
    role: str
    application: str
    state: str
    query: str
    running_s: float  # since the statement began
    transaction_s: float  # since its transaction began
    wait_event_type: str
    wait_event: str
    blocked_by: tuple[int, ...]


def running(connection: Connection) -> list[Activity]:
    """Return the busy sessions of the target's database, the longest first, ours left out."""
    return [
        Activity(
            pid=row["pid"],
            role=row["role"],
            application=row["application"],
            state=row["state"],
            query=clean(row["query"]),
            running_s=_seconds(row["now"], row["query_start"]),
            transaction_s=_seconds(row["now"], row["xact_start"]),
            wait_event_type=row["wait_event_type"],
            wait_event=row["wait_event"],
            blocked_by=tuple(row["blocked_by"]),
        )
        for row in read(connection, "target_running")
    ]


def blockers(sessions: Sequence[Activity]) -> dict[int, tuple[int, ...]]:
    """Return per session that blocks others the sessions waiting for it directly."""
    waiting: dict[int, list[int]] = {}
    for session in sessions:
        for pid in session.blocked_by:
            waiting.setdefault(pid, []).append(session.pid)
    return {pid: tuple(pids) for pid, pids in waiting.items()}


def _seconds(now: datetime, then: datetime | None) -> float:
    return max(0.0, (now - then).total_seconds()) if then else 0.0
