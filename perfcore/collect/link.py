"""The line to the store: it connects beside the flusher, delivers, and says in words what is wrong.

Connecting can take long before any timeout counts (a name that does not resolve), so a thread of
its own does it, and ends with it. Delivering happens in the caller's thread, within a deadline.
"""

from __future__ import annotations

import logging
import random
import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from perfcore.collect.quiet import QuietLog
from perfcore.store.ingest import Batch, SeriesKey, write_batches
from perfcore.store.poison import is_poison, write_apart

if TYPE_CHECKING:
    from perfcore.db import ImpatientConnection

CONNECT_TIMEOUT_S = 3
STATEMENT_TIMEOUT_S = 5
DELIVERY_TIMEOUT_S = 6.0  # for all statements of a transaction together
LONGEST_PAUSE_S = 15.0
_SHORT_PAUSE_S = (0.1, 1.0)

_WORDS = {
    "08": "the connection was lost",
    "25006": "read-only: a standby, or set so",
    "28": "the login was refused",
    "3D000": "there is no such database",
    "3F000": "it is not a store, or not migrated",
    "40001": "a conflict with another transaction",
    "40P01": "a deadlock",
    "42501": "permission denied",
    "42P01": "it is not a store, or not migrated",
    "42": "its schema is of another version",
    "53100": "disk full",
    "53200": "out of memory",
    "53300": "too many connections",
    "55P03": "locked by another transaction",
    "57014": "a statement was cancelled after 5 s",
    "57P01": "shut down",
    "57P02": "crashed",
    "57P03": "starting up or shutting down",
}
# A refused login carries no SQLSTATE in libpq, only the server's sentence.
_SENTENCES = (
    (r"too many (clients|connections)|remaining connection slots", "53300"),
    (r"starting up|shutting down|not yet accepting", "57P03"),
    (r"read-only|read only", "25006"),
    (r"authentication failed|no password|no pg_hba|role .* does not exist", "28"),
    (r"database .* does not exist", "3D000"),
    (r"disk is full|no space left", "53100"),
)
_BRIEF = {"40001", "40P01", "55P03"}


@dataclass(frozen=True, slots=True)
class StoreTrouble:
    """Why the store takes nothing, in words, since when and until when."""

    reason: str
    since: datetime
    until: datetime | None = None

    def __str__(self) -> str:
        until = f" until {self.until:%H:%M}" if self.until else ""
        return f"{self.reason} since {self.since:%H:%M}{until}"

    def as_totals(self) -> dict[str, Any]:
        return {
            "reason": self.reason,
            "since": self.since.isoformat(),
            "until": self.until.isoformat() if self.until else None,
        }


@dataclass(frozen=True, slots=True)
class Delivered:
    """What became of a batch that the store answered about."""

    samples: int  # the store holds
    rejected: int = 0  # rows in quarantine


class StoreLink:
    """One connection to the store at a time, with pauses while it does not answer."""

    def __init__(self, store: Callable[[], str], while_waiting: Callable[[], None]) -> None:
        self._store = store
        self._while_waiting = while_waiting
        self._log = QuietLog(logging.getLogger("perfcore.collect.store"))
        self._connection: ImpatientConnection | None = None
        self._connecting: _Connecting | None = None
        self._series_ids: dict[SeriesKey, int] = {}
        self._random = random.Random()  # the application may have seeded the common one
        self._pause_s = 0.0
        self._retry_at = 0.0
        self.trouble: StoreTrouble | None = None
        self.answers = 0  # deliveries that the store took

    def hurry(self) -> None:
        """Try at the next occasion, however long the pause would still be."""
        self._retry_at = 0.0

    def may_try(self) -> bool:
        self._log.tick()
        return time.monotonic() >= self._retry_at

    def deliver(self, batches: Sequence[Batch], patience_s: float) -> list[Delivered] | None:
        """Return what became of each batch, or None to try again later.

        Waits at most `patience_s` for a connection; after that the deadline counts.
        """
        try:
            connection = self._connected(patience_s)
            if connection is None:
                return None
            connection.deadline = time.monotonic() + DELIVERY_TIMEOUT_S
            done = self._write(connection, batches)
        except Exception as error:
            if not _is_about_the_store(error):
                raise
            self._lose(error)
            return None
        self._answer()
        return done

    def _write(self, connection: ImpatientConnection, batches: Sequence[Batch]) -> list[Delivered]:
        try:
            return [Delivered(n) for n in write_batches(connection, batches, self._series_ids)]
        except Exception as error:
            if not is_poison(error):
                raise
            self._log.warning(f"the store refuses a row: {_one_line(error)}")
        done = []
        for batch in batches:
            connection.deadline = time.monotonic() + DELIVERY_TIMEOUT_S
            done.append(self._write_apart(connection, batch))
        return done

    def _write_apart(self, connection: ImpatientConnection, batch: Batch) -> Delivered:
        try:
            samples, rejected = write_apart(connection, batch, self._series_ids)
        except Exception as error:
            if not is_poison(error):
                raise
            return Delivered(0, 1)  # not even its head can be stored
        return Delivered(samples, len(rejected))

    def _connected(self, patience_s: float) -> ImpatientConnection | None:
        if self._connection is not None and not self._connection.closed:
            return self._connection
        if self._connecting is None:
            self._series_ids = {}
            self._connecting = _Connecting(self._store())
        attempt = self._connecting
        until = time.monotonic() + patience_s
        while not attempt.wait(0.1) and time.monotonic() < until:
            self._while_waiting()
        if not attempt.is_over:
            return None
        self._connecting = None
        self._connection = attempt.result()
        self._connection.while_waiting = self._while_waiting
        return self._connection

    def _answer(self) -> None:
        self.answers += 1
        self._pause_s = 0.0
        if self.trouble is not None and self.trouble.until is None:
            self.trouble = StoreTrouble(self.trouble.reason, self.trouble.since, datetime.now(UTC))
            self._log.warning("the store answers again; what waited is being sent")

    def _lose(self, error: Exception) -> None:
        reason, state = words(error)
        if self.trouble is None or self.trouble.until is not None:
            self.trouble = StoreTrouble(reason, datetime.now(UTC))
        elif self.trouble.reason != reason:
            self.trouble = StoreTrouble(reason, self.trouble.since)
        self._log.warning(f"the store takes nothing ({reason}), samples wait: {_one_line(error)}")
        if state in _BRIEF and self._connection is not None and not self._connection.closed:
            pause_s = self._random.uniform(*_SHORT_PAUSE_S)
        else:
            self._pause_s = min(LONGEST_PAUSE_S, max(1.0, self._pause_s * 2))
            # Many processes lose the store at once; they should not all return at once.
            pause_s = self._pause_s * self._random.uniform(0.6, 1.0)
            self.disconnect()
        self._retry_at = time.monotonic() + pause_s

    def disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._connecting is not None:
            self._connecting.forget()
            self._connecting = None


