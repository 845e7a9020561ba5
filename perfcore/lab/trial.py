"""Measure a statement with and without an index, really built, in a lab.

Both variants run interleaved in random order on warm caches, so that whatever else the
machine does falls on both. "Without" is a transaction that drops the index and is rolled
back: exact, and free of charge where nobody else reads.
"""

from __future__ import annotations

import json
import math
import random
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import psycopg
from psycopg import sql
from psycopg.rows import TupleRow

from perfcore import db
from perfcore.advise.statement import plannable
from perfcore.db import MARKER
from perfcore.errors import ChangeRefused, PerfcoreError, TrialFailed
from perfcore.lab.copy import LAB_LOCK_KEY
from perfcore.lab.parameters import ParameterSet, parameter_types
from perfcore.lab.preflight import probe, read_indexes, read_table
from perfcore.plan import Plan, parse_plan
from perfcore.types import ConfidenceInterval, IndexDefinition
from perfcore.whatif.safety import check_calls, check_select

Connection = psycopg.Connection[TupleRow]
Report = Callable[[float, str], None]

MIN_PAIRS = 3
RUN_TIMEOUT_S = 60.0
BUILD_TIMEOUT_S = 600.0
_PREPARED = "perfcore_trial"
_NAME_PREFIX = "perfcore_trial_"
_RESAMPLES = 2000


def _silent(fraction: float, message: str) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Measurement:
    """One variant for one set of parameters."""

    median_ms: float
    runs_ms: tuple[float, ...]
    blocks_hit: int  # of the last run
    blocks_read: int
    rows: float
    plan_text: str
    plan: dict[str, Any]  # EXPLAIN (FORMAT JSON)'s object


@dataclass(frozen=True, slots=True)
class SetResult:
    """Both variants for one set of parameters."""

    label: str
    parameters: tuple[str | None, ...]
    baseline: Measurement
    variant: Measurement
    ratio: ConfidenceInterval  # of the medians, with the index divided by without
    used_index: bool


