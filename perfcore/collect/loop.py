"""The collector's process: a thread per target, one for the roller, one for the machine itself.

A target that is slow or gone delays no other. Several collectors may run: for each target the
store's advisory lock elects one, the others stand by.
"""

from __future__ import annotations

import logging
import os
import random
import socket
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import psutil
import psycopg
from psycopg.rows import TupleRow

from perfcore.collect.reading import Collector
from perfcore.collect.target import Connection, open_target
from perfcore.config import Config
from perfcore.db import ImpatientConnection, connect, query, redact
from perfcore.errors import ConfigurationError
from perfcore.histogram import Histogram
from perfcore.store import rollup, targets
from perfcore.store.ingest import Batch, RawSample, Rollup, SeriesKey, write_batch
from perfcore.target import dangerous_rights

log = logging.getLogger(__name__)

ROLL_INTERVAL_S = 15.0
_BACKOFF_START_S = 1.0
_BACKOFF_LIMIT_S = 60.0
_JOIN_LIMIT_S = 10.0
_WATCH_INTERVAL_S = 5.0
_STORE_ANSWER_S = 30.0
OWN_SHARE_LIMIT = 0.005
_SLOWEST = 32  # times the configured interval
_TARGET_LOCK = 0x5043  # the first half of the store's advisory lock, the second is the target


def run(config: Config, *, stop: threading.Event) -> None:
    """Collect from every configured target until `stop` is set.

    Raises ConfigurationError when no store is given; an unreachable store or target is tried
    again, ever less often, up to once a minute.
    """
    if not config.store:
        raise ConfigurationError(
            "PERFCORE_STORE is empty: the collector needs the DSN of the store",
            hint="perfcore demo starts everything; else set PERFCORE_STORE=postgresql://…",
        )
    work: dict[str, Callable[[], None]] = {
        "roller": lambda: _roll_forever(config, stop),
        "host": lambda: _sample_forever(config, stop),
    }
    for name, dsn in config.targets:
        work[f"target {name}"] = _watcher(name, dsn, config, stop)
    _keep_running(work, stop)


def _keep_running(work: Mapping[str, Callable[[], None]], stop: threading.Event) -> None:
    """Run each in a thread of its own until `stop` is set; one that ends is begun again."""
    threads = {name: _thread(name, task) for name, task in work.items()}
    while not stop.wait(_WATCH_INTERVAL_S):
        for name, task in work.items():
            if not threads[name].is_alive():
                log.error("%s ended by itself: beginning it again", name)
                threads[name] = _thread(name, task)
    for thread in threads.values():
        thread.join(_JOIN_LIMIT_S)


def _thread(name: str, work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work, name=f"perfcore {name}", daemon=True)
    thread.start()
    return thread


