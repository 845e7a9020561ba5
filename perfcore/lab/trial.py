"""Measure a statement in a lab with and without an index, or as it is and rewritten.

Both variants run interleaved in random order on warm caches, so that whatever else the
machine does falls on both. An index is really built; "without" is a transaction that drops it
and is rolled back: exact, and free of charge where nobody else reads. Of a rewritten statement
the rows are compared before it is measured.
"""

from __future__ import annotations

import json
import math
import random
import re
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
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
from perfcore.lab.equality import Equality, Sameness, compare
from perfcore.lab.parameters import ParameterSet, parameter_types
from perfcore.lab.preflight import probe, read_indexes, read_table
from perfcore.lab.prepared import Prepared
from perfcore.lab.wording import Pair, Values, values_of
from perfcore.plan import Plan, parse_plan
from perfcore.types import ConfidenceInterval, IndexDefinition
from perfcore.whatif.safety import check_calls, check_select

Connection = psycopg.Connection[TupleRow]
Report = Callable[[float, str], None]

MIN_PAIRS = 3
RUN_TIMEOUT_S = 60.0
BUILD_TIMEOUT_S = 600.0
_BASELINE, _VARIANT = "perfcore_trial", "perfcore_trial_new"
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
    ratio: ConfidenceInterval  # of the medians, variant divided by baseline
    used_index: bool


@dataclass(frozen=True, slots=True)
class TrialResult:
    """What a trial measured."""

    index_name: str  # empty where none was built
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
class SetCheck:
    """Whether both forms of a statement return the same rows for one set of values."""

    label: str
    parameters: tuple[str | None, ...]  # of the statement
    equality: Equality
    note: str = ""  # on the values that only the new form takes


@dataclass(frozen=True, slots=True)
class RewriteResult:
    """What a trial of a rewritten statement found."""

    checks: tuple[SetCheck, ...]
    measured: TrialResult | None  # None where no set of values could be run by both forms


class _IsThere(TrialFailed):
    """An index that was to be built is in the lab already."""


@dataclass(frozen=True, slots=True)
class _Built:
    """The index in the lab."""

    index: IndexDefinition
    name: str
    build_ms: float
    index_bytes: int
    parts: tuple[str, ...] = ()  # its indexes on the partitions, by which plans name it

    def is_used(self, plan: Plan) -> bool:
        return any(plan.uses_index(name) for name in (self.name, *self.parts))


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
            built = _build(lab, index)
            try:
                progress(0.2, "warming up")
                return _measure_all(lab, built, tried, pairs, seed, max_seconds, progress)
            finally:
                _drop(lab, index.schema, built.name)
    except psycopg.Error as error:
        raise TrialFailed(
            f"the trial ended: {error.diag.message_primary or error}", hint=_hint(error)
        ) from error


def run_rewrite_trial(
    lab_dsn: str,
    pair: Pair,
    parameter_sets: Sequence[ParameterSet],
    *,
    indexes: Sequence[IndexDefinition] = (),
    setup: str = "",
    pairs: int = 10,
    seed: int = 0,
    max_seconds: float = 120.0,
    progress: Report = _silent,
) -> RewriteResult:
    """Compare the rows of a statement and of its rewritten form, then measure both.

    `indexes` are those that the new form needs: they are built, and the statement as it is runs
    without them; `setup` may create an extension that they need. What is compared is told for
    each set of values, and a set that one of the two forms cannot run is not measured.

    Raises StatementRefused where either form is anything but a plain SELECT, and TrialFailed where
    the lab lacks a table or a run takes over a minute.
    """
    for wording in (pair.baseline, pair.variant):
        check_select(wording.text)
    try:
        with db.connect(lab_dsn, autocommit=True) as lab:
            progress(0.0, "waiting for other trials in this lab")
            lab.execute("SELECT pg_catalog.pg_advisory_lock(%s)", (LAB_LOCK_KEY,))
            _set_up(lab, setup)
            for wording in (pair.baseline, pair.variant):
                check_calls(lab, wording.text)
            progress(0.02, "building the indexes" if indexes else "comparing the rows")
            with _all_built(lab, indexes) as (built, notes):
                checks = _check_all(lab, pair, parameter_sets, _part(progress, 0.2, 0.3, ""))
                report = _part(progress, 0.5, 0.5, "")
                measured = _measure_pair(lab, pair, built, checks, pairs, seed, max_seconds, report)
            if measured is not None:
                measured = replace(measured, notes=(*measured.notes, *notes))
            return RewriteResult(tuple(c for _, c in checks), measured)
    except psycopg.Error as error:
        raise TrialFailed(
            f"the trial ended: {error.diag.message_primary or error}", hint=_hint(error)
        ) from error


