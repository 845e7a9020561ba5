"""Advice on a workload that is given, not recorded, with an account of every statement.

Nothing is known of its statements but their texts and how often they run. So their times are
the planner's costs, and a workload's cost is the sum of calls times cost.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg

from perfcore.advise.advisor import Advice, advise
from perfcore.advise.amounts import decimal_size
from perfcore.advise.selection import Progress, silent
from perfcore.advise.server_state import read_server_state
from perfcore.advise.statement import plannable
from perfcore.advise.store import read_foreign_keys
from perfcore.advise.workload import Options
from perfcore.advise.workload_file import Item
from perfcore.db import redact
from perfcore.errors import PerfcoreError, TargetUnavailable
from perfcore.plan import Plan
from perfcore.target import connect_target
from perfcore.types import IndexDefinition, Suggestion, WorkloadStatement
from perfcore.whatif.catalog import read_catalog
from perfcore.whatif.planner import Planner
from perfcore.whatif.twin import Agreement, Twin

# What a unit of the planner's cost takes, roughly: costs are weighed against writes by it.
MS_PER_COST = 0.005
_HOUR_S = 3600.0
_LIMIT_ROWS = 20  # in the place of a LIMIT that is a parameter
_LEAST_SAVED = 0.0005  # of the workload's cost, by one index ...
# A call that costs less takes most of its time to be sent and planned.
_LEAST_SAVED_COST = 3.0
_LEAST_SAVED_IN_BUDGET = 0.00001  # ... or where there is room for it anyway
_ADVICE_SHARE = 0.85  # of the time; the rest is for adding up and comparing
_CHANGED = 0.01  # a cost that moves by less is the same


@dataclass(frozen=True, slots=True)
class StatementAccount:
    """One statement of the workload, as it is and with all that is suggested."""

    id: str
    calls: float
    cost_before: float | None  # None: it could not be planned
    cost_after: float | None
    suggestions: tuple[int, ...]  # the places, from 1, of those that make it cheaper
    reason: str  # why it has none
    agreement: float | None = None  # its cost in the twin by that on the database itself


@dataclass(frozen=True, slots=True)
class Change:
    """What a suggestion alone does to one statement's cost."""

    id: str
    cost_before: float
    cost_after: float


@dataclass(frozen=True, slots=True)
class SuggestionAccount:
    """A suggestion with what it alone does to the workload."""

    suggestion: Suggestion
    saved_cost: float  # calls times cost
    saved_share: float  # of the workload's
    helped: tuple[Change, ...] = ()
    hurt: tuple[Change, ...] = ()


@dataclass(frozen=True, slots=True)
class Account:
    """All that one run found."""

    suggestions: tuple[SuggestionAccount, ...]
    statements: tuple[StatementAccount, ...]
    cost_before: float
    cost_after: float
    write_cost: float  # of keeping the suggested indexes, an hour
    # No set of the candidates brings cost and writes lower; None: not worked out.
    bound_cost: float | None
    index_bytes: int  # of the suggested indexes, by our estimate
    engine: str
    note: str
    what_if_calls: int
    cache_hits: int
    planning_s: float  # of these calls
    elapsed_s: float
    stopped_early: bool


def advise_dsn(
    dsn: str,
    items: Sequence[Item],
    data_dir: Path,
    options: Options,
    *,
    is_recorded: bool = False,
    progress: Progress = silent,
    clock: Callable[[], float] = time.monotonic,
) -> Account:
    """Return advice on the database for the workload; the database is only read.

    The time limit holds for all of it. What the server's settings and counters show is part of it
    only where the workload `is_recorded` from that server: a workload that is given gets the same
    answer every time. Raises TargetUnavailable when the database cannot be
    read, ServerError when the twin cannot be started.
    """
    started = clock()
    progress(0.0, "reading the catalogue")
    try:
        with connect_target(dsn) as connection:
            catalog = read_catalog(connection)
            foreign_keys = read_foreign_keys(connection)
            server = read_server_state(connection) if is_recorded else None
    except psycopg.Error as error:
        raise TargetUnavailable(
            f"{redact(dsn)} cannot be read: {error}", hint="check --dsn"
        ) from error
    with Twin.build(dsn, data_dir, progress=_share(progress, 0.0, 0.2)) as twin:
        accountant = _Accountant(twin.planner, items)
        workload = accountant.workload()
        left_s = max(_ADVICE_SHARE * options.time_limit_s - (clock() - started), 1.0)
        advice = advise(
            catalog,
            workload,
            twin.planner,
            options=replace(_unhurried(options, workload), time_limit_s=left_s),
            foreign_keys=foreign_keys,
            server=server,
            clock=clock,
            progress=_share(progress, 0.3, 0.9),
        )
        progress(0.9, "adding up")
        account = accountant.account(advice)
        calls, hits = twin.calls, advice.cache_hits + twin.planner.answered_from_cache
        progress(0.95, "comparing the twin with the database")
        account = _compared(account, items, twin, lambda: clock() - started < options.time_limit_s)
        progress(1.0, "done")
        return replace(
            account,
            what_if_calls=calls,
            cache_hits=hits,
            planning_s=twin.planner.planning_s,
            elapsed_s=clock() - started,
        )


