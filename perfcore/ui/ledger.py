"""The ledger: every change, what it promised, and what live traffic says of it."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from perfcore import charts
from perfcore.advise.calibration import calibrate
from perfcore.codec import from_json
from perfcore.errors import PerfcoreError
from perfcore.lab.verdict import EndpointVerdict, StatementVerdict, VerdictReport
from perfcore.store.read import DeliveredGain, StoredChange, StoredTrial
from perfcore.types import Verdict
from perfcore.ui import calibration, frame, parts, words
from perfcore.ui.lab import jobs
from perfcore.ui.timerange import View

_COLOURS = {
    Verdict.IMPROVED: "green",
    Verdict.NO_EFFECT: "orange",
    Verdict.REGRESSED: "red",
    Verdict.WAITING: "gray",
}
_KINDS = {"create_index": "Index created", "drop_index": "Index dropped", "setting": "Setting"}


def card(change: StoredChange, view: View, *, is_open: bool, is_alone: bool = False) -> None:
    """Draw one change: its head always, its numbers when opened."""
    report = from_json(VerdictReport, change.verdict) if change.verdict else None
    with st.container(border=True, gap="xsmall"):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            kind = _KINDS.get(change.kind, change.kind)
            st.markdown(f"**{kind}** {words.code(change.object_name)}", width="stretch")
            st.badge(change.state, color="red" if change.state == "failed" else "blue")
            if report is not None and change.applied_at is not None:
                st.badge(report.verdict.value, color=_COLOURS[report.verdict])  # type: ignore[arg-type]
        st.caption(_when(change, view))
        if change.message and change.state != "applied":
            st.markdown(words.plain(change.message))
        if report is not None and change.applied_at is not None:
            st.markdown(words.plain(report.summary))
            _headline(report)
        with st.expander("Numbers, DDL and undo", expanded=is_open, key=f"c_{change.change_id}"):
            if report is not None:
                _numbers(report, str(change.change_id))
            st.code(f"{change.ddl};\n-- undo\n{change.undo};", language="sql", wrap_lines=True)
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            _ways(change, is_alone=is_alone)
            _revert(change, report)


def chosen(
    change: StoredChange, view: View, gains: Sequence[DeliveredGain], trials: Sequence[StoredTrial]
) -> None:
    """Draw one change alone, with what was promised of it, and the way back to all."""
    st.button(
        "All changes", icon=":material/arrow_back:", type="tertiary", key="all_changes",
        on_click=frame.drop_parameters, args=("change",),
    )  # fmt: skip
    card(change, view, is_open=True, is_alone=True)
    known = calibrate(gains, change.target_id).observations
    mine = [o for o in known if o.change_id == change.change_id]
    if mine:
        with parts.card("What was promised", "click a row of a test to open it"):
            calibration.each(mine, trials, key="promised_of_it")


def _ways(change: StoredChange, *, is_alone: bool) -> None:
    """Draw the links from a change to what it came from, and to itself alone."""
    if change.suggestion_id:
        frame.link(
            "suggestions", "Its suggestion", icon=":material/lightbulb:",
            suggestion=change.suggestion_id,
        )  # fmt: skip
    if not is_alone:
        frame.link("ledger", "Open", icon=":material/arrow_forward:", change=change.change_id)


def _when(change: StoredChange, view: View) -> str:
    at = (change.applied_at or change.intended_at).astimezone(view.zone)
    size = f" · {words.byte_size(change.index_bytes)}" if change.index_bytes else ""
    gone = (
        f" · taken back {change.reverted_at.astimezone(view.zone):%d %b %H:%M}"
        if change.reverted_at
        else ""
    )
    return f"{words.plain(change.target)} · {at:%d %b %H:%M:%S}{size} · {change.origin}{gone}"


def _headline(report: VerdictReport) -> None:
    """Say the endpoint's p95 before and after in one line, in the order of `_judged_first`."""
    known = [e for e in report.endpoints if e.p95_ms_before and e.p95_ms_after is not None]
    for each in _judged_first(known)[:3]:
        difference = words.change(each.p95_ms_after, each.p95_ms_before, "%", up_is_bad=True)
        st.markdown(
            f"{words.code(each.endpoint)} p95 {words.ms(each.p95_ms_before)} → "
            f"**{words.ms(each.p95_ms_after)}** {difference}"
        )


def _judged_first(endpoints: Sequence[EndpointVerdict]) -> list[EndpointVerdict]:
    """Return endpoints with a verdict before those that wait for one, the most improved first."""
    return sorted(endpoints, key=lambda e: (e.verdict is Verdict.WAITING, _tail_change(e)))


def _tail_change(each: EndpointVerdict) -> float:
    return (each.p95_ms_after or 0.0) / (each.p95_ms_before or 1.0)


def _numbers(report: VerdictReport, key: str) -> None:
    compared = [s for s in report.statements if s.mean_ms_before and s.mean_ms_after]
    if compared:
        rows = pd.DataFrame([_bars(s) for s in compared])
        parts.chart(
            charts.before_after(rows, ink=parts.ink()), "Means before and after", key=f"bars_{key}"
        )
    listed = [_statement(s) for s in compared]
    listed += [{**_statement(s), "verdict": "other, slower"} for s in report.slower]
    if listed:
        parts.table(pd.DataFrame(listed), _STATEMENTS, key=f"statements_{key}")
    if report.endpoints:
        parts.table(
            pd.DataFrame([_endpoint(e) for e in _judged_first(report.endpoints)]),
            _ENDPOINTS,
            key=f"endpoints_{key}",
            opens=lambda row: frame.open_page(
                "endpoint", service=row["service"], endpoint=row["endpoint"]
            ),
        )
    for slower in filter(is_felt, report.slower):
        st.warning(
            f"Slower since then: {words.code(words.one_line(slower.text, 120))}, "
            f"{words.ms(slower.mean_ms_before)} → {words.ms(slower.mean_ms_after)}"
        )