def _set_up(lab: Connection, setup: str) -> None:
    """Create the extension that the new form's index needs; nothing else is run."""
    found = re.fullmatch(r"CREATE EXTENSION IF NOT EXISTS (\w+)", setup)
    if setup and found is None:
        raise TrialFailed(f"the lab does not run {setup}", hint="run it in the lab's database")
    if found is not None:
        lab.execute(sql.SQL("CREATE EXTENSION IF NOT EXISTS {}").format(sql.Identifier(found[1])))


@contextmanager
def _all_built(
    lab: Connection, indexes: Sequence[IndexDefinition]
) -> Iterator[tuple[tuple[_Built, ...], tuple[str, ...]]]:
    """Build the indexes that are not there yet, and drop them in the end."""
    built: list[_Built] = []
    notes: list[str] = []
    try:
        for index in indexes:
            try:
                built.append(_build(lab, index))
            except _IsThere as there:
                notes.append(f"{there}: both forms have it")
        yield tuple(built), tuple(notes)
    finally:
        for each in built:
            _drop(lab, each.index.schema, each.name)


def _check_all(
    lab: Connection, pair: Pair, sets: Sequence[ParameterSet], progress: Report
) -> list[tuple[Values, SetCheck]]:
    """Compare the rows of both forms for each set of values."""
    reference = pair.reference()
    checks = []
    for n, values in enumerate(every := _distinct(values_of(lab, pair, s) for s in sets)):
        progress(n / len(every), f"{values.label} values: comparing the rows")
        equality = (
            compare(
                lab,
                (reference, reference.values(values.every)),
                (pair.variant, pair.variant.values(values.every)),
            )
            if values.is_usable
            else Equality(Sameness.UNKNOWN, f"Not compared: {values.note}.")
        )
        shown = values.every[: len(pair.baseline.numbers)]
        checks.append((values, SetCheck(values.label, shown, equality, values.note)))
    return checks


def _distinct(found: Iterable[Values]) -> list[Values]:
    """Return what differs in more than the label; the last label stays."""
    return list({v.every: v for v in found}.values())


def _measure_pair(
    lab: Connection,
    pair: Pair,
    built: Sequence[_Built],
    checks: Sequence[tuple[Values, SetCheck]],
    pairs: int,
    seed: int,
    max_seconds: float,
    progress: Report,
) -> TrialResult | None:
    """Measure what both forms can run; nothing where that is no set of values."""
    runs = [
        _Run(v.label, c.parameters, pair.baseline.values(v.every), pair.variant.values(v.every))
        for v, c in checks
        if v.is_usable and not c.equality.is_error
    ]
    if not runs:
        return None
    began = time.perf_counter()
    names = (_BASELINE, _VARIANT)
    texts = (pair.baseline.text, pair.variant.text)
    one, other = (
        Prepared(lab, name, text, parameter_types(lab, text))
        for name, text in zip(names, texts, strict=True)
    )
    rng = random.Random(seed)
    trial = _Trial(lab, _Side(one, tuple(built)), _Side(other), built, rng)
    try:
        sets = trial.measure(runs, pairs, max_seconds, progress)
    finally:
        trial.close()
    return _result(built, sets, pairs, time.perf_counter() - began, seed)


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
    text = plannable(each.text)
    prepared = Prepared(lab, _BASELINE, text, parameter_types(lab, text))
    trial = _Trial(lab, _Side(prepared, (built,)), _Side(prepared), (built,), random.Random(seed))
    runs = [_Run(s.label, s.values, s.values, s.values) for s in each.sets]
    try:
        sets = trial.measure(runs, pairs, max_seconds, progress)
    finally:
        trial.close()
    result = _result((built,), sets, pairs, time.perf_counter() - began, seed)
    return replace(result, notes=(*result.notes, *_other_rows(sets)))


def ratio_of_medians(
    baseline: Sequence[float], variant: Sequence[float], seed: int = 0
) -> ConfidenceInterval:
    """Return variant divided by baseline with its 95 % bootstrap interval.

    >>> ratio_of_medians([10.0, 10.0, 10.0], [2.0, 2.0, 2.0])
    ConfidenceInterval(value=0.2, low=0.2, high=0.2, level=0.95)
    """
    return _ratio([(baseline, variant)], seed)


@dataclass(frozen=True, slots=True)
class _Side:
    """One of the two variants: a statement, and the indexes of the trial that it does without."""

    prepared: Prepared
    without: tuple[_Built, ...] = ()


@dataclass(frozen=True, slots=True)
class _Run:
    """A set of values for both variants."""

    label: str
    parameters: tuple[str | None, ...]
    baseline: tuple[str | None, ...]
    variant: tuple[str | None, ...]


