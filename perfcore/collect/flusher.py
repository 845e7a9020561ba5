"""The one thread of a recorder: it empties the queues into the store.

Each second the thread drains the queues into a batch. A store that answers gets it at once, and
beside it, for at most a quarter of the time, what waited; a store that does not, finds it later
in the spool, exactly once. While a store is slow to answer the thread goes on putting what is
measured on disk, so that a killed process loses no more than a second.

A thread that died or hangs is replaced by the next measurement that notices.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import sqlite3
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter_ns
from typing import TYPE_CHECKING

from perfcore.collect.backlog import Backlog, read_some
from perfcore.collect.batching import Batcher, Limits
from perfcore.collect.link import Delivered, StoreLink
from perfcore.collect.process import ProcessSampler
from perfcore.collect.quiet import QuietLog
from perfcore.collect.spool import Row, Spool, is_damage
from perfcore.collect.stream import stream_key
from perfcore.config import load_config
from perfcore.store.ingest import Batch

if TYPE_CHECKING:
    from perfcore.collect.recorder import Recorder

log = logging.getLogger("perfcore.collect")

_NAP_S = 0.25  # after which the queues are looked at
_MUCH = 10_000  # samples in the queues that do not wait for the interval's end: 1 MB
_PATIENCE_S = 0.5  # for a connection, before a batch goes to disk
_INSURED_AFTER_S = 0.3  # a batch under way that long is put on disk
_DRAIN_SHARE = 0.25  # of the time, in which the store works on what waited
_MOST_ALLOWED_S = 0.5  # at once
_GROUP, _GROUP_BYTES = 12, 512 * 1024  # batches in a transaction of the drain
_MOST_FAILURES = 5  # of one batch while others arrive
_ORPHANS_EVERY_S = 20.0
_HUNG_AFTER_NS = 8_000_000_000
_SURE_AFTER_NS = 1_000_000_000
_MOST_HUNG = 3


class _Replaced(BaseException):
    """Another thread has taken over from this one."""


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
        self._log = QuietLog(log)
        self.stored = 0
        self.quarantined = 0  # rows
        self.dropped: dict[str, int] = {}
        self.ledger = threading.RLock()  # held while samples move from one count to another
        self._current: Batch | None = None  # under way, and nowhere else
        self._left_behind: deque[Batch] = deque()  # made by a thread that was replaced
        self.backlog = Backlog(
            f"{recorder.service}-{process}", self._folder, self._drop, self._check_turn
        )
        self._link = self._new_link()
        self._answers = 0
        self._failing = ("", 0)  # the oldest waiting batch and how often it failed by itself
        self._group = _GROUP
        self._allowed_s = self._drained_at = self._orphans_at = 0.0
        self._flush_began = self._taken_at = 0.0
        self._wake = threading.Event()
        self._is_stopping = False
        self._cycles = threading.Condition()
        self._begun = self._done = 0
        self._asked_until = self._patient_until = 0.0
        self._thread: threading.Thread | None = None
        self._hung: list[threading.Thread] = []
        self._hung_in_store: threading.Thread | None = None
        self._hung_in_disk: threading.Thread | None = None
        self._counts = threading.Lock()  # held for one addition, even by a thread replaced
        self._is_taking = self._is_delivering = False
        self._beat_ns = perf_counter_ns()
        self._overdue_ns = self._beat_ns + _HUNG_AFTER_NS
        self._suspected_ns = 0

    def configure(self, interval_s: float, limits: Limits, sample_process: bool) -> None:
        self._interval_s = interval_s
        self._limits = limits
        self._batcher = self._new_batcher()
        self._sample_process = sample_process
        self._sampler: ProcessSampler | None = None

    @property
    def in_flight(self) -> int:
        current = self._current
        return current.samples if current is not None else 0

    @property
    def link(self) -> StoreLink:
        return self._link

    # What follows is called from the application's threads.

    def start(self) -> None:
        self._beat()
        thread = threading.Thread(target=self.run, name="perfcore-flusher", daemon=True)
        self._thread = thread
        try:
            thread.start()
        except RuntimeError:
            self._thread = None
            raise

    def is_fine(self) -> bool:
        """Return whether the thread has shown itself lately; costs one look at the clock."""
        return perf_counter_ns() < self._overdue_ns

    def revive(self) -> None:
        """Replace the thread if it is dead, or was seen hanging twice a second apart."""
        if self.is_fine():
            return
        thread = self._thread
        if thread is not None and thread.is_alive():
            # A process that was suspended as a whole deserves a second look.
            if self._suspected_ns != self._beat_ns:
                self._suspected_ns = self._beat_ns
                self._overdue_ns = perf_counter_ns() + _SURE_AFTER_NS
                return
            self._hung = [t for t in self._hung if t.is_alive()]
            if len(self._hung) >= _MOST_HUNG:
                self._overdue_ns = perf_counter_ns() + _HUNG_AFTER_NS
                return
            self._part_from(thread)
        self.start()

    def _part_from(self, thread: threading.Thread) -> None:
        """Leave to a hanging thread whatever it hangs in."""
        self._hung.append(thread)
        self.ledger = threading.RLock()
        if self._is_taking:
            self._batcher = self._new_batcher()
        if self._is_delivering:
            self._link = self._new_link(self._link)
            self._hung_in_store = thread
        if self.backlog.is_busy:
            self.backlog.give_up_disk()
            self._hung_in_disk = thread
        self._is_taking = self._is_delivering = False
        self._log.warning("the flusher hangs: another thread takes over")

    def abandon(self) -> None:
        """In a forked child: free the lock's copy, leave everything else to the parent."""
        self.backlog.abandon()
        if self._sample_process and self._sampler is not None:
            self._sampler.close()

    def stop(self, timeout_s: float) -> None:
        self._is_stopping = True
        self._asked_until = time.monotonic() + timeout_s
        self._link.hurry()
        self._wake.set()

    def join(self, timeout_s: float) -> None:
        if self._thread is not None:
            self._thread.join(timeout_s)

    def cycle(self, timeout_s: float) -> bool:
        """Wait for a flush that begins after this call; whether nothing waits any more."""
        with self._cycles:
            wanted = self._begun + 1
            self._asked_until = max(self._asked_until, time.monotonic() + timeout_s)
            self._link.hurry()
            self._wake.set()
            done = self._cycles.wait_for(lambda: self._done >= wanted, timeout_s)
        return done and not self.backlog.samples

    # What follows runs in the thread.

    def run(self) -> None:
        """Flush each interval until stopped; no exception leaves the thread."""
        try:
            self._take_over()
            while not self._flush_next():
                pass
        except _Replaced:
            pass
        except Exception:
            log.exception("perfcore: the flusher ended; the next measurement begins it again")
        finally:
            self._leave()

    def _take_over(self) -> None:
        """Begin, with what a predecessor had under way."""
        if self._sample_process and self._sampler is None:
            self._sampler = ProcessSampler()
        with self.ledger:
            if self._current is not None:
                self._keep(self._current)

    def _flush_next(self) -> bool:
        """Wait for the next flush and make it; whether it was the last."""
        self._recorder.flusher_rests(self)
        self._rest()
        self._wake.clear()
        self._check_turn()
        with self._cycles:
            self._begun += 1
            number = self._begun
            self._patient_until, self._asked_until = self._asked_until, 0.0
        is_last = self._is_stopping
        self._beat()
        self._recorder.flusher_works(self)
        try:
            self._flush(is_last=is_last)
        except Exception as error:
            self._recorder.self_errors.add()
            self._log.warning(f"a flush failed, measuring goes on: {error!r}")
            log.debug("perfcore: a flush failed", exc_info=True)
            self._save_current()
        self._check_turn()
        with self._cycles:
            self._done = number
            self._cycles.notify_all()
        if is_last:
            self._end()
        return is_last

    def _rest(self) -> None:
        """Sleep until the next flush: an interval, less when asked for one or much has come in."""
        until = time.monotonic() + self._interval_s
        while (left_s := until - time.monotonic()) > 0:
            nap_s = min(left_s, _NAP_S)
            since_ns = perf_counter_ns()
            is_woken = self._wake.wait(nap_s)
            self._batcher.slept(since_ns, nap_s)
            if is_woken or len(self._buffer) > _MUCH:
                return

    def _leave(self) -> None:
        if threading.current_thread() is self._thread:
            self._thread = None
            if not self._is_stopping:
                self._overdue_ns = 0
                self._recorder.flusher_works(self)

    def _check_turn(self) -> None:
        if threading.current_thread() is not self._thread:
            raise _Replaced

    def _beat(self) -> None:
        self._beat_ns = now = perf_counter_ns()
        self._overdue_ns = now + _HUNG_AFTER_NS

    def _flush(self, *, is_last: bool) -> None:
        self._flush_began = time.monotonic()
        self._log.tick()
        if self._hung_in_disk is not None and not self._hung_in_disk.is_alive():
            self._hung_in_disk = None
            with self.ledger:
                self.backlog.take_disk_back()
        if self._sampler is not None:
            for reading in self._sampler.read():
                self._buffer.add(self._buffer.metrics, (reading,))
        batch = self._take()
        while self._left_behind:
            with self.ledger:
                self._keep(self._left_behind.popleft())
        # At the end a batch goes to disk first: the process may not live to see the answer.
        if batch is not None and (is_last or not self._may_send() or not self._send(batch)):
            with self.ledger:
                if self._current is not None:
                    self._keep(self._current)
        self._drain()

    def _take(self) -> Batch | None:
        """Make a batch of what the queues hold, with the accounting as of its arrival."""
        self._taken_at = time.monotonic()
        with self.ledger, self._taking():
            batch = self._batcher.take(self._buffer)
            if threading.current_thread() is not self._thread:
                if batch is not None:
                    self._left_behind.append(batch)
                raise _Replaced
            if batch is None:
                return None
            self._current = batch
            batch = replace(batch, totals=self._recorder.accounting().as_totals(batch.samples))
            self._current = batch
        return batch

    @contextlib.contextmanager
    def _taking(self) -> Iterator[None]:
        self._is_taking = True
        try:
            yield
        finally:
            if threading.current_thread() is self._thread:
                self._is_taking = False

    def _may_send(self) -> bool:
        if self._hung_in_store is not None and self._hung_in_store.is_alive():
            return False
        return self._link.may_try()

    def _send(self, batch: Batch) -> bool:
        """Store a batch now; False when the store does not take it, and it must wait."""
        done = self._deliver([batch])
        if done is None:
            return False
        with self.ledger:
            if self._current is None and not self.backlog.withdraw(batch):
                return True  # what became of it is counted already, or will be
            self._current = None
            self._account(batch.samples, done[0])
        return True

    def _deliver(self, batches: Sequence[Batch]) -> list[Delivered] | None:
        self._beat()
        patience_s = max(_PATIENCE_S, self._patient_until - time.monotonic())
        link = self._link
        self._is_delivering = True
        try:
            done = link.deliver(batches, patience_s)
            self._check_turn()
        except _Replaced:
            link.disconnect()
            raise
        finally:
            if threading.current_thread() is self._thread:
                self._is_delivering = False
        self._beat()
        return done

    def _while_waiting(self) -> None:
        """While the store lets us wait: nothing measured stays in memory alone."""
        self._check_turn()
        self._beat()
        now = time.monotonic()
        try:
            if self._current is not None and now - self._flush_began > _INSURED_AFTER_S:
                with self.ledger:
                    self._keep(self._current)
            if self._current is None and now - self._taken_at >= self._interval_s:
                with self.ledger:
                    if (batch := self._take()) is not None:
                        self._keep(batch)
        except Exception as error:
            self._recorder.self_errors.add()
            self._log.warning(f"what waits could not be kept: {error!r}")

    def _account(self, samples: int, delivered: Delivered) -> None:
        """Count a batch where it ended."""
        with self._counts:
            self.stored += delivered.samples
            self.quarantined += delivered.rejected
        if delivered.samples < samples:
            self._drop(samples - delivered.samples, "refused_by_store")

    def _keep(self, batch: Batch) -> None:
        """Put a batch where it can wait: on disk, else in memory, else it is counted."""
        self.backlog.put(replace(batch, was_spooled=True))
        self._check_turn()
        self._current = None

    def _save_current(self) -> None:
        """After a failure of our own: the batch under way waits, or is counted as dropped."""
        with self.ledger:
            if self._current is None:
                return
            try:
                self._keep(self._current)
            except Exception:
                self._drop(self._current.samples, "internal_error")
                self._current = None

    def _drop(self, samples: int, reason: str) -> None:
        with self._counts:
            self.dropped = {**self.dropped, reason: self.dropped.get(reason, 0) + samples}
        self._batcher.forget_all()

    def _drain(self) -> None:
        """Send what waits, oldest first, for a quarter of the time or as long as a flush asks."""
        began = time.monotonic()
        earned = _DRAIN_SHARE * (began - self._drained_at)
        self._allowed_s = min(_MOST_ALLOWED_S, self._allowed_s + earned)
        self._drained_at = began
        if not (self.backlog.samples or self._orphans_due(began)):
            return
        while self._may_drain() and self._send_waiting():
            pass
        with self.ledger:
            self.backlog.tidy()
        self._adopt()

    def _may_drain(self) -> bool:
        is_time = self._allowed_s > 0 or time.monotonic() < self._patient_until
        return is_time and self._may_send()

    def _deliver_waiting(self, batches: Sequence[Batch]) -> list[Delivered] | None:
        began = time.monotonic()
        try:
            return self._deliver(batches)
        finally:
            self._allowed_s -= time.monotonic() - began

    def _send_waiting(self) -> bool:
        """Send the oldest waiting batches; False when there are none or they must wait on."""
        with self.ledger:
            rows, batches = self.backlog.take(self._group, _GROUP_BYTES)
        if not rows:
            return False
        answers = self._link.answers
        done = self._deliver_waiting(batches)
        if done is None:
            if self._fail(rows[0], answers):
                self._settle(rows[:1], [Delivered(0)])
            return False
        self._group = _GROUP
        self._settle(rows, done)
        return True

    def _settle(self, rows: Sequence[Row], done: Sequence[Delivered]) -> None:
        with self.ledger:
            gone = {row.position for row in self.backlog.remove(rows)}
            for row, delivered in zip(rows, done, strict=True):
                if row.position in gone:
                    self._account(row.samples, delivered)
        self._check_turn()

    def _fail(self, row: Row, answers: int) -> bool:
        """Return whether a batch failed so often, while others arrived, that it is given up."""
        self._group = 1
        batch_id, failures = self._failing
        if batch_id != row.batch_id:
            self._failing, self._answers = (row.batch_id, 0), answers
        elif answers != self._answers:  # something else has arrived since
            self._failing, self._answers = (batch_id, failures + 1), answers
        return self._failing[1] >= _MOST_FAILURES

    def _orphans_due(self, now: float) -> bool:
        if now < self._orphans_at:
            return False
        self._orphans_at = now + _ORPHANS_EVERY_S
        return True

    def _adopt(self) -> None:
        """Send the spools of processes that died; their samples are theirs, not ours."""
        if not self._may_drain():
            return
        for spool in self.backlog.orphans():
            is_empty = False
            try:
                is_empty = self._drain_orphan(spool)
            except (OSError, sqlite3.Error) as error:
                self._log.warning(f"the spool {spool.path} cannot be adopted: {error}")
                if isinstance(error, sqlite3.Error) and is_damage(error):
                    spool.set_aside()
            finally:
                with contextlib.suppress(OSError, sqlite3.Error):
                    spool.close(keep=not is_empty)
            if not is_empty:
                return

    def _drain_orphan(self, spool: Spool) -> bool:
        """Send a spool's batches; whether it is empty now."""
        while self._may_drain():
            rows, batches, bad = read_some(spool, self._group, _GROUP_BYTES)
            if bad:
                self._log.warning(f"{len(bad)} batches in {spool.path} are damaged")
                spool.remove(bad, are_known=False)
            if not rows:
                return not bad
            answers = self._link.answers
            if self._deliver_waiting(batches) is None:
                if self._fail(rows[0], answers):
                    spool.remove(rows[:1])
                return False
            self._group = _GROUP
            spool.remove(rows)
        self._orphans_at = 0.0  # go on with it in the next cycle
        return False

    def _new_batcher(self) -> Batcher:
        service = self._recorder.service
        key = stream_key(self._store, service)
        return Batcher(service, self._process, self._limits, stream_key=key)

    def _new_link(self, before: StoreLink | None = None) -> StoreLink:
        link = StoreLink(lambda: self._store, self._while_waiting)
        if before is not None:
            link.trouble = before.trouble
        return link

    def _folder(self) -> Path:
        if self._spool_folder is None:
            self._spool_folder = default_spool_folder(self._store)
        return self._spool_folder

    def _end(self) -> None:
        if self._sampler is not None:
            self._sampler.close()
        self._link.disconnect()
        with self.ledger:
            self.backlog.close()


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
