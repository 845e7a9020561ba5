"""The lab: choose a statement and an index or another wording, see estimate, trial and change."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import pandas as pd
import streamlit as st

from perfcore import charts
from perfcore.advise.statement import plannable
from perfcore.codec import from_json
from perfcore.config import load_config
from perfcore.errors import PerfcoreError
from perfcore.lab.jobs import Jobs
from perfcore.lab.report import Estimate, OtherStatement, TrialReport
from perfcore.lab.rewrite_job import RewriteSubject
from perfcore.lab.trial import SetResult, TrialResult
from perfcore.lab.wording import read_pair
from perfcore.plan import parse_plan
from perfcore.store import read
from perfcore.store.read import StatementDetail, StoredChange, StoredSuggestion, StoredTrial
from perfcore.types import ConfidenceInterval, IndexDefinition, StatementGain, Suggestion
from perfcore.ui import calibration, frame, parts, words
from perfcore.ui import plan as drawing
from perfcore.whatif.definition import parse_create_index
from perfcore.whatif.safety import check_select

_STATES = ("open", "applied", "snoozed", "dismissed")
# Both forms of these return other rows on each run, and the lab runs no TABLESAMPLE.
_RANDOM = "random_order"
_INDEX, _REWRITE = "an index", "a rewritten statement"


@dataclass(frozen=True, slots=True)
class Subject:
    """What is to be tried: one index, the statements it may help, and where."""

    target_id: int
    target: str
    statements: tuple[tuple[int, str], ...]  # fingerprint, text
    index: IndexDefinition
    suggestion_id: str | None = None
    state: str = ""  # of the suggestion


@dataclass(frozen=True, slots=True)
class Rewritten:
    """A rewritten statement that is to be tried, and where."""

    target: str
    tried: RewriteSubject
    obligation: str = ""  # when a rule says that the rows are the same


def name(subject: Subject | Rewritten) -> str:
    """Return in markdown what a subject is called."""
    return words.plain(subject.index.name) if isinstance(subject, Subject) else "This wording"


@st.cache_resource(show_spinner=False, on_release=Jobs.close)
def jobs() -> Jobs:
    """Return this process's background jobs."""
    return Jobs(load_config())


def may_be_tried(suggestion: Suggestion) -> bool:
    """Say whether the lab can test it: an index, or a wording whose rows can be compared."""
    if suggestion.kind == "index":
        return suggestion.index is not None
    is_wording = suggestion.kind == "rewrite" and bool(suggestion.rewritten_sql)
    return is_wording and bool(suggestion.statements) and suggestion.finding.kind != _RANDOM


def choose() -> Subject | Rewritten | None:
    """Return what the URL or the viewer names: a suggestion, or a query and what is typed."""
    if queryid := frame.number_parameter("queryid"):
        return _typed(queryid)
    named, trial_id = frame.parameter("suggestion"), frame.parameter("trial")
    if trial_id and not named and (subject := _of_trial(trial_id)):
        return subject
    # The advisor may change its mind about what is being tested: the page keeps to its subject.
    found = [
        s for s in frame.read(read.suggestions, state=None)
        if may_be_tried(s.suggestion) and (s.state in _STATES or s.suggestion_id == named)
    ]  # fmt: skip
    if not found:
        frame.nothing_here(
            "Nothing is suggested yet that could be tested",
            "Open a query and choose “Try an index for it” to test an index or a wording of your "
            "own.",
        )
        frame.link("queries", "Queries", icon=":material/database:")
        return None
    position = next((n for n, s in enumerate(found) if s.suggestion_id == named), 0)
    stored = st.selectbox(
        "Suggestion", found, index=position, format_func=_suggestion_words, key="lab_suggestion"
    )
    return _suggested(stored)


def _suggestion_words(stored: StoredSuggestion) -> str:
    gain = words.ms(stored.suggestion.saved_ms_per_hour)
    return f"{stored.suggestion.title} · saves {gain} per hour · {stored.state}"


