"""What live traffic says of a change: its statements and endpoints before and after.

The unit is one reading of the target (some seconds of traffic): the mean of a statement in
each is resampled with replacement, which gives the interval of the ratio of means without
assuming a distribution. Endpoints are compared by the quantiles of their merged histograms,
with the order-statistic interval of each side.
"""

from __future__ import annotations

import math
import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
from psycopg.types.json import Jsonb

from perfcore import db
from perfcore.codec import from_json, to_json
from perfcore.histogram import Histogram
from perfcore.lab.delivered import Delivered, record_verdict
from perfcore.lab.ledger import Change, Connection, read_change
from perfcore.normalise import fingerprint_hex
from perfcore.types import ConfidenceInterval, MetricType, TimeRange, Verdict

WINDOW = timedelta(minutes=60)
SETTLE = timedelta(seconds=10)
# After so long a wide interval will not become tight: it is said as it is.
PATIENCE = timedelta(minutes=30)
MIN_READINGS = 5
MIN_CALLS = 10
# A 95th percentile of fewer is little more than the largest value.
MIN_TAIL = 20
# Less than this is noise to whoever waits for the answer.
MARGIN = 0.10
# An interval from 0.8 to 1.2 says "no effect", one from 0.5 to 2 says nothing.
TIGHT = 1.5
_RESAMPLES = 1000
_OTHERS_LEVEL = 0.999
_MAX_STATEMENTS = 20

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class StatementVerdict:
    """One statement before and after."""

    fingerprint: int
    text: str
    verdict: Verdict
    calls_before: int
    calls_after: int
    mean_ms_before: float | None
    mean_ms_after: float | None
    ratio: ConfidenceInterval | None  # of the means, after divided by before
    blocks_per_call_before: float | None = None
    blocks_per_call_after: float | None = None
    p95_ms_before: float | None = None  # as the application saw it
    p95_ms_after: float | None = None


@dataclass(frozen=True, slots=True)
class EndpointVerdict:
    """One endpoint that runs the statements, before and after."""

    service: str
    endpoint: str
    verdict: Verdict
    requests_before: int
    requests_after: int
    mean_ms_before: float | None
    mean_ms_after: float | None
    p95_ms_before: float | None
    p95_ms_after: float | None
    ratio: ConfidenceInterval | None  # of the 95th percentiles


@dataclass(frozen=True, slots=True)
class VerdictReport:
    """The answer, what it rests on, and the way back where it is not a good one."""

    verdict: Verdict
    summary: str = ""  # one or two sentences
    change_id: str = ""
    judged_at: datetime | None = None
    before: TimeRange | None = None
    after: TimeRange | None = None
    ratio: ConfidenceInterval | None = None  # all statements, weighted by their calls since
    calls_needed: int = 0
    readings_needed: int = 0
    statements: tuple[StatementVerdict, ...] = ()
    endpoints: tuple[EndpointVerdict, ...] = ()
    slower: tuple[StatementVerdict, ...] = ()  # other statements on the table, slower since
    undo: str = ""  # set where the change did not help


@dataclass(frozen=True, slots=True)
class _Side:
    """The readings of one statement on one side of the change."""

    calls: Floats
    total_ms: Floats
    blocks: int

    @property
    def call_count(self) -> int:
        return int(self.calls.sum())

    @property
    def mean_ms(self) -> float | None:
        return float(self.total_ms.sum() / self.calls.sum()) if len(self.calls) else None

    @property
    def blocks_per_call(self) -> float | None:
        return self.blocks / self.call_count if self.call_count else None

    @property
    def is_enough(self) -> bool:
        return len(self.calls) >= MIN_READINGS and self.call_count >= MIN_CALLS

    def means(self, rng: np.random.Generator) -> Floats:
        """Return the means of as many resamplings of the readings."""
        picks = rng.integers(0, len(self.calls), (_RESAMPLES, len(self.calls)))
        means: Floats = self.total_ms[picks].sum(axis=1) / self.calls[picks].sum(axis=1)
        return means


_NOTHING = _Side(np.empty(0), np.empty(0), 0)


