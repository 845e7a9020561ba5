"""The roller: merges partial minutes, makes hours and days of them, keeps days of raw samples.

Flushers only add rows. A row that the roller has counted is marked `merged`; whatever is not is
new, however late it comes. The merging of a minute, and the adding of its late part to an hour
that is rolled already, are one transaction: wherever the roller is killed, each sample is in its
minute once, in its hour once and in its day once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow

from perfcore.db import query
from perfcore.store.resolution import WORK_AS_IT_CAME, WORK_KEPT_FINE, WORK_STEP, floor
from perfcore.store.targets import run
from perfcore.store.vectors import SummedRow, add_up_joined_rows, add_up_rows

Connection = psycopg.Connection[TupleRow]

GRACE = timedelta(minutes=2)  # how long a minute stays open after its end
DAYS_AHEAD = 7
LOCK_WAIT_MS = 200
KEPT: Mapping[str, timedelta] = {"minute": timedelta(days=14), "hour": timedelta(days=180)}
KEPT_DELTAS = timedelta(days=14)
KEPT_STREAMS = timedelta(hours=24)
_LENGTH = {
    "minute": timedelta(minutes=1),
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
}
_SOURCE = {"hour": "minute", "day": "hour"}
_LOCK_KEY = 0x50435F726F6C6C
_BUCKETS_A_PASS = 3000
_HOURS_MOVED_A_PASS = 48
_TOTALS_A_PASS = 100
_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
_MADE_AT_ONCE = 6  # hours or days a transaction
_SAMPLES = "performance_metrics"
# The types of the columns that rollup_write.sql names.
WRITTEN = (
    "text", "timestamptz", "int8", "int8", "int8", "float8", "float8", "float8", "bytea", "bool",
)  # fmt: skip
_WRITTEN_TOTALS = (
    "text", "timestamptz", "text", "text", "text", "int8", "int8", "float8", "float8", "float8",
    "bytea",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class RollReport:
    """What one round did; `ran` is False when another roller was at work."""

    ran: bool = True
    merged_buckets: int = 0
    hours: int = 0
    days: int = 0
    partitions_made: int = 0
    partitions_dropped: int = 0


def roll(connection: Connection, now: datetime, *, raw_retention_days: int = 2) -> RollReport:
    """Do one round as of `now`; call it on an autocommit connection, as often as you like."""
    key = {"key": _LOCK_KEY}
    if not run(connection, "rollup_lock", **key)[0]["pg_try_advisory_lock"]:
        return RollReport(ran=False)
    try:
        made, dropped = _keep_partitions(connection, now.astimezone(UTC), raw_retention_days)
        return _roll(connection, now.astimezone(UTC), made, dropped)
    finally:
        if not connection.closed:
            run(connection, "rollup_unlock", **key)


def _roll(connection: Connection, now: datetime, made: int, dropped: int) -> RollReport:
    closed = _floor(now - GRACE, "minute")
    merged = sum(_merge(connection, r, closed) for r in ("minute", "hour", "day"))
    hours = _advance(connection, "hour", closed)
    rolled_hours = _rolled_until(connection, "hour")
    days = _advance(connection, "day", rolled_hours) if rolled_hours else 0
    _thin_work(connection, closed)
    _fill_totals(connection)
    _expire(connection, now)
    return RollReport(True, merged, hours, days, made, dropped)


def _merge(connection: Connection, resolution: str, closed: datetime) -> int:
    """Merge the buckets of closed minutes, hours or days that got rows; return how many."""
    buckets = run(
        connection, "rollup_unmerged", resolution=resolution, before=closed, limit=_BUCKETS_A_PASS
    )
    for row in buckets:
        with connection.transaction():
            _merge_bucket(connection, resolution, row["bucket_start"])
    return len(buckets)


def _merge_bucket(connection: Connection, resolution: str, bucket: datetime) -> None:
    run(connection, "rollup_keep_totals")
    rows = fetch(connection, "rollup_take_bucket", resolution=resolution, bucket_start=bucket)
    _write(connection, resolution, bucket, add_up_rows((s, b) for s, b, _ in rows), merged=True)
    _total(connection, resolution, bucket)
    if resolution != "minute":
        return
    rolled = [r for r in ("hour", "day") if bucket < (_rolled_until(connection, r) or bucket)]
    if rolled:
        late = add_up_rows((s, b) for s, b, merged in rows if not merged)
        for longer in rolled:
            # The bucket was made without these rows: they join it as a part of their own.
            _write(connection, longer, _floor(bucket, longer), late, merged=False)


def _advance(connection: Connection, resolution: str, limit: datetime) -> int:
    """Make every hour (or day) that ended by `limit` and is not made yet; return how many."""
    length = _LENGTH[resolution]
    made = 0
    start = _next_start(connection, resolution)
    while start is not None and start + length <= limit:
        starts = [
            start + n * length for n in range(_MADE_AT_ONCE) if start + (n + 1) * length <= limit
        ]
        with connection.transaction():
            run(connection, "rollup_keep_totals")
            for bucket, rows in _made(connection, resolution, starts):
                _write(connection, resolution, bucket, rows, merged=True)
                _total(connection, resolution, bucket)
            start = starts[-1] + length
            run(connection, "rollup_save_progress", resolution=resolution, rolled_until=start)
        made += len(starts)
    return made


def _made(
    connection: Connection, resolution: str, starts: list[datetime]
) -> list[tuple[datetime, list[SummedRow]]]:
    """Return each bucket with its series' sums."""
    source = _SOURCE[resolution]
    # Days add up hours with their late parts; hours only what is merged, for the rest is late.
    name = "rollup_read_merged" if source == "minute" else "rollup_read_all"
    spans = [{"resolution": source, "start": at, "end": at + _LENGTH[resolution]} for at in starts]
    found = zip(starts, fetch_each(connection, name, spans), strict=True)
    return [(at, add_up_joined_rows(rows)) for at, rows in found]


