"""A rewritten statement in the lab: both texts, whether the rows are the same, both plans."""

from __future__ import annotations

import html
import json
import re
from collections import defaultdict
from collections.abc import Sequence
from difflib import SequenceMatcher

import pandas as pd
import streamlit as st

from perfcore import charts
from perfcore.advise.rewrites.writing import written
from perfcore.advise.statement import Unparsable, parse, plannable
from perfcore.codec import from_json
from perfcore.errors import PerfcoreError
from perfcore.lab.equality import Equality, Sameness
from perfcore.lab.report import Estimate, TrialReport, TriedRewrite
from perfcore.lab.trial import SetCheck, TrialResult
from perfcore.plan import parse_plan
from perfcore.store.read import StoredTrial
from perfcore.ui import calibration, lab, parts, words
from perfcore.ui import plan as drawing

_MOST_TOKENS = 4_000  # marked; of a longer text the whole is shown as it is
_TOKEN = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|\s+|[:$]?\w+|[^\w\s]")
_VALUE = re.compile(r"(?<![:\w]):[a-z_]")
_STYLE = """<style>
pre.pf-wording {margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; font-size: .82rem;
  line-height: 1.5; background: none; padding: 0}
pre.pf-wording mark {color: inherit; border-radius: 3px; padding: 0 1px}
pre.pf-wording mark.old {background: rgba(239,68,68,.22)}
pre.pf-wording mark.new {background: rgba(34,197,94,.25)}
</style>"""
_VERDICTS = {
    Sameness.SAME: ("green", "check_circle"),
    Sameness.DIFFERENT: ("red", "error"),
    Sameness.UNKNOWN: ("orange", "help"),
}


def bench(subject: lab.Rewritten) -> None:
    """Draw both texts with what differs, and the button that tests the new one."""
    tried = subject.tried
    board = parts.Board(2, least_width_px=380)
    old, new = marked(*_laid_out(plannable(tried.statement_text), tried.rewritten_sql))
    target = words.plain(subject.target)
    for title, note, text in (("As it is", f"on {target}", old), ("Rewritten", "", new)):
        with board.card(title, note):
            st.html(f'{_STYLE}<pre class="pf-wording" aria-label="{title}">{text}</pre>')
    with parts.card("Test", "the same rows, and how fast"):
        if subject.obligation:
            st.markdown(f":material/rule: {words.plain(subject.obligation)}")
        if tried.indexes:
            ddl = "".join(f"{i.ddl()};\n" for i in tried.indexes)
            st.caption("With the index that it needs; the statement as it is runs without it.")
            st.code(f"{tried.setup};\n{ddl}" if tried.setup else ddl, language="sql")
        if st.button("Test this rewrite", icon=":material/science:", type="primary", key="test"):
            _test(subject)
        st.caption(
            "The test plans both forms, then runs them in a lab copy of the tables: first it "
            "compares their rows for each set of values, then it measures them. The target is "
            "only read."
        )


def _test(subject: lab.Rewritten) -> None:
    try:
        trial_id = lab.jobs().start_rewrite_trial(subject.target, subject.tried)
    except PerfcoreError as error:
        lab.complain(error)
        return
    lab.show_trial(trial_id)


def _laid_out(old: str, new: str) -> tuple[str, str]:
    """Return the texts in one layout, so that only what differs is marked.

    The new one stays as it is where laying it out anew would change its numbers or names.
    """
    return _pretty(old), new if _VALUE.search(new) or plannable(new) != new else _pretty(new)


def _pretty(text: str) -> str:
    try:
        return written(parse(text))
    except Unparsable:
        return text


def marked(old: str, new: str) -> tuple[str, str]:
    """Return both texts as HTML with what differs marked; everything in them is escaped.

    >>> marked("SELECT a<b", "SELECT a>b")
    ('SELECT a<mark class="old">&lt;</mark>b', 'SELECT a<mark class="new">&gt;</mark>b')
    """
    before, after = _TOKEN.findall(old), _TOKEN.findall(new)
    if len(before) + len(after) > _MOST_TOKENS:
        return html.escape(old), html.escape(new)
    blocks = SequenceMatcher(None, before, after, autojunk=False).get_opcodes()
    return (
        "".join(_mark(before[i:j], "old", kind) for kind, i, j, _, _ in blocks),
        "".join(_mark(after[i:j], "new", kind) for kind, _, _, i, j in blocks),
    )


def _mark(tokens: Sequence[str], side: str, kind: str) -> str:
    text = html.escape("".join(tokens))
    return text if kind == "equal" or not text.strip() else f'<mark class="{side}">{text}</mark>'


def result(trial: StoredTrial) -> None:
    """Draw what a trial found, as far as it came."""
    report = from_json(TrialReport, trial.result or {})
    if trial.state == "failed":
        st.error(words.plain(trial.message))
    if report.rewrite is not None and report.rewrite.checks:
        _verdict(report.rewrite)
    promise = next(iter(report.estimates), None)
    if report.measured is not None:
        _measured(report.measured, promise, report.rewrite)
    for estimate in report.estimates:
        _estimate(estimate, is_drawn=report.measured is None)
    for note in report.notes:
        st.caption(f":material/info: {words.plain(note)}")
    lab.lab_words(report)