def _suggested(stored: StoredSuggestion) -> Subject | Rewritten:
    suggestion = stored.suggestion
    target = _target_name(suggestion.target_id)
    if suggestion.index is None:
        return Rewritten(target, _wording(suggestion), next(iter(suggestion.caveats), ""))
    statements = tuple((s.fingerprint, s.text) for s in in_trial_order(suggestion.statements))
    return Subject(
        suggestion.target_id,
        target,
        statements,
        suggestion.index,
        stored.suggestion_id,
        stored.state,
    )


def _wording(suggestion: Suggestion) -> RewriteSubject:
    """Return the new wording with the indexes that the suggestion's DDL makes for it."""
    first = suggestion.statements[0]
    ddl = [part for part in suggestion.ddl.split(";\n") if part]
    return RewriteSubject(
        suggestion.target_id,
        first.fingerprint,
        first.text,
        suggestion.rewritten_sql,
        tuple(parse_create_index(part) for part in ddl if "INDEX" in part[:20].upper()),
        next((part for part in ddl if part.startswith("CREATE EXTENSION")), ""),
        suggestion.suggestion_id,
        suggestion.plan_change,
    )


def in_trial_order(gains: Sequence[StatementGain]) -> list[StatementGain]:
    """Return the one helped most, those that the planner says are hurt, and the others."""
    order = sorted(gains, key=lambda g: -g.saved_ms_per_hour)
    return order[:1] + sorted(order[1:], key=lambda g: g.cost_after <= g.cost_before)


def _typed(queryid: int) -> Subject | Rewritten | None:
    detail = frame.read(read.statement, queryid)
    if detail is None:
        frame.nothing_here("This query is not known", "Choose it again in the list of queries.")
        return None
    what = st.segmented_control(
        "Try", (_INDEX, _REWRITE), default=_INDEX, required=True, key="lab_try",
        bind="query-params",
    )  # fmt: skip
    if what == _REWRITE:
        return _typed_rewrite(detail)
    st.code(detail.text, language="sql", wrap_lines=True)
    text = st.text_area(
        "Index to test",
        key="lab_ddl",
        placeholder="CREATE INDEX ON orders (customer_id, created_at DESC)",
        help="CREATE INDEX, without running it: only its structure is read.",
    )
    if not text.strip():
        st.caption("Type a CREATE INDEX; nothing is run before you start the test.")
        return None
    index = _parsed_index(text)
    if index is None:
        return None
    return Subject(detail.target_id, detail.target, ((detail.fingerprint, detail.text),), index)


def _parsed_index(text: str) -> IndexDefinition | None:
    try:
        return parse_create_index(text)
    except PerfcoreError as error:
        st.error(words.plain(str(error)))
        return None


def _typed_rewrite(detail: StatementDetail) -> Rewritten | None:
    """Let a wording be typed, and the index that it may need."""
    before = plannable(detail.text)
    sql = st.text_area(
        "Rewritten statement",
        value=before,
        key=f"lab_sql_{detail.queryid}",
        height=180,
        help="One SELECT. Its $1, $2, … are those of the statement, which it may leave out.",
    )
    ddl = st.text_input(
        "Index that it needs, if any",
        key=f"lab_sql_ddl_{detail.queryid}",
        placeholder="CREATE INDEX ON orders (customer_id, created_at DESC)",
    )
    if sql.split() == before.split() and not ddl.strip():
        st.caption("Change the text above; nothing is run before you start the test.")
        return None
    index = _parsed_index(ddl) if ddl.strip() else None
    if ddl.strip() and index is None:
        return None
    try:
        check_select(read_pair(detail.text, sql).variant.text)
    except PerfcoreError as error:
        complain(error)
        return None
    indexes = (index,) if index is not None else ()
    tried = RewriteSubject(detail.target_id, detail.fingerprint, detail.text, sql, indexes)
    return Rewritten(detail.target, tried)


def _of_trial(trial_id: str) -> Subject | Rewritten | None:
    """Return what an earlier trial of something typed tried."""
    trial = read.trial(frame.store(), trial_id)
    if trial is None or trial.suggestion_id:
        return None
    report = from_json(TrialReport, trial.result or {})
    text, target = report.statement_text, _target_name(trial.target_id)
    if trial.index is None:
        indexes = report.rewrite.indexes if report.rewrite else ()
        tried = RewriteSubject(
            trial.target_id, trial.fingerprint, text, trial.rewritten_sql, indexes
        )
        return Rewritten(target, tried)
    st.code(text, language="sql", wrap_lines=True)
    return Subject(trial.target_id, target, ((trial.fingerprint, text),), trial.index)


