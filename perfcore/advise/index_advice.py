"""What the chosen indexes are worth, and why the others and the other statements got nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from perfcore.advise import findings
from perfcore.advise.amounts import decimal_size
from perfcore.advise.candidates import Candidate, Proposal, redundant_with
from perfcore.advise.configurations import Configuration, Configurations
from perfcore.advise.costs import CostBook, OutOfTime
from perfcore.advise.gains import endpoint_gains, gain_of, short
from perfcore.advise.identity import suggestion_id
from perfcore.advise.selection import Selection, Work, table_of
from perfcore.advise.workload import ENTRY_WRITE_MS, Endpoints, Options, Writes, find_table
from perfcore.errors import PerfcoreError
from perfcore.plan import Plan
from perfcore.plan_change import plan_change
from perfcore.types import (
    Catalog,
    Evidence,
    Finding,
    IndexDefinition,
    IndexInfo,
    Rejection,
    Silence,
    SilenceReason,
    StatementGain,
    Suggestion,
    SuggestionPlans,
    TableInfo,
)
from perfcore.whatif.planner import Planner

_SHOWN_GAIN = 0.05
_NOTICED = 0.02  # of a statement's cost: what changes less is the same
_NEARLY = 0.8  # of what the best plan saves
_MOST_REJECTIONS = 300


@dataclass
class IndexAdvice:
    """The words and numbers around a selection; it asks the planner for little that is new."""

    book: CostBook
    planner: Planner
    catalog: Catalog
    works: Sequence[Work]
    candidates: Mapping[str, Candidate]
    proposals: Mapping[int, Proposal]  # by the statement's fingerprint
    known: Configurations
    selection: Selection
    writes: Writes
    endpoints: Endpoints
    options: Options
    plans: dict[str, SuggestionPlans] = field(default_factory=dict)  # by suggestion_id

    @cached_property
    def chosen(self) -> Configuration:
        return frozenset(c.index.digest for c in self.selection.chosen)

    def suggestions(self) -> list[Suggestion]:
        """Return a suggestion for each chosen index that helps somebody, and what they replace.

        The latter only of a workload that is given, whose advice is taken as a whole.
        """
        made = [s for c in self.selection.chosen if (s := self._suggestion(c)) is not None]
        # On a watched database the old index is offered to go once the new one is there, as any
        # other that a wider one serves: until then nobody should be able to press the button.
        return made if self.options.is_timed else made + list(self._replaced(made))

    # What an index does

    def _suggestion(self, candidate: Candidate) -> Suggestion | None:
        index = candidate.index
        companions = self._companions(candidate)
        gains = self._gains(index, companions)
        table = find_table(self.catalog, table_of(index))
        if not gains or table is None:
            return None
        most = gains[0][0]
        with_it = [index, *(self.candidates[d].index for d in sorted(companions))]
        before, after = self._plan(most.text), self._plan(most.text, with_it)
        finding = (
            findings.explain(before, table, most.statement)
            if before is not None
            else Finding("costly", f"It spends its time around {table.name}.")
        )
        size = self.book.index_bytes(index) or 0
        helped = tuple(g for _, g in gains)
        name = self._free_name(index)
        identity = suggestion_id(self.options.target_id, "index", index.digest)
        if before is not None and after is not None:
            self.plans[identity] = SuggestionPlans(
                identity, most.statement.fingerprint, most.text, before.document, after.document
            )
        is_partitioned = table.kind == "p"
        return Suggestion(
            suggestion_id=identity,
            target_id=self.options.target_id,
            kind="index",
            title=f"Index {columns_words(index)}",
            reason=self._reason(finding, candidate, helped, size, after),
            finding=finding,
            evidence=Evidence.ESTIMATED,
            saved_ms_per_hour=sum(g.saved_ms_per_hour for g in helped),
            ddl=index.ddl(name=name, concurrently=not is_partitioned),
            undo=index.undo(name=name, concurrently=not is_partitioned),
            index=index,
            index_bytes=size,
            write_cost=self._write_cost_words(index),
            write_ms_per_hour=self.writes.cost_ms_per_hour(index),
            risk=_RISK_PARTITIONED if is_partitioned else _RISK,
            statements=helped,
            endpoints=endpoint_gains(self.endpoints, helped),
            caveats=tuple(self._caveats(candidate, companions, table, name)),
            plan_change=""
            if before is None or after is None
            else plan_change(before, after, table_of(index), method=index.method),
        )

    def _companions(self, candidate: Candidate) -> Configuration:
        """Return the chosen indexes without which nothing takes this one."""
        digest = candidate.index.digest
        branches = frozenset(i.digest for i in candidate.companions) & self.chosen
        if branches or self._gains(candidate.index, frozenset()):
            return branches
        for number, _ in enumerate(self.works):
            used, _ = self.known.best(number, self.chosen)
            if digest in used:
                return used - {digest}
        return frozenset()

    def _gains(
        self, index: IndexDefinition, companions: Configuration
    ) -> list[tuple[Work, StatementGain]]:
        """Return what the index, without the round's others, does to each statement."""
        found: dict[int, list[tuple[Work, float, float]]] = {}
        for number, work in enumerate(self.works):
            used, cost = self.known.best(number, companions | {index.digest})
            if index.digest in used and cost < work.base_cost * (1 - _SHOWN_GAIN):
                saved = self.known.saved_ms_per_hour(number, cost)
                found.setdefault(work.statement.fingerprint, []).append((work, cost, saved))
        gains = [self._gain(parts) for parts in found.values()]
        gains.sort(key=lambda pair: (-pair[1].saved_ms_per_hour, pair[1].fingerprint))
        return gains

    def _gain(self, parts: Sequence[tuple[Work, float, float]]) -> tuple[Work, StatementGain]:
        """Return the gain of a statement over its sets of values, shown by the one saving most."""
        work, cost, _ = max(parts, key=lambda part: part[2])
        hourly = work.statement.calls_per_hour
        saved_ms = sum(saved for _, _, saved in parts) / hourly if hourly else 0.0
        after_ms = work.statement.mean_exec_time_ms - saved_ms
        return work, gain_of(work.statement, work.base_cost, cost, after_ms)

    def _plan(self, text: str, indexes: Sequence[IndexDefinition] = ()) -> Plan | None:
        try:
            return self.book.plan(text, indexes)
        except OutOfTime:
            return None

    def _reason(
        self,
        finding: Finding,
        candidate: Candidate,
        gains: Sequence[StatementGain],
        size: int,
        after: Plan | None,
    ) -> str:
        best = gains[0]
        others = f" and {len(gains) - 1} more" if len(gains) > 1 else ""
        times = f", about {best.mean_ms_before:,.1f} ms to {best.mean_ms_after:,.1f} ms a call,"
        return (
            f"{finding.summary} {_idea(candidate, after)} the planner's cost falls from "
            f"{best.cost_before:,.0f} to {best.cost_after:,.0f}"
            f"{times if self.options.is_timed else ''} for {short(best.text)}{others}. "
            f"It takes about {decimal_size(size)}."
        )

    def _caveats(
        self, candidate: Candidate, companions: Configuration, table: TableInfo, name: str
    ) -> Iterator[str]:
        yield from candidate.caveats
        if companions:
            names = ", ".join(columns_words(self.candidates[d].index) for d in sorted(companions))
            yield f"It helps only together with {names}."
        for existing in redundant_with(candidate.index, table):
            yield f"It makes {existing.name} redundant: drop that one afterwards."
        if table.kind == "p":
            yield _partition_words(self.catalog, table, candidate.index, name)
        if self.planner.advisory:
            yield self.planner.advisory

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
        cost = self._an_hour(self.writes.cost_ms_per_hour(index))
        per_entry = ENTRY_WRITE_MS.get(index.method, 0.03)
        return (
            f"{entries:,.0f} entries an hour ({rate.inserts:,.0f} inserts, {rate.updates:,.0f} "
            f"updates of which {rate.hot_updates:,.0f} HOT), about {cost} at {per_entry} ms "
            "an entry."
        )

    # What it replaces

    def _replaced(self, made: Sequence[Suggestion]) -> Iterator[Suggestion]:
        """Yield the existing indexes that have nothing left to do, asked with each one hidden."""
        seen = set()
        for suggestion in made:
            index = suggestion.index
            table = find_table(self.catalog, table_of(index)) if index else None
            if index is None or table is None or table.kind == "p":
                continue
            for existing in redundant_with(index, table):
                if existing.name not in seen and self._is_idle(existing, index):
                    seen.add(existing.name)
                    yield self._drop(existing, suggestion)

    def _is_idle(self, existing: IndexInfo, index: IndexDefinition) -> bool:
        """Say whether no statement becomes dearer without the old one, the new one being there."""
        name = f"{existing.schema}.{existing.name}"
        for work in self.works:
            if table_of(index) not in work.tables:
                continue
            if self.book.elapsed_s > self.book.time_limit_s:
                return False
            try:
                with_both = self.planner.plan(work.text, indexes=[index])
                without = self.planner.plan(work.text, indexes=[index], hidden=[name])
            except PerfcoreError:
                return False
            if without.total_cost > with_both.total_cost * (1 + _NOTICED) + 1:
                return False
        return True

    def _drop(self, existing: IndexInfo, suggestion: Suggestion) -> Suggestion:
        summary = (
            f"{suggestion.title.removeprefix('Index ')} begins with the keys of {existing.name}, "
            "and no statement of the workload becomes dearer without the latter."
        )
        name = IndexDefinition(existing.schema, existing.table, ()).undo(name=existing.name)
        return Suggestion(
            suggestion_id=suggestion_id(
                self.options.target_id, "replaced", f"{existing.schema}.{existing.name}"
            ),
            target_id=self.options.target_id,
            kind="drop_index",
            title=f"Drop {existing.name} once {suggestion.title[0].lower()}{suggestion.title[1:]} "
            "exists",
            reason=f"{summary} Two indexes become one: every write is spared an entry.",
            finding=Finding(
                "replaced_index", summary, (("size", decimal_size(existing.index_bytes)),)
            ),
            evidence=Evidence.ESTIMATED,
            saved_ms_per_hour=0.0,
            ddl=name,
            undo=existing.rebuild(),
            index_bytes=existing.index_bytes,
            risk="First create the new one; statements outside of the workload were not asked.",
        )

    # Why not

    def rejections(self) -> tuple[Rejection, ...]:
        """Return the candidates that were not chosen, what would save most first."""
        proposed: dict[str, set[int]] = {}
        for fingerprint, proposal in self.proposals.items():
            for candidate in proposal.candidates:
                proposed.setdefault(candidate.index.digest, set()).add(fingerprint)
        found = []
        for digest in sorted(proposed.keys() - self.chosen):
            index = self.candidates[digest].index
            found.append(
                Rejection(
                    index,
                    self._why_rejected(digest),
                    tuple(sorted(proposed[digest])),
                    self.book.index_bytes(index),
                    max(0.0, self._saved_alone(digest)),
                )
            )
        found.sort(key=lambda r: (-r.saved_ms_per_hour, r.index.name))
        return tuple(found[:_MOST_REJECTIONS])

    @cached_property
    def _users(self) -> Mapping[str, Sequence[int]]:
        """Return by candidate the places of the statements some plan of which used it."""
        users: dict[str, list[int]] = {}
        for number, costs in enumerate(self.known.costs):
            for digest in frozenset().union(*costs):
                users.setdefault(digest, []).append(number)
        return users

    def _saved_alone(self, digest: str) -> float:
        return sum(self._saved(n, frozenset([digest])) for n in self._users.get(digest, ()))

    def _saved_more(self, digest: str) -> float:
        """Return what it saves beside the chosen ones."""
        return sum(
            self._saved(n, self.chosen | {digest}) - self._saved(n, self.chosen)
            for n in self._users.get(digest, ())
        )

    def _saved(self, number: int, indexes: Configuration) -> float:
        return self.known.saved_ms_per_hour(number, self.known.best(number, indexes)[1])

    def _an_hour(self, amount_ms: float) -> str:
        """Return what is saved or spent in an hour, of costs alone as a share of them all."""
        if self.options.is_timed:
            return f"{amount_ms:,.0f} ms an hour"
        whole = sum(w.mean_ms_at(w.base_cost, 0.0) * w.calls_per_hour for w in self.works)
        return f"{100 * amount_ms / max(whole, 1e-9):.2g} % of the workload's cost"

    def _why_rejected(self, digest: str, number: int | None = None) -> str:
        """Return why a candidate was not chosen, or not chosen for one statement."""
        if digest in self.book.failures:
            return f"It cannot be planned: {self.book.failures[digest]}"
        if digest in self.known.banned:
            share = 100 * self.options.max_regression
            return f"It makes some statement more than {share:.0f} % dearer."
        gain = self._best_gain(digest)
        if gain <= 0:
            return "The planner does not use it for any statement."
        if gain < self.options.min_gain:
            return (
                f"It saves at most {100 * gain:.0f} % of a statement's cost, less than "
                f"{100 * self.options.min_gain:.0f} %."
            )
        saved, kept = self._saved_alone(digest), self._writes(digest)
        if saved <= kept:
            return f"Its writes take {self._an_hour(kept)}, and it saves {self._an_hour(saved)}."
        return self._why_outbid(digest, saved, number)

    def _why_outbid(self, digest: str, saved: float, number: int | None) -> str:
        more, least = self._saved_more(digest), self.selection.least_ms_per_hour
        rival = self._rival(digest, number)
        if rival is not None and more < max(_NOTICED * saved, least):
            return f"{columns_words(self.candidates[rival].index)} does its work."
        if more < least:
            return f"It would save {self._an_hour(more)} more, less than {self._an_hour(least)}."
        return self._limits_words(digest)

    def _limits_words(self, digest: str) -> str:
        size = decimal_size(self.book.index_bytes(self.candidates[digest].index) or 0)
        budget = self.options.storage_budget_bytes
        if len(self.chosen) >= self.options.max_indexes:
            return f"Only {self.options.max_indexes} indexes a round, and others save more."
        if budget is not None:
            return (
                f"Its {size} would save less than what the budget of "
                f"{decimal_size(budget)} is spent on."
            )
        return f"It saves too little more for its {size}."

    def _best_gain(self, digest: str) -> float:
        """Return the largest share of a statement's cost that a plan with it saves."""
        return max(
            (
                1 - cost / self.works[number].base_cost
                for number in self._users.get(digest, ())
                for used, cost in self.known.costs[number].items()
                if digest in used
            ),
            default=0.0,
        )

    def _rival(self, digest: str, only: int | None) -> str | None:
        """Return the chosen index that serves the statement which this one would help most.

        `only` is the place of a statement, where no other is asked about.
        """
        best: tuple[float, str] | None = None
        for number in self._users.get(digest, ()) if only is None else (only,):
            saved = self._saved(number, frozenset([digest]))
            used, _ = self.known.best(number, self.chosen)
            same = [d for d in sorted(used) if self._table(d) == self._table(digest)]
            if saved > 0 and same and (best is None or saved > best[0]):
                best = saved, same[0]
        return best[1] if best else None

    def _table(self, digest: str) -> str:
        return table_of(self.candidates[digest].index)

    def _writes(self, digest: str) -> float:
        return self.writes.cost_ms_per_hour(self.candidates[digest].index)

    def silences(self, helped: set[int]) -> Iterator[Silence]:
        """Yield why each weighed statement that is not helped got nothing."""
        for number, work in enumerate(self.works):
            if work.statement.fingerprint not in helped:
                yield self._silence(number, work)

    def _silence(self, number: int, work: Work) -> Silence:
        useful = [(cost, sorted(used)) for used, cost in self.known.useful(number)]
        if useful:
            cost, used = self._smallest_near_best(work, useful)
            names = " and ".join(columns_words(self.candidates[d].index) for d in used)
            size = self._bytes(used)
            detail = (
                f"{names}, {decimal_size(size)}, would take its cost from {work.base_cost:,.0f} to "
                f"{cost:,.0f}: {self._why_rejected(used[0], number)}"
            )
            return _silence(work, SilenceReason.OUTBID, detail)
        tried = [columns_words(c.index) for c in self._proposed(work)]
        least = min(self.known.costs[number].values())
        best = f"; the best takes its cost from {work.base_cost:,.0f} to {least:,.0f}"
        more = f" and {len(tried) - 4} more" if tried[4:] else ""
        detail = f"tried {', '.join(tried[:4])}{more}"
        return _silence(
            work, SilenceReason.NO_GAIN, detail + (best if least < work.base_cost else "")
        )

    def _smallest_near_best(
        self, work: Work, useful: Sequence[tuple[float, list[str]]]
    ) -> tuple[float, list[str]]:
        """Return of the plans that save nearly as much as the best the one with least to build."""
        least = min(cost for cost, _ in useful)
        near = [u for u in useful if work.base_cost - u[0] >= _NEARLY * (work.base_cost - least)]
        return min(near, key=lambda u: (self._bytes(u[1]), u))

    def _bytes(self, digests: Sequence[str]) -> int:
        return sum(self.book.index_bytes(self.candidates[d].index) or 0 for d in digests)

    def _proposed(self, work: Work) -> Sequence[Candidate]:
        return self.proposals[work.statement.fingerprint].candidates


