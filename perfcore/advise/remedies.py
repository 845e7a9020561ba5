"""What helps a statement besides an index: fewer calls, another wording, a cache, memory."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from perfcore.advise import findings, rewrites
from perfcore.advise.cache_advice import guesses
from perfcore.advise.costs import CostBook
from perfcore.advise.gains import endpoint_gains, gain_of, short, too_fast
from perfcore.advise.identity import suggestion_id
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
    WorkloadStatement,
)

_N_PLUS_ONE_MS_PER_MINUTE = 50.0
_MIN_SPILL_MB = 1.0
_MAX_WORK_MEM_MB = 256
_SPILL_TO_MEMORY = 2.5  # a sort needs more room in memory than its tapes take on disk


@dataclass(frozen=True)
class Remedies:
    """Finds remedies for the statements of one round."""

    book: CostBook
    catalog: Catalog
    writes: Writes
    endpoints: Endpoints
    options: Options

    def for_statement(
        self, statement: WorkloadStatement, shape: StatementShape
    ) -> Iterator[Suggestion]:
        """Yield what helps a query besides an index; raises OutOfTime like the cost book."""
        yield from self._repeated(statement)
        if too_fast(statement, self.options):
            return
        yield from guesses(statement, shape, self.writes, self.endpoints, self.options)
        yield from self._spill(statement)
        yield from self._rewritten(statement)

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
            rewritten_sql=_or_empty(statement.text),
            caveats=(
                "The saving counts round trips only, measured in the application; the database "
                "still reads the same rows.",
            ),
        )

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
                f"Give {short(statement.text)} {work_mem} MB of work_mem",
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
                statements=(gain_of(statement, 1.0, 1.0, mean),),
                caveats=(
                    "How much time it saves is only known by trying.",
                    *(("It would need more than that.",) if wanted > work_mem else ()),
                ),
            )
        ]

    def _rewritten(self, statement: WorkloadStatement) -> list[Suggestion]:
        found = []
        if page := rewrites.keyset(statement.text, self.catalog):
            found += self._keyset(statement, page)
        if anti_join := rewrites.not_exists(statement.text, self.catalog):
            found += self._anti_join(statement, anti_join)
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
        gain = gain_of(statement, cost_before, cost_after, mean_ms_after)
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
            endpoints=endpoint_gains(self.endpoints, (gain,)),
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


def _or_empty(text: str) -> str:
    try:
        return rewrites.batch(text)
    except PerfcoreError:
        return ""
