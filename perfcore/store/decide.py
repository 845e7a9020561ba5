"""Writing down what a person decided about a suggestion."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy

from perfcore.db import query
from perfcore.errors import DecisionRefused

MAX_REASON_LETTERS = 500
MAX_SNOOZE_MS = 86_400_000.0  # a day: no mean is above it


def dismiss(store: sqlalchemy.Engine, suggestion_id: str, reason: str) -> bool:
    """Take a suggestion off the list for good; False if there was none to take.

    Raises DecisionRefused without a reason: who finds it dismissed must know why.
    """
    reason = reason.strip()
    if not reason:
        raise DecisionRefused(
            "nothing was dismissed: the reason is missing",
            hint="say in a few words why it does not fit here",
        )
    return _decide(store, suggestion_id, "dismissed", reason[:MAX_REASON_LETTERS])


def snooze(store: sqlalchemy.Engine, suggestion_id: str, until: datetime, reason: str = "") -> bool:
    """Take a suggestion off the list until then; False if there was none to take."""
    return _decide(store, suggestion_id, "snoozed", reason, until=until)


def snooze_until_slower(store: sqlalchemy.Engine, suggestion_id: str, mean_ms: float) -> bool:
    """Take a suggestion off the list until its slowest statement's mean is above so much.

    The advisor's rounds look at it. Returns False if there was none to take; raises
    DecisionRefused where the limit is no time that a mean can have.
    """
    if not 0 < mean_ms <= MAX_SNOOZE_MS:
        raise DecisionRefused(
            f"nothing was snoozed: {mean_ms:g} ms is no mean that a statement can reach",
            hint=f"give a time above 0 and up to {MAX_SNOOZE_MS:,.0f} ms",
        )
    return _decide(store, suggestion_id, "snoozed", "", until_ms=mean_ms)


def reopen(store: sqlalchemy.Engine, suggestion_id: str) -> bool:
    """Put a dismissed or snoozed suggestion back on the list."""
    return _decide(store, suggestion_id, "open", "")


def _decide(
    store: sqlalchemy.Engine,
    suggestion_id: str,
    state: str,
    reason: str,
    *,
    until: datetime | None = None,
    until_ms: float | None = None,
) -> bool:
    with store.begin() as connection:
        done = connection.exec_driver_sql(
            query("decide_suggestion"),
            {
                "suggestion_id": suggestion_id,
                "state": state,
                "reason": reason,
                "snoozed_until": until,
                "snoozed_until_ms": until_ms,
            },
        )
        return done.rowcount > 0
