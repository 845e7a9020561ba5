"""The recorder of a process: what the application calls, and where its samples are.

Nothing here waits: a measurement is appended to a queue, and the one thread that empties the
queues (`perfcore.collect.flusher`) starts with the first. At any quiet moment
generated = stored + spooled + buffered + dropped, and `Recorder.accounting()` shows it.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import logging
import math
import os
import socket
import sys
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter_ns
from typing import Any

from perfcore.collect.batching import Limits
from perfcore.collect.buffer import (
    CURRENT,
    LARGE_CHARACTERS,
    Buffer,
    Counter,
    Ending,
    RequestContext,
)
from perfcore.collect.callers import sight
from perfcore.collect.flusher import Flusher
from perfcore.collect.link import StoreTrouble
from perfcore.metric_type import MetricType

log = logging.getLogger("perfcore.collect")


@dataclass(frozen=True, slots=True)
class Accounting:
    """Where every sample of this process is; the sum is exact when nothing is under way."""

    generated: int
    stored: int
    spooled: int  # waiting on disk, or in memory where there is no disk
    buffered: int  # not flushed yet
    dropped: dict[str, int] = field(default_factory=dict)  # by reason
    self_errors: int = 0  # exceptions of our own that the application never saw
    refused: int = 0  # values that were no finite numbers; never generated
    quarantined: int = 0  # rows that no table of the store takes
    spool_bytes: int = 0  # on disk
    trouble: StoreTrouble | None = None  # with the store, the last there was

    @property
    def missing(self) -> int:
        """Return how many samples are unaccounted for: 0, or this program has a bug."""
        known = self.stored + self.spooled + self.buffered + sum(self.dropped.values())
        return self.generated - known

    def as_totals(self, sent: int = 0) -> dict[str, Any]:
        """Return it as a batch of so many samples tells it, as it will be when that is stored."""
        return {
            "generated": self.generated,
            "stored": self.stored + sent,
            "spooled": self.spooled,
            "buffered": self.buffered - sent,
            "dropped": self.dropped,
            "self_errors": self.self_errors,
            "refused": self.refused,
            "quarantined": self.quarantined,
            "spool_bytes": self.spool_bytes,
            "trouble": self.trouble.as_totals() if self.trouble else None,
        }


class Recorder:
    """Takes measurements of one service and sees to it that they reach the store.

    Nothing happens before the first measurement: then the thread starts. Without a store
    nothing is recorded at all.
    """

    def __init__(
        self,
        service: str,
        store: str,
        *,
        spool_folder: Path | None = None,
        slow_query_ms: float = 100.0,
        store_parameters: bool = False,
        interval_s: float = 1.0,
        limits: Limits | None = None,
        sample_process: bool = True,
    ) -> None:
        self.service = service
        self.is_enabled = bool(store)
        self.slow_query_ns = int(slow_query_ms * 1e6)
        self.store_parameters = store_parameters
        self._store = store
        self._spool_folder = spool_folder
        self._interval_s = interval_s
        self._limits = limits or Limits()
        self._sample_process = sample_process
        self._abandoned: list[object] = []
        if self.is_enabled:
            _import_what_the_thread_needs()
        self._arm()
        _RECORDERS.add(self)

    def _arm(self) -> None:
        """Begin with nothing recorded, as at the start and in a forked child."""
        self.buffer = Buffer()
        self.self_errors = Counter()
        self.refused = Counter()
        self._is_started = False
        self._is_closed = False
        self._start_lock = threading.Lock()
        self._flusher: Flusher | None = None

    def serves(self, service: str, store: str) -> bool:
        """Return whether it can be shared by another middleware of the same service."""
        return not self._is_closed and (self.service, self._store) == (service, store)

    def rearm_after_fork(self) -> None:
        """Forget what belongs to the parent, without touching its sockets and files."""
        if self._flusher is not None:
            self._abandoned.append(self._flusher)
            with contextlib.suppress(Exception):
                self._flusher.abandon()
        self._arm()

    # What follows is called from the application, between its own steps.

    def request(
        self,
        route: Any,
        method: str,
        started_ns: int,
        ended_ns: int,
        status: int | Ending,
        context: RequestContext | None,
    ) -> None:
        """Record a request that is over; `route` is one of the router's, or an endpoint's name."""
        buffer = self.buffer
        buffer.add(buffer.requests, (route, method, started_ns, ended_ns, status, context))
        if not self._is_started:
            self._start()

    def statement(
        self,
        text: str,
        ended_ns: int,
        duration_ns: int,
        outcome: int,
        context: RequestContext | None,
        parameters: tuple[Any, ...] | None,
        rows: int | None = None,
        key: bytes | None = None,
    ) -> None:
        """Record an execution; `parameters` only for a slow one, described by the policy.

        `rows` is what an executemany was given, -1 when that is not known. `key` are the
        parameters, encoded for the stream.
        """
        buffer = self.buffer
        if len(text) > LARGE_CHARACTERS:
            text = buffer.admit(text)
        if context is not None:
            context.is_used = True
            if buffer.wanted and text in buffer.wanted:
                sight(buffer, context, text)
        values = text, ended_ns, duration_ns, outcome, context, parameters, rows, key
        buffer.add(buffer.statements, values)
        if not self._is_started:
            self._start()

    def metric(
        self, name: str, value: float, unit: str, metric_type: str = MetricType.CUSTOM
    ) -> None:
        """Record a value of the application's own; ValueError when it is no finite number."""
        try:
            value = finite(name, value)
        except ValueError:
            self.refused.add()
            raise
        if not self.is_enabled:
            return
        item = (str(metric_type), str(name), str(unit), perf_counter_ns(), value)
        self.buffer.add(self.buffer.metrics, (item,))
        if not self._is_started:
            self._start()

    def accounting(self) -> Accounting:
        """Return where all samples are."""
        flusher = self._flusher
        if flusher is None:
            return self._account()
        # A flusher that hangs may hold it; then the answer is as good as it can be.
        is_held = flusher.ledger.acquire(timeout=1.0)
        try:
            return self._account(flusher)
        finally:
            if is_held:
                flusher.ledger.release()

    def _account(self, flusher: Flusher | None = None) -> Accounting:
        generated, buffered = self._waiting_here()
        full = self.buffer.dropped.value
        dropped = {"buffer_full": full} if full else {}
        known = Accounting(
            generated, 0, 0, buffered, dropped, self.self_errors.value, self.refused.value
        )
        if flusher is None:
            return known
        return replace(
            known,
            stored=flusher.stored,
            spooled=flusher.backlog.samples,
            buffered=buffered + flusher.in_flight,
            dropped={**dropped, **flusher.dropped},
            quarantined=flusher.quarantined,
            spool_bytes=flusher.backlog.disk_bytes,
            trouble=flusher.link.trouble,
        )

    def _waiting_here(self) -> tuple[int, int]:
        """Return how much was generated and how much of it is in the queues, as of one instant."""
        for _ in range(20):
            generated = self.buffer.generated.value
            buffered = len(self.buffer)
            if generated == self.buffer.generated.value:
                break
        return generated, buffered

    def flush(self, timeout_s: float = 2.0) -> bool:
        """Send what is there now; False when the store did not take it within the timeout."""
        if self._flusher is None:
            return True
        if not self._flusher.is_fine():
            self._start()
        return self._flusher.cycle(timeout_s)

    def close(self, timeout_s: float = 2.0) -> None:
        """Flush for at most that long and end the thread; what is left stays in the spool."""
        is_held = self._start_lock.acquire(timeout=timeout_s)
        self._is_closed = True
        self._is_started = True  # no new thread from now on
        if is_held:
            self._start_lock.release()
        if self._flusher is not None:
            self._flusher.stop(timeout_s)
            self._flusher.join(timeout_s)
        atexit.unregister(self.close)

    def _start(self) -> None:
        """Begin the flusher, or see to it that it works: called while `_is_started` is false."""
        flusher = self._flusher
        if flusher is not None and flusher.is_fine():
            return
        # A thread that starts while the interpreter ends never runs, and its starter waits for it.
        # Whoever holds the lock is starting the flusher; it may be this very thread, which the
        # garbage collector has interrupted to run a `__del__` of the application.
        if sys.is_finalizing() or not self._start_lock.acquire(blocking=False):
            return
        try:
            if self._is_closed:
                self._is_started = True
            elif self._flusher is not None:
                self._flusher.revive()
            else:
                self._begin()
        except RuntimeError as error:  # "can't start new thread"
            self._is_started = False
            self.self_errors.add()
            log.warning("perfcore: running in pass-through until a thread starts: %s", error)
        finally:
            self._start_lock.release()

    def _begin(self) -> None:
        self._is_started = True
        started = time.time_ns() // 1_000_000
        process = f"{socket.gethostname()}:{os.getpid()}:{started}"
        flusher = Flusher(self, self._store, process, self._spool_folder)
        flusher.configure(self._interval_s, self._limits, self._sample_process)
        self._flusher = flusher
        atexit.register(self.close)
        flusher.start()

    # What follows is called by the flusher: while it works, measurements look whether it lives.

    def flusher_works(self, flusher: Flusher) -> None:
        self._is_started = self._is_closed or flusher is not self._flusher

    def flusher_rests(self, flusher: Flusher) -> None:
        if flusher is self._flusher:
            self._is_started = True


