"""pg_stat_statements: readings, and the differences between two of them.

The rules of an epoch keep every difference true or absent: counters of another server, of
another life of the server or from before a reset are never subtracted. Within an epoch an
interval of a statement is either counted or a gap, never half: an entry that vanished, or that
began anew, makes a gap of its statement.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import Any

from psycopg.errors import Error

from perfcore.collect.target import (
    Connection,
    Identity,
    changed_server,
    read,
    same_epoch,
)
from perfcore.db import MARKER, QUERIES, query
from perfcore.normalise import fingerprint
from perfcore.server_times import ServerTimes, merged
from perfcore.sqlcommenter import is_marked
from perfcore.store.targets import Gap, StatementInterval, StoredSnapshot

COUNTERS = (
    "calls", "total_exec_time", "rows", "shared_blks_hit", "shared_blks_read",
    "temp_blks_read", "temp_blks_written", "wal_bytes",
)  # fmt: skip
TIMES = ("min_exec_time", "mean_exec_time", "max_exec_time", "stddev_exec_time")
TEXT_LIMIT_BYTES = 64 * 1024
VIEW = "pg_stat_statements"
_FORMAT = 2
# The extension may be older than the server that runs it: up to which major each one's columns are.
_MAJORS = {"1.8": 13, "1.9": 14, "1.10": 16, "1.11": 17, "1.12": 18}

# "queryid/userid/toplevel" -> [since, counters in the order of COUNTERS, TIMES].
Entries = Mapping[str, Sequence[Any]]
_MIN, _MAX = len(COUNTERS) + 1, len(COUNTERS) + 3


@dataclass(frozen=True, slots=True)
class Extension:
    """Where pg_stat_statements lives and how its list is, or the reason why it cannot be read."""

    schema: str = ""
    problem: str = ""
    version: int = 0  # of the server whose columns it has, as server_version_num
    stats_reset: datetime | None = None
    evictions: int | None = None  # times that the list was full; None up to 13
    max_entries: int = 0


@dataclass(frozen=True, slots=True)
class Reading:
    """The entries of this database at one instant, and what the server says of their list."""

    entries: Entries
    hidden: int = 0  # entries of other roles, which ours may not see
    listed: int = 0  # entries of all databases
    max_entries: int = 0
    evictions: int | None = None  # counted before the entries were read
    evictions_after: int | None = None  # and after
    active_ms: float | None = None

    def body(self) -> dict[str, Any]:
        """Return the reading as the snapshot keeps it."""
        return {
            "format": _FORMAT, "entries": self.entries, "hidden": self.hidden,
            "evictions": self.evictions, "active_ms": self.active_ms,
        }  # fmt: skip

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> Reading | None:
        """Return what the snapshot kept, None when another version of Perfcore wrote it."""
        if body.get("format") != _FORMAT:
            return None
        return cls(
            entries=body["entries"], hidden=body["hidden"], evictions=body["evictions"],
            active_ms=body["active_ms"],
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Comparison:
    """What ran between two readings of one epoch, and which statements began anew or vanished."""

    deltas: Mapping[int, Mapping[str, float]] = field(default_factory=dict)  # by queryid
    top_level_ms: Mapping[int, float] = field(default_factory=dict)
    lost: frozenset[int] = frozenset()
    reason: str = ""  # why they were lost
    is_reset: bool = False  # nothing is known: the whole list began anew


@dataclass(frozen=True, slots=True)
class Advance:
    """What a reading adds to the store: written whole, with its snapshot, or not at all."""

    snapshot: StoredSnapshot
    expected: datetime | None  # when the snapshot was taken that this one takes the place of
    deltas: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    own_share: float | None = None  # of the time in between, in statements that read
    start: datetime | None = None
    gap: Gap | None = None
    interval: StatementInterval | None = None


def find_extension(connection: Connection) -> Extension:
    """Return where pg_stat_statements is, or what is missing with the SQL that mends it."""
    rows = read(connection, "target_extension")
    if not rows:
        return Extension(
            problem="pg_stat_statements is not installed in this database: run "
            "CREATE EXTENSION pg_stat_statements;"
        )
    schema = str(rows[0]["schema"])
    version = extension_version(str(rows[0]["version"]), connection.info.server_version)
    if not version:
        return Extension(
            problem=f"pg_stat_statements {rows[0]['version']} is too old: run "
            "ALTER EXTENSION pg_stat_statements UPDATE;"
        )
    try:
        (row,) = read(connection, "statements_epoch", extension_schema=schema, version=version)
    except Error as error:
        if error.sqlstate == "55000":
            return Extension(
                problem="pg_stat_statements is not loaded: run ALTER SYSTEM SET "
                "shared_preload_libraries = 'pg_stat_statements'; and restart PostgreSQL "
                "(keep what the setting lists already)"
            )
        raise
    return Extension(schema, "", version, row["stats_reset"], row["evictions"], row["max_entries"])


def extension_version(version: str, server_version: int) -> int:
    """Return the server version whose columns the extension has, 0 when it is too old.

    >>> extension_version("1.9", 180006)
    140000
    """
    if tuple(int(n) for n in re.findall(r"\d+", version)) < (1, 8):
        return 0
    return min(_MAJORS.get(version, server_version // 10000) * 10000, server_version)


def read_statements(connection: Connection, extension: Extension, who: Identity) -> Reading:
    """Return the counters of every entry of this database."""
    rows = read(
        connection,
        "statements_read",
        extension_schema=extension.schema,
        version=extension.version,
    )
    after = read(
        connection,
        "statements_epoch",
        extension_schema=extension.schema,
        version=extension.version,
    )
    return Reading(
        entries={
            f"{row['queryid']}/{row['userid']}/{int(row['toplevel'])}": [
                row["since"],
                *(_number(row[name]) for name in (*COUNTERS, *TIMES)),
            ]
            for row in rows
            if row["queryid"] is not None
        },
        hidden=sum(row["queryid"] is None for row in rows),
        listed=int(rows[0]["entries"]) if rows else 0,
        max_entries=extension.max_entries,
        evictions=extension.evictions,
        evictions_after=after[0]["evictions"],
        active_ms=who.active_ms,
    )


def _number(value: Any) -> float | int:
    return value if isinstance(value, float) else int(value)


def queryid_of(key: str) -> int:
    """Return the queryid in a reading's key."""
    return int(key.partition("/")[0])


