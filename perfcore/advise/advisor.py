"""One round of advice: a catalogue and a workload in, ranked suggestions and silences out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from perfcore.advise.calibration import Calibration, corrected
from perfcore.advise.candidates import Candidate, Proposal, propose, rows_of, serving
from perfcore.advise.costs import CostBook, OutOfTime
from perfcore.advise.drops import Asked, harmless
from perfcore.advise.gains import endpoint_gains, gain_of, too_fast
from perfcore.advise.health import health
from perfcore.advise.identity import suggestion_id
from perfcore.advise.index_advice import IndexAdvice
from perfcore.advise.optimum import Optimum
from perfcore.advise.remedies import Remedies
from perfcore.advise.selection import Progress, Selection, Work, silent, with_references
from perfcore.advise.server_state import ServerState
from perfcore.advise.statement import (
    StatementShape,
    Unparsable,
    first_word,
    plannable,
    read_statement,
)
from perfcore.advise.value_sets import value_sets
from perfcore.advise.workload import (
    Endpoints,
    ForeignKey,
    Options,
    WriteRate,
    Writes,
    find_table,
    writes_of,
)
from perfcore.errors import PerfcoreError
from perfcore.plan import Plan
from perfcore.types import (
    Catalog,
    IndexDefinition,
    Rejection,
    Silence,
    SilenceReason,
    Suggestion,
    SuggestionPlans,
    WorkloadStatement,
)
from perfcore.whatif.planner import Planner

_READ_SHARE = 0.3  # of the time, for reading the statements, the heaviest first
_SEARCH_SHARE = 0.75  # of the time; the rest is for the words


@dataclass(frozen=True, slots=True)
class Advice:
    """What one round found; `stopped_early` when its time ran out before all was weighed."""

    suggestions: tuple[Suggestion, ...] = ()
    silences: tuple[Silence, ...] = ()
    planner_calls: int = 0
    cache_hits: int = 0  # questions that needed no plan
    elapsed_s: float = 0.0
    stopped_early: bool = False
    planner: str = ""
    note: str = ""  # why the planner's answers may differ from the target's
    rejections: tuple[Rejection, ...] = ()
    plans: tuple[SuggestionPlans, ...] = ()  # at most one pair a suggestion
    saved_ms_per_hour: float = 0.0  # by the indexes together, less their writes
    bound_ms_per_hour: float | None = None  # what no set of the candidates can save more than
    weighed: tuple[int, ...] = ()  # fingerprints of the statements that this counts
    write_ms_per_hour: float = 0.0  # what keeping the new indexes costs


def advise(
    catalog: Catalog,
    workload: Sequence[WorkloadStatement],
    planner: Planner,
    *,
    endpoints: Endpoints | None = None,
    options: Options | None = None,
    write_rates: Mapping[str, WriteRate] | None = None,
    foreign_keys: Collection[ForeignKey] = (),
    server: ServerState | None = None,
    calibration: Calibration | None = None,
    standing: Collection[IndexDefinition] = (),
    clock: Callable[[], float] = time.monotonic,
    progress: Progress = silent,
) -> Advice:
    """Return suggestions, the most time saved first, and a reason for every other statement.

    `standing` are the indexes suggested before: they stay unless others save noticeably more.
    Where `calibration` knows how far such promises held, the time saved is what is to be
    expected. The same catalogue, workload, planner and calibration give the same answer. A
    planner that fails on a statement or a candidate costs only that one; when the time limit
    passes, what was weighed so far is returned and `stopped_early` says so.
    """
    given = options or Options()
    this = _Round(catalog, workload, planner, endpoints or {}, given, write_rates, clock, server)
    advice = this.run(foreign_keys, standing, progress)
    return replace(advice, suggestions=corrected(advice.suggestions, calibration))


@dataclass(frozen=True, slots=True)
class _Read:
    """A statement with its shape, None where it cannot be parsed."""

    statement: WorkloadStatement
    shape: StatementShape | None
    problem: str = ""
    is_reached: bool = True  # before the time for reading was over


class _Round:
    def __init__(
        self,
        catalog: Catalog,
        workload: Sequence[WorkloadStatement],
        planner: Planner,
        endpoints: Endpoints,
        options: Options,
        write_rates: Mapping[str, WriteRate] | None,
        clock: Callable[[], float],
        server: ServerState | None = None,
    ) -> None:
        self.catalog = catalog
        self.server = server
        self.options = options
        self.out_of_time = False
        self.endpoints = endpoints
        self.planner = planner
        rows = {t.name: rows_of(t) for t in catalog.tables}
        self.book = CostBook(planner, options.time_limit_s, clock, rows)
        ordered = sorted(workload, key=lambda s: (-s.total_exec_time_ms, s.fingerprint, s.queryid))
        self.reads = [self._read(s) for s in ordered]
        known = [(r.statement, r.shape) for r in self.reads if r.shape is not None]
        self.writes: Writes = writes_of(known, catalog, write_rates)
        self.works: list[Work] = []
        self.candidates: dict[str, Candidate] = {}
        self.proposals: dict[int, Proposal] = {}  # by fingerprint
        self.silences: list[Silence] = []
        self.asked: list[Asked] = []
        self.rewrite_plans: dict[str, SuggestionPlans] = {}  # by suggestion_id

    def run(
        self,
        foreign_keys: Collection[ForeignKey] = (),
        standing: Collection[IndexDefinition] = (),
        progress: Progress = silent,
    ) -> Advice:
        for number, read in enumerate(self.reads):
            progress(0.3 * number / len(self.reads), f"planning {number + 1} of {len(self.reads)}")
            silence = self._consider(read)
            if silence is not None:
                self.silences.append(silence)
        uses = [use for read in self.reads if read.shape for use in read.shape.uses]
        optimum = Optimum(
            self.book,
            self.works,
            self.candidates,
            self.writes,
            self.options,
            with_references(self.catalog, uses),
            progress,
            self._standing(standing),
        )
        self.book.time_limit_s = _SEARCH_SHARE * self.options.time_limit_s
        selection = optimum.select()
        self.book.time_limit_s = self.options.time_limit_s
        progress(0.9, "explaining what was chosen")
        indexes = self._index_advice(optimum, selection)
        suggestions = indexes.suggestions()
        helped = {g.fingerprint for s in suggestions for g in s.statements}
        self.silences += indexes.silences(helped)
        suggestions += self._other_suggestions()
        suggestions += self._unasked(suggestions, foreign_keys)
        suggestions = harmless(
            suggestions,
            self.asked,
            self.planner,
            self.catalog,
            [c.index for c in selection.chosen],
            lambda: self.book.elapsed_s < self.options.time_limit_s,
        )
        advised = {g.fingerprint for s in suggestions for g in s.statements}
        return Advice(
            tuple(sorted(suggestions, key=lambda s: (-s.saved_ms_per_hour, s.kind, s.title))),
            _one_per_fingerprint(s for s in self.silences if s.fingerprint not in advised),
            planner_calls=self.book.calls,
            cache_hits=self.book.hits,
            elapsed_s=self.book.elapsed_s,
            stopped_early=self.out_of_time or selection.stopped_early,
            planner=self.planner.name,
            note=self.planner.advisory,
            plans=(*indexes.plans.values(), *self.rewrite_plans.values()),
            rejections=indexes.rejections(),
            saved_ms_per_hour=selection.saved_ms_per_hour,
            bound_ms_per_hour=selection.bound_ms_per_hour,
            weighed=tuple(sorted({w.statement.fingerprint for w in self.works})),
            write_ms_per_hour=sum(s.write_ms_per_hour for s in suggestions),
        )

    def _read(self, statement: WorkloadStatement) -> _Read:
        if self.book.elapsed_s > _READ_SHARE * self.options.time_limit_s:
            return _Read(statement, None, is_reached=False)
        try:
            return _Read(statement, read_statement(statement.text, self.catalog))
        except Unparsable as error:
            return _Read(statement, None, str(error))

    def _standing(self, indexes: Collection[IndexDefinition]) -> frozenset[str]:
        """Return the indexes that are still worth asking about, as candidates."""
        found = set()
        for index in indexes:
            table = self.catalog.table(index.table, index.schema)
            if table is None or serving(index, table) is not None:
                continue
            if any(w.may_use(index) for w in self.works):
                self.candidates.setdefault(index.digest, Candidate(index, "standing"))
                found.add(index.digest)
        return frozenset(found)

    def _index_advice(self, optimum: Optimum, selection: Selection) -> IndexAdvice:
        return IndexAdvice(
            self.book,
            self.planner,
            self.catalog,
            self.works,
            self.candidates,
            self.proposals,
            optimum.known,
            selection,
            self.writes,
            self.endpoints,
            self.options,
        )

    # Which statements are weighed

    def _consider(self, read: _Read) -> Silence | None:
        """Make the statement part of the round, or say why not."""
        statement, shape = read.statement, read.shape
        if not read.is_reached:
            return self._not_reached(statement)
        if shape is None:
            return _silence(statement, SilenceReason.UNPARSABLE, read.problem)
        if shape.command == "other" or (shape.command == "insert" and not shape.uses):
            word = first_word(statement.text).upper()
            return _silence(statement, SilenceReason.NOT_A_SELECT, word)
        if not shape.uses:
            others = ", ".join(shape.unknown_relations)
            return _silence(statement, SilenceReason.CATALOG_ONLY, others)
        self.asked.append(Asked(self._text(statement), _tables(shape)))
        if detail := too_fast(statement, self.options):
            return _silence(statement, SilenceReason.FAST, detail)
        proposal = propose(shape, self.catalog, min_table_rows=self.options.min_table_rows)
        if not proposal.candidates:
            return self._without_candidates(statement, shape, proposal)
        return self._weigh(statement, shape, proposal)

    def _not_reached(self, statement: WorkloadStatement) -> Silence:
        self.out_of_time = True
        detail = f"not reached in {self.options.time_limit_s:,.0f} s"
        return _silence(statement, SilenceReason.NO_GAIN, detail)

    def _without_candidates(
        self, statement: WorkloadStatement, shape: StatementShape, proposal: Proposal
    ) -> Silence:
        if proposal.served_by:
            detail = "served by " + ", ".join(proposal.served_by)
            return _silence(statement, SilenceReason.SERVED, detail)
        if proposal.stale_tables:
            detail = (
                f"the statistics of {', '.join(proposal.stale_tables)} are stale: ANALYZE first"
            )
            return _silence(statement, SilenceReason.NO_GAIN, detail)
        tables = {u.qualified_name for u in shape.uses}
        if tables <= set(proposal.small_tables):
            detail = ", ".join(self._size_words(name) for name in sorted(tables))
            return _silence(statement, SilenceReason.SMALL_TABLE, detail)
        return _silence(statement, SilenceReason.NO_CANDIDATE)

    def _size_words(self, name: str) -> str:
        table = find_table(self.catalog, name)
        return f"{name}: {rows_of(table):,.0f} rows" if table else name

    def _weigh(
        self, statement: WorkloadStatement, shape: StatementShape, proposal: Proposal
    ) -> Silence | None:
        works = []
        for values in value_sets(shape, self.catalog, proposal.literals):
            text = self._text(statement, values.literals)
            try:
                base = self.book.cost(text)
            except OutOfTime:
                return self._not_reached(statement)
            if base is None:
                why = self.book.why_failed(text)
                return _silence(statement, SilenceReason.PLANNING_FAILED, why)
            tables, keys = _tables(shape), _keys(shape)
            works.append(Work(statement, text, tables, base, values.share, keys))
        self.works += works
        self.proposals[statement.fingerprint] = proposal
        for candidate in proposal.candidates:
            self.candidates.setdefault(candidate.index.digest, candidate)
        return None

    def _text(self, statement: WorkloadStatement, literals: Mapping[int, str] | None = None) -> str:
        """Return the statement for the planner, its LIMIT as many rows as a call returned."""
        limit = max(1, math.ceil(statement.rows / statement.calls)) if statement.rows else 20
        return plannable(statement.text, limit_rows=limit, literals=literals)

    # What no index answers

    def _unasked(
        self, suggestions: Sequence[Suggestion], foreign_keys: Collection[ForeignKey]
    ) -> list[Suggestion]:
        """Return what the server, its tables and its indexes need, whatever is asked of them."""
        found = health(
            self.catalog,
            self.writes,
            self.options,
            indexed={s.index.table for s in suggestions if s.index is not None},
            foreign_keys=foreign_keys,
            server=self.server,
            statements=[(r.statement, r.shape) for r in self.reads if r.shape is not None],
            plans=self.book.plan,
            what_if=self._instead,
        )
        tables = {
            suggestion_id(self.options.target_id, "analyze", t.qualified_name): t.qualified_name
            for t in self.catalog.tables
        }
        return [self._with_victims(s, tables.get(s.suggestion_id)) for s in found]

    def _with_victims(self, suggestion: Suggestion, name: str | None) -> Suggestion:
        """Name the slow statements whose plans rest on that table's stale statistics."""
        if name is None:
            return suggestion
        gains = tuple(
            gain_of(r.statement, 1.0, 1.0, r.statement.mean_exec_time_ms)
            for r in self.reads
            if r.shape is not None
            and r.shape.uses_of(name)
            and not too_fast(r.statement, self.options)
        )
        return replace(
            suggestion, statements=gains, endpoints=endpoint_gains(self.endpoints, gains)
        )

    def _instead(self, text: str, index: IndexDefinition, hidden: Sequence[str]) -> Plan | None:
        """Return the plan with the index in the place of the hidden ones, None where none is."""
        if self.book.elapsed_s > self.options.time_limit_s:
            raise OutOfTime
        try:
            return self.planner.plan(text, indexes=[index], hidden=hidden)
        except PerfcoreError:
            return None

    def _other_suggestions(self) -> list[Suggestion]:
        remedies = Remedies(
            self.book, self.catalog, self.writes, self.endpoints, self.options, self.server,
            self.rewrite_plans,
        )  # fmt: skip
        found: list[Suggestion] = []
        for read in self.reads:
            if read.shape is None or read.shape.command != "select":
                continue
            if self.book.elapsed_s > self.options.time_limit_s:
                self.out_of_time = True
                break
            try:
                found += remedies.for_statement(read.statement, read.shape)
            except OutOfTime:
                self.out_of_time = True
        if self.options.storage_budget_bytes is not None:
            found = [_without_index(s) for s in found]
        return list({s.suggestion_id: s for s in found}.values())