def judge(store: Connection, change_id: str, now: datetime) -> VerdictReport:
    """Compare the traffic before and after the change, store the verdict and return it."""
    change = read_change(store, change_id)
    windows = _windows(store, change, now)
    report = _report(store, change, now, windows) if windows else _too_early(change, now)
    store.execute(
        db.query("lab_store_verdict"),
        {"verdict": Jsonb(to_json(report)), "change_id": change_id},
    )
    record_verdict(store, change, [_delivered(s) for s in report.statements])
    return report


def _delivered(each: StatementVerdict) -> tuple[int, Verdict, Delivered | None]:
    if each.ratio is None or each.mean_ms_before is None or each.mean_ms_after is None:
        return each.fingerprint, each.verdict, None
    saved_ms = each.mean_ms_before - each.mean_ms_after
    return each.fingerprint, each.verdict, Delivered(each.ratio, saved_ms)


def judge_all(store: Connection, now: datetime) -> list[VerdictReport]:
    """Judge every change whose verdict may still move; the loop calls it each round."""
    rows = store.execute(db.query("lab_unjudged_changes"), {"now": now}).fetchall()
    return [judge(store, change_id, now) for (change_id,) in rows]


def read_verdict(data: Any) -> VerdictReport:
    """Return the report in a `changes.verdict` value."""
    return from_json(VerdictReport, data)


def compare_sides(
    before: Iterable[tuple[int, float]], after: Iterable[tuple[int, float]], seed: int = 0
) -> ConfidenceInterval:
    """Return the ratio of means of (calls, total ms) readings with its 95 % interval.

    >>> compare_sides([(10, 100.0)] * 6, [(10, 50.0)] * 6)
    ConfidenceInterval(value=0.5, low=0.5, high=0.5, level=0.95)
    """
    rng = np.random.default_rng(seed)
    old, new = (_side([(calls, ms, 0) for calls, ms in side]) for side in (before, after))
    value = (new.mean_ms or 0.0) / max(old.mean_ms or 0.0, 1e-9)
    return _interval(new.means(rng) / np.maximum(old.means(rng), 1e-9), value, 0.95)


def _side(readings: Sequence[tuple[int, float, int]]) -> _Side:
    return _Side(
        np.array([r[0] for r in readings], float),
        np.array([r[1] for r in readings], float),
        sum(r[2] for r in readings),
    )


def _windows(
    store: Connection, change: Change, now: datetime
) -> tuple[TimeRange, TimeRange] | None:
    if change.applied_at is None:
        return None
    began = change.started_at or change.applied_at
    row = store.execute(
        db.query("lab_verdict_window"),
        {
            "began": began,
            "applied": change.applied_at,
            "target_id": change.target_id,
            "change_id": change.change_id,
            "fingerprints": change.fingerprints,
        },
    ).fetchone()
    previous, following = row if row else (None, None)
    start = began - WINDOW
    if previous is not None:
        start = max(start, previous + SETTLE)
    settled = change.applied_at + SETTLE
    ends = [t for t in (now, settled + WINDOW, following, change.reverted_at) if t is not None]
    if min(ends) <= settled or start >= began:
        return None
    return TimeRange(start, began), TimeRange(settled, min(ends))


def _too_early(change: Change, now: datetime) -> VerdictReport:
    return VerdictReport(
        Verdict.WAITING,
        "Too little time has passed before or since this change to compare.",
        change.change_id,
        now,
        calls_needed=MIN_CALLS,
        readings_needed=MIN_READINGS,
    )


def _report(
    store: Connection, change: Change, now: datetime, windows: tuple[TimeRange, TimeRange]
) -> VerdictReport:
    before, after = windows
    wanted = change.fingerprints or _on_table(store, change, before)
    sides = _read_sides(store, change.target_id, wanted, windows)
    rng = np.random.default_rng(uuid.UUID(change.change_id).int)
    tails = _statement_tails(store, wanted, windows)
    patient = after.duration_s < PATIENCE.total_seconds()
    texts = _texts(store, change.target_id, wanted)
    statements = tuple(
        _judge_statement(f, texts.get(f, ""), *sides[f], tails.get(f), rng, patient) for f in wanted
    )
    ratio = _combined(list(sides.values()), rng)
    verdict = _verdict(ratio, patient)
    useless = verdict in (Verdict.NO_EFFECT, Verdict.REGRESSED)
    return VerdictReport(
        verdict,
        _summary(verdict, ratio, statements, change),
        change.change_id,
        now,
        before,
        after,
        ratio,
        *_needs(list(sides.values())),
        statements,
        _judge_endpoints(store, wanted, windows, patient),
        _slower_others(store, change, windows, wanted, rng),
        change.undo if useless and change.state == "applied" else "",
    )