def is_felt(each: StatementVerdict) -> bool:
    """Say whether a statement grew so much slower that somebody may notice.

    >>> def grown(before, after):
    ...     return StatementVerdict(1, "", Verdict.REGRESSED, 9, 9, before, after, None)
    >>> is_felt(grown(0.07, 0.12)), is_felt(grown(40.0, 41.0)), is_felt(grown(4.0, 5.0))
    (False, False, True)
    """
    before, after = each.mean_ms_before, each.mean_ms_after
    if before is None or after is None:
        return False
    return after - before >= _FELT_MS and after >= before * _FELT_RATIO


_FELT_MS = 0.5
_FELT_RATIO = 1.1


def _bars(each: StatementVerdict) -> dict[str, object]:
    before = each.mean_ms_before or 0.0
    low, high = (each.ratio.low, each.ratio.high) if each.ratio else (float("nan"),) * 2
    return {
        "label": words.gist(each.text, 80),
        "before_ms": before,
        "after_ms": each.mean_ms_after,
        "low_ms": before * low,
        "high_ms": before * high,
    }


def _statement(each: StatementVerdict) -> dict[str, object]:
    return {
        "text": words.one_line(each.text, 200),
        "verdict": each.verdict.value,
        "calls_before": each.calls_before,
        "calls_after": each.calls_after,
        "mean_ms_before": each.mean_ms_before,
        "mean_ms_after": each.mean_ms_after,
        "interval": f"{each.ratio.low:.2f} to {each.ratio.high:.2f}" if each.ratio else "",
        "blocks_before": each.blocks_per_call_before,
        "blocks_after": each.blocks_per_call_after,
    }


def _endpoint(each: EndpointVerdict) -> dict[str, object]:
    return {
        "service": each.service,
        "endpoint": each.endpoint,
        "verdict": each.verdict.value,
        "requests_after": each.requests_after,
        "p95_ms_before": each.p95_ms_before,
        "p95_ms_after": each.p95_ms_after,
        "interval": f"{each.ratio.low:.2f} to {each.ratio.high:.2f}" if each.ratio else "",
    }


_INTERVAL = "95 % interval of after divided by before; below 1 is faster."
_STATEMENTS = {
    "text": parts.text("Statement", width=270),
    "verdict": parts.text(
        "Verdict", "“Other, slower”: the change is not meant for it, but it reads the same table."
    ),
    "mean_ms_before": parts.number("Mean before", "%.2f ms"),
    "mean_ms_after": parts.number("Mean after", "%.2f ms"),
    "interval": parts.text("Ratio", _INTERVAL),
    "calls_before": parts.number("Calls before", "%,d", "In the hour before, at most."),
    "calls_after": parts.number("Calls after", "%,d"),
    "blocks_before": parts.number("Blocks before", "%,.0f", "8 kB blocks per call."),
    "blocks_after": parts.number("Blocks after", "%,.0f", "8 kB blocks per call."),
}
_ENDPOINTS = {
    "endpoint": parts.text("Endpoint", width=230),
    "verdict": parts.text("Verdict"),
    "p95_ms_before": parts.number("p95 before", "%.1f ms"),
    "p95_ms_after": parts.number("p95 after", "%.1f ms"),
    "interval": parts.text("Ratio", _INTERVAL),
    "requests_after": parts.number("Requests since", "%,d"),
}


def _revert(change: StoredChange, report: VerdictReport | None) -> None:
    if change.state != "applied" or change.origin != "perfcore":
        return
    if not jobs().may_apply(change.target):
        return
    useless = report is not None and report.verdict in (Verdict.NO_EFFECT, Verdict.REGRESSED)
    key = str(change.change_id)
    with st.popover("Take it back", icon=":material/undo:", key=f"reverting_{key}"):
        st.code(f"{change.undo};", language="sql", wrap_lines=True)
        label = "Do it now" if useless else "Do it although it may help"
        if st.button(label, key=f"revert_{key}"):
            try:
                jobs().start_revert(change.target, key)
            except PerfcoreError as error:
                st.error(words.plain(str(error)))
                return
            frame.forget()
            st.toast("It is being taken back; this takes some seconds.")


def trials(stored: list[StoredTrial]) -> None:
    """List what was tested in the lab, the latest first."""
    rows = pd.DataFrame(
        [
            {
                "trial_id": str(t.trial_id),
                "suggestion_id": t.suggestion_id or "",
                "at": t.started_at,
                "tried": t.index.name if t.index else words.gist(t.rewritten_sql),
                "state": t.state,
                "message": t.message,
            }
            for t in stored
        ]
    )
    parts.table(
        rows,
        {
            "at": parts.moment("When", str(frame.view().zone)),
            "tried": parts.text("Index or rewritten statement", width=310),
            "state": parts.text("State"),
            "message": parts.text("Message", width=230),
        },
        key="ledger_trials",
        opens=lambda row: frame.open_page(
            "index_lab", suggestion=row["suggestion_id"], trial=row["trial_id"]
        ),
    )