def _without_index(suggestion: Suggestion) -> Suggestion:
    """Leave an index that a rewrite needs to the reader: it has no place in the budget."""
    if suggestion.kind != "rewrite" or not suggestion.ddl:
        return suggestion
    caveat = f"It needs what is not part of the budget: {suggestion.ddl}"
    return replace(suggestion, ddl="", undo="", caveats=(*suggestion.caveats, caveat))


def _silence(statement: WorkloadStatement, reason: SilenceReason, detail: str = "") -> Silence:
    return Silence(statement.fingerprint, statement.queryid, statement.text, reason, detail)


def _one_per_fingerprint(silences: Iterable[Silence]) -> tuple[Silence, ...]:
    first: dict[int, Silence] = {}
    for silence in silences:
        first.setdefault(silence.fingerprint, silence)
    return tuple(first.values())


def _tables(shape: StatementShape) -> frozenset[str]:
    return frozenset(u.qualified_name for u in shape.uses)


def _keys(shape: StatementShape) -> frozenset[tuple[str, str]]:
    """Return what the statement compares, joins, orders and groups by, each with its table."""
    found = set()
    for use in shape.uses:
        keys = [p.key for p in use.predicates] + [j.key for j in use.joins]
        keys += [o.key for o in use.order_by] + [*use.group_by, *use.nearest]
        keys += [p.key for branch in use.alternatives for p in branch]
        found |= {(use.qualified_name, k.expression) for k in keys}
    return frozenset(found)
