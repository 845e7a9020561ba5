"""Reads whose answer is asked for far more often than it changes."""

from __future__ import annotations

from dataclasses import dataclass

from perfcore.advise.statement import StatementShape, plannable
from perfcore.advise.workload import Writes
from perfcore.types import WorkloadStatement

MIN_CALLS_PER_HOUR = 600.0
MIN_MS_PER_HOUR = 5_000.0
MIN_MEAN_MS = 1.0
TTL_S = 60.0
_READS_PER_WRITE = 20.0


@dataclass(frozen=True, slots=True)
class Cacheable:
    """A read to keep for `ttl_s`: how often it would still run, how often its tables change."""

    statement: WorkloadStatement
    ttl_s: float
    runs_per_hour: float
    writes_per_hour: float

    @property
    def hit_rate(self) -> float:
        return max(0.0, 1.0 - self.runs_per_hour / self.statement.calls_per_hour)

    @property
    def saved_ms_per_hour(self) -> float:
        return self.hit_rate * self.statement.total_exec_time_ms * _per_hour(self.statement)


def cacheable(
    statement: WorkloadStatement, shape: StatementShape, writes: Writes
) -> Cacheable | None:
    """Return the read with what a cache of a minute would save, None where none would serve.

    Only a statement without parameters is known to give everybody the same answer. Its
    tables may be written, as long as the columns it reads are hardly ever.
    """
    if shape.command != "select" or not shape.uses or shape.unknown_relations:
        return None
    if "$1" in plannable(statement.text, limit_rows=1):
        return None
    total = statement.total_exec_time_ms * _per_hour(statement)
    if statement.calls_per_hour < MIN_CALLS_PER_HOUR or total < MIN_MS_PER_HOUR:
        return None
    if statement.mean_exec_time_ms < MIN_MEAN_MS:
        return None
    changes = sum(_changes(shape, name, writes) for name in {u.qualified_name for u in shape.uses})
    if changes * _READS_PER_WRITE > statement.calls_per_hour:
        return None
    return Cacheable(statement, TTL_S, 3600.0 / TTL_S, changes)


def _changes(shape: StatementShape, name: str, writes: Writes) -> float:
    rate = writes.rate(name)
    uses = shape.uses_of(name)
    everything = any(u.reads_all_columns for u in uses)
    read = {c for u in uses for c in u.columns}
    updated = writes.updated_columns.get(name)
    relevant = rate.updates
    if updated is not None and not everything:
        relevant = sum(rows for column, rows in updated.items() if column in read)
    return rate.inserts + rate.deletes + relevant


def _per_hour(statement: WorkloadStatement) -> float:
    return 3600.0 / statement.window_s if statement.window_s > 0 else 0.0