def _compared(
    account: Account, items: Sequence[Item], twin: Twin, has_time: Callable[[], bool]
) -> Account:
    """Say how far the twin's plans of the statements, as things are, are the database's own."""
    statements, apart = [], []
    for item, statement in zip(items, account.statements, strict=True):
        found = _agreement(item, twin) if has_time() else None
        if found is None:
            statements.append(statement)
            continue
        statements.append(replace(statement, agreement=found.ratio))
        if not found.agrees:
            plan = "" if found.same_shape else ", another plan"
            apart.append(f"{item.id} ({found.ratio:.2f} of the database's cost{plan})")
    note = account.note
    if apart:
        shown = ", ".join(apart[:10]) + (f" and {len(apart) - 10} more" if apart[10:] else "")
        note = f"{note}; " if note else ""
        note += f"the twin plans these otherwise than the database, so take them as advice: {shown}"
    return replace(account, statements=tuple(statements), note=note)


def _agreement(item: Item, twin: Twin) -> Agreement | None:
    try:
        return twin.self_check(plannable(item.sql, limit_rows=_LIMIT_ROWS))
    except PerfcoreError:
        return None


def _unhurried(options: Options, workload: Sequence[WorkloadStatement]) -> Options:
    """Return the options without thresholds in milliseconds, which costs know nothing of."""
    whole_ms = sum(s.total_exec_time_ms for s in workload)
    has_budget = options.storage_budget_bytes is not None
    least = _LEAST_SAVED_IN_BUDGET if has_budget else _LEAST_SAVED
    return replace(
        options,
        min_calls=1,
        min_mean_ms=0.0,
        min_total_ms_per_hour=0.0,
        min_saved_ms_per_hour=least * whole_ms,
        min_saved_cost=_LEAST_SAVED_COST,
        floor_ms=0.0,
        is_timed=False,
    )


def _share(progress: Progress, start: float, end: float) -> Progress:
    return lambda share, what: progress(start + (end - start) * share, what)


