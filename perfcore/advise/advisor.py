"""One round of advice: a catalogue and a workload in, ranked suggestions and silences out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from perfcore.advise import findings
from perfcore.advise.calibration import Calibration, corrected
from perfcore.advise.candidates import Candidate, Proposal, propose, redundant_with, rows_of
from perfcore.advise.costs import CostBook, OutOfTime
from perfcore.advise.gains import endpoint_gains, gain_of, short, too_fast
from perfcore.advise.health import health
from perfcore.advise.identity import suggestion_id
from perfcore.advise.optimum import Optimum
from perfcore.advise.remedies import Remedies
from perfcore.advise.selection import Progress, Selection, Work, silent, table_of
from perfcore.advise.server_state import ServerState
from perfcore.advise.statement import (
    StatementShape,
    Unparsable,
    first_word,
    plannable,
    read_statement,
)
from perfcore.advise.workload import (
    ENTRY_WRITE_MS,
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
from perfcore.plan_change import plan_change
from perfcore.types import (
    Catalog,
    Evidence,
    Finding,
    IndexDefinition,
    Rejection,
    Silence,
    SilenceReason,
    StatementGain,
    Suggestion,
    SuggestionPlans,
    WorkloadStatement,
)
from perfcore.whatif.planner import Planner

_SHOWN_GAIN = 0.05


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
    clock: Callable[[], float] = time.monotonic,
    progress: Progress = silent,
) -> Advice:
    """Return suggestions, the most time saved first, and a reason for every other statement.

    Where `calibration` knows how far such promises held, the time saved is what is to be
    expected. The same catalogue, workload, planner and calibration give the same answer. A
    planner that fails on a statement or a candidate costs only that one; when the time limit
    passes, what was weighed so far is returned and `stopped_early` says so.
    """
    given = options or Options()
    this = _Round(catalog, workload, planner, endpoints or {}, given, write_rates, clock, server)
    advice = this.run(foreign_keys, progress)
    return replace(advice, suggestions=corrected(advice.suggestions, calibration))


@dataclass(frozen=True, slots=True)
class _Read:
    """A statement with its shape, None where it cannot be parsed."""

    statement: WorkloadStatement
    shape: StatementShape | None
    problem: str = ""


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
        self.endpoints = endpoints
        self.planner = planner
        self.book = CostBook(planner, options.time_limit_s, clock)
        ordered = sorted(workload, key=lambda s: (-s.total_exec_time_ms, s.fingerprint, s.queryid))
        self.reads = [_read(s, catalog) for s in ordered]
        known = [(r.statement, r.shape) for r in self.reads if r.shape is not None]
        self.writes: Writes = writes_of(known, catalog, write_rates)
        self.works: list[Work] = []
        self.candidates: dict[str, Candidate] = {}
        self.proposals: dict[int, Proposal] = {}  # by id() of the statement
        self.silences: list[Silence] = []
        self.plans: dict[str, SuggestionPlans] = {}  # by suggestion_id
        self.out_of_time = False

    def run(self, foreign_keys: Collection[ForeignKey] = (), progress: Progress = silent) -> Advice:
        for number, read in enumerate(self.reads):
            progress(0.3 * number / len(self.reads), f"planning {number + 1} of {len(self.reads)}")
            silence = self._consider(read)
            if silence is not None:
                self.silences.append(silence)
        selection = Optimum(
            self.book, self.works, self.candidates, self.writes, self.options, progress
        ).select()
        progress(0.9, "explaining what was chosen")
        suggestions = self._index_suggestions(selection)
        helped = {g.fingerprint for s in suggestions for g in s.statements}
        self._explain_unhelped(helped)
        suggestions += self._other_suggestions()
        indexed = {s.index.table for s in suggestions if s.index is not None}
        unasked = health(
            self.catalog,
            self.writes,
            self.options,
            indexed=indexed,
            foreign_keys=foreign_keys,
            server=self.server,
            statements=[(r.statement, r.shape) for r in self.reads if r.shape is not None],
            plans=self.book.plan,
            what_if=self._instead,
        )
        suggestions += [self._with_victims(s) for s in unasked]
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
            plans=tuple(self.plans.values()),
        )

    # Which statements are weighed

    def _consider(self, read: _Read) -> Silence | None:
        """Make the statement part of the round, or say why not."""
        statement, shape = read.statement, read.shape
        if shape is None:
            return _silence(statement, SilenceReason.UNPARSABLE, read.problem)
        if shape.command not in ("select", "update", "delete"):
            word = first_word(statement.text).upper()
            return _silence(statement, SilenceReason.NOT_A_SELECT, word)
        if not shape.uses:
            others = ", ".join(shape.unknown_relations)
            return _silence(statement, SilenceReason.CATALOG_ONLY, others)
        if detail := too_fast(statement, self.options):
            return _silence(statement, SilenceReason.FAST, detail)
        proposal = propose(shape, self.catalog, min_table_rows=self.options.min_table_rows)
        if not proposal.candidates:
            return self._without_candidates(statement, shape, proposal)
        return self._weigh(statement, shape, proposal)

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
        limit = max(1, math.ceil(statement.rows / statement.calls)) if statement.rows else 20
        text = plannable(statement.text, limit_rows=limit, literals=proposal.literals)
        try:
            base = self.book.cost(text)
        except OutOfTime:
            self.out_of_time = True
            detail = f"not reached in {self.options.time_limit_s:,.0f} s"
            return _silence(statement, SilenceReason.NO_GAIN, detail)
        if base is None:
            return _silence(statement, SilenceReason.PLANNING_FAILED, self.book.why_failed(text))
        tables = frozenset(u.qualified_name for u in shape.uses)
        self.works.append(Work(statement, text, tables, base))
        self.proposals[id(statement)] = proposal
        for candidate in proposal.candidates:
            self.candidates.setdefault(candidate.index.digest, candidate)
        return None

    def _explain_unhelped(self, helped: set[int]) -> None:
        for work in self.works:
            if work.statement.fingerprint in helped:
                continue
            proposal = self.proposals[id(work.statement)]
            tried = [_columns_words(c.index) for c in proposal.candidates]
            detail = f"tried {', '.join(tried[:4])}"
            if len(tried) > 4:
                detail += f" and {len(tried) - 4} more"
            self.silences.append(_silence(work.statement, SilenceReason.NO_GAIN, detail))

    # Indexes

    def _index_suggestions(self, selection: Selection) -> list[Suggestion]:
        suggestions = []
        for candidate in selection.chosen:
            others = [c.index for c in selection.chosen if c is not candidate]
            companions = [i for i in others if i in candidate.companions]
            if not companions and not self._gains([candidate.index], candidate.index):
                companions = self._needed_with(candidate.index, others)
            try:
                suggestions.append(self._index_suggestion(candidate, companions))
            except OutOfTime:
                self.out_of_time = True
        return [s for s in suggestions if s.statements]

    def _index_suggestion(
        self, candidate: Candidate, companions: Sequence[IndexDefinition]
    ) -> Suggestion:
        index = candidate.index
        table = find_table(self.catalog, table_of(index))
        assert table is not None
        gains = self._gains([index, *companions], index)
        worst = max(gains, key=lambda pair: pair[1].saved_ms_per_hour, default=None)
        plan = self.book.plan(worst[0].text) if worst else None
        finding = (
            findings.explain(plan, table, worst[0].statement)
            if plan is not None and worst is not None
            else Finding("costly", f"It spends its time around {table.name}.")
        )
        size = self.book.index_bytes(index) or 0
        statement_gains = tuple(g for _, g in gains)
        caveats = candidate.caveats
        if companions:
            names = ", ".join(_columns_words(i) for i in companions)
            caveats = (*caveats, f"It helps only together with {names}.")
        for existing in redundant_with(index, table):
            caveats = (*caveats, f"It makes {existing.name} redundant: drop that one afterwards.")
        if self.planner.advisory:
            caveats = (*caveats, self.planner.advisory)
        name = self._free_name(index)
        identity = suggestion_id(self.options.target_id, "index", index.digest)
        if worst is not None:
            self._keep_plans(identity, worst[0], [index, *companions])
        return Suggestion(
            suggestion_id=identity,
            target_id=self.options.target_id,
            kind="index",
            title=f"Index {_columns_words(index)}",
            reason=_index_reason(
                finding, candidate, statement_gains, size, is_timed=self.options.is_timed
            ),
            finding=finding,
            evidence=Evidence.ESTIMATED,
            saved_ms_per_hour=sum(g.saved_ms_per_hour for g in statement_gains),
            ddl=index.ddl(name=name),
            undo=index.undo(name=name),
            index=index,
            index_bytes=size,
            write_cost=self._write_cost_words(index),
            write_ms_per_hour=self.writes.cost_ms_per_hour(index),
            risk=(
                "CREATE INDEX CONCURRENTLY reads the whole table twice and waits for "
                "transactions that are open; writes go on."
            ),
            statements=statement_gains,
            endpoints=endpoint_gains(self.endpoints, statement_gains),
            caveats=caveats,
            plan_change=self._plan_change(worst[0], index, companions) if worst else "",
        )

    def _plan_change(
        self, work: Work, index: IndexDefinition, companions: Sequence[IndexDefinition]
    ) -> str:
        """Return what becomes of the plan of the statement that the index helps most."""
        before, after = self.book.plan(work.text), self.book.plan(work.text, [index, *companions])
        if before is None or after is None:
            return ""
        return plan_change(before, after, table_of(index), method=index.method)

    def _keep_plans(self, identity: str, work: Work, indexes: Sequence[IndexDefinition]) -> None:
        before, after = self.book.plan(work.text), self.book.plan(work.text, indexes)
        if before is not None and after is not None:
            self.plans[identity] = SuggestionPlans(
                identity, work.statement.fingerprint, work.text, before.document, after.document
            )

    def _needed_with(
        self, index: IndexDefinition, others: Sequence[IndexDefinition]
    ) -> list[IndexDefinition]:
        """Return those of the others without which no plan takes the index."""
        for work in self.works:
            if table_of(index) in work.tables:
                near = [i for i in others if table_of(i) in work.tables]
                plan = self.book.plan(work.text, [index, *near])
                if plan is not None and plan.uses_index(index.name):
                    return [i for i in near if plan.uses_index(i.name)]
        return []

    def _gains(
        self, indexes: Sequence[IndexDefinition], index: IndexDefinition
    ) -> list[tuple[Work, StatementGain]]:
        """Return what the indexes alone, without the round's others, do to each statement."""
        gains = []
        for work in self.works:
            if table_of(index) not in work.tables:
                continue
            cost = self.book.cost(work.text, indexes)
            if cost is not None and cost < work.base_cost * (1 - _SHOWN_GAIN):
                after = work.mean_ms_at(cost, self.options.floor_ms)
                gains.append((work, gain_of(work.statement, work.base_cost, cost, after)))
        gains.sort(key=lambda pair: (-pair[1].saved_ms_per_hour, pair[1].fingerprint))
        return gains

    def _free_name(self, index: IndexDefinition) -> str:
        taken = {i.name for t in self.catalog.tables if t.schema == index.schema for i in t.indexes}
        if index.name not in taken:
            return index.name
        stem = index.name.removesuffix("_idx").encode()[:52].decode(errors="ignore")
        return f"{stem}_{index.digest[:6]}_idx"

    def _write_cost_words(self, index: IndexDefinition) -> str:
        entries = self.writes.entries_per_hour(index)
        rate = self.writes.rate(table_of(index))
        if not rate.total:
            return "Nothing was written to the table in the window, so it costs only its room."
        cost = self.writes.cost_ms_per_hour(index)
        per_entry = ENTRY_WRITE_MS.get(index.method, 0.03)
        return (
            f"{entries:,.0f} entries an hour ({rate.inserts:,.0f} inserts, {rate.updates:,.0f} "
            f"updates of which {rate.hot_updates:,.0f} HOT), about {cost:,.0f} ms an hour at "
            f"{per_entry} ms an entry."
        )

    # What no index answers

    def _with_victims(self, suggestion: Suggestion) -> Suggestion:
        """Name the slow statements whose plans rest on stale statistics."""
        stale = {
            suggestion_id(self.options.target_id, "analyze", t.qualified_name): t.qualified_name
            for t in self.catalog.tables
        }
        name = stale.get(suggestion.suggestion_id)
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
        try:
            return self.planner.plan(text, indexes=[index], hidden=hidden)
        except PerfcoreError:
            return None

    def _other_suggestions(self) -> list[Suggestion]:
        remedies = Remedies(
            self.book, self.catalog, self.writes, self.endpoints, self.options, self.server
        )
        found: list[Suggestion] = []
        for read in self.reads:
            if read.shape is not None and read.shape.command == "select":
                try:
                    found += remedies.for_statement(read.statement, read.shape)
                except OutOfTime:
                    self.out_of_time = True
        return list({s.suggestion_id: s for s in found}.values())


