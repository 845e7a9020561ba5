"""Trials and changes in the background of the pages; their state is in the store.

A `Jobs` belongs to the process that serves the pages. What it runs can be watched from any
process, because each step is written into `trials` and `changes`.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from perfcore import db
from perfcore.advise.statement import plannable
from perfcore.codec import to_json
from perfcore.config import Config
from perfcore.errors import (
    ChangeRefused,
    PerfcoreError,
    PlanningFailed,
    StatementRefused,
    TargetUnavailable,
    TrialFailed,
)
from perfcore.lab import change
from perfcore.lab.copy import copy_tables, ensure_lab
from perfcore.lab.delivered import Promise, promise_of, record_trial
from perfcore.lab.job import LIMIT_ROWS, Report, TrialJob, estimated, tables_of
from perfcore.lab.ledger import Change, read_change
from perfcore.lab.parameters import parameter_sets
from perfcore.lab.report import NOT_SAME, Estimate, OtherStatement, TrialReport
from perfcore.lab.rewrite_job import RewriteJob, RewriteSubject
from perfcore.lab.trial import Outcome, TrialResult, Tried, run_trials
from perfcore.lab.wording import read_pair
from perfcore.plan import parse_plan
from perfcore.target import connect_target, refuse_dangerous_role
from perfcore.types import Catalog, IndexDefinition
from perfcore.whatif.catalog import read_catalog
from perfcore.whatif.hypopg import HypoPG
from perfcore.whatif.planner import Planner
from perfcore.whatif.twin import Twin

MAX_TRIALS = 2
MAX_STATEMENTS = 5  # of one trial
_MB = 1_000_000

log = logging.getLogger(__name__)


class Jobs:
    """Starts trials and changes, at most two trials at a time, the others wait."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._turns = threading.BoundedSemaphore(MAX_TRIALS)
        self._twins: dict[str, Twin] = {}
        self._twins_lock = threading.Lock()
        with db.connect(config.store, autocommit=True) as store:
            store.execute(db.query("lab_end_orphaned_trials"))

    def start_trial(
        self,
        target_id: int,
        target_name: str,
        statement_text: str,
        fingerprint: int,
        index: IndexDefinition,
        *,
        suggestion_id: str | None = None,
        others: Sequence[tuple[int, str]] = (),
        pairs: int = 10,
    ) -> str:
        """Begin a trial and return its id at once.

        `others` are fingerprint and text of statements that the index helps or hurts as well:
        of them, four are measured in the same trial, as far as its time lasts.

        Raises TrialFailed where the target is not one of PERFCORE_TARGETS.
        """
        target_dsn = self._target_dsn(target_name)
        trial_id = str(uuid.uuid4())
        with db.connect(self._config.store, autocommit=True) as store:
            store.execute(
                db.query("lab_insert_trial"),
                {
                    "trial_id": trial_id,
                    "target_id": target_id,
                    "suggestion_id": suggestion_id,
                    "fingerprint": fingerprint,
                    "index_body": Jsonb(to_json(index)),
                    "rewritten_sql": None,
                },
            )

        def work() -> None:
            with self._turns, db.connect(self._config.store, autocommit=True) as store:
                job = _IndexJob(
                    store, trial_id, target_id, fingerprint, statement_text, index, others
                )
                with job.recorded():
                    job.estimate(self._planners(target_name, target_dsn, job.share(0.0, 0.2)))
                    lab_dsn = ensure_lab(self._config.lab, target_name)
                    job.measure(target_dsn, lab_dsn, int(self._config.lab_max_mb * _MB), pairs)
                    job.finish(suggestion_id)

        _start(work, f"trial-{trial_id[:8]}")
        return trial_id

    def start_rewrite_trial(
        self, target_name: str, subject: RewriteSubject, *, pairs: int = 10
    ) -> str:
        """Begin a trial of a rewritten statement and return its id at once.

        Raises TrialFailed where the target is not one of PERFCORE_TARGETS, and what `read_pair`
        raises where the new form takes values that nothing tells.
        """
        target_dsn = self._target_dsn(target_name)
        read_pair(subject.statement_text, subject.rewritten_sql)
        trial_id = str(uuid.uuid4())
        with db.connect(self._config.store, autocommit=True) as store:
            store.execute(
                db.query("lab_insert_trial"),
                {
                    "trial_id": trial_id,
                    "target_id": subject.target_id,
                    "suggestion_id": subject.suggestion_id,
                    "fingerprint": subject.fingerprint,
                    "index_body": None,
                    "rewritten_sql": subject.rewritten_sql,
                },
            )

        def work() -> None:
            with self._turns, db.connect(self._config.store, autocommit=True) as store:
                job = RewriteJob(store, trial_id, subject)
                with job.recorded():
                    job.estimate(self._planners(target_name, target_dsn, job.share(0.0, 0.2)))
                    lab_dsn = ensure_lab(self._config.lab, target_name)
                    job.measure(target_dsn, lab_dsn, int(self._config.lab_max_mb * _MB), pairs)
                    job.finish()

        _start(work, f"trial-{trial_id[:8]}")
        return trial_id

    def start_apply(
        self,
        target_id: int,
        target_name: str,
        index: IndexDefinition,
        *,
        suggestion_id: str | None = None,
        fingerprints: Sequence[int] = (),
    ) -> str:
        """Begin to create the index on the target and return the change's id at once."""
        apply_dsn = self._apply_dsn(target_name)
        change_id = str(uuid.uuid4())
        _start(
            lambda: _quietly(
                lambda: change.apply_index(
                    self._config.store,
                    apply_dsn,
                    target_id,
                    index,
                    suggestion_id=suggestion_id,
                    fingerprints=fingerprints,
                    change_id=change_id,
                )
            ),
            f"apply-{change_id[:8]}",
        )
        return change_id

    def start_drop(
        self,
        target_id: int,
        target_name: str,
        schema: str,
        name: str,
        *,
        suggestion_id: str | None = None,
    ) -> str:
        """Begin to drop an index that serves nobody; return the change's id at once."""
        apply_dsn = self._apply_dsn(target_name)
        change_id = str(uuid.uuid4())
        _start(
            lambda: _quietly(
                lambda: change.apply_drop(
                    self._config.store,
                    apply_dsn,
                    target_id,
                    schema,
                    name,
                    suggestion_id=suggestion_id,
                    change_id=change_id,
                )
            ),
            f"drop-{change_id[:8]}",
        )
        return change_id

    def start_revert(self, target_name: str, change_id: str) -> None:
        """Begin to take a change back; the change's row tells how far it is."""
        apply_dsn = self._apply_dsn(target_name)
        _start(
            lambda: _quietly(lambda: change.revert(self._config.store, apply_dsn, change_id)),
            f"revert-{change_id[:8]}",
        )

    def change(self, change_id: str) -> Change | None:
        """Return a change as it is now, None before its intent is written."""
        with (
            db.connect(self._config.store, autocommit=True) as store,
            suppress(ChangeRefused),
        ):
            return read_change(store, change_id)
        return None

    def may_apply(self, target_name: str) -> bool:
        """Say whether there is a DSN with which this target may be changed."""
        return target_name in self._config.apply_dsns

    def close(self) -> None:
        """End the twins; running threads end with the process."""
        with self._twins_lock:
            while self._twins:
                self._twins.popitem()[1].close()

    def _planners(self, name: str, dsn: str, report: Report) -> Iterator[Planner]:
        """Yield the twin's planner, then HypoPG's where the target has it."""
        refuse_dangerous_role(dsn)
        report(0.1, "bringing the twin up to date")
        with self._twins_lock:
            yield self._twin(name, dsn).planner
        try:
            hypopg = HypoPG(dsn, self._config.data_dir)
        except (PlanningFailed, TargetUnavailable):
            return
        with hypopg:
            report(0.9, "asking HypoPG")
            yield hypopg

    def _twin(self, name: str, dsn: str) -> Twin:
        """Return the target's twin as the target is now; made at its first trial."""
        twin = self._twins.get(name)
        if twin is None:
            twin = self._twins[name] = Twin.build(dsn, self._config.data_dir)
        else:
            twin.refresh()
        return twin

    def _target_dsn(self, name: str) -> str:
        dsn = dict(self._config.targets).get(name)
        if dsn is None:
            raise TrialFailed(
                f"{name!r} is not a target of this process", hint="name it in PERFCORE_TARGETS"
            )
        if not self._config.lab:
            raise TrialFailed("there is no lab", hint="set PERFCORE_LAB to a PostgreSQL for trials")
        return dsn

    def _apply_dsn(self, name: str) -> str:
        dsn = self._config.apply_dsns.get(name)
        if dsn is None:
            raise ChangeRefused(
                f"nothing may be changed on {name}",
                hint=f"set PERFCORE_APPLY_DSNS to {name}=postgresql://… of the tables' owner",
            )
        return dsn