def _next_start(connection: Connection, resolution: str) -> datetime | None:
    """Return the next bucket to make: where rolling stands, or where the first rows are."""
    rolled_until = _rolled_until(connection, resolution)
    if rolled_until:
        return rolled_until
    source = _SOURCE[resolution]
    first = run(connection, "rollup_first_merged", resolution=source)[0]["min"]
    return _floor(first, resolution) if first else None


def _rolled_until(connection: Connection, resolution: str) -> datetime | None:
    rows = run(connection, "rollup_progress", resolution=resolution)
    return rows[0]["rolled_until"] if rows else None


def _thin_work(connection: Connection, closed: datetime) -> None:
    """Keep what ran by the minute, after hours by ten minutes, after a day by the hour and day."""
    with connection.transaction():
        run(
            connection,
            "rollup_merge_endpoint_statements",
            since=closed - timedelta(hours=2),
            before=closed,
        )
    thin_until = floor(closed - WORK_AS_IT_CAME, WORK_STEP)
    move_until = floor(closed - WORK_KEPT_FINE, timedelta(hours=1))
    for width, until, length in (
        (timedelta(minutes=1), closed, timedelta(hours=2)),
        (timedelta(hours=1), move_until, timedelta(days=2)),
    ):
        with connection.transaction():
            run(
                connection,
                "rollup_merge_repetitions",
                width_s=width.total_seconds(),
                since=until - length,
                before=until,
            )
    for table in ("endpoint_statements", "statement_deltas"):
        with connection.transaction():
            since = thin_until - timedelta(hours=1)
            run(connection, f"rollup_thin_{table}", since=since, before=thin_until)
        _move_work(connection, table, move_until)


def _move_work(connection: Connection, table: str, until: datetime) -> None:
    for _ in range(_HOURS_MOVED_A_PASS):
        oldest = run(connection, f"rollup_first_{table}", before=until)[0]["at"]
        if oldest is None:
            return
        start = _floor(oldest, "hour")
        span = {"start": start, "end": start + _LENGTH["hour"], "day": _floor(start, "day")}
        with connection.transaction():
            run(connection, f"rollup_move_{table}", **span)