def _table_name(change: Change) -> str:
    if change.index is not None:
        return change.index.table
    definition = change.ddl if change.kind == "create_index" else change.undo
    words = definition.partition(" ON ")[2].removeprefix("ONLY ").split(" ")[0]
    return words.rpartition(".")[2].strip('"')


def _on_table(store: Connection, change: Change, window: TimeRange) -> list[int]:
    """Return the statements that name the change's table, the heaviest first."""
    table = _table_name(change)
    if not table:
        return []
    rows = store.execute(
        db.query("lab_verdict_table_statements"),
        {
            "target_id": change.target_id,
            "start": window.start,
            "end": window.end,
            "table": table,
            "limit": _MAX_STATEMENTS,
        },
    ).fetchall()
    return [row[0] for row in rows]


def _read_sides(
    store: Connection,
    target_id: int,
    fingerprints: Sequence[int],
    windows: tuple[TimeRange, TimeRange],
) -> dict[int, tuple[_Side, _Side]]:
    before, after = (_read_side(store, target_id, fingerprints, w) for w in windows)
    return {f: (before.get(f, _NOTHING), after.get(f, _NOTHING)) for f in fingerprints}


def _read_side(
    store: Connection, target_id: int, fingerprints: Sequence[int], window: TimeRange
) -> dict[int, _Side]:
    rows = store.execute(
        db.query("lab_verdict_statements"),
        {
            "target_id": target_id,
            "fingerprints": list(fingerprints),
            "start": window.start,
            "end": window.end,
        },
    ).fetchall()
    grouped: dict[int, list[tuple[int, float, int]]] = defaultdict(list)
    for fingerprint, _, calls, total_ms, blocks in rows:
        grouped[fingerprint].append((calls, total_ms, blocks))
    return {f: _side(readings) for f, readings in grouped.items()}


def _texts(store: Connection, target_id: int, fingerprints: Sequence[int]) -> dict[int, str]:
    rows = store.execute(
        db.query("lab_verdict_texts"),
        {"target_id": target_id, "fingerprints": list(fingerprints)},
    ).fetchall()
    return dict(rows)


def _interval(ratios: Floats, value: float, level: float) -> ConfidenceInterval:
    tail = (1 - level) / 2
    low, high = np.quantile(ratios, [tail, 1 - tail])
    return ConfidenceInterval(value, float(low), float(high), level)


def _combined(
    sides: Sequence[tuple[_Side, _Side]], rng: np.random.Generator
) -> ConfidenceInterval | None:
    """Return what the calls made since took, divided by what they took before.

    Each statement counts by its calls since the change, so that a shift between the
    statements is not taken for a change of their speed.
    """
    enough = [(b, a) for b, a in sides if b.is_enough and a.is_enough]
    if not enough:
        return None
    new, old = np.zeros(_RESAMPLES), np.zeros(_RESAMPLES)
    new_ms = old_ms = 0.0
    for before, after in enough:
        new += after.means(rng) * after.call_count
        old += before.means(rng) * after.call_count
        new_ms += (after.mean_ms or 0.0) * after.call_count
        old_ms += (before.mean_ms or 0.0) * after.call_count
    return _interval(new / np.maximum(old, 1e-9), new_ms / max(old_ms, 1e-9), 0.95)


def _verdict(ratio: ConfidenceInterval | None, patient: bool) -> Verdict:
    if ratio is None:
        return Verdict.WAITING
    if ratio.high <= 1 - MARGIN:
        return Verdict.IMPROVED
    if ratio.low >= 1 + MARGIN:
        return Verdict.REGRESSED
    if patient and ratio.high > TIGHT * max(ratio.low, 1e-9):
        return Verdict.WAITING
    return Verdict.NO_EFFECT


