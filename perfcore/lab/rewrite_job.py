"""The trial of a rewritten statement: its estimate, whether the rows are the same, its times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import psycopg

from perfcore import db
from perfcore.advise.statement import plannable
from perfcore.lab.copy import copy_tables
from perfcore.lab.delivered import Promise, record_rewrite
from perfcore.lab.equality import Sameness
from perfcore.lab.job import LIMIT_ROWS, TrialJob, estimated, tables_of
from perfcore.lab.parameters import parameter_sets
from perfcore.lab.report import NOT_SAME, TrialReport, TriedRewrite
from perfcore.lab.trial import run_rewrite_trial
from perfcore.lab.wording import Pair, read_pair
from perfcore.target import connect_target
from perfcore.types import IndexDefinition
from perfcore.whatif.catalog import read_catalog
from perfcore.whatif.planner import Planner


@dataclass(frozen=True, slots=True)
class RewriteSubject:
    """A rewritten statement that is to be tried."""

    target_id: int
    fingerprint: int
    statement_text: str
    rewritten_sql: str  # takes the `$n` of `plannable(statement_text)`
    indexes: tuple[IndexDefinition, ...] = ()  # that it needs
    setup: str = ""  # DDL that comes before them
    suggestion_id: str | None = None
    plan_change: str = ""  # the kind under which its promise is kept, none where nobody promised


class RewriteJob(TrialJob):
    """A trial of a rewritten statement."""

    def __init__(
        self, store: psycopg.Connection[Any], trial_id: str, subject: RewriteSubject
    ) -> None:
        tried = TriedRewrite(subject.rewritten_sql, subject.indexes, subject.setup)
        super().__init__(store, trial_id, TrialReport(subject.statement_text, rewrite=tried))
        self._subject = subject
        self._pair = read_pair(subject.statement_text, subject.rewritten_sql)
        self._tried = tried

    def _add(self, planner: Planner) -> None:
        old, new = _planned(self._pair)
        indexes = self._subject.indexes
        before, after = planner.plan(old), planner.plan(new, indexes=indexes)
        estimate = estimated(
            planner,
            before,
            after,
            sum(planner.index_bytes(i) for i in indexes),
            any(after.uses_index(i.name) for i in indexes),
        )
        self._report = replace(self._report, estimates=(*self._report.estimates, estimate))

    def measure(self, target_dsn: str, lab_dsn: str, max_bytes: int, pairs: int) -> None:
        """Copy the tables, choose values, compare the rows and run both forms."""
        subject = self._subject
        copy = partial(copy_tables, target_dsn, lab_dsn, max_bytes=max_bytes)
        described = copy(self._tables(target_dsn), progress=self.share(0.2, 0.5))
        self._report = replace(self._report, lab=described)
        self._update(result=self._report, message="choosing values")
        with db.connect(lab_dsn, autocommit=True) as lab:
            sets = parameter_sets(lab, subject.statement_text, read_catalog(lab))
        result = run_rewrite_trial(
            lab_dsn,
            self._pair,
            sets,
            indexes=subject.indexes,
            setup=subject.setup,
            pairs=pairs,
            progress=self.share(0.5, 1.0),
        )
        self._tried = replace(self._tried, checks=result.checks)
        self._report = replace(self._report, measured=result.measured, rewrite=self._tried)

    def _tables(self, target_dsn: str) -> set[str]:
        with connect_target(target_dsn) as target:
            return {
                *tables_of(self._pair.baseline.text, self._subject.indexes, target),
                *tables_of(self._pair.variant.text, self._subject.indexes, target),
            }

    def finish(self) -> None:
        """Write the whole report down, and what it means for the suggestion."""
        sameness = self._tried.sameness
        if sameness is Sameness.DIFFERENT:
            self._mark("lab_mark_refuted", reason=f"{NOT_SAME}: {self._where_it_differs()}")
            self._end("done", NOT_SAME)
            return
        if self._report.measured is None:
            self._end("done", "not measured: no set of values could be run")
            return
        # A batch saves calls, which its own time does not show.
        is_measured = not self._pair.is_batch
        self._mark("lab_mark_measured", is_measured=is_measured, not_same=f"{NOT_SAME}%")
        self._record()
        rows = "the same result" if sameness is Sameness.SAME else "rows not compared"
        self._end("done", f"measured, {rows}" if is_measured else rows)

    def _where_it_differs(self) -> str:
        checks = self._tried.checks
        found = next(c for c in checks if c.equality.sameness is Sameness.DIFFERENT)
        return f"{found.label} values: {found.equality.summary}"

    def _mark(self, query: str, **values: object) -> None:
        if self._subject.suggestion_id is not None:
            given = {"suggestion_id": self._subject.suggestion_id, **values}
            self._store.execute(db.query(query), given)

    def _record(self) -> None:
        """Write down promised and delivered, where somebody promised something."""
        first, measured = next(iter(self._report.estimates), None), self._report.measured
        subject = self._subject
        if first is None or measured is None or not subject.plan_change:
            return
        record_rewrite(
            self._store,
            self._trial_id,
            subject.target_id,
            subject.suggestion_id or "",
            subject.rewritten_sql,
            subject.fingerprint,
            measured.sets,
            Promise(subject.plan_change, first.ratio),
        )


def _planned(pair: Pair) -> Sequence[str]:
    """Return both texts as they are planned without values."""
    if pair.pages:
        # Of a depth that is a parameter the planner takes a tenth of the rows; a page is short.
        return pair.baseline.text, plannable(pair.variant.text, limit_rows=LIMIT_ROWS)
    return [plannable(w.text, limit_rows=LIMIT_ROWS) for w in (pair.baseline, pair.variant)]