def compare(before: Reading, now: Reading) -> Comparison:
    """Return per queryid what ran between two readings of one epoch, summed over users.

    An entry that was not there before began in between and counts whole, unless it may only
    have been hidden from us. What it says of its beginning does not help there: the server's
    clock may have been set back.
    """
    lost = {queryid_of(key) for key in before.entries if key not in now.entries}
    changes: dict[str, list[float]] = {}
    for key, entry in now.entries.items():
        old = before.entries.get(key)
        if old is None:
            if before.hidden:
                lost.add(queryid_of(key))
            else:
                changes[key] = list(entry[1:_MIN])
        elif began_anew(old, entry):
            lost.add(queryid_of(key))
        else:
            changes[key] = [n - o for n, o in zip(entry[1:_MIN], old[1:_MIN], strict=True)]
    if before.evictions is None and _is_reset(before.entries, lost):
        return Comparison(lost=frozenset(lost), reason="statistics reset", is_reset=True)
    kept = {k: c for k, c in changes.items() if c[0] > 0 and queryid_of(k) not in lost}
    top_level: dict[int, float] = {}
    deltas: dict[int, dict[str, float]] = {}
    for key, change in kept.items():
        sums = deltas.setdefault(queryid_of(key), dict.fromkeys(COUNTERS, 0))
        for name, amount in zip(COUNTERS, change, strict=True):
            sums[name] += amount
        if key.endswith("/1"):
            top_level[queryid_of(key)] = top_level.get(queryid_of(key), 0.0) + change[1]
    return Comparison(deltas, top_level, frozenset(lost), _why_lost(before, now) if lost else "")


def began_anew(old: Sequence[Any], entry: Sequence[Any]) -> bool:
    """Say whether an entry is not the one of before, though of the same statement.

    From 17 on it says since when it counts. Otherwise a counter that fell gives it away, and so
    does a longest execution that became shorter, or a shortest that became longer.
    """
    if old[0] != entry[0]:
        return True
    if any(n < o for n, o in zip(entry[1:_MIN], old[1:_MIN], strict=True)):
        return True
    # Where entries say since when they count, the extremes alone can be reset.
    return not entry[0] and (entry[_MAX] < old[_MAX] or entry[_MIN] > old[_MIN])


def _is_reset(before: Entries, lost: Collection[int]) -> bool:
    """Say whether the list as a whole began anew, where the server does not say so.

    An eviction takes the entries that were used least; a reset the busiest one with them.
    """
    gone = sum(queryid_of(key) in lost for key in before)
    if gone * 2 <= len(before):
        return False
    return queryid_of(max(before, key=lambda key: before[key][1])) in lost


def _why_lost(before: Reading, now: Reading) -> str:
    if before.hidden or now.hidden:
        return "rights changed"
    if now.evictions_after is None or before.evictions is None:
        return "eviction or reset"
    return "eviction" if now.evictions_after > before.evictions else "statistics reset"