def _needs(sides: Sequence[tuple[_Side, _Side]]) -> tuple[int, int]:
    """Return how many calls and readings are missing since the change, at least."""
    missing = [
        (max(0, MIN_CALLS - after.call_count), max(0, MIN_READINGS - len(after.calls)))
        for before, after in sides
        if before.is_enough
    ]
    return min(missing, default=(0, 0))


def _judge_statement(
    fingerprint: int,
    text: str,
    before: _Side,
    after: _Side,
    tails: tuple[float | None, float | None] | None,
    rng: np.random.Generator,
    patient: bool,
) -> StatementVerdict:
    ratio = _combined([(before, after)], rng)
    p95_ms_before, p95_ms_after = tails or (None, None)
    return StatementVerdict(
        fingerprint,
        text,
        _verdict(ratio, patient),
        before.call_count,
        after.call_count,
        before.mean_ms,
        after.mean_ms,
        ratio,
        before.blocks_per_call,
        after.blocks_per_call,
        p95_ms_before,
        p95_ms_after,
    )


def _read_histograms(
    store: Connection, metric_type: MetricType, names: Sequence[str], window: TimeRange
) -> dict[tuple[str, str], Histogram]:
    """Return the merged histogram of each (service, name) over the window's minutes."""
    rows = store.execute(
        db.query("lab_verdict_histograms"),
        {
            "metric_type": str(metric_type),
            "names": list(names),
            "start": _next_minute(window.start),
            "end": window.end,
        },
    ).fetchall()
    merged: dict[tuple[str, str], Histogram] = defaultdict(Histogram)
    for service, name, buckets in rows:
        merged[service, name].merge(Histogram.from_bytes(bytes(buckets)))
    return merged


def _next_minute(at: datetime) -> datetime:
    whole = at.replace(second=0, microsecond=0)
    return whole if whole == at else whole + timedelta(minutes=1)


def _last_minute(window: TimeRange) -> TimeRange | None:
    """Return the window without the minute in which it ends, where that leaves something."""
    end = window.end.replace(second=0, microsecond=0)
    return TimeRange(window.start, end) if end > window.start else None


def _statement_tails(
    store: Connection, fingerprints: Sequence[int], windows: tuple[TimeRange, TimeRange]
) -> dict[int, tuple[float | None, float | None]]:
    names = {fingerprint_hex(f): f for f in fingerprints}
    before, after = _both_sides(store, MetricType.DATABASE_QUERY, list(names), windows)
    merged: dict[int, list[Histogram]] = {f: [Histogram(), Histogram()] for f in fingerprints}
    for side, found in enumerate((before, after)):
        for (_, name), histogram in found.items():
            merged[names[name]][side].merge(histogram)
    return {f: (_p95(b), _p95(a)) for f, (b, a) in merged.items()}


def _both_sides(
    store: Connection,
    metric_type: MetricType,
    names: Sequence[str],
    windows: tuple[TimeRange, TimeRange],
) -> tuple[Mapping[tuple[str, str], Histogram], Mapping[tuple[str, str], Histogram]]:
    # The minute in which the change began holds both sides, so it belongs to neither.
    before, after = _last_minute(windows[0]), windows[1]
    return (
        _read_histograms(store, metric_type, names, before) if before else {},
        _read_histograms(store, metric_type, names, after),
    )


def _judge_endpoints(
    store: Connection,
    fingerprints: Sequence[int],
    windows: tuple[TimeRange, TimeRange],
    patient: bool,
) -> tuple[EndpointVerdict, ...]:
    keys = store.execute(
        db.query("lab_verdict_endpoints"),
        {
            "fingerprints": list(fingerprints),
            "start": windows[0].start,
            "end": windows[1].end,
        },
    ).fetchall()
    names = sorted({name for _, name in keys})
    before, after = _both_sides(store, MetricType.API_ENDPOINT, names, windows)
    return tuple(
        _judge_endpoint(
            service,
            name,
            before.get((service, name), Histogram()),
            after.get((service, name), Histogram()),
            patient,
        )
        for service, name in keys
        if (service, name) in before or (service, name) in after
    )