def _target_name(target_id: int) -> str:
    targets = frame.read(read.targets)
    return next((t.name for t in targets if t.target_id == target_id), "")


def bench(subject: Subject) -> None:
    """Draw what is to be tried, and the buttons that test and apply it."""
    with parts.card("Index", f"on {words.plain(subject.target)}"):
        st.code(f"{subject.index.ddl()};", language="sql", wrap_lines=True)
        fingerprint, text = subject.statements[0] if subject.statements else (0, "")
        if len(subject.statements) > 1:
            fingerprint, text = st.selectbox(
                "Statement",
                subject.statements,
                format_func=lambda s: words.one_line(s[1], 140),
                key="lab_statement",
            )
        elif subject.suggestion_id:
            st.code(text, language="sql", wrap_lines=True)
        with st.container(horizontal=True, vertical_alignment="center"):
            if st.button("Test this index", icon=":material/science:", type="primary", key="test"):
                _test(subject, fingerprint, text)
            _apply_button(subject)
        st.caption(
            "The test plans it without building, then builds it in a lab copy of the tables and "
            "runs the statement with and without it, and up to four others that it helps or hurts. "
            "The target is only read."
        )


def _test(subject: Subject, fingerprint: int, text: str) -> None:
    try:
        trial_id = jobs().start_trial(
            subject.target_id,
            subject.target,
            text,
            fingerprint,
            subject.index,
            suggestion_id=subject.suggestion_id,
            others=[s for s in subject.statements if s[0] != fingerprint],
        )
    except PerfcoreError as error:
        complain(error)
        return
    show_trial(trial_id)


def show_trial(trial_id: str) -> None:
    """Draw the page again with a trial that was just started."""
    st.query_params["trial"] = trial_id
    frame.forget()
    st.rerun()


def _applied(subject: Subject) -> StoredChange | None:
    """Return the change that made this index and still stands, or is on its way to."""
    for change in read.changes(frame.store()):
        if (
            change.kind == "create_index"
            and change.target_id == subject.target_id
            and change.state in ("applied", "running", "intended")
            and _digest(change.ddl) == subject.index.digest
        ):
            return change
    return None


def _digest(ddl: str) -> str:
    try:
        return parse_create_index(ddl).digest
    except PerfcoreError:
        return ""


def _apply_button(subject: Subject) -> None:
    """Draw the button that creates the index; once it stands, since when it does."""
    change = _applied(subject)
    if change is not None or subject.state == "applied":
        _stands(change)
    else:
        _offer_apply(subject)


def _stands(change: StoredChange | None) -> None:
    """Say that the index was created, and lead to what came of it."""
    if change is None or change.applied_at is None:
        st.badge("applied" if change is None else change.state, color="blue")
    else:
        at = change.applied_at.astimezone(frame.view().zone)
        st.badge(f"applied at {at:%d %b %H:%M}", icon=":material/check_circle:", color="green")
    which = str(change.change_id) if change else ""
    frame.link("ledger", "Ledger", icon=":material/receipt_long:", change=which)


def _offer_apply(subject: Subject) -> None:
    if not jobs().may_apply(subject.target):
        st.caption(
            "To apply from here, set PERFCORE_APPLY_DSNS; or copy the DDL and run it: the change "
            "is noticed and judged all the same."
        )
        return
    # A new key after each use: a popover stays open as long as it keeps its key.
    turn = st.session_state.setdefault("_applying_turn", 0)
    with st.popover(f"Apply to {subject.target}", icon=":material/bolt:", key=f"applying_{turn}"):
        st.markdown("Creates the index concurrently: reads and writes go on meanwhile.")
        if st.button("Create the index now", type="primary", key="apply"):
            try:
                change_id = jobs().start_apply(
                    subject.target_id,
                    subject.target,
                    subject.index,
                    suggestion_id=subject.suggestion_id,
                    fingerprints=[f for f, _ in subject.statements],
                )
            except PerfcoreError as error:
                complain(error)
                return
            follow(change_id, subject.index.digest)
            st.session_state["_applying_turn"] = turn + 1
            st.rerun()


