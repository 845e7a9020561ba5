"""The store's record of index changes: written before, during and after what is done."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg.rows import TupleRow, class_row
from psycopg.types.json import Jsonb

from perfcore import db
from perfcore.codec import from_json, to_json
from perfcore.errors import ChangeRefused
from perfcore.types import IndexDefinition, Verdict

Connection = psycopg.Connection[TupleRow]


@dataclass(frozen=True, slots=True)
class Change:
    """A change of a target's indexes, from the intent to its end."""

    change_id: str
    target_id: int
    suggestion_id: str | None
    kind: str  # create_index, drop_index
    object_name: str  # "schema.index"
    ddl: str
    undo: str
    state: str  # intended, running, applied, failed, reverted
    message: str
    progress: float
    index_oid: int | None
    index_bytes: int | None
    fingerprints: list[int]
    intended_at: datetime
    started_at: datetime | None
    applied_at: datetime | None
    reverted_at: datetime | None
    revert_requested_at: datetime | None
    index_body: dict[str, Any] | None
    verdict: str | None

    @property
    def is_unfinished(self) -> bool:
        """Say whether somebody began a step of it and nobody ended it."""
        return (
            self.state in ("intended", "running")
            or (self.state == "failed" and self.index_oid is not None)
            or (self.state == "applied" and self.revert_requested_at is not None)
        )

    @property
    def index(self) -> IndexDefinition | None:
        return from_json(IndexDefinition, self.index_body) if self.index_body else None

    @property
    def schema(self) -> str:
        return self.object_name.partition(".")[0]

    @property
    def index_name(self) -> str:
        return self.object_name.partition(".")[2]

    @property
    def comment(self) -> str:
        """Return what marks the index on the target as ours."""
        return f"perfcore change {self.change_id}"


def read_change(store: Connection, change_id: str) -> Change:
    """Return the change; raises ChangeRefused where the store has none of that id."""
    with store.cursor(row_factory=class_row(Change)) as cursor:
        row = cursor.execute(db.query("lab_read_change"), {"change_id": change_id}).fetchone()
    if row is None:
        raise ChangeRefused(f"there is no change {change_id} in the store")
    return row


def intend(
    store: Connection,
    change_id: str,
    target_id: int,
    kind: str,
    object_name: str,
    *,
    ddl: str,
    undo: str,
    suggestion_id: str | None,
    fingerprints: Sequence[int],
    index: IndexDefinition | None,
) -> None:
    """Write down what is about to be done."""
    store.execute(
        db.query("lab_insert_change"),
        {
            "change_id": change_id,
            "target_id": target_id,
            "suggestion_id": suggestion_id,
            "kind": kind,
            "object_name": object_name,
            "ddl": ddl,
            "undo": undo,
            "fingerprints": list(fingerprints),
            "index_body": Jsonb(to_json(index)) if index else None,
        },
    )


def update(
    store: Connection,
    change_id: str,
    *,
    state: str | None = None,
    message: str | None = None,
    progress: float | None = None,
    object_name: str | None = None,
    ddl: str | None = None,
    undo: str | None = None,
    index_oid: int | None = None,
    index_bytes: int | None = None,
) -> None:
    """Write down a step; what is None stays as it was."""
    store.execute(
        db.query("lab_update_change"),
        {
            "change_id": change_id,
            "state": state,
            "message": message,
            "progress": progress,
            "object_name": object_name,
            "ddl": ddl,
            "undo": undo,
            "index_oid": index_oid,
            "index_bytes": index_bytes,
        },
    )


def request_revert(store: Connection, change_id: str) -> None:
    """Write down that the change is to be taken back."""
    store.execute(db.query("lab_request_revert"), {"change_id": change_id})


def forget_index(store: Connection, change_id: str) -> None:
    """Write down that nothing of a failed change is left on the target."""
    store.execute(db.query("lab_forget_index_oid"), {"change_id": change_id})


def mark(store: Connection, change: Change, label: str) -> None:
    """Put a line into every chart."""
    store.execute(
        db.query("lab_insert_marker"),
        {
            "label": label,
            "target_id": change.target_id,
            "details": json.dumps({"change_id": change.change_id}),
        },
    )


def settle_suggestion(store: Connection, change: Change, state: str, reason: str) -> None:
    """Write down what became of the suggestion the change came from, if it came from one."""
    if change.suggestion_id is not None:
        store.execute(
            db.query("lab_set_suggestion_state"),
            {"suggestion_id": change.suggestion_id, "state": state, "reason": reason},
        )


def state_after_revert(change: Change) -> str:
    """Return the suggestion's next state: what did not help is not offered again."""
    useless = change.verdict in (Verdict.NO_EFFECT, Verdict.REGRESSED)
    return "dismissed" if useless else "open"