def _judge_endpoint(
    service: str, name: str, before: Histogram, after: Histogram, patient: bool
) -> EndpointVerdict:
    ratio = _tail_ratio(before, after)
    return EndpointVerdict(
        service,
        name,
        _verdict(ratio, patient),
        before.count,
        after.count,
        before.mean if before.count else None,
        after.mean if after.count else None,
        _p95(before),
        _p95(after),
        ratio,
    )


def _p95(histogram: Histogram) -> float | None:
    return histogram.quantile(0.95) if histogram.count else None


def _tail_ratio(before: Histogram, after: Histogram) -> ConfidenceInterval | None:
    """Return the ratio of the 95th percentiles; its interval is cautious.

    Each side's interval runs between the order statistics 1.96 standard deviations of the
    rank away (binomial); dividing their far ends covers more than 95 %.
    """
    if min(before.count, after.count) < MIN_TAIL:
        return None
    old_low, old, old_high = _tail_bounds(before)
    new_low, new, new_high = _tail_bounds(after)
    if not old_low > 0:
        return None
    return ConfidenceInterval(new / old, new_low / old_high, new_high / old_low)


def _tail_bounds(histogram: Histogram) -> tuple[float, float, float]:
    spread = 1.96 * math.sqrt(0.95 * 0.05 / histogram.count)
    return (
        histogram.quantile(max(0.0, 0.95 - spread)),
        histogram.quantile(0.95),
        histogram.quantile(min(1.0, 0.95 + spread)),
    )


def _slower_others(
    store: Connection,
    change: Change,
    windows: tuple[TimeRange, TimeRange],
    wanted: Sequence[int],
    rng: np.random.Generator,
) -> tuple[StatementVerdict, ...]:
    """Return other statements on the table that became slower, at a strict level.

    Twenty are looked at, so each must be sure to one in a thousand.
    """
    others = [f for f in _on_table(store, change, windows[1]) if f not in wanted]
    sides = _read_sides(store, change.target_id, others, windows)
    texts = _texts(store, change.target_id, others)
    slower = []
    for f, (before, after) in sides.items():
        if not (before.is_enough and after.is_enough):
            continue
        ratios = after.means(rng) / np.maximum(before.means(rng), 1e-9)
        if _interval(ratios, 1.0, _OTHERS_LEVEL).low >= 1 + MARGIN:
            slower.append(_judge_statement(f, texts.get(f, ""), before, after, None, rng, False))
    return tuple(slower)


def _summary(
    verdict: Verdict,
    ratio: ConfidenceInterval | None,
    statements: Sequence[StatementVerdict],
    change: Change,
) -> str:
    if ratio is None:
        return _what_is_missing(statements)
    span = f"{_change(ratio.value)} (95 % interval {_change(ratio.low)} to {_change(ratio.high)})"
    count = sum(s.ratio is not None for s in statements)
    which = "Its statement takes" if count == 1 else f"Its {count} statements together take"
    if verdict is Verdict.WAITING:
        return f"{which} {span}; the interval is still too wide to say."
    if verdict is Verdict.IMPROVED:
        return f"{which} {span}."
    if verdict is Verdict.REGRESSED:
        return f"{which} {span}: take {change.object_name} back."
    wide = ratio.high > TIGHT * max(ratio.low, 1e-9)
    doubt = "; traffic varies too much to say more" if wide else ""
    return f"{which} {span}, no difference worth its upkeep{doubt}."


def _what_is_missing(statements: Sequence[StatementVerdict]) -> str:
    if not statements:
        return "No statement is known that this change should help."
    if max(s.calls_before for s in statements) < MIN_CALLS:
        return (
            "Its statements ran too rarely in the hour before the change "
            f"({max(s.calls_before for s in statements)} calls) to compare with."
        )
    calls = max(s.calls_after for s in statements)
    return (
        f"{calls} calls since the change; at least {MIN_CALLS} in {MIN_READINGS} readings are "
        "needed."
    )


def _change(ratio: float) -> str:
    """Return a ratio of times in words.

    >>> _change(0.25), _change(1.3), _change(0.02)
    ('75 % less', '30 % more', '98 % less')
    """
    if ratio >= 2:
        return f"{ratio:.1f} times as long"
    digits = 1 if abs(1 - ratio) > 0.99 else 0
    return f"{abs(1 - ratio) * 100:.{digits}f} % {'less' if ratio < 1 else 'more'}"