def _verdict(tried: TriedRewrite) -> None:
    """Say whether the rows are the same, for each set of values, and which are not."""
    colour, icon = _VERDICTS[tried.sameness]
    with parts.card(
        "Result",
        f":{colour}[:material/{icon}: {tried.sameness.value}]",
        help="Rows compared as multisets, NULLs and duplicates included, floating-point numbers "
        "to 12 digits; in their order where ORDER BY decides it. It is a proof for these values "
        "on the rows of the lab, not for all others.",
    ):
        parts.table(pd.DataFrame(map(_check, tried.checks)), _CHECK_COLUMNS, key="lab_checks")
        for note, labels in _notes(tried.checks).items():
            which = "" if len(labels) == len(tried.checks) else f"{', '.join(labels)} values: "
            st.caption(f":material/info: {words.plain(f'{which}{note}')}")
        for number, check in enumerate(tried.checks):
            if check.equality.examples:
                _examples(check, number)


def _notes(checks: Sequence[SetCheck]) -> dict[str, list[str]]:
    """Return each remark with the sets of values that it is made on."""
    found: dict[str, list[str]] = defaultdict(list)
    for check in checks:
        values = (check.note,) if check.equality.sameness is not Sameness.UNKNOWN else ()
        for note in (*values, *check.equality.notes):
            if note:
                found[note].append(check.label)
    return found


def _check(check: SetCheck) -> dict[str, object]:
    return {
        "label": check.label,
        "summary": check.equality.summary,
        "parameters": words.one_line(", ".join(p or "NULL" for p in check.parameters), 120),
    }


_CHECK_COLUMNS = {
    "label": parts.text("Values", "How common the values are among the rows.", width=75),
    "summary": parts.text("What was found", width=370),
    "parameters": parts.text("$1, $2, …", "Taken from real rows of the lab.", width=170),
}


def _examples(check: SetCheck, number: int) -> None:
    """Show some of the rows that one form returns more often than the other."""
    found = check.equality
    st.markdown(f"Rows that differ, {words.plain(check.label)} values :gray[{_count(found)}]")
    rows = [
        {
            "before": e.times_before,
            "after": e.times_after,
            **{f"c{n}": "NULL" if v is None else v for n, v in enumerate(e.row)},
        }
        for e in found.examples
    ]
    columns = {
        "before": parts.number("As it is", "%d", "How often the statement returns the row.", 70),
        "after": parts.number("Rewritten", "%d", "How often the new form returns the row.", 80),
        **{f"c{n}": parts.text(name, width=120) for n, name in enumerate(found.columns)},
    }
    parts.table(pd.DataFrame(rows), columns, key=f"lab_examples_{number}")


def _count(found: Equality) -> str:
    return f"{len(found.examples)} of {found.missing + found.surplus:,}"


def _measured(measured: TrialResult, promise: Estimate | None, tried: TriedRewrite | None) -> None:
    with parts.card(
        "Measured",
        f"{measured.pairs} interleaved pairs of runs for each set of values",
        help="Medians of warm runs in the lab, of both forms in random order; the interval is a "
        "bootstrap over the runs.",
    ):
        st.markdown(f"{lab.interval(measured.ratio)}{_built(measured)}")
        if tried is not None and tried.sameness is Sameness.DIFFERENT:
            st.markdown(":red[The rows are not the same, so this is no gain.]")
        elif promise is not None and promise.ratio < 1:
            st.markdown(calibration.kept(promise.ratio, measured.ratio), help=_KEPT)
        for note in measured.notes:
            st.caption(f":material/info: {words.plain(note)}")
        parts.chart(
            charts.before_after(lab.medians(measured.sets), ink=parts.ink()),
            "Medians by set of values",
        )
        parts.table(lab.runs(measured.sets), _run_columns(measured), key="lab_runs")
    slowest = max(measured.sets, key=lambda s: s.baseline.median_ms)
    before, after = (json.dumps(m.plan) for m in (slowest.baseline, slowest.variant))
    st.markdown(f"**Plans** :gray[{words.plain(slowest.label)} values]")
    _plans(before, after, "lab_measured")


def _plans(before: str, after: str, key: str) -> None:
    drawing.side_by_side(parse_plan(before), parse_plan(after), ("as it is", "rewritten"), key=key)


def _built(measured: TrialResult) -> str:
    if not measured.index_name:
        return ""
    use = "" if measured.used_index else " · :orange[the index was not used]"
    return (
        f" · index built in {words.ms(measured.build_ms)}, "
        f"{words.byte_size(measured.index_bytes)}{use}"
    )


_KEPT = (
    "The planner's cost of the new form against what was measured. The ledger keeps such pairs "
    "of suggested wordings, and the ranking of suggestions learns from them."
)


def _run_columns(measured: TrialResult) -> dict[str, object]:
    columns = {
        **lab.RUN_COLUMNS,
        "before_ms": parts.number("As it is", "%.2f ms", "Median of its runs."),
        "after_ms": parts.number("Rewritten", "%.2f ms", "Median of its runs."),
        "blocks_before": parts.number("Blocks as it is", "%,d", lab.BLOCKS),
        "blocks_after": parts.number("Blocks rewritten", "%,d", lab.BLOCKS),
    }
    if not measured.index_name:
        del columns["used"]
    return columns


def _estimate(estimate: Estimate, *, is_drawn: bool) -> None:
    with parts.card(
        "Estimated",
        f"by {words.plain(estimate.planner)}",
        help="The planner's cost of both forms; nothing was run.",
    ):
        size = f" · index {words.byte_size(estimate.index_bytes)}" if estimate.index_bytes else ""
        change = words.change(estimate.cost_after, estimate.cost_before, "%", up_is_bad=True)
        st.markdown(
            f"Cost {estimate.cost_before:,.0f} → **{estimate.cost_after:,.0f}** {change}{size}"
        )
        if estimate.advisory:
            st.caption(words.plain(estimate.advisory))
    if is_drawn:
        before, after = json.dumps(estimate.plan_before), json.dumps(estimate.plan_after)
        _plans(before, after, f"lab_estimate_{estimate.planner}")