@dataclass(frozen=True, slots=True)
class TrialResult:
    """What a trial measured."""

    index_name: str
    build_ms: float
    index_bytes: int
    ratio: ConfidenceInterval  # of the sums of the medians over all sets
    used_index: bool  # by any set
    pairs: int  # interleaved runs of each set, the fewest
    sets: tuple[SetResult, ...]
    elapsed_s: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Tried:
    """A statement that is to be measured, with the values to do it with."""

    text: str
    sets: tuple[ParameterSet, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was measured of a statement, or why it was not."""

    measured: TrialResult | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class _Built:
    """The index in the lab."""

    index: IndexDefinition
    name: str
    build_ms: float
    index_bytes: int


def run_trial(
    lab_dsn: str,
    statement_text: str,
    index: IndexDefinition,
    parameter_sets: Sequence[ParameterSet],
    *,
    pairs: int = 10,
    seed: int = 0,
    max_seconds: float = 120.0,
    progress: Report = _silent,
) -> TrialResult:
    """Build the index in the lab, measure, drop it, and return what was measured.

    `max_seconds` bounds the runs: slow statements get fewer pairs, at least three, and the
    result says so. Raises StatementRefused for anything but a plain SELECT and TrialFailed
    where the lab lacks a table, has the index already, or a run takes over a minute.
    """
    subject = Tried(statement_text, tuple(parameter_sets))
    (only,) = run_trials(
        lab_dsn, index, [subject], pairs=pairs, seed=seed, max_seconds=max_seconds,
        progress=progress,
    )  # fmt: skip
    assert only.measured is not None
    return only.measured


def run_trials(
    lab_dsn: str,
    index: IndexDefinition,
    tried: Sequence[Tried],
    *,
    pairs: int = 10,
    seed: int = 0,
    max_seconds: float = 120.0,
    progress: Report = _silent,
) -> tuple[Outcome, ...]:
    """Build the index once and measure each statement, as `run_trial` does one.

    The first is what the trial is about: it gets half of the time, and what ends it raises.
    Of each other, what stood in its way is told beside it.
    """
    first = plannable(tried[0].text)
    check_select(first)
    try:
        with db.connect(lab_dsn, autocommit=True) as lab:
            progress(0.0, "waiting for other trials in this lab")
            lab.execute("SELECT pg_catalog.pg_advisory_lock(%s)", (LAB_LOCK_KEY,))
            # The parser sees names; what they and its operators and casts call, the server says.
            check_calls(lab, first)
            progress(0.02, "building the index")
            built = _Built(index, *_build(lab, index))
            try:
                progress(0.2, "warming up")
                return _measure_all(lab, built, tried, pairs, seed, max_seconds, progress)
            finally:
                _drop(lab, index.schema, built.name)
    except psycopg.Error as error:
        raise TrialFailed(
            f"the trial ended: {error.diag.message_primary or error}", hint=_hint(error)
        ) from error


def _measure_all(
    lab: Connection,
    built: _Built,
    tried: Sequence[Tried],
    pairs: int,
    seed: int,
    max_seconds: float,
    progress: Report,
) -> tuple[Outcome, ...]:
    started = time.perf_counter()
    others = tried[1:]
    half = max_seconds / 2 if others else max_seconds
    span = 0.8 / len(tried)
    measured = _measure_one(lab, built, tried[0], pairs, seed, half, _part(progress, 0.2, span, ""))
    outcomes = [Outcome(measured)]
    for number, each in enumerate(others, start=1):
        words = f"statement {number + 1} of {len(tried)}: "
        report = _part(progress, 0.2 + number * span, span, words)
        left = started + max_seconds - time.perf_counter()
        share = left / (len(others) - number + 1)
        outcomes.append(_measure_other(lab, built, each, pairs, seed, share, report))
    return tuple(outcomes)


def _part(progress: Report, start: float, length: float, words: str) -> Report:
    """Return the progress of a part of the whole."""
    return lambda fraction, message: progress(start + length * fraction, f"{words}{message}")


def _measure_other(
    lab: Connection,
    built: _Built,
    each: Tried,
    pairs: int,
    seed: int,
    max_seconds: float,
    progress: Report,
) -> Outcome:
    if max_seconds <= 0:
        return Outcome(None, "not run: the trial's time was used up")
    try:
        check_select(plannable(each.text))
        check_calls(lab, plannable(each.text))
        return Outcome(_measure_one(lab, built, each, pairs, seed, max_seconds, progress))
    except (PerfcoreError, psycopg.Error) as error:
        diagnosis = error.diag.message_primary if isinstance(error, psycopg.Error) else None
        return Outcome(None, f"not run: {diagnosis or error}")


def _measure_one(
    lab: Connection,
    built: _Built,
    each: Tried,
    pairs: int,
    seed: int,
    max_seconds: float,
    progress: Report,
) -> TrialResult:
    began = time.perf_counter()
    types = parameter_types(lab, each.text)
    trial = _Trial(lab, plannable(each.text), built.index, built.name, types, random.Random(seed))
    try:
        sets = trial.measure(each.sets, pairs, max_seconds, progress)
    finally:
        trial.close()
    return _result(built, sets, pairs, time.perf_counter() - began, seed)


def ratio_of_medians(
    baseline: Sequence[float], variant: Sequence[float], seed: int = 0
) -> ConfidenceInterval:
    """Return variant divided by baseline with its 95 % bootstrap interval.

    >>> ratio_of_medians([10.0, 10.0, 10.0], [2.0, 2.0, 2.0])
    ConfidenceInterval(value=0.2, low=0.2, high=0.2, level=0.95)
    """
    return _ratio([(baseline, variant)], seed)


class _Trial:
    """The runs of one statement on one connection."""

    def __init__(
        self,
        lab: Connection,
        statement: str,
        index: IndexDefinition,
        name: str,
        types: Sequence[str],
        rng: random.Random,
    ) -> None:
        self._lab = lab
        self._index = index
        self._name = name
        self._types = types
        self._rng = rng
        # A binary cursor makes psycopg use the extended protocol: one statement only.
        text = f"PREPARE {_PREPARED} AS {MARKER} {statement}"
        lab.cursor(binary=True).execute(text.encode())

    def measure(
        self,
        parameter_sets: Sequence[ParameterSet],
        pairs: int,
        max_seconds: float,
        progress: Report,
    ) -> list[SetResult]:
        results = []
        share = max_seconds / max(1, len(parameter_sets))
        for n, each in enumerate(parameter_sets):
            start, length = n / len(parameter_sets), 1 / len(parameter_sets)

            def report(done: int, of: int, each: ParameterSet = each, start: float = start,
                       length: float = length) -> None:  # fmt: skip
                progress(start + length * done / of, f"{each.label} values: pair {done} of {of}")

            results.append(self._measure_set(each, pairs, share, report))
        return results

    def close(self) -> None:
        """Forget the statement, so that the next one can be prepared."""
        with suppress(psycopg.Error):
            self._lab.execute(f"DEALLOCATE {_PREPARED}")

    def _measure_set(
        self,
        each: ParameterSet,
        pairs: int,
        max_seconds: float,
        report: Callable[[int, int], None],
    ) -> SetResult:
        began = time.perf_counter()
        for with_index in (False, True):
            self._run(each.values, with_index)
        pair_s = time.perf_counter() - began
        wanted = max(MIN_PAIRS, min(pairs, math.floor(max_seconds / max(pair_s, 1e-6))))
        runs: dict[bool, list[Plan]] = {False: [], True: []}
        for done in range(wanted):
            report(done, wanted)
            order = [False, True]
            self._rng.shuffle(order)
            for with_index in order:
                runs[with_index].append(self._run(each.values, with_index))
        baseline, variant = (self._summary(runs[which]) for which in (False, True))
        return SetResult(
            each.label,
            each.values,
            baseline,
            variant,
            ratio_of_medians(baseline.runs_ms, variant.runs_ms),
            runs[True][-1].uses_index(self._name),
        )

    def _run(self, values: Sequence[str | None], with_index: bool) -> Plan:
        with self._lab.transaction(force_rollback=True):
            if not with_index:
                self._lab.execute(_drop_statement(self._index.schema, self._name))
            self._lab.execute(
                f"{MARKER} SET TRANSACTION READ ONLY; "
                f"SET LOCAL statement_timeout = {RUN_TIMEOUT_S * 1000:.0f}; "
                "SET LOCAL plan_cache_mode = force_custom_plan; SET LOCAL jit = off"
            )
            row = self._lab.execute(
                sql.SQL("EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) {} EXECUTE {}").format(
                    sql.SQL(MARKER), self._call(values)
                )
            ).fetchone()
        assert row is not None
        return parse_plan(row[0])

    def _call(self, values: Sequence[str | None]) -> sql.Composable:
        if len(values) != len(self._types):
            raise TrialFailed(
                f"the statement takes {len(self._types)} parameters, {len(values)} were given"
            )
        if not values:
            return sql.Identifier(_PREPARED)
        literals = [
            sql.SQL("{}::{}").format(sql.Literal(v), sql.SQL(t))
            for v, t in zip(values, self._types, strict=True)
        ]
        return sql.SQL("{}({})").format(sql.Identifier(_PREPARED), sql.SQL(", ").join(literals))

    def _summary(self, plans: Sequence[Plan]) -> Measurement:
        times = tuple(p.execution_ms or 0.0 for p in plans)
        # The reader knows the index by the name it will have, not by the lab's.
        text = json.dumps(plans[-1].document).replace(self._name, self._index.name)
        last = parse_plan(text)
        return Measurement(
            float(np.median(times)),
            times,
            last.shared_hit_blocks,
            last.shared_read_blocks,
            float(last.root.actual_rows or 0),
            last.to_text(),
            json.loads(text),
        )


def _build(lab: Connection, index: IndexDefinition) -> tuple[str, float, int]:
    """Create the index and return its name in the lab, the milliseconds and its size."""
    table = read_table(lab, index.schema, index.table)
    if table is None:
        raise TrialFailed(
            f"the lab has no table {index.schema}.{index.table}", hint="copy it from the target"
        )
    _remove_leftovers(lab, index.schema, table.table_oid)
    try:
        wanted = probe(lab, index)
    except ChangeRefused as error:
        raise TrialFailed(str(error)) from error
    for existing in read_indexes(lab, table.table_oid):
        if existing.is_valid and existing.equals(wanted):
            raise TrialFailed(
                f"{index.schema}.{index.table} has this index already: {existing.name}",
                hint="there is nothing to compare it with",
            )
    name = f"{_NAME_PREFIX}{uuid.uuid4().hex[:12]}"
    lab.execute(f"SET statement_timeout = {BUILD_TIMEOUT_S * 1000:.0f}")
    began = time.perf_counter()
    lab.execute(index.ddl(concurrently=False, name=name).encode())
    build_ms = (time.perf_counter() - began) * 1000
    # Without statistics an index on an expression is planned blindly.
    lab.execute(
        sql.SQL("VACUUM (ANALYZE) {}").format(sql.Identifier(index.schema, index.table))
        if index.method == "gin" or any(k.is_expression for k in index.keys)
        else sql.SQL("SELECT 1")
    )
    lab.execute("RESET statement_timeout")
    built = next(i for i in read_indexes(lab, table.table_oid) if i.name == name)
    return name, build_ms, built.index_bytes


def _remove_leftovers(lab: Connection, schema: str, table_oid: int) -> None:
    """Drop what a killed trial left; the lock says that no other trial runs."""
    for index in read_indexes(lab, table_oid):
        if index.name.startswith(_NAME_PREFIX):
            lab.execute(_drop_statement(schema, index.name))


def _drop(lab: Connection, schema: str, name: str) -> None:
    with suppress(psycopg.Error):
        lab.execute(_drop_statement(schema, name))


def _drop_statement(schema: str, name: str) -> sql.Composed:
    return sql.SQL("DROP INDEX {}").format(sql.Identifier(schema, name))


def _result(
    built: _Built, sets: Sequence[SetResult], pairs: int, elapsed_s: float, seed: int
) -> TrialResult:
    done = min((len(s.baseline.runs_ms) for s in sets), default=0)
    notes = []
    if done < pairs:
        notes.append(f"{done} pairs instead of {pairs}, because the statement is slow")
    for each in sets:
        if each.baseline.rows != each.variant.rows:
            notes.append(
                f"{each.label} values: {each.baseline.rows:.0f} rows without the index, "
                f"{each.variant.rows:.0f} with it"
            )
    runs = [(s.baseline.runs_ms, s.variant.runs_ms) for s in sets]
    return TrialResult(
        built.index.name,
        built.build_ms,
        built.index_bytes,
        _ratio(runs, seed),
        any(s.used_index for s in sets),
        done,
        tuple(sets),
        elapsed_s,
        tuple(notes),
    )


def _ratio(
    runs: Sequence[tuple[Sequence[float], Sequence[float]]], seed: int
) -> ConfidenceInterval:
    """Return the ratio of the sums of medians, each side resampled with replacement."""
    rng = np.random.default_rng(seed)
    old = sum(_medians(np.array(baseline), rng) for baseline, _ in runs)
    new = sum(_medians(np.array(variant), rng) for _, variant in runs)
    ratios = new / np.maximum(old, 1e-9)
    value = sum(np.median(v) for _, v in runs) / max(sum(np.median(b) for b, _ in runs), 1e-9)
    low, high = np.quantile(ratios, [0.025, 0.975])
    return ConfidenceInterval(float(value), float(low), float(high))


def _medians(times: npt.NDArray[np.float64], rng: np.random.Generator) -> Any:
    picks = rng.integers(0, len(times), (_RESAMPLES, len(times)))
    return np.median(times[picks], axis=1)


def _hint(error: psycopg.Error) -> str:
    if isinstance(error, psycopg.errors.QueryCanceled):
        return f"a run may take {RUN_TIMEOUT_S:.0f} s, a build {BUILD_TIMEOUT_S / 60:.0f} min"
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        return "the lab's account must own its tables"
    return ""
