"""One suggestion in full: finding, endpoints, plans, gain, cost, DDL, undo, migration."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import count

import pandas as pd
import streamlit as st

from perfcore import charts
from perfcore.advise.explanation import explained
from perfcore.advise.migration_text import migration_texts
from perfcore.advise.readers import place
from perfcore.aggregate import statements
from perfcore.plan import parse_plan
from perfcore.store import read
from perfcore.store.read import StoredSuggestion
from perfcore.types import Suggestion
from perfcore.ui import advice, cache, decisions, frame, gains, parts, plan, words


def show(stored: StoredSuggestion, of: advice.Shares) -> None:
    """Draw the whole chain of a suggestion, from what was found to the way back."""
    suggestion = stored.suggestion
    _head(stored, of)
    if suggestion.proposed:
        _values(suggestion)
    number = count(1)
    board = parts.Board(2, least_width_px=380)
    with board.card(f"{next(number)} Finding", words.plain(finding_words(suggestion.finding.kind))):
        _finding(suggestion)
    with board.card(f"{next(number)} Endpoints it helps", "click a row to open it"):
        _endpoints(suggestion)
    if suggestion.kind in ("index", "rewrite") and suggestion.finding.kind != "n_plus_one":
        _plans(suggestion, f"{next(number)} Plan before and after")
    board = parts.Board(2, least_width_px=380)
    with board.card(f"{next(number)} Gain", _gain_note(suggestion), help=_GAIN_HELP):
        _gain(suggestion)
    with board.card(f"{next(number)} Cost", "what it takes, and what may go wrong"):
        _cost(suggestion)
    if suggestion.ddl or suggestion.rewritten_sql:
        with parts.card(f"{next(number)} {_last_title(suggestion)}"):
            _texts(suggestion)


def _head(stored: StoredSuggestion, of: advice.Shares) -> None:
    suggestion, placed = stored.suggestion, place(stored.suggestion)
    with st.container(border=True, gap="xsmall"):
        advice.heading(stored, decisions.buttons)
        if suggestion.saved_ms_per_hour or not suggestion.proposed:
            st.markdown(advice.head(suggestion, of))
        if why := suggestion.reason.removeprefix(suggestion.finding.summary).strip():
            st.markdown(words.plain(why))
        who = f"{placed.reader.value.capitalize()}: {placed.why}."
        st.caption(f":material/person: {words.plain(who)}")
        if line := decisions.state_words(stored):
            st.caption(f":material/info: {line}")


def _values(suggestion: Suggestion) -> None:
    """Draw what a setting or a state is, what it should be, and how to see that it helped."""
    board = parts.Board(3, least_width_px=240)
    for title, value in (
        ("Now", suggestion.present or words.NOTHING),
        ("Proposed", suggestion.proposed),
        ("Verify by", suggestion.verify or "looking at it again after an hour of traffic"),
    ):
        with board.card(title):
            st.markdown(words.plain(value))


def _finding(suggestion: Suggestion) -> None:
    finding = suggestion.finding
    st.markdown(f":material/search: {words.plain(finding.summary)}")
    if finding.numbers:  # a table of markdown breaks its lines, and hides nothing
        rows = (f"| {words.plain(n)} | {words.plain(v)} |" for n, v in finding.numbers)
        st.markdown("\n".join(("| Number | Value |", "|---|---|", *rows)))


def finding_words(kind: str) -> str:
    """Return a kind of finding as people call it.

    >>> finding_words("n_plus_one"), finding_words("seq_scan"), finding_words("stale_statistics")
    ('N+1', 'sequential scan', 'stale statistics')
    """
    return _FINDINGS.get(kind, kind.replace("_", " "))


_FINDINGS = {
    "n_plus_one": "N+1",
    "seq_scan": "sequential scan",
    "cacheable": "reads that repeat",
    "not_in_nullable": "NOT IN over a column that may be NULL",
    "or_over_columns": "OR over several columns",
    "deep_offset": "deep OFFSET",
    "sort_spill": "sort on disk",
    "random_order": "ORDER BY random()",
    "needless_union": "UNION that removes nothing",
    "unread": "column that is not read",
}


def _endpoints(suggestion: Suggestion) -> None:
    if not suggestion.statements and not suggestion.endpoints:
        st.caption("It belongs to no single statement, so to no single endpoint.")
        return
    rows = _helped(suggestion) if suggestion.endpoints else _running(suggestion)
    if rows.empty:
        st.caption(
            "None is known: no request that ran one of its statements was seen in this range."
        )
        return
    columns = {
        "endpoint": parts.text("Endpoint", width=210),
        "service": parts.text("Service", width=70),
        "saved_ms_per_request": parts.number("Saves", "%.1f ms", "Of each request.", 80),
        "requests_per_hour": parts.number("Requests", "%,.0f /h", "In the last hour.", 90),
    }
    if rows["service"].nunique() == 1:
        del columns["service"]
    if not rows["saved_ms_per_request"].any():
        del columns["saved_ms_per_request"]
        st.caption("They run its statements; how much they gain is known once it is tried.")
    parts.table(
        rows,
        columns,
        key="helped",
        opens=lambda row: frame.open_page(
            "endpoint", service=row["service"], endpoint=row["endpoint"]
        ),
        max_rows=6,
    )


def _helped(suggestion: Suggestion) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "service": e.service,
                "endpoint": e.endpoint,
                "saved_ms_per_request": e.saved_ms_per_request,
                "requests_per_hour": e.requests_per_hour,
            }
            for e in suggestion.endpoints
        ]
    )


def _running(suggestion: Suggestion) -> pd.DataFrame:
    """Return the endpoints that run its dearest statement, where no gain of theirs is known."""
    span = frame.view().range
    dearest = max(suggestion.statements, key=lambda s: s.mean_ms_before * s.calls_per_hour)
    ran = frame.read(statements.statement_endpoints, span, dearest.fingerprint)
    hours = (span.end - span.start).total_seconds() / 3600
    return ran[ran["requests"] > 0].assign(
        saved_ms_per_request=0.0, requests_per_hour=ran["requests"] / hours
    )


def _last_title(suggestion: Suggestion) -> str:
    return "DDL, undo and migration" if suggestion.ddl else "New wording"


def _plans(suggestion: Suggestion, title: str) -> None:
    found = frame.read(read.suggestion_plans, suggestion.suggestion_id)
    if found is None:
        with parts.card(title):
            st.caption(_NO_PLANS[suggestion.kind])
        return
    change = f"{words.plain(suggestion.plan_change)} · " if suggestion.plan_change else ""
    statement = words.code(words.gist(found.statement, 110))
    st.markdown(f"**{title}** :gray[{change}of {statement}]")
    plan.side_by_side(
        parse_plan(found.before),
        parse_plan(found.after),
        ("as things are", "with the index" if suggestion.index else "in the new form"),
        key="suggested",
    )


_NO_PLANS = {
    "index": "None was kept: it is older than this version, or its plans are too large to keep. "
    "The advisor's next round plans it again; the index lab shows the plans at once.",
    "rewrite": "None was kept: no cost shows what it saves, or it was weighed beside indexes that "
    "are only proposed. Paste both wordings into the plan viewer to compare them.",
}
_GAIN_HELP = (
    "Of the statement that it saves most. Estimated is the mean now, scaled by the planner's "
    "costs, or by the hit rate of a cache; measured are medians of runs in the lab; proven is live "
    "traffic after the change."
)


def _gain_note(suggestion: Suggestion) -> str:
    note = advice.saved(suggestion)
    promised = suggestion.promised_ms_per_hour
    if promised and abs(promised - suggestion.saved_ms_per_hour) > 0.01 * promised:
        note += f", corrected from {words.ms(promised)} by what was measured before"
    return note


def _gain(suggestion: Suggestion) -> None:
    trials = frame.read(read.trials, suggestion.suggestion_id)
    found = gains.levels(suggestion, trials, frame.read(read.changes))
    if found:
        parts.chart(
            charts.before_after(gains.bars(found), ink=parts.ink(), row_height=58),
            "Time before and after, by each kind of evidence",
            key="gain",
        )
    elif suggestion.finding.kind == "n_plus_one":
        st.caption("It saves round trips, not time in the database: see the endpoints.")
    else:
        st.caption(advice.basis(suggestion))
    _ways(suggestion)
    if suggestion.statements:
        _statements(suggestion)


def _ways(suggestion: Suggestion) -> None:
    """Draw the links to a cache's curves, and to what came of it in the ledger."""
    if suggestion.kind == "cache" and len(suggestion.statements) == 1:
        cache.of_statement(suggestion.statements[0].fingerprint, "Its curves over TTL and size")
    elif suggestion.kind == "cache" and suggestion.endpoints:
        cache.of_endpoint(suggestion.endpoints[0].service, suggestion.endpoints[0].endpoint)
    changes = frame.read(read.changes)
    made = next((c for c in changes if c.suggestion_id == suggestion.suggestion_id), None)
    if made is not None:
        label = f"Its change in the ledger: {made.state}"
        frame.link("ledger", label, icon=":material/receipt_long:", change=made.change_id)