def _total(connection: Connection, resolution: str, bucket: datetime) -> None:
    """Add up the merged rows of a bucket over all series of a service and type, anew."""
    where = {"resolution": resolution, "bucket_start": bucket}
    run(connection, "rollup_clear_totals", **where)
    rows = fetch(connection, "rollup_read_for_totals", **where)
    if not rows:
        return
    names = [row[:3] for row in rows]
    numbered = [(n, *row[3:]) for n, row in enumerate(rows)]
    with connection.cursor() as cursor, cursor.copy(query("rollup_write_totals").encode()) as copy:
        copy.set_types(_WRITTEN_TOTALS)
        for n, *row in add_up_joined_rows(numbered):
            copy.write_row((resolution, bucket, *names[n], *row))


def _fill_totals(connection: Connection) -> None:
    """Make some of the totals that are missing: those of rows an earlier version merged."""
    stale = [
        (r["resolution"], r["bucket_start"])
        for r in run(connection, "rollup_stale_buckets", limit=_TOTALS_A_PASS)
    ]
    for resolution, bucket in stale:
        with connection.transaction():
            _total(connection, resolution, bucket)
    for resolution in _LENGTH:
        _fill_backwards(connection, resolution)


def _fill_backwards(connection: Connection, resolution: str) -> None:
    state = f"totals of {resolution}"
    complete_from = _rolled_until(connection, state)
    if not complete_from or complete_from <= _BEGINNING:
        return
    found = run(
        connection, "rollup_previous_buckets", resolution=resolution, before=complete_from,
        limit=_TOTALS_A_PASS,
    )  # fmt: skip
    with connection.transaction():
        for row in found:
            _total(connection, resolution, row["at"])
        reached = found[-1]["at"] if len(found) == _TOTALS_A_PASS else _BEGINNING
        run(connection, "rollup_save_progress", resolution=state, rolled_until=reached)


def fetch(connection: Connection, file: str, /, **parameters: Any) -> list[tuple[Any, ...]]:
    """Return the rows of one of the SQL files as they are sent in binary: bytes stay bytes."""
    with connection.cursor(binary=True) as cursor:
        return cursor.execute(query(file).encode(), parameters).fetchall()


def fetch_each(
    connection: Connection, file: str, /, parameters: Sequence[Mapping[str, Any]]
) -> Iterator[list[tuple[Any, ...]]]:
    """Yield the rows for each set of parameters; the server reads on while we add up."""
    with ExitStack() as stack:
        stack.enter_context(connection.pipeline())
        cursors = [stack.enter_context(connection.cursor(binary=True)) for _ in parameters]
        for cursor, values in zip(cursors, parameters, strict=True):
            cursor.execute(query(file).encode(), values)
        for cursor in cursors:
            yield cursor.fetchall()
            cursor.close()


def _write(
    connection: Connection,
    resolution: str,
    bucket: datetime,
    rows: Collection[SummedRow],
    *,
    merged: bool,
) -> None:
    if not rows:
        return
    with connection.cursor() as cursor, cursor.copy(query("rollup_write").encode()) as copy:
        copy.set_types(WRITTEN)
        for row in rows:
            copy.write_row((resolution, bucket, *row, merged))


def _floor(at: datetime, resolution: str) -> datetime:
    at = at.astimezone(UTC).replace(second=0, microsecond=0)
    if resolution == "minute":
        return at
    at = at.replace(minute=0)
    return at if resolution == "hour" else at.replace(hour=0)