class _Accountant:
    """Knows each statement's plan as things are, and adds up what advice changes."""

    def __init__(self, planner: Planner, items: Sequence[Item]) -> None:
        self._planner = planner
        self._items = items
        self._plans = {n: self._plan(item.sql) for n, item in enumerate(items)}

    def workload(self) -> tuple[WorkloadStatement, ...]:
        """Return the statements as the advisor takes them, each under its place as a number."""
        # Calls are whole numbers there: what runs every other hour is looked at for longer.
        hours = 1 if all(float(i.calls).is_integer() for i in self._items) else 1_000
        return tuple(
            WorkloadStatement(
                fingerprint=n,
                queryid=n,
                text=item.sql,
                calls=max(1, round(item.calls * hours)),
                total_exec_time_ms=self._cost(n) * MS_PER_COST * item.calls * hours,
                window_s=_HOUR_S * hours,
                rows=round(self._written_rows(n) * item.calls * hours),
            )
            for n, item in enumerate(self._items)
        )

    def account(self, advice: Advice) -> Account:
        """Return the advice with each statement's cost before and after."""
        indexes = [s.index for s in advice.suggestions if s.index is not None]
        before = {n: p for n, p in self._plans.items() if p is not None}
        after = {n: self._plan(self._items[n].sql, indexes) or p for n, p in before.items()}
        whole = self._weighed(before)
        suggestions = tuple(self._suggestion(s, before, after) for s in advice.suggestions)
        reasons = {s.fingerprint: _words(s.reason.value, s.detail) for s in advice.silences}
        return Account(
            suggestions=suggestions,
            statements=tuple(
                self._statement(n, before, after, suggestions, reasons)
                for n in range(len(self._items))
            ),
            cost_before=whole,
            cost_after=self._weighed(after),
            write_cost=advice.write_ms_per_hour / MS_PER_COST,
            bound_cost=self._bound(advice, before, after),
            index_bytes=sum(s.index_bytes or 0 for s in advice.suggestions if s.index),
            engine=advice.planner,
            note=advice.note,
            what_if_calls=0,
            cache_hits=0,
            planning_s=0.0,
            elapsed_s=0.0,
            stopped_early=advice.stopped_early,
        )

    def _bound(
        self, advice: Advice, before: Mapping[int, Plan], after: Mapping[int, Plan]
    ) -> float | None:
        """Return the bound of the weighed statements with what the others cost now."""
        if advice.bound_ms_per_hour is None:
            return None
        weighed = set(advice.weighed)
        plans = {n: p if n in weighed else after[n] for n, p in before.items()}
        return max(0.0, self._weighed(plans) - advice.bound_ms_per_hour / MS_PER_COST)

    def _statement(
        self,
        n: int,
        before: Mapping[int, Plan],
        after: Mapping[int, Plan],
        suggestions: Sequence[SuggestionAccount],
        reasons: Mapping[int, str],
    ) -> StatementAccount:
        item = self._items[n]
        helping = tuple(
            place
            for place, s in enumerate(suggestions, start=1)
            if any(g.fingerprint == n for g in s.suggestion.statements)
        )
        reason = "" if helping else reasons.get(n, "no suggestion makes it cheaper")
        return StatementAccount(
            item.id,
            item.calls,
            before[n].total_cost if n in before else None,
            after[n].total_cost if n in after else None,
            helping,
            reason,
        )

    def _suggestion(
        self, suggestion: Suggestion, before: Mapping[int, Plan], after: Mapping[int, Plan]
    ) -> SuggestionAccount:
        """Return what it alone saves, and whom it hurts beside the others."""
        helped = tuple(
            Change(self._items[g.fingerprint].id, g.cost_before, g.cost_after)
            for g in suggestion.statements
            if g.cost_after < g.cost_before * (1 - _CHANGED)
        )
        calls = {i.id: i.calls for i in self._items}
        saved = sum(calls[c.id] * (c.cost_before - c.cost_after) for c in helped)
        whole = self._weighed(before)
        index = suggestion.index
        hurt = tuple(
            Change(self._items[n].id, plan.total_cost, after[n].total_cost)
            for n, plan in before.items()
            if index is not None
            and after[n].total_cost > plan.total_cost * (1 + _CHANGED)
            and after[n].uses_index(index.name)
        )
        return SuggestionAccount(suggestion, saved, saved / whole if whole else 0.0, helped, hurt)

    def _weighed(self, plans: Mapping[int, Plan]) -> float:
        return sum(self._items[n].calls * plan.total_cost for n, plan in plans.items())

    def _plan(self, text: str, indexes: Sequence[IndexDefinition] = ()) -> Plan | None:
        try:
            return self._planner.plan(plannable(text, limit_rows=_LIMIT_ROWS), indexes=indexes)
        except PerfcoreError:
            return None

    def _cost(self, n: int) -> float:
        plan = self._plans[n]
        return plan.total_cost if plan is not None else 0.0

    def _written_rows(self, n: int) -> float:
        """Return how many rows a write touches in a call, by the planner's estimate."""
        plan = self._plans[n]
        if plan is None or plan.root.node_type != "ModifyTable":
            return 0.0
        return max(1.0, *(child.plan_rows for child in plan.root.children), 1.0)


def _words(reason: str, detail: str) -> str:
    return f"{reason} ({detail})" if detail else reason