def _statements(suggestion: Suggestion) -> None:
    rows = pd.DataFrame(
        [
            {
                "queryid": str(s.queryid),
                "text": words.gist(s.text),
                "cost_before": s.cost_before,
                "cost_after": s.cost_after,
                "mean_ms_before": s.mean_ms_before,
                "mean_ms_after": s.mean_ms_after,
                "calls_per_hour": s.calls_per_hour,
            }
            for s in suggestion.statements
        ]
    )
    columns = {
        "text": parts.text("Statement", width=190),
        "cost_before": parts.number("Cost", "%,.0f", "The planner's cost as it is."),
        "cost_after": parts.number("after", "%,.0f", "The planner's cost with the change."),
        "mean_ms_before": parts.number("Mean", "%.2f ms", "Of the last hour."),
        "mean_ms_after": parts.number(
            "after", "%.2f ms", "The mean now, scaled by the ratio of the costs."
        ),
        "calls_per_hour": parts.number("Calls", "%,.0f /h", width=80),
    }
    if all(s.cost_before == s.cost_after for s in suggestion.statements):
        del columns["cost_before"], columns["cost_after"]
    if all(s.mean_ms_before == s.mean_ms_after for s in suggestion.statements):
        del columns["mean_ms_after"]
    parts.table(
        rows,
        columns,
        key="gained",
        opens=lambda row: frame.open_page("query", queryid=row["queryid"]),
        max_rows=6,
    )
    explanation(suggestion.target_id, suggestion.statements[0].queryid)


