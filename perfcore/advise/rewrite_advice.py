"""Which rewrites of a statement are worth a developer's time, and what they save."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from perfcore.advise.candidates import propose, rows_of
from perfcore.advise.costs import CostBook
from perfcore.advise.gains import endpoint_gains, gain_of
from perfcore.advise.identity import suggestion_id
from perfcore.advise.rewrites.registry import rewrites_of
from perfcore.advise.rewrites.rewrite import Equality, Pricing, Rewrite
from perfcore.advise.rewrites.writing import numbered
from perfcore.advise.statement import StatementShape, Unparsable, plannable
from perfcore.advise.workload import Endpoints, Options, find_table
from perfcore.types import (
    Catalog,
    Evidence,
    Finding,
    IndexDefinition,
    Suggestion,
    SuggestionPlans,
    WorkloadStatement,
)

# A statement that takes less is not rewritten on grounds that no cost shows.
SLOW_MS = 5.0
_MIN_SENT_BYTES = 10_000.0  # a call, of columns that nobody may want
_DEEP_COST = 100.0  # of the planner's; a page that costs less lies not deep
_MOST_INDEXES = 6  # of the statement's candidates, to see what they leave to gain


@dataclass(frozen=True, slots=True)
class _Offer:
    """A rewrite with what the planner says of it; equal costs where it says nothing."""

    rewrite: Rewrite
    cost_before: float
    cost_after: float
    indexes: tuple[IndexDefinition, ...] = ()  # that it needs
    cost_now: float = 0.0  # of the old wording as things are, where indexes are proposed for it

    @property
    def saved_share(self) -> float:
        """Return the share of the time that the statement takes now."""
        return (self.cost_before - self.cost_after) / (self.cost_now or self.cost_before)

    @property
    def is_priced(self) -> bool:
        return self.cost_after < self.cost_before


@dataclass(frozen=True)
class RewriteAdvice:
    """Weighs the rewrites of the statements of one round."""

    book: CostBook
    catalog: Catalog
    endpoints: Endpoints
    options: Options
    plans: dict[str, SuggestionPlans] = field(default_factory=dict)  # by suggestion_id

    def for_statement(
        self, statement: WorkloadStatement, shape: StatementShape
    ) -> list[Suggestion]:
        """Return the rewrite that saves most, if one saves enough; raises OutOfTime.

        One at a time: after it the statement is another one, and is looked at again.
        """
        try:
            rewrites = rewrites_of(statement.text, self.catalog)
        except Unparsable:  # an operator that can be planned, but not written anew
            return []
        offers = [
            offer
            for rewrite in rewrites
            if (offer := self._offer(statement, shape, rewrite)) is not None
        ]
        best = max(offers, key=lambda o: o.saved_share, default=None)
        return [self._suggestion(statement, best)] if best is not None else []

    def _offer(
        self, statement: WorkloadStatement, shape: StatementShape, rewrite: Rewrite
    ) -> _Offer | None:
        if rewrite.pricing is Pricing.NOTHING:
            return self._unpriced(statement, rewrite)
        if rewrite.pricing is Pricing.FIRST_PAGE and not self._is_slow(statement):
            return None
        offer = self._priced(statement, rewrite)
        if rewrite.pricing is Pricing.FIRST_PAGE and offer and offer.cost_before < _DEEP_COST:
            return None
        return self._beside_indexes(statement, shape, offer) if offer is not None else None

    def _unpriced(self, statement: WorkloadStatement, rewrite: Rewrite) -> _Offer | None:
        worth = self._is_slow(statement) and self._is_worth(statement, rewrite)
        return _Offer(rewrite, 1.0, 1.0, rewrite.indexes) if worth else None

    def _is_slow(self, statement: WorkloadStatement) -> bool:
        return statement.mean_exec_time_ms >= SLOW_MS

    def _is_worth(self, statement: WorkloadStatement, rewrite: Rewrite) -> bool:
        if rewrite.saved_bytes_per_row:
            sent = self._rows_of(statement) * rewrite.saved_bytes_per_row
            return sent >= _MIN_SENT_BYTES
        return self._is_large(rewrite.indexes)

    def _rows_of(self, statement: WorkloadStatement) -> float:
        if statement.rows and self.options.is_timed:
            return statement.rows / statement.calls
        plan = self.book.plan(self._text(statement, statement.text))
        return plan.root.plan_rows if plan is not None else 0.0

    def _is_large(self, indexes: Sequence[IndexDefinition]) -> bool:
        tables = [find_table(self.catalog, f"{i.schema}.{i.table}") for i in indexes]
        return all(t is not None and rows_of(t) >= self.options.min_table_rows for t in tables)

    def _text(self, statement: WorkloadStatement, sql: str) -> str:
        """Return the text as it is planned: with the rows that a page really has."""
        rows = max(1, math.ceil(statement.rows / statement.calls)) if statement.rows else 20
        return plannable(numbered(sql), limit_rows=rows)

    def _priced(self, statement: WorkloadStatement, rewrite: Rewrite) -> _Offer | None:
        old, new = self._texts(statement, rewrite)
        before, after = self.book.cost(old), self.book.cost(new)
        if before is None or after is None:
            return None
        if self._saves_enough(before, after):
            return _Offer(rewrite, before, after)
        if not rewrite.indexes or not self._is_large(rewrite.indexes):
            return None
        helped = self.book.cost(new, rewrite.indexes)
        if helped is None and rewrite.setup:  # an extension that the planner does not have either
            return self._unpriced(statement, rewrite)
        # With the index alone the old wording must not be as fast, where the index can be had.
        stays = old == new or bool(rewrite.setup)
        alone = before if stays else self.book.cost(old, rewrite.indexes)
        if helped is None or alone is None or not self._saves_enough(min(before, alone), helped):
            return None
        return _Offer(rewrite, before, helped, rewrite.indexes)

    def _texts(self, statement: WorkloadStatement, rewrite: Rewrite) -> tuple[str, str]:
        new = self._text(statement, rewrite.sql)
        if rewrite.pricing is Pricing.FIRST_PAGE:
            # Of a depth that is a parameter the planner takes a tenth of the rows.
            return plannable(statement.text), new
        return self._text(statement, statement.text), new

    def _saves_enough(self, before: float, after: float) -> bool:
        return after <= before * (1 - self.options.min_gain)

    def _beside_indexes(
        self, statement: WorkloadStatement, shape: StatementShape, offer: _Offer
    ) -> _Offer | None:
        """Return the offer with what it saves once the statement's candidate indexes are there.

        Where an index makes the old wording as fast, the index is the better advice. What it
        saves is promised for the index; for the rewrite only the rest is.
        """
        proposal = propose(shape, self.catalog, min_table_rows=self.options.min_table_rows)
        indexes = [c.index for c in proposal.candidates][:_MOST_INDEXES]
        old, new = self._texts(statement, offer.rewrite)
        before = self.book.cost(old, indexes) if indexes else None
        if before is None:
            return offer
        after = self.book.cost(new, {i.digest: i for i in (*indexes, *offer.indexes)}.values())
        if after is None or not self._saves_enough(before, after):
            return None
        if not self._saves_enough(offer.cost_before, before):
            return offer
        return replace(offer, cost_before=before, cost_after=after, cost_now=offer.cost_before)

    def _suggestion(self, statement: WorkloadStatement, offer: _Offer) -> Suggestion:
        rewrite = offer.rewrite
        mean = statement.mean_exec_time_ms
        after_ms = max(self.options.floor_ms, mean * (1 - offer.saved_share))
        gain = gain_of(statement, offer.cost_before, offer.cost_after, min(mean, after_ms))
        sizes = [self.book.index_bytes(i) or 0 for i in offer.indexes]
        identity = suggestion_id(
            self.options.target_id, "rewrite", f"{rewrite.rule}/{statement.fingerprint}"
        )
        self._keep_plans(identity, statement, offer)
        return Suggestion(
            suggestion_id=identity,
            target_id=self.options.target_id,
            kind="rewrite",
            title=rewrite.title,
            reason=f"{rewrite.why} {_rests_on(offer)}",
            finding=Finding(rewrite.finding, self._found(statement, offer), _numbers(statement)),
            evidence=Evidence.ESTIMATED,
            saved_ms_per_hour=gain.saved_ms_per_hour,
            ddl=_ddl(offer),
            undo="; ".join(i.undo() for i in offer.indexes),
            index_bytes=sum(sizes) if sizes else None,
            risk=_RISK[rewrite.equality],
            statements=(gain,),
            endpoints=endpoint_gains(self.endpoints, (gain,)),
            caveats=(rewrite.obligation, *self._advisory()),
            rewritten_sql=rewrite.sql,
            verify=(
                "Test it in the lab, which runs both wordings with the same values and compares "
                "the rows and the times. Once it is released, the new one is a statement of its "
                "own on the page Queries."
            ),
            plan_change=f"rewrite: {rewrite.rule}" if offer.is_priced else "",
        )

    def _keep_plans(self, identity: str, statement: WorkloadStatement, offer: _Offer) -> None:
        """Keep the plans that the costs come from, where both stand on things as they are."""
        if not offer.is_priced or offer.cost_now:
            return
        old, new = self._texts(statement, offer.rewrite)
        before, after = self.book.plan(old), self.book.plan(new, offer.indexes)
        if before is not None and after is not None:
            self.plans[identity] = SuggestionPlans(
                identity, statement.fingerprint, old, before.document, after.document
            )

    def _advisory(self) -> tuple[str, ...]:
        return (self.book.planner.advisory,) if self.book.planner.advisory else ()

    def _found(self, statement: WorkloadStatement, offer: _Offer) -> str:
        mean = f"{statement.mean_exec_time_ms:,.1f} ms a call" if self.options.is_timed else ""
        if not offer.is_priced:
            return f"{mean}." if mean else "By the planner's cost it is one of the slow ones."
        costs = (
            f"in the new form the planner's cost is {offer.cost_after:,.0f} instead of "
            f"{offer.cost_before:,.0f}{_beside(offer)}."
        )
        return f"{mean}; {costs}" if mean else costs[0].upper() + costs[1:]


_RISK = {
    Equality.ALWAYS: "None to the rows: the catalogue proves that they are the same.",
    Equality.CONDITION: "The rows are the same under a condition that is yours to check.",
    Equality.DIFFERENT: "The rows are not the same, on purpose: see what changes.",
}


def _rests_on(offer: _Offer) -> str:
    if not offer.is_priced:
        return (
            "No planner's cost shows what that saves, so no time is promised; it is said because "
            "the statement is slow."
        )
    if offer.rewrite.pricing is Pricing.FIRST_PAGE:
        return (
            "What is promised rests on the planner's cost of one page, against that of the depth "
            "in the statement, or of a tenth of all rows where the depth is a parameter."
        )
    return "The index below is part of it." if offer.indexes else ""


def _beside(offer: _Offer) -> str:
    if not offer.cost_now:
        return ""
    return (
        f", both with the indexes proposed for the statement, whose cost now is "
        f"{offer.cost_now:,.0f}; promised is what the new form saves beyond the indexes"
    )


def _ddl(offer: _Offer) -> str:
    parts = [offer.rewrite.setup, *(i.ddl() for i in offer.indexes)]
    return ";\n".join(p for p in parts if p)


def _numbers(statement: WorkloadStatement) -> tuple[tuple[str, str], ...]:
    return (("calls", f"{statement.calls_per_hour:,.0f} per hour"),)