def _expire(connection: Connection, now: datetime) -> None:
    for resolution, longer in (("minute", "hour"), ("hour", "day")):
        rolled_until = _rolled_until(connection, longer)
        if rolled_until:
            before = min(now - KEPT[resolution], rolled_until)
            run(connection, "rollup_expire_rollups", resolution=resolution, before=before)
            run(connection, "rollup_expire_totals", resolution=resolution, before=before)
    for table in (
        "endpoint_statements", "statement_deltas", "table_deltas", "database_deltas", "batches",
        "slow_queries", "endpoint_statement_hours", "statement_delta_hours", "collection_gaps",
        "statement_intervals",
    ):  # fmt: skip
        run(connection, f"rollup_expire_{table}", before=now - KEPT_DELTAS)
    run(connection, "rollup_expire_reference_streams", before=now - KEPT_STREAMS)
    for table in ("endpoint_statement_days", "statement_delta_days", "repetitions"):
        run(connection, f"rollup_expire_{table}", before=now - KEPT["hour"])


def _keep_partitions(connection: Connection, now: datetime, days_kept: int) -> tuple[int, int]:
    """Make the days ahead, give strayed rows their day, drop the days past keeping."""
    today = now.date()
    oldest = today - timedelta(days=days_kept)
    names = {row["name"] for row in run(connection, "rollup_partitions")}
    strayed = {row["day"] for row in run(connection, "rollup_default_days")}
    newest = today + timedelta(days=DAYS_AHEAD)
    wanted = {today + timedelta(days=n) for n in range(DAYS_AHEAD + 1)}
    wanted |= {day for day in strayed if oldest <= day <= newest}
    made = sum(
        _make_partition(connection, day) for day in sorted(wanted) if _name(day) not in names
    )
    run(connection, "rollup_expire_default", before=_midnight(oldest))
    dropped = sum(_drop_partition(connection, n) for n in sorted(names) if n < _name(oldest))
    return made, dropped


def _make_partition(connection: Connection, day: date) -> bool:
    """Make one day's partition with the rows of that day that wait in the default one.

    Attaching, unlike CREATE ... PARTITION OF, lets readers and writers of other days go on.
    False when a lock was not to be had; the next round tries again.
    """
    end = day + timedelta(days=1)
    parts = {
        "new": sql.Identifier("perfcore", _name(day)),
        "parent": sql.Identifier("perfcore", _SAMPLES),
        "rest": sql.Identifier("perfcore", f"{_SAMPLES}_default"),
        "start": sql.Literal(_midnight(day)),
        "end": sql.Literal(_midnight(end)),
    }
    commands = (
        "LOCK TABLE {rest} IN ACCESS EXCLUSIVE MODE",
        "CREATE TABLE {new} (LIKE {parent} INCLUDING DEFAULTS INCLUDING CONSTRAINTS)",
        "WITH moved AS (DELETE FROM {rest} WHERE timestamp >= {start} AND timestamp < {end} "
        "RETURNING *) INSERT INTO {new} SELECT * FROM moved",
        "ALTER TABLE {parent} ATTACH PARTITION {new} FOR VALUES FROM ({start}) TO ({end})",
    )
    return _try(connection, [sql.SQL(c).format(**parts) for c in commands])


def _drop_partition(connection: Connection, name: str) -> bool:
    """Drop a day; False when a reader was in it for as long as we cared to wait.

    The day is locked first: DROP alone takes the whole table's lock and then waits for the
    day's, and every sender with it.
    """
    table = sql.Identifier("perfcore", name)
    commands = ("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", "DROP TABLE {}")
    return _try(connection, [sql.SQL(c).format(table) for c in commands])


def _try(connection: Connection, commands: Iterable[sql.Composed]) -> bool:
    """Run the commands in one transaction; False when a lock was not to be had in time.

    The wait is short, for senders queue behind it; the next round tries again.
    """
    try:
        with connection.transaction():
            run(connection, "rollup_wait_shortly", lock_timeout=f"{LOCK_WAIT_MS}ms")
            for command in commands:
                connection.execute(command)
    except psycopg.errors.LockNotAvailable:
        return False
    return True


def _name(day: date) -> str:
    return f"{_SAMPLES}_{day:%Y%m%d}"


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