class _IndexJob(TrialJob):
    """A trial of an index on the statement it is there for, and on a few others."""

    def __init__(
        self,
        store: psycopg.Connection[Any],
        trial_id: str,
        target_id: int,
        fingerprint: int,
        statement_text: str,
        index: IndexDefinition,
        others: Sequence[tuple[int, str]],
    ) -> None:
        more = [OtherStatement(f, t) for f, t in others if f != fingerprint]
        report = TrialReport(statement_text, others=tuple(more[: MAX_STATEMENTS - 1]))
        super().__init__(store, trial_id, report)
        self._target_id = target_id
        self._fingerprint = fingerprint
        self._text = statement_text
        self._index = index

    def _add(self, planner: Planner) -> None:
        is_first = not self._report.estimates
        estimate = _estimate(planner, self._text, self._index)
        self._report = replace(self._report, estimates=(*self._report.estimates, estimate))
        if is_first:
            self._keep([_estimated(planner, o, self._index) for o in self._report.others])

    def _keep(self, others: Sequence[OtherStatement]) -> None:
        self._report = replace(self._report, others=tuple(others))

    def measure(self, target_dsn: str, lab_dsn: str, max_bytes: int, pairs: int) -> None:
        """Copy the tables, choose values and run."""
        copying = self.share(0.2, 0.6)
        with connect_target(target_dsn) as target:
            tables = set(tables_of(self._text, [self._index], target))
            others = [(o, _reads(o, self._index, target)) for o in self._report.others]
        copy = partial(copy_tables, target_dsn, lab_dsn, max_bytes=max_bytes, progress=copying)
        described = copy(tables)
        kept = []
        for other, reads in others:
            if not other.note and not reads <= tables:
                # All tables of a trial together stay below the limit: else this one is left out.
                try:
                    described, tables = copy(tables | reads), tables | reads
                except TrialFailed as error:
                    other = replace(other, note=f"not run: {error}")
            kept.append(other)
        self._report = replace(self._report, lab=described, others=tuple(kept))
        self._update(result=self._report, message="choosing values")
        with db.connect(lab_dsn, autocommit=True) as lab:
            catalog = read_catalog(lab)
            first = Tried(self._text, parameter_sets(lab, self._text, catalog))
            self._measure(lab_dsn, first, [_chosen(lab, o, catalog) for o in kept], pairs)

    def _measure(
        self,
        lab_dsn: str,
        first: Tried,
        others: Sequence[tuple[OtherStatement, Tried | None]],
        pairs: int,
    ) -> None:
        measured, *rest = run_trials(
            lab_dsn,
            self._index,
            [first, *(t for _, t in others if t is not None)],
            pairs=pairs,
            progress=self.share(0.6, 1.0),
        )
        outcomes = iter(rest)
        kept = [other if tried is None else _measured(other, next(outcomes))
                for other, tried in others]  # fmt: skip
        self._report = replace(self._report, measured=measured.measured, others=tuple(kept))

    def finish(self, suggestion_id: str | None) -> None:
        """Write the whole report down."""
        if suggestion_id is not None:
            self._store.execute(
                db.query("lab_mark_measured"),
                {
                    "suggestion_id": suggestion_id,
                    "is_measured": True,
                    "not_same": f"{NOT_SAME}%",
                },
            )
        self._record()
        self._end("done", "measured")

    def _record(self) -> None:
        """Write down promised and delivered, for the advisor to learn from."""
        first = next(iter(self._report.estimates), None)
        self._record_one(self._fingerprint, self._report.measured, first)
        for each in self._report.others:
            self._record_one(each.fingerprint, each.measured, each.estimate)

    def _record_one(
        self, fingerprint: int, measured: TrialResult | None, estimate: Estimate | None
    ) -> None:
        record_trial(
            self._store,
            self._trial_id,
            self._target_id,
            self._index,
            fingerprint,
            measured.sets if measured else (),
            _promise(estimate, self._index) if estimate else None,
        )


