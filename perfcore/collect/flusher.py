"""The one thread of a recorder: it empties the queues into the store.

Each second the thread drains the queues into a batch. A store that answers gets it at once; a
store that does not, finds it later in the spool, in order and exactly once.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import sqlite3
import tempfile
import threading
import time
from collections import deque
from dataclasses import replace
from pathlib import Path
from time import perf_counter_ns
from typing import TYPE_CHECKING

from perfcore.collect.batching import Batcher, Limits
from perfcore.collect.process import ProcessSampler
from perfcore.collect.spool import Spool, SpoolFull, SpoolGone, orphans, spool_path
from perfcore.config import load_config
from perfcore.store.ingest import Batch, SeriesKey, write_batch

if TYPE_CHECKING:
    import psycopg
    from psycopg.rows import TupleRow

    from perfcore.collect.recorder import Recorder

log = logging.getLogger("perfcore.collect")

_CONNECT_TIMEOUT_S = 3
_STATEMENT_TIMEOUT_S = 5
_LONGEST_PAUSE_S = 15.0
_DRAIN_BUDGET_S = 1.0
_MEMORY_LIMIT_BYTES = 8 * 1024 * 1024
_ORPHANS_EVERY_S = 30.0


class Flusher:
    """The thread's side of a recorder; its counts are written by the thread alone."""

    def __init__(
        self, recorder: Recorder, store: str, process: str, spool_folder: Path | None
    ) -> None:
        self._recorder = recorder
        self._buffer = recorder.buffer
        self._store = store
        self._process = process
        self._spool_folder = spool_folder
        self.stored = 0
        self.in_flight = 0
        self.waiting: dict[str, int] = {}  # batch id -> samples, on disk or in memory
        self.dropped: dict[str, int] = {}
        self._memory: deque[Batch] = deque()
        self._memory_bytes = 0
        self._spool: Spool | None = None
        self._connection: psycopg.Connection[TupleRow] | None = None
        self._series_ids: dict[SeriesKey, int] = {}
        self._pause_s = 0.0
        self._retry_at = 0.0
        self._orphans_at = 0.0
        self._wake = threading.Event()
        self._is_stopping = False
        self._cycles = threading.Condition()
        self._begun = self._done = 0

    def configure(self, interval_s: float, limits: Limits, sample_process: bool) -> None:
        self._interval_s = interval_s
        self._batcher = Batcher(self._recorder.service, self._process, limits)
        self._sample_process = sample_process
        self._sampler: ProcessSampler | None = None

    def abandon(self) -> None:
        """In a forked child: free the lock's copy, leave everything else to the parent."""
        if self._spool is not None:
            self._spool.abandon()

    def stop(self) -> None:
        self._is_stopping = True
        self._wake.set()

    def cycle(self, timeout_s: float) -> bool:
        """Wait for a flush that begins after this call; whether nothing waits any more."""
        with self._cycles:
            wanted = self._begun + 1
            self._retry_at = 0.0
            self._wake.set()
            done = self._cycles.wait_for(lambda: self._done >= wanted, timeout_s)
        return done and not self.waiting

    def run(self) -> None:
        """Flush each interval until stopped; no exception leaves the thread."""
        if self._sample_process:
            self._sampler = ProcessSampler()
        while True:
            self._wake.wait(self._interval_s)
            self._wake.clear()
            with self._cycles:
                self._begun += 1
                number = self._begun
            is_last = self._is_stopping
            try:
                self._flush(is_last=is_last)
            except Exception:
                self._recorder.self_errors.add()
                self._drop_in_flight("internal_error")
                log.exception("perfcore: a flush failed; measuring goes on")
            with self._cycles:
                self._done = number
                self._cycles.notify_all()
            if is_last:
                self._end()
                return

    def _flush(self, *, is_last: bool) -> None:
        if self._sampler is not None:
            for metric_type, name, unit, value in self._sampler.read():
                item = (metric_type, name, unit, perf_counter_ns(), value)
                self._buffer.add(self._buffer.metrics, item)
        batch = self._batcher.take(self._buffer)
        if batch is not None:
            self.in_flight = batch.samples
            batch = replace(batch, totals=self._recorder.accounting().as_totals())
            # At the end a batch goes to disk first: the process may not live to see the answer.
            if is_last or self.waiting or not self._may_try() or not self._send(batch):
                self._keep(batch)
            self.in_flight = 0
        if (self.waiting or self._orphans_due()) and self._may_try():
            self._drain()

    def _may_try(self) -> bool:
        return time.monotonic() >= self._retry_at

    def _send(self, batch: Batch) -> bool:
        """Store a batch now; False when the store does not answer, and it must wait."""
        refused = self._deliver(batch)
        if refused is None:
            return False
        self._account(batch, refused)
        return True

    def _account(self, batch: Batch, refused: str) -> None:
        """Move a batch's samples to where they ended, in one step."""
        self.waiting.pop(batch.batch_id, None)
        self.in_flight = 0
        if refused:
            self._drop(batch.samples, refused)
            self._batcher.forget(batch)
        else:
            self.stored += batch.samples

    def _deliver(self, batch: Batch) -> str | None:
        """Return "" when stored, why it never can be, or None to try again later."""
        import psycopg

        try:
            if self._connection is None or self._connection.closed:
                self._connection = self._connect()
            write_batch(self._connection, batch, self._series_ids)
        except (psycopg.DataError, psycopg.IntegrityError) as error:
            log.warning("perfcore: the store refused a batch: %s", error)
            return "refused_by_store"
        except (psycopg.Error, OSError) as error:
            self._lose_store(error)
            return None
        if self._pause_s:
            log.warning("perfcore: the store answers again; what waited is being sent")
            self._pause_s = 0.0
        return ""

    def _connect(self) -> psycopg.Connection[TupleRow]:
        # Deferred: importing perfcore.collect must not import SQLAlchemy.
        from perfcore.db import ImpatientConnection, connect

        self._series_ids = {}
        return connect(
            self._store,
            autocommit=True,
            factory=ImpatientConnection,
            connect_timeout=_CONNECT_TIMEOUT_S,
            tcp_user_timeout=_STATEMENT_TIMEOUT_S * 1000,
            options=f"-c timezone=UTC -c statement_timeout={_STATEMENT_TIMEOUT_S}s "
            f"-c lock_timeout={_CONNECT_TIMEOUT_S}s",
        )

    def _lose_store(self, error: Exception) -> None:
        if not self._pause_s:
            log.warning("perfcore: the store does not answer; samples wait in the spool: %s", error)
        self._pause_s = min(_LONGEST_PAUSE_S, max(1.0, self._pause_s * 2))
        self._retry_at = time.monotonic() + self._pause_s
        self._disconnect()

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _keep(self, batch: Batch) -> None:
        """Put a batch where it can wait: on disk, else in memory, else count it as dropped."""
        batch = replace(batch, was_spooled=True)
        try:
            if self._memory:
                self._keep_in_memory(batch)  # the order stays
            else:
                self._open_spool().put(batch)
                self._wait(batch)
        except SpoolFull:
            self._give_up(batch, "spool_full")
        except SpoolGone as error:
            self._lose_spool(error)
            self._keep_in_memory(batch)
        except (OSError, sqlite3.Error) as error:
            # A full or read-only disk: what it holds already stays good.
            if not self._memory:
                log.warning("perfcore: no room on disk, batches wait in memory: %s", error)
            self._keep_in_memory(batch)

    def _wait(self, batch: Batch) -> None:
        self.waiting[batch.batch_id] = batch.samples
        self.in_flight = 0

    def _keep_in_memory(self, batch: Batch) -> None:
        size = 200 * (len(batch.raw) + len(batch.rollups) + len(batch.endpoint_statements)) + 1000
        if self._memory_bytes + size > _MEMORY_LIMIT_BYTES:
            self._give_up(batch, "memory_full")
            return
        self._memory_bytes += size
        self._memory.append(batch)
        self._wait(batch)

    def _give_up(self, batch: Batch, reason: str) -> None:
        self.in_flight = 0
        self._drop(batch.samples, reason)
        self._batcher.forget(batch)

    def _drop(self, samples: int, reason: str) -> None:
        self.dropped = {**self.dropped, reason: self.dropped.get(reason, 0) + samples}

    def _drop_in_flight(self, reason: str) -> None:
        if self.in_flight:
            self._drop(self.in_flight, reason)
            self.in_flight = 0

    def _open_spool(self) -> Spool:
        if self._spool is None:
            path = spool_path(self._folder(), f"{self._recorder.service}-{self._process}")
            self._spool = Spool(path)
        return self._spool

    def _folder(self) -> Path:
        if self._spool_folder is None:
            self._spool_folder = default_spool_folder(self._store)
        return self._spool_folder

    def _lose_spool(self, error: Exception) -> None:
        """Count what was on disk as lost; what is in memory stays."""
        log.warning("perfcore: the spool is lost, batches wait in memory: %s", error)
        in_memory = {b.batch_id for b in self._memory}
        for batch_id in [b for b in self.waiting if b not in in_memory]:
            self._drop(self.waiting.pop(batch_id), "spool_lost")
        if self._spool is not None:
            self._spool.set_aside()
            self._spool = None

    def _drain(self) -> None:
        """Send what waits, oldest first, for about a second."""
        until = time.monotonic() + _DRAIN_BUDGET_S
        try:
            if self._spool is not None and not self._drain_spool(self._spool, until):
                return
        except (OSError, sqlite3.Error) as error:
            self._lose_spool(error)
        while self._memory and time.monotonic() < until:
            if not self._send(self._memory[0]):
                return
            self._memory.popleft()
        if not self._memory:
            self._memory_bytes = 0
            if self._spool is not None and not self.waiting:
                self._spool.close(keep=False)
                self._spool = None
        self._adopt(until)

    def _drain_spool(self, spool: Spool, until: float) -> bool:
        """Send a spool's batches; whether it is empty now."""
        while time.monotonic() < until:
            row = spool.first()
            if row is None:
                return True
            position, batch_id, samples, content = row
            try:
                batch = Batch.from_bytes(content)
            except ValueError as error:
                log.warning("perfcore: a batch in %s is unreadable: %s", spool.path, error)
                if self.waiting.pop(batch_id, None) is not None:
                    self._drop(samples, "spool_corrupt")
                spool.remove(position)
                continue
            refused = self._deliver(batch)
            if refused is None:
                return False
            spool.remove(position)
            if batch_id in self.waiting:
                self._account(batch, refused)
        return False

    def _orphans_due(self) -> bool:
        if time.monotonic() < self._orphans_at:
            return False
        self._orphans_at = time.monotonic() + _ORPHANS_EVERY_S
        return True

    def _adopt(self, until: float) -> None:
        """Send the spools of processes that died; their samples are theirs, not ours."""
        folder = self._folder()
        if not folder.is_dir():
            return
        own = self._spool.path if self._spool is not None else folder
        for spool in orphans(folder, own):
            is_empty = False
            try:
                is_empty = self._drain_spool(spool, until)
            finally:
                spool.close(keep=not is_empty)
            if not is_empty:
                return

    def _end(self) -> None:
        self._disconnect()
        if self._spool is not None:
            self._spool.close(keep=bool(self.waiting))
            self._spool = None


def default_spool_folder(store: str) -> Path:
    """Return a store's folder in the data directory, or in the temporary one.

    Each store has its own, because another process may send what it finds there. User and
    password are no part of its name: they change while batches wait.
    """
    place = re.sub(r"//[^@/]*@", "//", store)
    name = "spool-" + hashlib.sha256(place.encode()).hexdigest()[:12]
    user = os.getuid() if hasattr(os, "getuid") else "user"
    fallback = Path(tempfile.gettempdir()) / f"perfcore-{user}" / name
    folder = load_config().data_dir / name
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return fallback
    return folder if os.access(folder, os.W_OK) else fallback
