"""Advice as text for a terminal."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterator

from perfcore.advise.advisor import Advice
from perfcore.types import Suggestion

_WIDTH = 96


def render_text(advice: Advice) -> str:
    """Return suggestions in order with their DDL, then the silences counted by reason."""
    lines = [
        f"{len(advice.suggestions)} suggestions "
        f"({advice.planner_calls} plans in {advice.elapsed_s:.1f} s, planner: {advice.planner})"
    ]
    if advice.stopped_early:
        lines.append("The round ran out of time; what was weighed until then follows.")
    if advice.note:
        lines.append(f"Note: {advice.note}.")
    for number, suggestion in enumerate(advice.suggestions, start=1):
        lines += ["", *_suggestion(number, suggestion)]
    counted = Counter(s.reason for s in advice.silences)
    if counted:
        lines += ["", f"{len(advice.silences)} statements without a suggestion:"]
    for reason, count in sorted(counted.items(), key=lambda pair: (-pair[1], pair[0].value)):
        lines.append(f"  {count:4d}  {reason.value}")
    return "\n".join(lines)


def _suggestion(number: int, suggestion: Suggestion) -> Iterator[str]:
    saved = suggestion.saved_ms_per_hour / 1000
    gain = f" · saves {saved:,.1f} s per hour ({suggestion.evidence.value})" if saved else ""
    yield f"{number}. {suggestion.title}{gain}"
    summary, reason = suggestion.finding.summary, suggestion.reason
    yield from _wrapped(reason if reason.startswith(summary) else f"{summary} {reason}", "   ")
    for gain_of in suggestion.endpoints[:5]:
        yield (
            f"   {gain_of.service} {gain_of.endpoint}: {gain_of.saved_ms_per_request:,.1f} ms "
            f"per request, {gain_of.requests_per_hour:,.0f} requests an hour"
        )
    if suggestion.write_cost:
        yield from _wrapped(f"Writes: {suggestion.write_cost}", "   ")
    for caveat in suggestion.caveats:
        yield from _wrapped(f"But: {caveat}", "   ")
    if suggestion.ddl:
        yield f"   {suggestion.ddl};"
    yield from ("   " + line for line in suggestion.rewritten_sql.splitlines())


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent=indent, subsequent_indent=indent)