def _read(statement: WorkloadStatement, catalog: Catalog) -> _Read:
    try:
        return _Read(statement, read_statement(statement.text, catalog))
    except Unparsable as error:
        return _Read(statement, None, str(error))


def _silence(statement: WorkloadStatement, reason: SilenceReason, detail: str = "") -> Silence:
    return Silence(statement.fingerprint, statement.queryid, statement.text, reason, detail)


def _one_per_fingerprint(silences: Iterable[Silence]) -> tuple[Silence, ...]:
    first: dict[int, Silence] = {}
    for silence in silences:
        first.setdefault(silence.fingerprint, silence)
    return tuple(first.values())


def _index_reason(
    finding: Finding,
    candidate: Candidate,
    gains: Sequence[StatementGain],
    size: int,
    *,
    is_timed: bool,
) -> str:
    if not gains:
        return finding.summary
    best = gains[0]
    others = f" and {len(gains) - 1} more" if len(gains) > 1 else ""
    times = f", about {best.mean_ms_before:,.1f} ms to {best.mean_ms_after:,.1f} ms a call,"
    return (
        f"{finding.summary} {_IDEAS.get(candidate.pattern, 'With the index')} the planner's cost "
        f"falls from {best.cost_before:,.0f} to {best.cost_after:,.0f}{times if is_timed else ''} "
        f"for {short(best.text)}{others}. It takes about {size / 1e6:,.1f} MB."
    )


