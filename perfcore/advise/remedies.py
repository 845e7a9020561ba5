"""What helps a statement besides an index: fewer calls, another wording, a cache, memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from perfcore.advise import findings
from perfcore.advise.cache_advice import guesses
from perfcore.advise.costs import CostBook
from perfcore.advise.gains import gain_of, too_fast
from perfcore.advise.identity import suggestion_id
from perfcore.advise.memory_advice import MIN_SPILL_MB, work_mem_advice
from perfcore.advise.rewrite_advice import RewriteAdvice
from perfcore.advise.rewrites.membership import batch
from perfcore.advise.server_state import ServerState
from perfcore.advise.statement import StatementShape, plannable
from perfcore.advise.workload import Endpoints, EndpointUse, Options, Repetition, Writes
from perfcore.errors import PerfcoreError
from perfcore.types import (
    Catalog,
    EndpointGain,
    Evidence,
    Finding,
    StatementGain,
    Suggestion,
    SuggestionPlans,
    WorkloadStatement,
)

_N_PLUS_ONE_MS_PER_MINUTE = 50.0


@dataclass(frozen=True)
class Remedies:
    """Finds remedies for the statements of one round."""

    book: CostBook
    catalog: Catalog
    writes: Writes
    endpoints: Endpoints
    options: Options
    server: ServerState | None = None
    plans: dict[str, SuggestionPlans] = field(default_factory=dict)  # by suggestion_id

    def for_statement(
        self, statement: WorkloadStatement, shape: StatementShape
    ) -> Iterator[Suggestion]:
        """Yield what helps a query besides an index; raises OutOfTime like the cost book."""
        yield from self._repeated(statement)
        if too_fast(statement, self.options):
            return
        # Of a workload that is given, the constants are examples, and no two calls the same.
        if self.options.is_timed:
            yield from guesses(statement, shape, self.writes, self.endpoints, self.options)
        yield from self._spill(statement)
        advice = RewriteAdvice(self.book, self.catalog, self.endpoints, self.options, self.plans)
        yield from advice.for_statement(statement, shape)

    def _repeated(self, statement: WorkloadStatement) -> list[Suggestion]:
        """Answer N+1: one request that sends the same statement again and again."""
        found = []
        for use in self.endpoints.get(statement.fingerprint, ()):
            repeated = use.repetition
            if repeated is None:
                continue
            spent_per_minute = repeated.duration_ms * repeated.requests_per_hour / 60.0
            if spent_per_minute >= _N_PLUS_ONE_MS_PER_MINUTE:
                found.append(self._n_plus_one(statement, use, repeated))
        return found

    def _n_plus_one(
        self, statement: WorkloadStatement, use: EndpointUse, repeated: Repetition
    ) -> Suggestion:
        extra = max(repeated.calls - 1.0, 0.0)
        round_trip = max(use.mean_ms - statement.mean_exec_time_ms, 0.0)
        saved = extra * round_trip
        calls = f"{repeated.calls:,.1f}".removesuffix(".0")
        where = f", from {repeated.location}" if repeated.location else ""
        numbers = (
            ("calls per request", calls),
            ("together", f"{repeated.duration_ms:,.1f} ms of the request"),
            ("most in one request", str(use.max_calls)),
            ("time per call in the application", f"{use.mean_ms:,.2f} ms"),
            ("of it in the database", f"{statement.mean_exec_time_ms:,.2f} ms"),
            ("requests like this", f"{repeated.requests_per_hour:,.0f} per hour"),
            ("of those that run it", f"{100 * repeated.share:,.0f} %"),
            *((("sent from", repeated.location),) if repeated.location else ()),
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
                f"{use.endpoint} runs the same statement {calls} times in one request{where}.",
                numbers,
            ),
            saved * repeated.requests_per_hour,
            statements=(gain_of(statement, 1.0, 1.0, mean),),
            endpoints=(EndpointGain(use.service, use.endpoint, saved, repeated.requests_per_hour),),
            rewritten_sql=_or_empty(statement.text, self.catalog),
            caveats=(
                "The saving counts round trips only, measured in the application; the database "
                "still reads the same rows.",
            ),
        )

    def _spill(self, statement: WorkloadStatement) -> list[Suggestion]:
        plan = None
        if self.server is not None and findings.spilled_mb(statement) >= MIN_SPILL_MB:
            plan = self.book.plan(plannable(statement.text))
        return work_mem_advice(statement, plan, self.server, self.options)

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


def _or_empty(text: str, catalog: Catalog) -> str:
    try:
        return batch(text, catalog)
    except PerfcoreError:
        return ""
