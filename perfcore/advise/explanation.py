"""All that the advisor knows of one statement, as text: why this, why not that, why nothing."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

import sqlalchemy

from perfcore.advise.advisor import Advice
from perfcore.advise.amounts import decimal_size
from perfcore.advise.readers import place
from perfcore.plan import Plan, parse_plan
from perfcore.plan_compare import compare_plans
from perfcore.store import read
from perfcore.store.fetch import fetch
from perfcore.types import (
    IndexDefinition,
    Rejection,
    Silence,
    SilenceReason,
    StatementGain,
    Suggestion,
    WorkloadStatement,
)

_WIDTH = 96
_MOST_DIFFERENCES = 6


def index_words(index: IndexDefinition) -> str:
    """Return what an index is, without what goes without saying.

    >>> from perfcore.types import IndexKey
    >>> index_words(IndexDefinition("public", "orders", (IndexKey("customer_id"),)))
    'orders (customer_id)'
    """
    body = index.body().replace(" USING btree ", " ").replace('"', "")
    words = body.removeprefix("public.")
    return f"unique {words}" if index.unique else words


def explain(statement: WorkloadStatement, advice: Advice, *, target: str = "") -> str:
    """Return everything that a round says of one statement.

    What helps it comes first, what saves it most before, then the candidates that were rejected,
    then why there is nothing where there is nothing.
    """
    helping = [s for s in advice.suggestions if _gains(s, statement.fingerprint)]
    chosen = sorted(helping, key=lambda s: -_gain(s, statement.fingerprint).saved_ms_per_hour)
    rejected = [r for r in advice.rejections if statement.fingerprint in r.fingerprints]
    silence = next((s for s in advice.silences if s.fingerprint == statement.fingerprint), None)
    lines = list(_head(statement, target))
    for number, suggestion in enumerate(chosen, start=1):
        lines += ["", *_suggestion(number, suggestion, statement.fingerprint, advice)]
    if rejected:
        ranked = sorted(rejected, key=lambda r: (-r.saved_ms_per_hour, index_words(r.index)))
        lines += ["", f"{_count(len(ranked), 'candidate')} weighed and rejected"]
        lines += [line for r in ranked for line in _rejection(r)]
    if not chosen:
        lines += ["", *_nothing(silence)]
    return "\n".join(lines) + "\n"


def _gains(suggestion: Suggestion, fingerprint: int) -> bool:
    return any(g.fingerprint == fingerprint for g in suggestion.statements)


def _gain(suggestion: Suggestion, fingerprint: int) -> StatementGain:
    return next(g for g in suggestion.statements if g.fingerprint == fingerprint)


def _head(statement: WorkloadStatement, target: str) -> Iterator[str]:
    yield f"Statement {statement.queryid}" + (f" on {target}" if target else "")
    yield from _wrapped(statement.text)
    if statement.calls:
        spent_s = statement.mean_exec_time_ms * statement.calls_per_hour / 1000
        yield (
            f"  {statement.calls_per_hour:,.0f} calls an hour at "
            f"{_ms(statement.mean_exec_time_ms)} ms, together {spent_s:,.1f} s an hour"
        )
    else:
        yield "  It did not run in the time that the advisor looks at."


def _suggestion(
    number: int, suggestion: Suggestion, fingerprint: int, advice: Advice
) -> Iterator[str]:
    placed, gain = place(suggestion), _gain(suggestion, fingerprint)
    yield f"{number}. {suggestion.title}"
    yield from _fact("Who", f"{placed.reader.value}: {placed.why}")
    yield from _fact("Finding", suggestion.finding.summary)
    if any(g.saved_ms_per_hour > gain.saved_ms_per_hour for g in suggestion.statements):
        yield "               of another statement, which it saves more"
    for label, value in suggestion.finding.numbers:
        yield f"               {label}: {value}"
    yield from _fact("Why", suggestion.reason.removeprefix(suggestion.finding.summary).strip())
    yield from _plan_lines(suggestion, fingerprint, advice)
    yield from _gain_lines(suggestion, fingerprint)
    for each in suggestion.endpoints:
        yield from _fact(
            "Endpoint",
            f"{each.service} {each.endpoint}: {_ms(each.saved_ms_per_request)} ms less a request, "
            f"{each.requests_per_hour:,.0f} requests an hour",
        )
    if suggestion.index_bytes:
        yield from _fact("Size", decimal_size(suggestion.index_bytes))
    yield from _fact("Writes", suggestion.write_cost)
    yield from _fact("Risk", suggestion.risk)
    for caveat in suggestion.caveats:
        yield from _fact("But", caveat)
    if suggestion.proposed:
        yield from _fact("Now", suggestion.present or "not known")
        yield from _fact("Proposed", suggestion.proposed)
    yield from _fact("Verify by", suggestion.verify)
    yield from _exact("DDL", suggestion.ddl)
    yield from _exact("Undo", suggestion.undo)
    if suggestion.rewritten_sql:
        yield "   Written differently"
        yield from (f"     {line}" for line in suggestion.rewritten_sql.splitlines())


def _fact(label: str, text: str) -> list[str]:
    """Return a labelled paragraph, nothing where there is nothing to say."""
    if not text:
        return []
    lines = textwrap.wrap(" ".join(text.split()), _WIDTH - 13, break_on_hyphens=False)
    first, *rest = lines
    return [f"   {label:<10}{first}", *(f"             {line}" for line in rest)]


def _exact(label: str, ddl: str) -> list[str]:
    """Return what is to be run as it is: a line break could fall into a literal."""
    lines = f"{ddl};".splitlines() if ddl else []
    return [f"   {label if not n else '':<10}{line}" for n, line in enumerate(lines)]


def _ms(value: float) -> str:
    """Return a time with three digits.

    >>> _ms(0.0456), _ms(45.29), _ms(1234.5)
    ('0.0456', '45.3', '1,234')
    """
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _gain_lines(suggestion: Suggestion, fingerprint: int) -> Iterator[str]:
    gain = _gain(suggestion, fingerprint)
    if gain.cost_after < gain.cost_before:
        less = 100 * (1 - gain.cost_after / gain.cost_before)
        yield from _fact(
            "Cost", f"{gain.cost_before:,.0f} -> {gain.cost_after:,.0f} ({less:.1f} % less)"
        )
    words = []
    if gain.mean_ms_after < gain.mean_ms_before:
        before, after = _ms(gain.mean_ms_before), _ms(gain.mean_ms_after)
        words.append(f"{before} -> {after} ms a call")
    if suggestion.saved_ms_per_hour > 0:
        more = len(suggestion.statements) - 1
        others = f" with {_count(more, 'more statement')}" if more else ""
        words.append(f"saves {suggestion.saved_ms_per_hour / 1000:,.1f} s an hour{others}")
    if words:
        yield from _fact("Gain", f"{', '.join(words)} ({suggestion.evidence.value})")


def _plan_lines(suggestion: Suggestion, fingerprint: int, advice: Advice) -> Iterator[str]:
    yield from _fact("Plan", suggestion.plan_change)
    found = next((p for p in advice.plans if p.suggestion_id == suggestion.suggestion_id), None)
    if found is None or found.fingerprint != fingerprint:
        return
    before, after = parse_plan(found.before), parse_plan(found.after)
    for difference in compare_plans(before, after).differences[:_MOST_DIFFERENCES]:
        yield from _fact("Differs", difference.summary)
    for label, plan in (("without", before), ("with", after)):
        yield f"   Plan {label} it"
        yield from _tree(plan)


def _tree(plan: Plan) -> Iterator[str]:
    return (f"     {line}" for line in plan.to_text().splitlines())


def _rejection(rejection: Rejection) -> Iterator[str]:
    facts = []
    if rejection.saved_ms_per_hour > 0:
        facts.append(f"alone it would save {rejection.saved_ms_per_hour / 1000:,.2f} s an hour")
    if rejection.index_bytes is not None:
        facts.append(decimal_size(rejection.index_bytes))
    yield from textwrap.wrap(
        f"- {index_words(rejection.index)}: {rejection.reason.rstrip('.')}"
        + (f" ({', '.join(facts)})" if facts else ""),
        _WIDTH, initial_indent="   ", subsequent_indent="     ",
    )  # fmt: skip


def _nothing(silence: Silence | None) -> Iterator[str]:
    if silence is None:
        yield "No suggestion: the last round did not look at it."
        return
    more = f" ({silence.detail})" if silence.detail else ""
    yield from textwrap.wrap(
        f"No suggestion: {silence.reason.value}{more}.", _WIDTH, subsequent_indent="  "
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(
        " ".join(text.split()), _WIDTH, initial_indent="  ", subsequent_indent="  ",
        break_on_hyphens=False,
    )  # fmt: skip


def explained(
    store: sqlalchemy.Engine,
    queryid: int,
    *,
    now: datetime,
    target_id: int | None = None,
    window: timedelta = timedelta(hours=1),
) -> str:
    """Return what the last round says of a statement, empty where it is not known."""
    detail = read.statement(store, queryid, target_id=target_id)
    if detail is None:
        return ""
    ran = {"target_id": detail.target_id, "since": now - window}
    workload = (WorkloadStatement(*row) for row in fetch(store, "advise_read_workload", ran))
    statement = next(
        (s for s in workload if s.fingerprint == detail.fingerprint),
        WorkloadStatement(detail.fingerprint, detail.queryid, detail.text, 0, 0.0, 0.0),
    )
    advice = stored_advice(store, detail.target_id, detail.fingerprint)
    return explain(statement, advice, target=detail.target)


def stored_advice(store: sqlalchemy.Engine, target_id: int, fingerprint: int) -> Advice:
    """Return what the store keeps of a statement's last round, as the round itself said it."""
    suggestions = [
        s.suggestion
        for s in read.suggestions(store, target_id, state=None)
        if s.state != "gone" and _gains(s.suggestion, fingerprint)
    ]
    plans = (read.suggestion_plans(store, s.suggestion_id) for s in suggestions)
    return Advice(
        tuple(suggestions),
        tuple(_silences(read.silences(store, target_id), fingerprint)),
        rejections=tuple(r.rejection for r in read.rejections(store, target_id, fingerprint)),
        plans=tuple(p for p in plans if p is not None),
    )


def _silences(stored: Sequence[read.StoredSilence], fingerprint: int) -> Iterator[Silence]:
    known = {r.value: r for r in SilenceReason}
    for each in stored:
        if each.fingerprint == fingerprint and each.reason in known:
            yield Silence(fingerprint, each.queryid, each.text, known[each.reason], each.detail)
