"""One round of advice: a catalogue and a workload in, ranked suggestions and silences out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from perfcore.advise import caching, findings, rewrites
from perfcore.advise.candidates import Candidate, Proposal, propose, redundant_with, rows_of
from perfcore.advise.costs import CostBook, OutOfTime
from perfcore.advise.health import health
from perfcore.advise.identity import suggestion_id
from perfcore.advise.selection import Selection, Selector, Work, table_of
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
    EndpointUse,
    Options,
    WriteRate,
    Writes,
    find_table,
    writes_of,
)
from perfcore.errors import PerfcoreError
from perfcore.types import (
    Catalog,
    EndpointGain,
    Evidence,
    Finding,
    IndexDefinition,
    Silence,
    SilenceReason,
    StatementGain,
    Suggestion,
    WorkloadStatement,
)
from perfcore.whatif.planner import Planner

_N_PLUS_ONE_CALLS = 5
_N_PLUS_ONE_MS_PER_MINUTE = 50.0
_SHOWN_GAIN = 0.05
_MIN_SPILL_MB = 1.0
_MAX_WORK_MEM_MB = 256
_SPILL_TO_MEMORY = 2.5  # a sort needs more room in memory than its tapes take on disk


@dataclass(frozen=True, slots=True)
class Advice:
    """What one round found; `stopped_early` when its time ran out before all was weighed."""

    suggestions: tuple[Suggestion, ...] = ()
    silences: tuple[Silence, ...] = ()
    planner_calls: int = 0
    elapsed_s: float = 0.0
    stopped_early: bool = False
    planner: str = ""
    note: str = ""  # why the planner's answers may differ from the target's


def advise(
    catalog: Catalog,
    workload: Sequence[WorkloadStatement],
    planner: Planner,
    *,
    endpoints: Endpoints | None = None,
    options: Options | None = None,
    write_rates: Mapping[str, WriteRate] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Advice:
    """Return suggestions, the most time saved first, and a reason for every other statement.

    The same catalogue, workload and planner give the same answer. A planner that fails on
    a statement or a candidate costs only that one; when the time limit passes, what was
    weighed so far is returned and `stopped_early` says so.
    """
    given = options or Options()
    return _Round(catalog, workload, planner, endpoints or {}, given, write_rates, clock).run()


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
    ) -> None:
        self.catalog = catalog
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
        self.out_of_time = False

    def run(self) -> Advice:
        for read in self.reads:
            silence = self._consider(read)
            if silence is not None:
                self.silences.append(silence)
        selection = Selector(
            self.book, self.works, self.candidates, self.writes, self.options
        ).select()
        suggestions = self._index_suggestions(selection)
        helped = {g.fingerprint for s in suggestions for g in s.statements}
        self._explain_unhelped(helped)
        suggestions += self._other_suggestions()
        suggestions += [self._with_victims(s) for s in self._health()]
        advised = {g.fingerprint for s in suggestions for g in s.statements}
        return Advice(
            tuple(sorted(suggestions, key=lambda s: (-s.saved_ms_per_hour, s.suggestion_id))),
            _one_per_fingerprint(s for s in self.silences if s.fingerprint not in advised),
            planner_calls=self.book.calls,
            elapsed_s=self.book.elapsed_s,
            stopped_early=self.out_of_time or selection.stopped_early,
            planner=self.planner.name,
            note=self.planner.advisory,
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
        if detail := self._too_fast(statement):
            return _silence(statement, SilenceReason.FAST, detail)
        proposal = propose(shape, self.catalog, min_table_rows=self.options.min_table_rows)
        if not proposal.candidates:
            return self._without_candidates(statement, shape, proposal)
        return self._weigh(statement, shape, proposal)

    def _too_fast(self, statement: WorkloadStatement) -> str:
        total = statement.mean_exec_time_ms * statement.calls_per_hour
        slow = statement.mean_exec_time_ms >= self.options.min_mean_ms
        if statement.calls >= self.options.min_calls and (
            slow or total >= self.options.min_total_ms_per_hour
        ):
            return ""
        return (
            f"{statement.mean_exec_time_ms:,.2f} ms a call, {statement.calls} calls in "
            f"{statement.window_s / 60:,.0f} minutes"
        )

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
            companions = [
                c.index
                for c in selection.chosen
                if c is not candidate and c.index in candidate.companions
            ]
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
        return Suggestion(
            suggestion_id=suggestion_id(self.options.target_id, "index", index.digest),
            target_id=self.options.target_id,
            kind="index",
            title=f"Index {_columns_words(index)}",
            reason=_index_reason(finding, candidate, statement_gains, size),
            finding=finding,
            evidence=Evidence.ESTIMATED,
            saved_ms_per_hour=sum(g.saved_ms_per_hour for g in statement_gains),
            ddl=index.ddl(name=name),
            undo=index.undo(name=name),
            index=index,
            index_bytes=size,
            write_cost=self._write_cost_words(index),
            risk=(
                "CREATE INDEX CONCURRENTLY reads the whole table twice and waits for "
                "transactions that are open; writes go on."
            ),
            statements=statement_gains,
            endpoints=self._endpoint_gains(statement_gains),
            caveats=caveats,
        )

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
                gains.append((work, _gain(work.statement, work.base_cost, cost, after)))
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

    def _endpoint_gains(self, gains: Sequence[StatementGain]) -> tuple[EndpointGain, ...]:
        saved: dict[tuple[str, str], float] = {}
        requests: dict[tuple[str, str], float] = {}
        for gain in gains:
            for use in self.endpoints.get(gain.fingerprint, ()):
                key = (use.service, use.endpoint)
                per_request = (gain.mean_ms_before - gain.mean_ms_after) * use.calls_per_request
                saved[key] = saved.get(key, 0.0) + per_request
                requests[key] = max(requests.get(key, 0.0), use.requests_per_hour)
        made = [EndpointGain(s, e, ms, requests[s, e]) for (s, e), ms in saved.items()]
        return tuple(
            sorted(
                made,
                key=lambda g: (
                    -g.saved_ms_per_request * g.requests_per_hour,
                    g.service,
                    g.endpoint,
                ),
            )
        )

    # What no index answers

    def _health(self) -> list[Suggestion]:
        return health(self.catalog, self.writes, self.options)

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
            _gain(r.statement, 1.0, 1.0, r.statement.mean_exec_time_ms)
            for r in self.reads
            if r.shape is not None and r.shape.uses_of(name) and not self._too_fast(r.statement)
        )
        return replace(suggestion, statements=gains, endpoints=self._endpoint_gains(gains))

    def _other_suggestions(self) -> list[Suggestion]:
        found: list[Suggestion] = []
        for read in self.reads:
            if read.shape is None or read.shape.command != "select":
                continue
            found += self._repeated(read.statement)
            if self._too_fast(read.statement):
                continue
            found += self._cacheable(read.statement, read.shape)
            found += self._spill(read.statement)
            if not self.out_of_time:
                found += self._rewritten(read.statement)
        return list({s.suggestion_id: s for s in found}.values())

    def _repeated(self, statement: WorkloadStatement) -> list[Suggestion]:
        """Answer N+1: one request that sends the same statement again and again."""
        found = []
        for use in self.endpoints.get(statement.fingerprint, ()):
            per_minute = use.calls_per_request * use.requests_per_hour / 60.0
            spent = per_minute * max(use.mean_ms, statement.mean_exec_time_ms)
            many = use.calls_per_request >= _N_PLUS_ONE_CALLS or use.repeated_share >= 0.2
            if many and spent >= _N_PLUS_ONE_MS_PER_MINUTE:
                found.append(self._n_plus_one(statement, use))
        return found

    def _n_plus_one(self, statement: WorkloadStatement, use: EndpointUse) -> Suggestion:
        extra = max(use.calls_per_request - 1.0, 0.0)
        round_trip = max(use.mean_ms - statement.mean_exec_time_ms, 0.0)
        saved = extra * round_trip
        calls = f"{use.calls_per_request:,.1f}".removesuffix(".0")
        numbers = (
            ("calls per request", calls),
            ("most in one request", str(use.max_calls)),
            ("time per call in the application", f"{use.mean_ms:,.2f} ms"),
            ("of it in the database", f"{statement.mean_exec_time_ms:,.2f} ms"),
            ("requests", f"{use.requests_per_hour:,.0f} per hour"),
        )
        subject = f"{statement.fingerprint}/{use.service}/{use.endpoint}"
        mean = statement.mean_exec_time_ms
        return self._suggestion(
            "rewrite",
            "n_plus_one/" + subject,
            f"{use.endpoint} sends one statement {calls} times a request",
            (
                "Each row of a list is looked up on its own (N+1). One statement with all keys "
                "answers the same in one round trip; most object mappers do it when asked "
                "(selectinload, prefetch_related)."
            ),
            Finding(
                "n_plus_one",
                f"{use.endpoint} runs the same statement {calls} times in one request.",
                numbers,
            ),
            saved * use.requests_per_hour,
            statements=(_gain(statement, 1.0, 1.0, mean),),
            endpoints=(EndpointGain(use.service, use.endpoint, saved, use.requests_per_hour),),
            rewritten_sql=_or_empty(statement.text),
            caveats=(
                "The saving counts round trips only, measured in the application; the database "
                "still reads the same rows.",
            ),
        )

    def _cacheable(self, statement: WorkloadStatement, shape: StatementShape) -> list[Suggestion]:
        found = caching.cacheable(statement, shape, self.writes)
        if found is None:
            return []
        mean = statement.mean_exec_time_ms
        gain = _gain(statement, 1.0, 1.0, mean * (1 - found.hit_rate))
        return [
            self._suggestion(
                "cache",
                f"cache/{statement.fingerprint}",
                f"Keep the answer to {_short(statement.text)} for {found.ttl_s:.0f} s",
                (
                    "It takes no parameters, so everybody gets the same answer, and what it reads "
                    "hardly changes. Kept in the application's memory it would run "
                    f"{found.runs_per_hour:.0f} times an hour and process."
                ),
                Finding(
                    "cacheable",
                    f"It is asked {statement.calls_per_hour:,.0f} times an hour; its tables change "
                    f"{found.writes_per_hour:,.0f} times an hour where it reads them.",
                    (
                        ("hit rate expected", f"{100 * found.hit_rate:.1f} %"),
                        ("mean time", f"{mean:,.2f} ms"),
                    ),
                ),
                found.saved_ms_per_hour,
                statements=(gain,),
                endpoints=self._endpoint_gains((gain,)),
                caveats=(f"Readers may see an answer up to {found.ttl_s:.0f} s old.",),
            )
        ]

    def _spill(self, statement: WorkloadStatement) -> list[Suggestion]:
        spilled = findings.spilled_mb(statement)
        if spilled < _MIN_SPILL_MB:
            return []
        wanted = 2 ** math.ceil(math.log2(spilled * _SPILL_TO_MEMORY))
        work_mem = min(max(8, wanted), _MAX_WORK_MEM_MB)
        mean = statement.mean_exec_time_ms
        return [
            self._suggestion(
                "setting",
                f"work_mem/{statement.fingerprint}",
                f"Give {_short(statement.text)} {work_mem} MB of work_mem",
                (
                    "A sort or hash that does not fit into work_mem goes through temporary files. "
                    "Raise it for this statement's transaction, not for the server: every "
                    "connection may take it several times over."
                ),
                Finding(
                    "sort_spill",
                    f"Each call writes {spilled:,.1f} MB to temporary files.",
                    (("mean time", f"{mean:,.2f} ms"),),
                ),
                0.0,
                ddl=f"SET LOCAL work_mem = '{work_mem}MB'",
                undo="RESET work_mem",
                statements=(_gain(statement, 1.0, 1.0, mean),),
                caveats=(
                    "How much time it saves is only known by trying.",
                    *(("It would need more than that.",) if wanted > work_mem else ()),
                ),
            )
        ]

    def _rewritten(self, statement: WorkloadStatement) -> list[Suggestion]:
        found = []
        try:
            if page := rewrites.keyset(statement.text, self.catalog):
                found += self._keyset(statement, page)
            if anti_join := rewrites.not_exists(statement.text, self.catalog):
                found += self._anti_join(statement, anti_join)
        except OutOfTime:
            self.out_of_time = True
        return found

    def _keyset(self, statement: WorkloadStatement, page: rewrites.Rewrite) -> list[Suggestion]:
        """Offer the keyset page where the calls cost more than the first page would.

        The depth that callers ask for is hidden; what gives it away is a time far from
        what the first page's cost explains.
        """
        rows = max(1, math.ceil(statement.rows / statement.calls)) if statement.rows else 20
        first = self.book.cost(plannable(statement.text, limit_rows=rows))
        deep = self.book.cost(plannable(statement.text))
        if first is None or deep is None or first > deep * (1 - self.options.min_gain):
            return []
        mean = statement.mean_exec_time_ms
        after = max(self.options.floor_ms, mean * first / deep)
        return [self._rewrite(statement, page, "deep_offset", deep, first, after)]

    def _anti_join(
        self, statement: WorkloadStatement, anti_join: rewrites.Rewrite
    ) -> list[Suggestion]:
        rows = max(1, math.ceil(statement.rows / statement.calls)) if statement.rows else 20
        before = self.book.cost(plannable(statement.text, limit_rows=rows))
        after = self.book.cost(plannable(anti_join.sql, limit_rows=rows))
        if before is None or after is None or after > before * (1 - self.options.min_gain):
            return []
        mean = max(self.options.floor_ms, statement.mean_exec_time_ms * after / before)
        return [self._rewrite(statement, anti_join, "not_in_nullable", before, after, mean)]

    def _rewrite(
        self,
        statement: WorkloadStatement,
        rewrite: rewrites.Rewrite,
        kind: str,
        cost_before: float,
        cost_after: float,
        mean_ms_after: float,
    ) -> Suggestion:
        gain = _gain(statement, cost_before, cost_after, mean_ms_after)
        return self._suggestion(
            "rewrite",
            f"{rewrite.rule}/{statement.fingerprint}",
            rewrite.title,
            rewrite.why,
            Finding(
                kind,
                f"{statement.mean_exec_time_ms:,.1f} ms a call; in the new form the planner's "
                f"cost is {cost_after:,.0f} instead of {cost_before:,.0f}.",
                (("calls", f"{statement.calls_per_hour:,.0f} per hour"),),
            ),
            gain.saved_ms_per_hour,
            statements=(gain,),
            endpoints=self._endpoint_gains((gain,)),
            rewritten_sql=rewrite.sql,
            caveats=(rewrite.obligation,),
        )

    def _suggestion(
        self,
        kind: str,
        subject: str,
        title: str,
        reason: str,
        finding: Finding,
        saved_ms_per_hour: float,
        *,
        statements: tuple[StatementGain, ...],
        endpoints: tuple[EndpointGain, ...] = (),
        caveats: tuple[str, ...] = (),
        rewritten_sql: str = "",
        ddl: str = "",
        undo: str = "",
    ) -> Suggestion:
        return Suggestion(
            suggestion_id=suggestion_id(self.options.target_id, kind, subject),
            target_id=self.options.target_id,
            kind=kind,
            title=title,
            reason=reason,
            finding=finding,
            evidence=Evidence.ESTIMATED,
            saved_ms_per_hour=saved_ms_per_hour,
            ddl=ddl,
            undo=undo,
            statements=statements,
            endpoints=endpoints,
            caveats=caveats,
            rewritten_sql=rewritten_sql,
        )


def _read(statement: WorkloadStatement, catalog: Catalog) -> _Read:
    try:
        return _Read(statement, read_statement(statement.text, catalog))
    except Unparsable as error:
        return _Read(statement, None, str(error))


def _silence(statement: WorkloadStatement, reason: SilenceReason, detail: str = "") -> Silence:
    return Silence(statement.fingerprint, statement.queryid, statement.text, reason, detail)


def _gain(
    statement: WorkloadStatement, before: float, after: float, mean_ms_after: float
) -> StatementGain:
    return StatementGain(
        fingerprint=statement.fingerprint,
        queryid=statement.queryid,
        text=statement.text,
        cost_before=before,
        cost_after=after,
        calls_per_hour=statement.calls_per_hour,
        mean_ms_before=statement.mean_exec_time_ms,
        mean_ms_after=mean_ms_after,
    )


def _one_per_fingerprint(silences: Iterable[Silence]) -> tuple[Silence, ...]:
    first: dict[int, Silence] = {}
    for silence in silences:
        first.setdefault(silence.fingerprint, silence)
    return tuple(first.values())


def _index_reason(
    finding: Finding, candidate: Candidate, gains: Sequence[StatementGain], size: int
) -> str:
    if not gains:
        return finding.summary
    best = gains[0]
    others = f" and {len(gains) - 1} more" if len(gains) > 1 else ""
    return (
        f"{finding.summary} {_IDEAS.get(candidate.pattern, 'With the index')} the planner's cost "
        f"falls from {best.cost_before:,.0f} to {best.cost_after:,.0f}, about "
        f"{best.mean_ms_before:,.1f} ms to {best.mean_ms_after:,.1f} ms a call, for "
        f"{_short(best.text)}{others}. It takes about {size / 1e6:,.1f} MB."
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


def _short(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= 60 else words[:57] + "..."


def _or_empty(text: str) -> str:
    try:
        return rewrites.batch(text)
    except PerfcoreError:
        return ""