def explanation(target_id: int, queryid: int) -> None:
    """Offer all that the advisor says of a statement as a text file."""
    store = frame.store()
    st.download_button(
        "Its full explanation as text",
        lambda: explained(store, queryid, now=datetime.now(UTC), target_id=target_id),
        f"statement_{queryid}.txt",
        icon=":material/description:",
        key=f"explained_{target_id}_{queryid}",
        type="tertiary",
        help="What was tried, what was rejected and why; as "
        f"`perfcore advise --explain={queryid}` prints it.",
        on_click="ignore",
    )


def _cost(suggestion: Suggestion) -> None:
    pairs = (
        (
            "Disk freed" if advice.freed_bytes(suggestion) else "Disk",
            words.byte_size(suggestion.index_bytes) if suggestion.index_bytes else "",
        ),
        ("Writes", suggestion.write_cost),
        ("Risk", suggestion.risk),
    )
    for label, value in pairs:
        if value:
            st.markdown(f":gray[{label}]  \n{words.plain(value)}")
    for caveat in suggestion.caveats:
        st.markdown(f":material/info: {words.plain(caveat)}")
    if not (any(value for _, value in pairs) or suggestion.caveats):
        st.caption("Nothing but the work of doing it.")


def _texts(suggestion: Suggestion) -> None:
    """Show what is to be run, its undo, and both as a migration of the usual kinds."""
    forms = migration_texts(suggestion)
    names = ["New wording", "Present wording"] if suggestion.rewritten_sql else []
    names += ["DDL and undo", *("SQL script" if n == "SQL" else n for n in forms)] if forms else []
    shown = dict(zip(names, st.tabs(names, key="texts"), strict=True))
    if suggestion.rewritten_sql:
        with shown["New wording"]:
            st.code(suggestion.rewritten_sql, language="sql", wrap_lines=True)
        with shown["Present wording"]:
            present = suggestion.statements[0].text if suggestion.statements else words.NOTHING
            st.code(present, language="sql", wrap_lines=True)
    if not forms:
        return
    with shown["DDL and undo"]:
        st.code(f"{suggestion.ddl};", language="sql", wrap_lines=True)
        st.caption("Undo" if suggestion.undo else "There is nothing to take back.")
        if suggestion.undo:
            st.code(f"{suggestion.undo};", language="sql", wrap_lines=True)
    for name, text in forms.items():
        with shown["SQL script" if name == "SQL" else name]:
            language = "sql" if name == "SQL" else "python"
            st.code(text, language=language, wrap_lines=True)
    if "Alembic" not in forms:
        st.caption("It is done once, by hand: no migration of the schema carries it.")
