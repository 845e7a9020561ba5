"""What runs on a target at this moment, and who waits for whom."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import psycopg

from perfcore.collect.statements import clean
from perfcore.collect.target import Connection, open_target, read
from perfcore.db import redact

PREPARED = 0  # the pid that a prepared transaction goes by
WITHHELD = "<insufficient privilege>"
_ANSWER_AGAIN_S = 5.0
_CONNECT_TIMEOUT_S = 2
_ANSWER_TIMEOUT_S = 2.0
# The role has two connections: the collector holds one, the advisor takes the other shortly.
_PATIENCE_S = 1.5


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
    state_s: float = 0.0  # since it is in this state
    queryid: int | None = None
    xmin_age: int | None = None  # transactions that VACUUM must keep because of it
    query_start: datetime | None = None

    @property
    def is_idle_in_transaction(self) -> bool:
        return self.state.startswith("idle in transaction")


@dataclass(frozen=True, slots=True)
class Wait:
    """The lock that a session waits for."""

    lock_type: str
    mode: str
    relation: str  # schema.name, empty where it is not known


@dataclass(frozen=True, slots=True)
class Prepared:
    """A prepared transaction: it holds its locks until somebody commits or rolls it back."""

    gid: str
    role: str
    age_s: float
    xmin_age: int


@dataclass(frozen=True, slots=True)
class Node:
    """A blocker, or one that it blocks, with those that wait for it in turn."""

    pid: int  # PREPARED for a prepared transaction
    blocks: tuple[Node, ...]

    @property
    def waiting(self) -> int:
        """Return how many wait for it, directly or not."""
        return sum(1 + node.waiting for node in self.blocks)


@dataclass(frozen=True, slots=True)
class Picture:
    """A target at one instant of its own clock."""

    taken_at: datetime
    sessions: tuple[Activity, ...]
    waits: Mapping[int, Wait]
    prepared: tuple[Prepared, ...]
    connections: tuple[tuple[str, int], ...]  # state, connections of the whole server
    max_connections: int

    def session(self, pid: int) -> Activity | None:
        return next((s for s in self.sessions if s.pid == pid), None)

    @property
    def active(self) -> tuple[Activity, ...]:
        return tuple(s for s in self.sessions if s.state not in ("idle", "") and
                     not s.is_idle_in_transaction)  # fmt: skip

    @property
    def idle_in_transaction(self) -> tuple[Activity, ...]:
        """Return sessions that hold a transaction open and do nothing, the longest first."""
        idle = (s for s in self.sessions if s.is_idle_in_transaction)
        return tuple(sorted(idle, key=lambda s: -s.transaction_s))

    @property
    def waiting(self) -> tuple[Activity, ...]:
        return tuple(s for s in self.sessions if s.blocked_by)

    @property
    def longest_transaction(self) -> Activity | None:
        return max(self.sessions, key=lambda s: s.transaction_s, default=None)

    @property
    def oldest_snapshot(self) -> Activity | None:
        """Return the session whose snapshot keeps most dead rows from VACUUM."""
        holding = [s for s in self.sessions if s.xmin_age is not None]
        return max(holding, key=lambda s: s.xmin_age or 0, default=None)

    @property
    def withheld(self) -> int:
        """Return how many sessions the role may not look at."""
        return sum(s.query == WITHHELD for s in self.sessions) + dict(self.connections).get(
            "unknown", 0
        )


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
            state_s=_seconds(row["now"], row["state_change"]),
            queryid=row["queryid"],
            xmin_age=row["xmin_age"],
            query_start=row["query_start"],
        )
        for row in read(connection, "target_running")
    ]


def take_picture(connection: Connection) -> Picture:
    """Return everything that the target does now."""
    sessions = tuple(running(connection))
    connections = read(connection, "target_connections")
    clock = connection.execute("SELECT pg_catalog.clock_timestamp()").fetchone()
    assert clock is not None
    return Picture(
        taken_at=clock[0],
        sessions=sessions,
        waits={
            row["pid"]: Wait(row["lock_type"], row["mode"], row["relation"])
            for row in read(connection, "target_waits")
        },
        prepared=tuple(Prepared(**row) for row in read(connection, "target_prepared")),
        connections=tuple((row["state"], int(row["connections"])) for row in connections),
        max_connections=connections[0]["most"] if connections else 0,
    )


def look(dsn: str) -> Picture:
    """Return what the target does now, over a connection that is closed again at once.

    psycopg.Error passes through where it cannot be reached or falls silent for two seconds.
    """
    with open_target(
        dsn,
        connect_timeout_s=_CONNECT_TIMEOUT_S,
        patience_s=_PATIENCE_S,
        answer_timeout_s=_ANSWER_TIMEOUT_S,
    ) as connection:
        return take_picture(connection)


@dataclass(frozen=True, slots=True)
class Seen:
    """The last picture of a target with its age, and why there is no newer one."""

    picture: Picture | None
    age_s: float
    problem: str = ""


@dataclass
class Watcher:
    """Looks at one target for all who watch it, over at most one connection at a time."""

    dsn: str
    clock: Callable[[], float] = time.monotonic
    look: Callable[[str], Picture] = look
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _seen: Picture | None = field(default=None, repr=False)
    _seen_at: float = 0.0
    _asked_at: float | None = None
    _problem: str = ""

    def current(self, max_age_s: float = 1.5) -> Seen:
        """Return the target as it is, or as it was up to `max_age_s` ago.

        One that did not answer is asked again after five seconds; until then and after, the
        last picture stays with its age.
        """
        with self._lock:
            if self._is_due(max_age_s):
                self._ask()
            age_s = self.clock() - self._seen_at if self._seen else 0.0
            return Seen(self._seen, age_s, self._problem)

    def _is_due(self, max_age_s: float) -> bool:
        if self._asked_at is None:
            return True
        wait_s = _ANSWER_AGAIN_S if self._problem else max_age_s
        return self.clock() - self._asked_at >= wait_s

    def _ask(self) -> None:
        try:
            self._seen = self.look(self.dsn)
            self._seen_at = self.clock()
            self._problem = ""
        except psycopg.Error as error:
            self._problem = redact(" ".join(str(error).split()))
        self._asked_at = self.clock()


def blockers(sessions: Sequence[Activity]) -> dict[int, tuple[int, ...]]:
    """Return per session that blocks others the sessions waiting for it directly."""
    waiting: dict[int, list[int]] = {}
    for session in sessions:
        for pid in dict.fromkeys(session.blocked_by):
            waiting.setdefault(pid, []).append(session.pid)
    return {pid: tuple(pids) for pid, pids in waiting.items()}


def blocking_trees(sessions: Sequence[Activity]) -> list[Node]:
    """Return who blocks whom, a tree for each blocker that itself waits for nobody.

    Who waits for two blockers stands under both. Sessions that wait for each other in a ring
    (a deadlock not yet resolved) have no such root: one of them stands for it.
    """
    waiting = blockers(sessions)
    blocked = {session.pid for session in sessions if session.blocked_by}
    trees = [_node(pid, waiting, ()) for pid in waiting if pid not in blocked]
    reached = {pid for tree in trees for pid in _pids(tree)}
    for pid in sorted(waiting):
        if pid not in reached:
            trees.append(_node(pid, waiting, ()))
            reached |= set(_pids(trees[-1]))
    return sorted(trees, key=lambda tree: -tree.waiting)


def _node(pid: int, waiting: Mapping[int, Sequence[int]], above: tuple[int, ...]) -> Node:
    path = (*above, pid)
    below = (p for p in waiting.get(pid, ()) if p not in path)
    return Node(pid, tuple(_node(p, waiting, path) for p in below))


def _pids(node: Node) -> list[int]:
    return [node.pid, *(pid for child in node.blocks for pid in _pids(child))]


def _seconds(now: datetime, then: datetime | None) -> float:
    return max(0.0, (now - then).total_seconds()) if then else 0.0