_IDEAS = {
    "ordered": "With an index in the statement's own order, which ends the sort,",
    "equality": "With an index that goes straight to the rows",
    "range": "With an index that reads only the range",
    "join": "With an index on the join's column",
    "expression": "With an index on the expression itself",
    "covering": "With an index that holds all that the statement reads",
    "partial": "With a small index that holds only the rows in question",
    "jsonb": "With a GIN index on the document",
    "array": "With a GIN index on the array",
    "trigram": "With a trigram index, which finds words inside text,",
    "text search": "With a GIN index on the words",
    "brin": "With a block range index, tiny because the rows lie in its order,",
    "grouping": "With an index in the groups' order",
}


def _columns_words(index: IndexDefinition) -> str:
    """Return an index in few words: "orders (customer_id, created_at DESC)"."""
    keys = ", ".join(
        k.expression
        + (f" {k.operator_class}" if k.operator_class else "")
        + (" DESC" if k.descending else "")
        + ("" if k.nulls_first is None else f" NULLS {'FIRST' if k.nulls_first else 'LAST'}")
        for k in index.keys
    )
    method = "" if index.method == "btree" else f" using {index.method}"
    include = f" including {', '.join(index.include)}" if index.include else ""
    where = f" where {index.predicate}" if index.predicate else ""
    return f"{index.table}{method} ({keys}){include}{where}".replace('"', "")