def complain(error: PerfcoreError) -> None:
    """Say what was refused, and the remedy."""
    st.error(words.plain(f"{error} {error.hint}".strip()))


def current_trial(subject: Subject | Rewritten) -> StoredTrial | None:
    """Return the trial named in the URL, else the latest of this index or wording."""
    named = frame.parameter("trial")
    mine = [t for t in read.trials(frame.store()) if _is_of(t, subject)]
    return next((t for t in mine if str(t.trial_id) == named), mine[0] if mine else None)


def _is_of(trial: StoredTrial, subject: Subject | Rewritten) -> bool:
    if isinstance(subject, Subject):
        return trial.index is not None and trial.index.digest == subject.index.digest
    tried = subject.tried
    return (trial.target_id, trial.fingerprint, trial.rewritten_sql) == (
        tried.target_id, tried.fingerprint, tried.rewritten_sql,
    )  # fmt: skip


@st.fragment(run_every=1.0)
def watch_trial(trial_id: str) -> None:
    """Show how far a running trial is; draw the page again at its end."""
    trial = read.trial(frame.store(), trial_id)
    if trial is None or trial.state in ("done", "failed"):
        frame.forget()
        st.rerun(scope="app")
    st.progress(min(1.0, trial.progress), text=words.plain(trial.message or trial.state))


def follow(change_id: str, where: str) -> None:
    """Keep a change that was just started, so that the page shows its course."""
    st.query_params["change"] = change_id
    st.session_state["_followed_change"] = where, change_id
    frame.forget()


def followed(where: str) -> str:
    """Return the change that the URL names, else the one last started in that place.

    A timer of the browser that fires while a change begins brings the URL of before back.
    """
    place, change_id = st.session_state.get("_followed_change", ("", ""))
    return frame.parameter("change") or (change_id if place == where else "")


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True


def change(change_id: str) -> None:
    """Show how far a change is, or its end."""
    found = jobs().change(change_id) if _is_uuid(change_id) else None
    if found is None and change_id not in st.session_state.get("_followed_change", ()):
        st.caption(f"There is no change {words.code(change_id)} in the ledger.")
        return
    if found is None or found.state in _UNDER_WAY:
        _watch_change(change_id)
        return
    if st.session_state.get("_ended_change") != change_id:
        # What the page has read so far may be of the time before.
        st.session_state["_ended_change"] = change_id
        frame.forget()
        st.rerun()
    if found.state == "failed":
        st.error(words.plain(found.message))
    elif found.state == "applied":
        is_drop = found.kind == "drop_index"
        st.success(
            f"{words.code(found.object_name)} is {'dropped' if is_drop else 'applied'}. "
            + (_DROPPED if is_drop else _CREATED),
            icon=":material/check_circle:",
        )
        frame.link("ledger", "Open the ledger", icon=":material/receipt_long:", change=change_id)
    else:
        st.info(f"{words.code(found.object_name)} is {found.state}.")


@st.fragment(run_every=1.0)
def _watch_change(change_id: str) -> None:
    """Show how far a change is; draw the page again at its end."""
    found = jobs().change(change_id)
    if found is not None and found.state not in _UNDER_WAY:
        st.rerun(scope="app")
    done, message = (found.progress, found.message) if found else (0.0, "")
    st.progress(min(1.0, done), text=words.plain(message or "starting"))


_UNDER_WAY = ("intended", "running")
_CREATED = "Live traffic decides now whether it helped; the ledger says so within a few minutes."
_DROPPED = "The ledger keeps the DDL that builds it anew, and takes it back on a click."


def result(trial: StoredTrial) -> None:
    """Draw what a trial found, as far as it came."""
    report = from_json(TrialReport, trial.result or {})
    if trial.state == "failed":
        st.error(words.plain(trial.message))
    for estimate in report.estimates:
        _estimate(estimate)
    for note in report.notes:
        st.caption(f":material/info: {words.plain(note)}")
    if report.measured is not None:
        _measured(report.measured, next(iter(report.estimates), None))
    if report.others:
        _others(report.others)
    lab_words(report)


