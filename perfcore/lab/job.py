"""One trial in the background: its report grows in the store, whatever becomes of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from perfcore import db
from perfcore.advise.statement import Unparsable, plannable, read_statement
from perfcore.codec import to_json
from perfcore.errors import (
    PerfcoreError,
    PlanningFailed,
    StatementRefused,
    TargetUnavailable,
    TrialFailed,
)
from perfcore.lab.report import Estimate, TrialReport
from perfcore.plan import Plan
from perfcore.types import IndexDefinition
from perfcore.whatif.catalog import read_catalog
from perfcore.whatif.planner import Planner

# Of a LIMIT the generic plan knows nothing: the planner then assumes a tenth of all rows.
LIMIT_ROWS = 20
Report = Callable[[float, str], None]


class TrialJob:
    """One trial: each part adds to the report, which is stored as it grows."""

    def __init__(self, store: psycopg.Connection[Any], trial_id: str, report: TrialReport) -> None:
        self._store = store
        self._trial_id = trial_id
        self._report = report
        self._ended = False

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Write down how the trial ends, whatever happens in it."""
        self._update(state="running", message="starting")
        try:
            yield
        except PerfcoreError as error:
            hint = f" ({error.hint})" if error.hint else ""
            self._end("failed", f"{error}{hint}")
        except psycopg.Error as error:
            self._end("failed", error.diag.message_primary or str(error))
        finally:
            if not self._ended:
                self._end("failed", "it ended unexpectedly: see Perfcore's log")

    def share(self, start: float, end: float) -> Report:
        """Return a progress for a part of the whole."""

        def report(fraction: float, message: str) -> None:
            self._update(progress=start + (end - start) * fraction, message=message)

        return report

    def estimate(self, planners: Iterator[Planner]) -> None:
        """Ask each planner; one that cannot answer is a note, not the end."""
        try:
            for planner in planners:
                self._add(planner)
        except (PlanningFailed, StatementRefused, TargetUnavailable) as error:
            self._note(f"no estimate: {error}")
        self._update(result=self._report)

    def _add(self, planner: Planner) -> None:
        """Add what a planner says."""
        raise NotImplementedError

    def _note(self, words: str) -> None:
        self._report = replace(self._report, notes=(*self._report.notes, words))

    def _end(self, state: str, message: str) -> None:
        self._ended = True
        progress = 1.0 if state == "done" else None
        self._update(state=state, message=message, progress=progress, result=self._report)

    def _update(
        self,
        *,
        state: str | None = None,
        progress: float | None = None,
        message: str | None = None,
        result: TrialReport | None = None,
    ) -> None:
        self._store.execute(
            db.query("lab_update_trial"),
            {
                "trial_id": self._trial_id,
                "state": state,
                "progress": progress,
                "message": message,
                "result": Jsonb(to_json(result)) if result else None,
            },
        )


def estimated(
    planner: Planner,
    before: Plan,
    after: Plan,
    index_bytes: int,
    used_index: bool,
) -> Estimate:
    """Return what a planner's two plans say."""
    return Estimate(
        planner.name,
        planner.advisory,
        before.total_cost,
        after.total_cost,
        index_bytes,
        used_index,
        before.to_text(),
        after.to_text(),
        dict(before.document),
        dict(after.document),
    )


def tables_of(
    text: str, indexes: Sequence[IndexDefinition], target: psycopg.Connection[Any]
) -> list[str]:
    """Return the tables a trial needs: those the statement reads, and the indexes' own."""
    try:
        shape = read_statement(plannable(text), read_catalog(target))
    except Unparsable as error:
        raise TrialFailed(f"the statement could not be parsed: {error}") from error
    if shape.unknown_relations:
        raise TrialFailed(
            f"the statement reads {', '.join(shape.unknown_relations)}, which is no table here"
        )
    own = {f"{i.schema}.{i.table}" for i in indexes}
    return sorted({u.qualified_name for u in shape.uses} | own)