def advance(
    before: StoredSnapshot | None,
    who: Identity,
    stats_reset: datetime | None,
    now: Reading,
    is_own: Callable[[int], bool] = lambda queryid: False,
    is_reading: Callable[[int], bool] = lambda queryid: False,
) -> Advance:
    """Return what a reading adds to the store after the one that the store holds last.

    Our own statements are left out; what those that read took tells how dear reading is.
    """
    epoch = who.epoch(stats_reset)
    snapshot = StoredSnapshot(who.now, epoch, now.body())
    if before is None:
        return Advance(snapshot, None)
    # A clock that was set back must not make an interval that ends before it starts.
    start = min(before.taken_at, who.now)
    old = Reading.from_body(before.body)
    if old is None or not same_epoch(before.epoch, epoch):
        reason = changed_server(before.epoch, epoch) or (
            "statistics reset" if old is not None else "upgrade of Perfcore"
        )
        return Advance(
            snapshot, before.taken_at, start=start, gap=Gap(VIEW, start, who.now, reason)
        )
    whole = compare(old, now)
    reading_ms = sum(d["total_exec_time"] for q, d in whole.deltas.items() if is_reading(q))
    found = without(whole, is_own)
    gap = None
    if found.is_reset or found.lost:
        queryids = None if found.is_reset else tuple(sorted(found.lost))
        gap = Gap(VIEW, start, who.now, found.reason, queryids)
    elapsed_ms = (who.now - start).total_seconds() * 1000
    return Advance(
        snapshot,
        before.taken_at,
        deltas=found.deltas,
        own_share=reading_ms / elapsed_ms if elapsed_ms > 0 else None,
        start=start,
        gap=gap,
        interval=None if found.is_reset else _interval(start, who.now, found, old, now),
    )


def without(found: Comparison, is_own: Callable[[int], bool]) -> Comparison:
    """Return the comparison without our own statements."""
    return Comparison(
        deltas={q: d for q, d in found.deltas.items() if not is_own(q)},
        top_level_ms={q: ms for q, ms in found.top_level_ms.items() if not is_own(q)},
        lost=frozenset(q for q in found.lost if not is_own(q)),
        reason=found.reason,
        is_reset=found.is_reset,
    )


def _interval(
    start: datetime, end: datetime, found: Comparison, old: Reading, now: Reading
) -> StatementInterval:
    return StatementInterval(
        start=start,
        end=end,
        entries=now.listed,
        max_entries=now.max_entries,
        evictions=_grown(old.evictions, now.evictions),
        counted_ms=sum(found.top_level_ms.values()),
        active_ms=_grown(old.active_ms, now.active_ms),
    )


def _grown(before: Any, now: Any) -> Any:
    """Return by how much a counter grew, None when it is not counted or began anew."""
    if before is None or now is None or now < before:
        return None
    return now - before


def server_times(entries: Entries, queryids: Collection[int]) -> dict[int, ServerTimes]:
    """Return the server's own times of these statements, over all users."""
    parts: dict[int, list[ServerTimes]] = {}
    for key, entry in entries.items():
        if (queryid := queryid_of(key)) in queryids:
            parts.setdefault(queryid, []).append(_times(entry))
    return {q: times for q, found in parts.items() if (times := merged(found)) is not None}


def _times(entry: Sequence[Any]) -> ServerTimes:
    since = datetime.fromtimestamp(float(entry[0]), UTC) if entry[0] else None
    low, mean, high, deviation = (float(ms) for ms in entry[_MIN:])
    return ServerTimes(int(entry[1]), low, mean, high, deviation, since)


def is_own(text: str) -> bool:
    """Say whether a statement is one of Perfcore's.

    >>> is_own("SELECT 1 /* perfcore */"), is_own("/*app:/* perfcore */*/ SELECT 1")
    (True, False)
    """
    return is_marked(text, MARKER)


@cache
def reading_fingerprints(schema: str, server_version: int) -> frozenset[int]:
    """Return the fingerprints of what a pass sends: the advisor and the lab send other things."""
    names = {path.name.split(".")[0] for path in QUERIES.glob("*.sql")}
    return frozenset(
        fingerprint(query(name, server_version).replace("{schema}", schema))
        for name in names
        if name.startswith(("target_", "statements_"))
    )


def describe(texts: Iterable[tuple[int, str]]) -> list[tuple[int, int, str]]:
    """Return (queryid, fingerprint, text fit to store) for statements that are not ours."""
    return [(q, fingerprint(t), clean(t)) for q, t in texts if not is_own(t)]


_PASSWORD = re.compile(
    r"(\bpassword(?:\s*=)?\s*)(?:E?'(?:[^']|'')*'?|\$\$.*?\$\$)", re.IGNORECASE | re.DOTALL
)
_SECRET_DDL = re.compile(
    r"^\s*(?:CREATE|ALTER)\s+(?:ROLE|USER|GROUP|USER\s+MAPPING|SERVER|SUBSCRIPTION)\b",
    re.IGNORECASE,
)


def clean(text: str) -> str:
    """Return the text without passwords, NUL and excess length.

    >>> clean("ALTER ROLE a PASSWORD 'geheim'")
    "ALTER ROLE a PASSWORD '***'"
    """
    text = text.replace("\x00", "")
    text = _PASSWORD.sub(r"\1'***'", text)
    if _SECRET_DDL.match(text):
        text = re.sub(r"password=[^'\s]+", "password=***", text, flags=re.IGNORECASE)
    return text.encode()[:TEXT_LIMIT_BYTES].decode(errors="ignore")