class _Trial:
    """The interleaved runs of two variants on one connection."""

    def __init__(
        self,
        lab: Connection,
        baseline: _Side,
        variant: _Side,
        built: Sequence[_Built],
        rng: random.Random,
    ) -> None:
        self._lab = lab
        self._sides = (baseline, variant)
        self._built = built
        self._rng = rng

    def measure(
        self, runs: Sequence[_Run], pairs: int, max_seconds: float, progress: Report
    ) -> list[SetResult]:
        results = []
        share = max_seconds / max(1, len(runs))
        for n, each in enumerate(runs):
            start, length = n / len(runs), 1 / len(runs)

            def report(done: int, of: int, each: _Run = each, start: float = start,
                       length: float = length) -> None:  # fmt: skip
                progress(start + length * done / of, f"{each.label} values: pair {done} of {of}")

            results.append(self._measure_set(each, pairs, share, report))
        return results

    def close(self) -> None:
        """Forget the statements, so that the next ones can be prepared."""
        for side in self._sides:
            side.prepared.close()

    def _measure_set(
        self, each: _Run, pairs: int, max_seconds: float, report: Callable[[int, int], None]
    ) -> SetResult:
        began = time.perf_counter()
        for which in (0, 1):
            self._run(each, which)
        pair_s = time.perf_counter() - began
        wanted = max(MIN_PAIRS, min(pairs, math.floor(max_seconds / max(pair_s, 1e-6))))
        runs: tuple[list[Plan], list[Plan]] = ([], [])
        for done in range(wanted):
            report(done, wanted)
            order = [0, 1]
            self._rng.shuffle(order)
            for which in order:
                runs[which].append(self._run(each, which))
        baseline, variant = (self._summary(plans) for plans in runs)
        return SetResult(
            each.label,
            each.parameters,
            baseline,
            variant,
            ratio_of_medians(baseline.runs_ms, variant.runs_ms),
            any(b.is_used(runs[1][-1]) for b in self._built),
        )

    def _run(self, each: _Run, which: int) -> Plan:
        side, values = self._sides[which], (each.baseline, each.variant)[which]
        with self._lab.transaction(force_rollback=True):
            for built in side.without:
                self._lab.execute(_drop_statement(built.index.schema, built.name))
            self._lab.execute(
                f"{MARKER} SET TRANSACTION READ ONLY; "
                f"SET LOCAL statement_timeout = {RUN_TIMEOUT_S * 1000:.0f}; "
                "SET LOCAL plan_cache_mode = force_custom_plan; SET LOCAL jit = off"
            )
            row = self._lab.execute(
                sql.SQL("EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) {} EXECUTE {}").format(
                    sql.SQL(MARKER), side.prepared.call(values)
                )
            ).fetchone()
        assert row is not None
        return parse_plan(row[0])

    def _summary(self, plans: Sequence[Plan]) -> Measurement:
        times = tuple(p.execution_ms or 0.0 for p in plans)
        text = json.dumps(plans[-1].document)
        for built in self._built:
            # The reader knows the index by the name it will have, not by the lab's.
            text = text.replace(built.name, built.index.name)
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


def _build(lab: Connection, index: IndexDefinition) -> _Built:
    """Create the index, on a partitioned table with those of its partitions."""
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
            raise _IsThere(
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
    parts = lab.execute(
        "SELECT c.relname FROM pg_catalog.pg_partition_tree(%s) t "
        "JOIN pg_catalog.pg_class c ON c.oid = t.relid WHERE t.isleaf AND t.level > 0",
        (built.oid,),
    ).fetchall()
    return _Built(index, name, build_ms, built.index_bytes, tuple(str(p) for (p,) in parts))


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
    built: Sequence[_Built], sets: Sequence[SetResult], pairs: int, elapsed_s: float, seed: int
) -> TrialResult:
    done = min((len(s.baseline.runs_ms) for s in sets), default=0)
    fewer = f"{done} pairs instead of {pairs}, because the statement is slow"
    return TrialResult(
        ", ".join(b.index.name for b in built),
        sum(b.build_ms for b in built),
        sum(b.index_bytes for b in built),
        _ratio([(s.baseline.runs_ms, s.variant.runs_ms) for s in sets], seed),
        any(s.used_index for s in sets),
        done,
        tuple(sets),
        elapsed_s,
        (fewer,) if done < pairs else (),
    )


def _other_rows(sets: Sequence[SetResult]) -> Iterator[str]:
    """Say where an index changed how many rows were found."""
    for each in sets:
        if each.baseline.rows != each.variant.rows:
            yield (
                f"{each.label} values: {each.baseline.rows:.0f} rows without the index, "
                f"{each.variant.rows:.0f} with it"
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