_RISK = (
    "CREATE INDEX CONCURRENTLY reads the whole table twice and waits for transactions that are "
    "open; writes go on."
)
_RISK_PARTITIONED = (
    "PostgreSQL builds the index of a partitioned table with a lock that stops writes to all "
    "partitions until it is done."
)


def _partition_words(catalog: Catalog, table: TableInfo, index: IndexDefinition, name: str) -> str:
    """Return how to build the index of a partitioned table without stopping its writes."""
    count = sum(t.parent == table.qualified_name for t in catalog.tables)
    only = index.ddl(name=name, concurrently=False).replace(" ON ", " ON ONLY ", 1)
    return (
        f"To let writes go on, first {only}; then, on each of the {count} partitions, CREATE INDEX "
        f"CONCURRENTLY of the same columns and ALTER INDEX {name} ATTACH PARTITION that index."
    )


def _silence(work: Work, reason: SilenceReason, detail: str) -> Silence:
    s = work.statement
    return Silence(s.fingerprint, s.queryid, s.text, reason, detail)


def _idea(candidate: Candidate, after: Plan | None) -> str:
    """Return what the index is about, in this plan."""
    pattern = candidate.pattern
    if candidate.index.include:
        nodes = [n.node_type for _, n in after.root.walk() if n.index] if after else []
        pattern = "covering" if "Index Only Scan" in nodes else "merged"
    return _IDEAS.get(pattern, "With the index")


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
    "region": "With a search tree of regions, which finds what overlaps or lies near,",
    "brin": "With a block range index, tiny because the rows lie in its order,",
    "hash": "With a hash index, half as large as a B-tree of such values,",
    "grouping": "With an index in the groups' order",
}


def columns_words(index: IndexDefinition) -> str:
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