def _estimate(planner: Planner, text: str, index: IndexDefinition) -> Estimate:
    statement = plannable(text, limit_rows=LIMIT_ROWS)
    before = planner.plan(statement)
    after = planner.plan(statement, indexes=(index,))
    return estimated(
        planner, before, after, planner.index_bytes(index), after.uses_index(index.name)
    )


def _estimated(planner: Planner, other: OtherStatement, index: IndexDefinition) -> OtherStatement:
    try:
        return replace(other, estimate=_estimate(planner, other.text, index))
    except (PlanningFailed, StatementRefused) as error:
        return replace(other, note=f"no estimate: {error}")


def _reads(
    other: OtherStatement, index: IndexDefinition, target: psycopg.Connection[Any]
) -> set[str]:
    """Return the tables of a statement, none where it cannot be tried: that will be told."""
    with suppress(TrialFailed):
        return set(tables_of(other.text, [index], target))
    return set()


def _chosen(
    lab: psycopg.Connection[Any], other: OtherStatement, catalog: Catalog
) -> tuple[OtherStatement, Tried | None]:
    """Return the statement with its values, or with the reason why it has none."""
    if other.note.startswith("not run"):
        return other, None
    try:
        return other, Tried(other.text, parameter_sets(lab, other.text, catalog))
    except (PerfcoreError, psycopg.Error) as error:
        return replace(other, note=f"not run: {error}"), None


def _measured(other: OtherStatement, outcome: Outcome) -> OtherStatement:
    return replace(other, measured=outcome.measured, note=outcome.note or other.note)


def _promise(estimate: Estimate, index: IndexDefinition) -> Promise:
    before, after = parse_plan(estimate.plan_before), parse_plan(estimate.plan_after)
    return promise_of(before, after, index)


def _start(work: Callable[[], None], name: str) -> None:
    threading.Thread(target=work, name=f"perfcore-{name}", daemon=True).start()


def _quietly(work: Callable[[], object]) -> None:
    try:
        work()
    except PerfcoreError as error:
        # The ledger has it as well, unless it was the store that failed.
        log.warning("%s", error)