def _estimate(estimate: Estimate) -> None:
    with parts.card(
        "Estimated",
        f"by {words.plain(estimate.planner)}",
        help="The planner's cost with and without the index; nothing was run.",
    ):
        verdict = (
            words.change(estimate.cost_after, estimate.cost_before, "%", up_is_bad=True)
            if estimate.used_index
            else ":orange[the planner does not use it]"
        )
        st.markdown(
            f"Cost {estimate.cost_before:,.0f} → **{estimate.cost_after:,.0f}** {verdict} · size "
            f"{words.byte_size(estimate.index_bytes)}"
        )
        if estimate.advisory:
            st.caption(words.plain(estimate.advisory))
        _plans(estimate.plan_before, estimate.plan_after, f"estimate_{estimate.planner}")


def _plans(before: object, after: object, key: str) -> None:
    board = parts.Board(2, least_width_px=380)
    for title, document in (("Without the index", before), ("With the index", after)):
        with board.card(title):
            plan = parse_plan(json.dumps(document))
            tree, text = st.tabs(["Tree", "Text"])
            with tree:
                drawing.tree(plan, f"Plan {title.lower()}", key=f"{key}_{title}")
            with text:
                st.code(plan.to_text(), language=None, wrap_lines=True)


def interval(ratio: ConfidenceInterval) -> str:
    """Return a ratio of times with its interval, in markdown.

    >>> interval(ConfidenceInterval(0.05, 0.04, 0.07))
    '**20 times faster** (95 % interval 14 to 25 times)'
    >>> interval(ConfidenceInterval(0.98, 0.9, 1.1))
    '**0.98 of the time** (95 % interval 0.90 to 1.10)'
    """
    if 0 < ratio.low and ratio.high < 0.9:
        times = (f"{1 / r:.2g}" if r > 0.1 else f"{1 / r:.0f}" for r in
                 (ratio.value, ratio.high, ratio.low))  # fmt: skip
        value, low, high = times
        return f"**{value} times faster** (95 % interval {low} to {high} times)"
    return f"**{ratio.value:.2f} of the time** (95 % interval {ratio.low:.2f} to {ratio.high:.2f})"


def _measured(measured: TrialResult, promise: Estimate | None) -> None:
    with parts.card(
        "Measured",
        f"{measured.pairs} interleaved pairs of runs for each set of values",
        help="Medians of warm runs in the lab, with and without the index in random order; the "
        "interval is a bootstrap over the runs.",
    ):
        use = "" if measured.used_index else " · :orange[the index was not used]"
        st.markdown(
            f"{interval(measured.ratio)} · built in {words.ms(measured.build_ms)}, "
            f"{words.byte_size(measured.index_bytes)}{use}"
        )
        if promise is not None:
            st.markdown(calibration.kept(promise.ratio, measured.ratio), help=_KEPT)
        for note in measured.notes:
            st.caption(f":material/info: {words.plain(note)}")
        parts.chart(
            charts.before_after(medians(measured.sets), ink=parts.ink()),
            "Medians by set of values",
        )
        parts.table(runs(measured.sets), RUN_COLUMNS, key="lab_runs")
    slowest = max(measured.sets, key=lambda s: s.baseline.median_ms)
    _plans(slowest.baseline.plan, slowest.variant.plan, "measured")


_KEPT = (
    "The planner's cost with the index against what was measured. The ledger keeps such pairs, "
    "and the ranking of suggestions learns from them."
)


def _others(others: Sequence[OtherStatement]) -> None:
    """Draw what the same index did to other statements, helped or hurt."""
    with parts.card(
        "Other statements",
        "measured in the same trial",
        help="Those that the suggestion helps as well, and those that the planner says it hurts; "
        "at most four, as far as the trial's time lasted.",
    ):
        measured = [(o, o.measured) for o in others if o.measured is not None]
        if measured:
            rows = pd.DataFrame([_bars(o, m) for o, m in measured])
            parts.chart(charts.before_after(rows, ink=parts.ink()), "Medians by statement")
        parts.table(pd.DataFrame([_other(o) for o in others]), _OTHER_COLUMNS, key="lab_others")


