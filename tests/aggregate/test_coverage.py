"""Database time that no hook saw, and the share of requests that is database time."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from perfcore.aggregate import coverage, endpoints, statements
from perfcore.collect import PerfcoreMiddleware, Recorder, unwatch, watch
from perfcore.db import connect, engine
from perfcore.normalise import fingerprint
from perfcore.types import TimeRange


@pytest.fixture
def reader(store: str) -> Iterator[sa.Engine]:
    made = engine(store)
    yield made
    made.dispose()


@pytest.fixture
def recorder(store: str, tmp_path: Path) -> Iterator[Recorder]:
    recorder = Recorder("shop", store, interval_s=60, sample_process=False, spool_folder=tmp_path)
    yield recorder
    recorder.close()


def _last_hour() -> TimeRange:
    return TimeRange.last(timedelta(hours=1), datetime.now(UTC) + timedelta(minutes=1))


def _counted(*rows: tuple[int, int, int, float]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["target_id", "fingerprint", "calls", "total_ms"])
    return table.assign(text="SELECT ?", queryid=table["fingerprint"])


@pytest.mark.fault(32)
def test_the_share_of_calls_that_is_missing_is_the_share_of_time() -> None:
    counted = _counted((1, 10, 100, 50.0), (1, 11, 100, 20.0), (1, 12, 7, 30.0), (2, 12, 21, 90.0))
    seen = pd.DataFrame({"fingerprint": [10, 12, 99], "executions": [150, 14, 5]})
    found = coverage.unseen_statements(counted, seen).set_index(["target_id", "fingerprint"])
    assert found["unseen_ms"].to_dict() == {(2, 12): 45.0, (1, 11): 20.0, (1, 12): 15.0, (1, 10): 0}
    assert found["unseen_calls"].to_dict() == {(2, 12): 10, (1, 11): 100, (1, 12): 4, (1, 10): 0}
    assert math.isclose(coverage.unseen_share(found), 80 / 190)
    nothing = coverage.unseen_statements(_counted(), seen.iloc[:0])
    assert nothing.empty and math.isnan(coverage.unseen_share(nothing))


@pytest.mark.fault(32)
def test_what_bypasses_the_engine_is_unseen(
    dsn: str, store: str, reader: sa.Engine, recorder: Recorder
) -> None:
    """Through the watched engine, by its raw cursor, and what the server counted of both."""
    hooked = sa.create_engine(dsn, poolclass=sa.NullPool)
    watch(hooked, recorder)
    with hooked.connect() as connection:
        for _ in range(3):
            connection.execute(sa.text("SELECT 1 AS hooked"))
        raw = connection.connection.cursor()
        raw.execute("SELECT 1 AS raw")
        raw.close()
    unwatch(hooked)
    recorder.flush(20)
    with connect(store) as connection:
        connection.execute("INSERT INTO perfcore.targets (name) VALUES ('shop')")
        for queryid, text, calls in ((1, "SELECT $1 AS hooked", 3), (2, "SELECT $1 AS raw", 1)):
            connection.execute(
                "INSERT INTO perfcore.statements (target_id, queryid, fingerprint, text) "
                "SELECT target_id, %s, %s, %s FROM perfcore.targets",
                [queryid, fingerprint(text), text],
            )
            connection.execute(
                "INSERT INTO perfcore.statement_deltas SELECT target_id, %s, now() - interval "
                "'1 min', now(), %s, 10, 1, 0, 0, 0, 0 FROM perfcore.targets",
                [queryid, calls],
            )
    found = coverage.unseen(reader, _last_hour())
    assert found.set_index("text")["unseen_calls"].to_dict() == {
        "SELECT $1 AS raw": 1,
        "SELECT $1 AS hooked": 0,
    }
    assert coverage.unseen_share(found) == 0.5


@pytest.mark.fault(39)
def test_the_database_share_of_a_request_is_at_most_one(
    dsn: str, reader: sa.Engine, recorder: Recorder
) -> None:
    hooked = create_async_engine(dsn, pool_size=4)
    watch(hooked, recorder)

    async def ask() -> None:
        async with hooked.connect() as connection:
            await connection.execute(sa.text("SELECT pg_sleep(0.3)"))

    async def gathers(request: Request) -> Response:
        await asyncio.gather(*(ask() for _ in range(4)))
        return PlainTextResponse("")

    async def idle(request: Request) -> Response:
        return PlainTextResponse("")

    app: Any = Starlette(routes=[Route("/gathers", gathers), Route("/idle", idle)])
    app = PerfcoreMiddleware(app, recorder=recorder)

    async def both() -> None:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
            await client.get("/gathers")
            await client.get("/idle")
        await hooked.dispose()

    asyncio.run(both())
    recorder.flush(20)
    table = coverage.database_shares(reader, _last_hour()).set_index("endpoint")
    shares: Any = table.to_dict("index")
    assert [row["requests"] for row in shares.values()] == [1, 1]
    assert shares["GET /gathers"]["database_ms"] >= 300
    assert 0 < shares["GET /gathers"]["database_share"] <= 1
    assert shares["GET /idle"]["database_share"] == 0
    # The parts of a request that its statements take together are that share, not four times it.
    ran = endpoints.endpoint_statements(reader, _last_hour(), "shop", "GET /gathers")
    assert ran["total_ms"].sum() >= 1200
    share = shares["GET /gathers"]["database_share"]
    assert math.isclose(ran["share_of_endpoint"].sum(), share, rel_tol=1e-6)
    slept = fingerprint("SELECT pg_sleep(0.3)")
    callers = statements.statement_endpoints(reader, _last_hour(), slept)
    assert callers["endpoint"].tolist() == ["GET /gathers"]
    [of_it] = callers["share_of_endpoint"]
    [of_all] = ran[ran["fingerprint"] == slept]["share_of_endpoint"]
    assert math.isclose(of_it, of_all, rel_tol=1e-6) and of_it > 0.5