def _import_what_the_thread_needs() -> None:
    """Import while the application starts, not in the thread.

    A process that forks while another thread imports a module leaves the child a lock that
    nobody will ever release.
    """
    for name in ("psutil", "psycopg.types.json", "perfcore.db"):
        importlib.import_module(name)


def finite(name: str, value: float) -> float:
    """Return a metric's value as a float; ValueError with its name when it is none.

    Truth values, texts and what a float cannot hold are refused too, and numbers so large that
    the sum of a few would be infinite.
    """
    try:
        is_number = isinstance(value, (int, float)) or hasattr(value, "__float__")
        if not is_number or isinstance(value, (bool, str, bytes)):
            raise TypeError
        number = float(value)
    except (TypeError, ValueError, OverflowError, ArithmeticError):
        number = math.nan
    if not abs(number) <= _LARGEST:
        raise ValueError(f"metric {name!r} is {value!r:.80}: it must be a finite number")
    return number


# Ten million of them still have a finite sum.
_LARGEST = 1e300
_RECORDERS: weakref.WeakSet[Recorder] = weakref.WeakSet()


def _rearm_all() -> None:
    CURRENT.set(None)  # the parent goes on with the request that forked
    for recorder in list(_RECORDERS):
        recorder.rearm_after_fork()


_register: Callable[..., None] | None = getattr(os, "register_at_fork", None)
if _register is not None:
    _register(after_in_child=_rearm_all)
