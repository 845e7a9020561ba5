"""The reference stream and what its replay says, from and to the store."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import psycopg
from psycopg.rows import TupleRow
from psycopg.types.json import Jsonb

from perfcore.advise.cache_advice import CacheReplay, UnseenWrites
from perfcore.codec import to_json
from perfcore.db import query
from perfcore.store.read_streams import ReferenceStream, unpacked

Connection = psycopg.Connection[TupleRow]


def read_stream(store: Connection, since: datetime) -> ReferenceStream:
    """Return what the instrumented applications have sent since then."""
    with store.cursor(binary=True) as cursor:
        cursor.execute(query("advise_read_streams").encode(), {"since": since})
        return unpacked(cursor)


def read_unseen_writes(store: Connection, target_id: int, since: datetime) -> UnseenWrites:
    """Return the intervals in which the server counted writes, by schema.table."""
    found = store.execute(
        query("advise_read_unseen_writes").encode(), {"target_id": target_id, "since": since}
    )
    return {
        f"{schema}.{table}": list(zip(starts, ends, rows, strict=True))
        for schema, table, starts, ends, rows in found
    }


def save_replays(store: Connection, target_id: int, replays: Sequence[CacheReplay]) -> None:
    """Write a round's replays down in the place of those of the round before."""
    with store.transaction():
        store.execute(query("advise_delete_replays").encode(), {"target_id": target_id})
        for position, replay in enumerate(replays):
            row: dict[str, Any] = {"target_id": target_id, "position": position}
            store.execute(
                query("advise_insert_replay").encode(), {**row, "body": Jsonb(to_json(replay))}
            )