def _bars(other: OtherStatement, measured: TrialResult) -> dict[str, object]:
    """Return the sums of a statement's medians over its sets of values."""
    before_ms = sum(s.baseline.median_ms for s in measured.sets)
    return {
        "label": words.gist(other.text, 80),
        "before_ms": before_ms,
        "after_ms": sum(s.variant.median_ms for s in measured.sets),
        "low_ms": before_ms * measured.ratio.low,
        "high_ms": before_ms * measured.ratio.high,
    }


def _other(other: OtherStatement) -> dict[str, object]:
    measured, estimate = other.measured, other.estimate
    return {
        "text": words.gist(other.text, 200),
        "promised": 100 * (1 - estimate.ratio) if estimate else None,
        "delivered": 100 * (1 - measured.ratio.value) if measured else None,
        "interval": _interval(measured.ratio) if measured else "",
        "used": ("yes" if measured.used_index else "no") if measured else "",
        "note": other.note,
    }


def _interval(ratio: ConfidenceInterval) -> str:
    return f"{100 * (1 - ratio.high):.0f} to {100 * (1 - ratio.low):.0f} %"


_OTHER_COLUMNS = {
    "text": parts.text("Statement", width=300),
    "promised": parts.number("Promised", "%.0f %%", "Of the planner's cost saved."),
    "delivered": parts.number("Delivered", "%.0f %%", "Of the time saved; below 0 it is slower."),
    "interval": parts.text("Interval", "95 % interval of what was delivered."),
    "used": parts.text("Index used"),
    "note": parts.text("Note"),
}


def medians(sets: Sequence[SetResult]) -> pd.DataFrame:
    """Return the medians of each set of values as the chart of before and after wants them."""
    return pd.DataFrame(
        [
            {
                "label": f"{s.label} values",
                "before_ms": s.baseline.median_ms,
                "after_ms": s.variant.median_ms,
                "low_ms": s.baseline.median_ms * s.ratio.low,
                "high_ms": s.baseline.median_ms * s.ratio.high,
            }
            for s in sets
        ]
    )


def runs(sets: Sequence[SetResult]) -> pd.DataFrame:
    """Return a row for each set of values, for the columns of `RUN_COLUMNS`."""
    return pd.DataFrame(
        [
            {
                "label": s.label,
                "parameters": words.one_line(", ".join(p or "NULL" for p in s.parameters), 120),
                "before_ms": s.baseline.median_ms,
                "after_ms": s.variant.median_ms,
                "blocks_before": s.baseline.blocks_hit + s.baseline.blocks_read,
                "blocks_after": s.variant.blocks_hit + s.variant.blocks_read,
                "rows": s.variant.rows,
                "used": "yes" if s.used_index else "no",
            }
            for s in sets
        ]
    )


BLOCKS = "8 kB blocks touched by the last run."
RUN_COLUMNS = {
    "label": parts.text("Values", "How common the values are among the rows."),
    "parameters": parts.text("$1, $2, …", "Taken from real rows of the lab.", "medium"),
    "before_ms": parts.number("Without", "%.2f ms", "Median of the runs without the index."),
    "after_ms": parts.number("With", "%.2f ms", "Median of the runs with the index."),
    "blocks_before": parts.number("Blocks without", "%,d", BLOCKS),
    "blocks_after": parts.number("Blocks with", "%,d", BLOCKS),
    "rows": parts.number("Rows", "%,d", "Rows returned."),
    "used": parts.text("Index used"),
}


def lab_words(report: TrialReport) -> None:
    """Say what was copied where, and how that differs from the target."""
    if report.lab is None:
        return
    lab = report.lab
    copied = ", ".join(
        f"{t.qualified_name} {words.count(t.rows)} rows{' (reused)' if t.is_reused else ''}"
        for t in lab.tables
    )
    differs = [f"{d.name} {d.lab} instead of {d.target}" for d in lab.differences]
    if lab.server_version != lab.target_version:
        differs.insert(0, f"PostgreSQL {lab.server_version} instead of {lab.target_version}")
    st.caption(
        words.plain(
            f"Lab: {copied}. Unlike the target: {'; '.join(differs) or 'nothing known'}. Warm "
            "caches and no other traffic: compare the two variants, not their times with live ones."
        )
    )
