"""Work out advice again and again: read the store and the target, ask the twin, write it down."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import psycopg

from perfcore import db
from perfcore.advise.advisor import Advice, advise
from perfcore.advise.cache_advice import CacheAdvice, advise_caches
from perfcore.advise.cache_store import read_stream, read_unseen_writes, save_replays
from perfcore.advise.calibration import read_calibration
from perfcore.advise.explanation import explained
from perfcore.advise.readings import observe
from perfcore.advise.report import render_text
from perfcore.advise.server_state import read_server_state, told_memory_bytes
from perfcore.advise.statement import plannable
from perfcore.advise.store import (
    Connection,
    read_endpoints,
    read_foreign_keys,
    read_standing,
    read_workload,
    read_write_rates,
    save_advice,
)
from perfcore.advise.workload import Options, options_of
from perfcore.config import Config
from perfcore.db import connect
from perfcore.errors import ConfigurationError, PerfcoreError, TargetUnavailable
from perfcore.store import read
from perfcore.store.targets import ensure_target
from perfcore.target import connect_target, refuse_dangerous_role
from perfcore.types import Suggestion, Target
from perfcore.whatif.catalog import read_catalog
from perfcore.whatif.planner import Planner
from perfcore.whatif.twin import Agreement, Twin

__all__ = ["WINDOW", "advise_target", "explain_statement", "render_text", "run", "run_once"]

WINDOW = timedelta(hours=1)
_NO_STORE = "PERFCORE_STORE is not set: the advisor reads the workload that the collector stores"
log = logging.getLogger(__name__)


def _utc_now() -> datetime:
    return datetime.now(UTC)


def run_once(
    store: Connection,
    target: Target,
    planner: Planner,
    *,
    check: Callable[[str], Agreement] | None = None,
    options: Options | None = None,
    memory_bytes: int | None = None,
    now: Callable[[], datetime] = _utc_now,
) -> Advice:
    """Advise on the target's last hour and write the advice down.

    `check` compares the planner's plan of a statement, as things are, with the target's
    own; where they differ the suggestion says so. `memory_bytes` is the memory of the
    target's host where somebody told it. Raises TargetUnavailable when the
    target's catalogue cannot be read.
    """
    since = now() - WINDOW
    workload = read_workload(store, target.target_id, since)
    endpoints = read_endpoints(store, since)
    rates = read_write_rates(store, target.target_id, since)
    try:
        with connect_target(target.dsn) as connection:
            catalog = read_catalog(connection)
            foreign_keys = read_foreign_keys(connection)
            server = read_server_state(connection, memory_bytes=memory_bytes)
    except psycopg.Error as error:
        raise TargetUnavailable(f"{target.name} cannot be read: {error}") from error
    observed = observe(store, target.target_id, catalog, server.counters.next_xid)
    given = options or Options(target_id=target.target_id)
    advice = advise(
        catalog,
        workload,
        planner,
        endpoints=endpoints,
        options=given,
        write_rates=rates,
        foreign_keys=foreign_keys,
        server=replace(server, observed=observed),
        calibration=read_calibration(store, target.target_id),
        standing=read_standing(store, target.target_id),
    )
    found = advise_caches(
        catalog,
        workload,
        read_stream(store, since),
        endpoints=endpoints,
        options=given,
        unseen_writes=read_unseen_writes(store, target.target_id, since),
    )
    advice = _with_caches(advice, found)
    if check is not None:
        advice = replace(advice, suggestions=tuple(_checked(s, check) for s in advice.suggestions))
    save_advice(store, target.target_id, advice)
    save_replays(store, target.target_id, found.replays)
    return advice


def _with_caches(advice: Advice, found: CacheAdvice) -> Advice:
    """Put what was replayed in the place of what was guessed."""
    replayed = {r.fingerprint for r in found.replays if r.is_judged}
    kept = [
        s
        for s in advice.suggestions
        if s.kind != "cache" or not any(g.fingerprint in replayed for g in s.statements)
    ]
    suggestions = sorted(
        [*kept, *found.suggestions], key=lambda s: (-s.saved_ms_per_hour, s.kind, s.title)
    )
    advised = {g.fingerprint for s in suggestions for g in s.statements}
    return replace(
        advice,
        suggestions=tuple(suggestions),
        silences=tuple(s for s in advice.silences if s.fingerprint not in advised),
    )


def _checked(suggestion: Suggestion, check: Callable[[str], Agreement]) -> Suggestion:
    """Add a caveat where the planner does not plan the statement as the target does today."""
    if suggestion.index is None or not suggestion.statements:
        return suggestion
    try:
        agreement = check(plannable(suggestion.statements[0].text))
    except PerfcoreError as error:
        caveat = f"The target's own plan could not be compared: {error}"
        return replace(suggestion, caveats=(*suggestion.caveats, caveat))
    if agreement.agrees:
        return suggestion
    caveat = (
        f"The twin plans this statement at a cost of {agreement.twin_cost:,.0f}, the target itself "
        f"at {agreement.target_cost:,.0f}: test the index in the lab before believing the estimate."
    )
    return replace(suggestion, caveats=(*suggestion.caveats, caveat))


def advise_target(config: Config, name: str, options: Options | None = None) -> Advice:
    """Advise once on the target of that name, with a twin made for the purpose.

    Raises ConfigurationError when there is no such target or no store, TargetUnavailable
    when its role is superuser or nearly so.
    """
    dsn = dict(config.targets).get(name)
    if dsn is None:
        known = ", ".join(n for n, _ in config.targets) or "none"
        raise ConfigurationError(f"{name!r} is not a target; PERFCORE_TARGETS names: {known}")
    with _store(config) as store:
        refuse_dangerous_role(dsn)
        target = Target(ensure_target(store, name), name, dsn)
        with Twin.build(dsn, config.data_dir) as twin:
            given = replace(options or options_of(config, 0), target_id=target.target_id)
            return run_once(
                store,
                target,
                twin.planner,
                check=twin.self_check,
                options=given,
                memory_bytes=told_memory_bytes(config.target_memory_mb, name),
            )


def explain_statement(
    config: Config,
    queryid: int,
    names: Sequence[str],
    options: Options | None = None,
    now: Callable[[], datetime] = _utc_now,
) -> str:
    """Advise once more on the first of these targets that knows the statement, and explain it.

    Returns an empty text where none of them does.
    """
    if not config.store:
        raise ConfigurationError(_NO_STORE)
    engine = db.engine(config.store)
    try:
        ids = {t.name: t.target_id for t in read.targets(engine)}
        for name in names:
            target_id = ids.get(name)
            if target_id and read.statement(engine, queryid, target_id=target_id):
                advise_target(config, name, options)
                return explained(engine, queryid, target_id=target_id, now=now())
        return ""
    finally:
        engine.dispose()


def run(config: Config, stop: threading.Event, every_s: float) -> None:
    """Advise on every target until stopped; a target that fails is tried again next time."""
    with ExitStack() as stack:
        twins = Twins(config)
        stack.callback(twins.close)
        while not stop.is_set():
            for name, dsn in config.targets:
                if stop.is_set():
                    return
                _try_target(config, twins, name, dsn)
            stop.wait(every_s)


class Twins:
    """One twin a target, made when first asked for and brought up to date after that."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._twins: dict[str, Twin] = {}

    def current(self, name: str, dsn: str) -> Twin:
        """Return the target's twin, as the target is now."""
        twin = self._twins.get(name)
        if twin is None:
            twin = self._twins[name] = Twin.build(dsn, self._config.data_dir)
        else:
            twin.refresh()
        return twin

    def forget(self, name: str) -> None:
        """Close the target's twin, so that the next one is made anew."""
        twin = self._twins.pop(name, None)
        if twin is not None:
            twin.close()

    def close(self) -> None:
        """Close them all."""
        for name in list(self._twins):
            self.forget(name)


def _try_target(config: Config, twins: Twins, name: str, dsn: str) -> None:
    try:
        with _store(config) as store:
            target = Target(ensure_target(store, name), name, dsn)
            options = options_of(config, target.target_id)
            refuse_dangerous_role(dsn)
            twin = twins.current(name, dsn)
            advice = run_once(
                store,
                target,
                twin.planner,
                check=twin.self_check,
                options=options,
                memory_bytes=told_memory_bytes(config.target_memory_mb, name),
            )
    except (PerfcoreError, psycopg.Error, OSError) as error:
        log.warning("no advice on %s this time: %s", name, error)
        twins.forget(name)
        return
    log.info(
        "%s: %d suggestions in %.1f s; %s since the twin was made",
        name,
        len(advice.suggestions),
        advice.elapsed_s,
        twin.planner.effort,
    )


def _store(config: Config) -> Connection:
    if not config.store:
        raise ConfigurationError(_NO_STORE)
    return connect(config.store, autocommit=True)