class _Connecting:
    """An attempt to connect, in a thread that ends with it."""

    def __init__(self, store: str) -> None:
        self._store = store
        self._result: ImpatientConnection | BaseException | None = None
        self._is_forgotten = False
        self._lock = threading.Lock()
        self._over = threading.Event()
        try:
            threading.Thread(target=self._run, name="perfcore-connect", daemon=True).start()
        except RuntimeError:  # the interpreter ends, or the system has no thread left
            self._run()

    @property
    def is_over(self) -> bool:
        return self._over.is_set()

    def wait(self, timeout_s: float) -> bool:
        return self._over.wait(timeout_s)

    def result(self) -> ImpatientConnection:
        if isinstance(self._result, BaseException):
            raise self._result
        assert self._result is not None
        return self._result

    def forget(self) -> None:
        """Nobody waits any more: close the connection, should it come."""
        with self._lock:
            self._is_forgotten = True
            if self._over.is_set():
                self._close()

    def _run(self) -> None:
        try:
            self._result = connect_to_store(self._store)
        except BaseException as error:
            self._result = error
        with self._lock:
            self._over.set()
            if self._is_forgotten:
                self._close()

    def _close(self) -> None:
        if self._result is not None and not isinstance(self._result, BaseException):
            self._result.close()


def connect_to_store(store: str) -> ImpatientConnection:
    """Open a connection that writes, gives up soon and leaves no transaction behind."""
    # Deferred: importing perfcore.collect must not import SQLAlchemy.
    from perfcore.db import ImpatientConnection, connect

    connection = connect(
        store,
        autocommit=True,
        factory=ImpatientConnection,
        connect_timeout=CONNECT_TIMEOUT_S,
        tcp_user_timeout=STATEMENT_TIMEOUT_S * 1000,
        target_session_attrs="read-write",
        options=f"-c timezone=UTC -c statement_timeout={STATEMENT_TIMEOUT_S}s "
        f"-c lock_timeout={CONNECT_TIMEOUT_S}s -c idle_in_transaction_session_timeout=10s",
    )
    assert isinstance(connection, ImpatientConnection)
    return connection


def words(error: BaseException) -> tuple[str, str]:
    """Return why the store takes nothing, in words, and the SQLSTATE, "" where none is known."""
    import psycopg

    state = getattr(error, "sqlstate", None) or ""
    text = str(error)
    if not state:
        found = (code for pattern, code in _SENTENCES if re.search(pattern, text, re.IGNORECASE))
        state = next(found, "")
    said = _WORDS.get(state) or _WORDS.get(state[:2])
    if said:
        return said, state
    if isinstance(error, psycopg.errors.ConnectionTimeout) or "did not answer" in text:
        return "no answer", state
    return (f"error {state}" if state else "cannot be reached"), state


def _is_about_the_store(error: Exception) -> bool:
    import psycopg

    return isinstance(error, (psycopg.Error, OSError))


def _one_line(error: BaseException) -> str:
    from perfcore.db import redact

    return redact(" ".join(str(error).split()))[:300]