@dataclass
class Pace:
    """How long to wait before a target is read again.

    Twice as long after each reading that took more than 0.5 % of the time since the one before,
    and half as long again once there is room for it.
    """

    interval_s: float
    factor: int = 1

    def after(self, own_share: float | None) -> float:
        """Return the seconds to wait, after our statements took that share; None is unknown.

        >>> pace = Pace(10)
        >>> [pace.after(share) for share in (0.001, 0.02, 0.011, 0.004, 0.001)]
        [10, 20, 40, 40, 20]
        """
        if own_share is None:
            return self.interval_s * self.factor
        if own_share > OWN_SHARE_LIMIT:
            self.factor = min(self.factor * 2, _SLOWEST)
        elif own_share < OWN_SHARE_LIMIT / 2.5:
            self.factor = max(self.factor // 2, 1)
        return self.interval_s * self.factor


def _watcher(name: str, dsn: str, config: Config, stop: threading.Event) -> Callable[[], None]:
    def attempt() -> None:
        with _open_store(config, ImpatientConnection) as store:
            watch_target(name, dsn, store, config, stop=stop)

    return lambda: _persist(f"target {name}", attempt, stop)


def _persist(what: str, attempt: Callable[[], None], stop: threading.Event) -> None:
    """Run `attempt` until it returns; after a lost connection, again, ever less often."""
    pause_s = _BACKOFF_START_S
    while not stop.is_set():
        began = time.monotonic()
        try:
            attempt()
            return
        except psycopg.Error as error:
            lasted_s = time.monotonic() - began
            pause_s = (
                _BACKOFF_START_S
                if lasted_s > _BACKOFF_LIMIT_S
                else min(pause_s * 2, _BACKOFF_LIMIT_S)
            )
            log.warning("%s: %s; again in %.0f s", what, str(error).strip(), pause_s)
        stop.wait(jittered(pause_s))


def jittered(pause_s: float) -> float:
    """Return between half of the pause and all of it, so that collectors do not come at once."""
    return pause_s * random.uniform(0.5, 1.0)


def watch_target(
    name: str, dsn: str, store: Connection, config: Config, *, stop: threading.Event
) -> None:
    """Collect from one target until `stop` is set, whenever this process is the elected one.

    psycopg.Error passes through when a connection is lost; before, the target's row says why.
    """
    target_id = targets.ensure_target(store, name)
    lock = {"class": _TARGET_LOCK, "target": target_id}
    while not stop.is_set() and not _elected(store, lock):
        stop.wait(config.collect_interval_s)
    if stop.is_set():
        return
    try:
        with open_target(dsn) as target:
            _warn_of_rights(name, target)
            collector = Collector(target, store, target_id, config.slow_query_ms)
            pace = Pace(config.collect_interval_s)
            while not stop.is_set():
                report = collector.collect()
                for problem in report.problems:
                    log.debug("target %s: %s", name, problem)
                stop.wait(pace.after(report.own_share))
    except psycopg.Error as error:
        if not store.closed:
            reason = redact(str(error).strip())
            targets.save_error(store, target_id, f"cannot be read: {reason}")
        raise


def _warn_of_rights(name: str, target: Connection) -> None:
    if rights := dangerous_rights(target):
        log.warning(
            "target %s: its role may more than watching needs (%s): create the role from "
            "setup.sql (perfcore doctor --setup-sql); there is no advice until then",
            name,
            ", ".join(rights),
        )


def _elected(store: Connection, lock: dict[str, int]) -> bool:
    row = store.execute(query("store_lock_target"), lock).fetchone()
    return bool(row and row[0])


def _open_store(
    config: Config, factory: type[psycopg.Connection[TupleRow]] = psycopg.Connection
) -> Connection:
    connection = connect(config.store, autocommit=True, factory=factory)
    if isinstance(connection, ImpatientConnection):
        connection.answer_timeout_s = _STORE_ANSWER_S
    return connection


def _roll_forever(config: Config, stop: threading.Event) -> None:
    def attempt() -> None:
        with _open_store(config) as store:
            while not stop.is_set():
                rollup.roll(store, datetime.now(UTC), raw_retention_days=config.raw_retention_days)
                stop.wait(ROLL_INTERVAL_S)

    _persist("roller", attempt, stop)


def _sample_forever(config: Config, stop: threading.Event) -> None:
    psutil.cpu_percent()  # the first answer has nothing to compare with
    ids: dict[SeriesKey, int] = {}

    def attempt() -> None:
        ids.clear()
        with _open_store(config) as store:
            while not stop.wait(config.collect_interval_s):
                write_batch(store, host_batch(datetime.now(UTC)), ids)

    _persist("host", attempt, stop)


def host_batch(now: datetime) -> Batch:
    """Return the machine's CPU and memory as of now."""
    values = {
        SeriesKey("host", "cpu", "system.cpu.utilization", "percent"): psutil.cpu_percent(),
        SeriesKey("host", "memory", "system.memory.usage", "bytes"): float(
            psutil.virtual_memory().used
        ),
    }
    minute = now.replace(second=0, microsecond=0)
    rollups = []
    for series, value in values.items():
        histogram = Histogram()
        histogram.record(value)
        rollups.append(Rollup(series, minute, histogram))
    return Batch(
        batch_id=str(uuid.uuid4()),
        service="host",
        process=f"{socket.gethostname()}:{os.getpid()}:host",
        sent_at=now,
        samples=len(values),
        raw=tuple(RawSample(series, now, value) for series, value in values.items()),
        rollups=tuple(rollups),
    )
