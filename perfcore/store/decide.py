"""Writing down what a person decided about a suggestion."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy

from perfcore.db import query


def dismiss(store: sqlalchemy.Engine, suggestion_id: str, reason: str) -> bool:
    """Take a suggestion off the list for good; False if there was none to take."""
    return _decide(store, suggestion_id, "dismissed", reason, None)


def snooze(store: sqlalchemy.Engine, suggestion_id: str, until: datetime, reason: str = "") -> bool:
    """Take a suggestion off the list until then; False if there was none to take."""
    return _decide(store, suggestion_id, "snoozed", reason, until)


def reopen(store: sqlalchemy.Engine, suggestion_id: str) -> bool:
    """Put a dismissed or snoozed suggestion back on the list."""
    return _decide(store, suggestion_id, "open", "", None)


def _decide(
    store: sqlalchemy.Engine, suggestion_id: str, state: str, reason: str, until: datetime | None
) -> bool:
    with store.begin() as connection:
        done = connection.exec_driver_sql(
            query("decide_suggestion"),
            {
                "suggestion_id": suggestion_id,
                "state": state,
                "reason": reason,
                "snoozed_until": until,
            },
        )
        return done.rowcount > 0
