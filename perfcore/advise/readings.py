"""Readings of a target that Perfcore keeps, because the server's counters forget."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import psycopg
from psycopg.rows import TupleRow

from perfcore.advise.server_state import ExecutedPlan, IndexUse, Observed, XidReading
from perfcore.db import query
from perfcore.plan import parse_plan
from perfcore.types import Catalog

Connection = psycopg.Connection[TupleRow]

EXECUTED_KEPT = timedelta(days=30)


def observe(store: Connection, target_id: int, catalog: Catalog, next_xid: int) -> Observed:
    """Keep this reading of the indexes' counters and return what all readings tell.

    The xids returned are those of the oldest reading of the last day, None at the first.
    """
    given = {"target_id": target_id, "read_at": catalog.read_at}
    with store.transaction():
        uses = _index_uses(store, catalog, given)
        earlier = _run(store, "advise_read_xids", given).fetchone()
        _run(store, "advise_save_xids", {**given, "next_xid": next_xid})
        _run(store, "advise_expire_xids", given)
    since = catalog.read_at - EXECUTED_KEPT
    executed = _run(store, "advise_read_executed_plans", {**given, "since": since}).fetchall()
    return Observed(
        index_uses=uses,
        xids=XidReading(*earlier) if earlier else None,
        executed=tuple(_executed(executed)),
    )


def _index_uses(store: Connection, catalog: Catalog, given: dict[str, Any]) -> dict[int, IndexUse]:
    indexes = [i for t in catalog.tables for i in t.indexes]
    columns = {
        "oids": [i.oid for i in indexes],
        "names": [f"{i.schema}.{i.name}" for i in indexes],
        "scans": [i.scans for i in indexes],
    }
    rows = _run(store, "advise_save_index_uses", {**given, **columns}).fetchall()
    _run(store, "advise_forget_index_uses", given)
    return {oid: IndexUse(since, used) for oid, since, used in rows}


def _executed(rows: list[TupleRow]) -> Iterator[ExecutedPlan]:
    for fingerprint, document in rows:
        try:
            plan = parse_plan(document)
        except ValueError:
            continue
        if plan.is_executed:
            yield ExecutedPlan(fingerprint, plan)


def _run(store: Connection, name: str, given: dict[str, Any]) -> psycopg.Cursor[TupleRow]:
    return store.execute(query(name).encode(), given)
