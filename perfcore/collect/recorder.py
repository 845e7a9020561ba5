"""The recorder of a process: what the application calls, and where its samples are.

Nothing here waits: a measurement is appended to a queue, and the one thread that empties the
queues (`perfcore.collect.flusher`) starts with the first. At any quiet moment
generated = stored + spooled + buffered + dropped, and `Recorder.accounting()` shows it.
"""

from __future__ import annotations

import atexit
import importlib
import math
import os
import socket
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter_ns
from typing import Any

from perfcore.collect.batching import Limits
from perfcore.collect.buffer import LARGE_CHARACTERS, Buffer, Counter, RequestContext
from perfcore.collect.flusher import Flusher
from perfcore.types import MetricType


@dataclass(frozen=True, slots=True)
class Accounting:
    """Where every sample of this process is; the sum is exact when nothing is under way."""

    generated: int
    stored: int
    spooled: int  # waiting on disk, or in memory where there is no disk
    buffered: int  # not flushed yet
    dropped: dict[str, int] = field(default_factory=dict)  # by reason
    self_errors: int = 0  # exceptions of our own that the application never saw

    @property
    def missing(self) -> int:
        """Return how many samples are unaccounted for: 0, or this program has a bug."""
        known = self.stored + self.spooled + self.buffered + sum(self.dropped.values())
        return self.generated - known

    def as_totals(self) -> dict[str, Any]:
        return {
            "generated": self.generated,
            "stored": self.stored,
            "spooled": self.spooled,
            "buffered": self.buffered,
            "dropped": self.dropped,
            "self_errors": self.self_errors,
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
        self._is_started = False
        self._is_closed = False
        self._start_lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._flusher: Flusher | None = None

    def serves(self, service: str, store: str) -> bool:
        """Return whether it can be shared by another middleware of the same service."""
        return not self._is_closed and (self.service, self._store) == (service, store)

    def rearm_after_fork(self) -> None:
        """Forget what belongs to the parent, without touching its sockets and files."""
        if self._flusher is not None:
            self._abandoned.append(self._flusher)
            self._flusher.abandon()
        self._arm()

    # What follows is called from the application, between its own steps.

    def request(self, context: RequestContext, started_ns: int, is_error: bool) -> None:
        """Record a request that is over."""
        ended_ns = perf_counter_ns()
        context.is_over = True
        self.buffer.add(self.buffer.requests, (context, ended_ns, ended_ns - started_ns, is_error))
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
    ) -> None:
        """Record an execution; `parameters` only for a slow one, described by the policy.

        `rows` is what an executemany was given, -1 when that is not known.
        """
        buffer = self.buffer
        if len(text) > LARGE_CHARACTERS:
            text = buffer.admit(text)
        buffer.add(
            buffer.statements, (text, ended_ns, duration_ns, outcome, context, parameters, rows)
        )
        if not self._is_started:
            self._start()

    def metric(
        self, name: str, value: float, unit: str, metric_type: str = MetricType.CUSTOM
    ) -> None:
        """Record a value of the application's own; ValueError when it is not finite."""
        value = finite(name, value)
        if not self.is_enabled:
            return
        item = (str(metric_type), str(name), str(unit), perf_counter_ns(), value)
        self.buffer.add(self.buffer.metrics, item)
        if not self._is_started:
            self._start()

    def accounting(self) -> Accounting:
        """Return where all samples are."""
        flusher = self._flusher
        generated = self.buffer.generated.value
        dropped = {"buffer_full": self.buffer.dropped.value} if self.buffer.dropped.value else {}
        errors = self.self_errors.value
        if flusher is None:
            return Accounting(generated, 0, 0, len(self.buffer), dropped, errors)
        return Accounting(
            generated,
            flusher.stored,
            sum(list(flusher.waiting.values())),
            len(self.buffer) + flusher.in_flight,
            {**dropped, **flusher.dropped},
            errors,
        )

    def flush(self, timeout_s: float = 2.0) -> bool:
        """Send what is there now; False when the store did not take it within the timeout."""
        if self._flusher is None:
            return True
        return self._flusher.cycle(timeout_s)

    def close(self, timeout_s: float = 2.0) -> None:
        """Flush for at most that long and end the thread; what is left stays in the spool."""
        with self._start_lock:
            self._is_closed = True
            self._is_started = True  # no new thread from now on
        if self._flusher is not None and self._thread is not None:
            self._flusher.stop()
            self._thread.join(timeout_s)
        atexit.unregister(self.close)

    def _start(self) -> None:
        with self._start_lock:
            if self._is_started:
                return
            self._is_started = True
            started = time.time_ns() // 1_000_000
            process = f"{socket.gethostname()}:{os.getpid()}:{started}"
            self._flusher = Flusher(self, self._store, process, self._spool_folder)
            self._flusher.configure(self._interval_s, self._limits, self._sample_process)
            self._thread = threading.Thread(
                target=self._flusher.run, name="perfcore-flusher", daemon=True
            )
            self._thread.start()
            atexit.register(self.close)


def _import_what_the_thread_needs() -> None:
    """Import while the application starts, not in the thread.

    A process that forks while another thread imports a module leaves the child a lock that
    nobody will ever release.
    """
    for name in ("psutil", "psycopg.types.json", "perfcore.db"):
        importlib.import_module(name)


def finite(name: str, value: float) -> float:
    """Return a metric's value as a float; ValueError with its name when it is not finite."""
    value = float(value)
    if not math.isfinite(value):
        raise ValueError(f"metric {name!r} is {value}: it must be a finite number")
    return value


_RECORDERS: weakref.WeakSet[Recorder] = weakref.WeakSet()


def _rearm_all() -> None:
    for recorder in list(_RECORDERS):
        recorder.rearm_after_fork()


_register: Callable[..., None] | None = getattr(os, "register_at_fork", None)
if _register is not None:
    _register(after_in_child=_rearm_all)