def account_json(account: Account) -> dict[str, Any]:
    """Return the account as it is printed for programs; its fields are stable."""
    return {
        "suggestions": [_suggestion_json(s) for s in account.suggestions],
        "statements": [
            {
                "id": s.id,
                "calls": s.calls,
                "cost_before": _rounded(s.cost_before),
                "cost_after": _rounded(s.cost_after),
                "suggestions": list(s.suggestions),
                "reason": s.reason,
                "agreement": None if s.agreement is None else round(s.agreement, 3),
            }
            for s in account.statements
        ],
        "totals": {
            "cost_before": _rounded(account.cost_before),
            "cost_after": _rounded(account.cost_after),
            "write_cost": _rounded(account.write_cost),
            "lower_bound_cost": _rounded(account.bound_cost),
            "index_bytes": account.index_bytes,
            "engine": account.engine,
            "note": account.note,
            "what_if_calls": account.what_if_calls,
            "cache_hits": account.cache_hits,
            "planning_s": round(account.planning_s, 2),
            "elapsed_s": round(account.elapsed_s, 2),
            "stopped_early": account.stopped_early,
        },
    }


def _suggestion_json(account: SuggestionAccount) -> dict[str, Any]:
    s = account.suggestion
    return {
        "ddl": s.ddl,
        "undo": s.undo,
        "kind": s.kind,
        "title": s.title,
        "index_bytes": s.index_bytes,
        "saved_cost": _rounded(account.saved_cost),
        "saved_share": round(account.saved_share, 4),
        "helped": [_change_json(c) for c in account.helped],
        "hurt": [_change_json(c) for c in account.hurt],
        "evidence": s.evidence.value,
        "reason": s.reason,
        "write_cost": s.write_cost,
        "caveats": list(s.caveats),
        "rewritten_sql": s.rewritten_sql,
    }


def _change_json(change: Change) -> dict[str, Any]:
    return {
        "id": change.id,
        "cost_before": _rounded(change.cost_before),
        "cost_after": _rounded(change.cost_after),
    }


def _rounded(cost: float | None) -> float | None:
    return None if cost is None else round(cost, 2)


def account_text(account: Account) -> str:
    """Return the account for a terminal."""
    saved = 1 - account.cost_after / account.cost_before if account.cost_before else 0.0
    lines = [
        f"{len(account.suggestions)} suggestions; workload cost {account.cost_before:,.0f} -> "
        f"{account.cost_after:,.0f} ({100 * saved:.1f} % less), "
        f"{decimal_size(account.index_bytes)} of indexes",
        f"{account.what_if_calls} plans by the {account.engine} in {account.planning_s:.1f} s, "
        f"{account.cache_hits} answered without one, {account.elapsed_s:.1f} s in all",
    ]
    if account.bound_cost is not None:
        lines.append(
            f"Keeping the indexes costs {account.write_cost:,.0f}; no set of the candidates within "
            f"the same limits brings both together under {account.bound_cost:,.0f}."
        )
    if account.stopped_early:
        lines.append("The time limit came first: this is the best found until then.")
    if account.note:
        lines.append(f"Note: {account.note}.")
    for place, each in enumerate(account.suggestions, start=1):
        lines += ["", *_suggestion_lines(place, each)]
    silent_ones = [s for s in account.statements if not s.suggestions]
    if silent_ones:
        lines += ["", f"{len(silent_ones)} statements without a suggestion:"]
        lines += [f"  {s.id}: {s.reason}" for s in silent_ones]
    return "\n".join(lines)


def _suggestion_lines(place: int, account: SuggestionAccount) -> list[str]:
    s = account.suggestion
    size = decimal_size(s.index_bytes) if s.index_bytes else ""
    saved = f"saves {100 * account.saved_share:.1f} % of the cost"
    if s.kind == "drop_index":
        gain = f"frees {size} and spares the writes its upkeep"
    else:
        gain = f"{saved}, {size}" if size else saved
    lines = [f"{place}. {s.title} · {gain}"]
    if s.ddl:
        lines.append(f"   {s.ddl};")
    lines.append(f"   {s.reason}")
    for word, changes in (("helps", account.helped), ("hurts", account.hurt)):
        lines += [f"   {word} {c.id}: {c.cost_before:,.0f} -> {c.cost_after:,.0f}" for c in changes]
    return lines
