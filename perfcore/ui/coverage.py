"""How much of what a database did the applications' hooks have seen."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from perfcore.aggregate import coverage
from perfcore.sqlcommenter import without_tags
from perfcore.store.read import StatementDetail
from perfcore.ui import frame, parts, words
from perfcore.ui.tags import tag_words

_UNSEEN_LIMIT = 50
# What drivers send by themselves, for watched engines too, and no hook is called for.
_OF_DRIVERS = frozenset(
    "BEGIN START COMMIT ROLLBACK SAVEPOINT RELEASE SET SHOW RESET DISCARD DEALLOCATE".split()
)
PERCENTILES = (
    "Percentiles are true percentiles of what applications measured, executions and network "
    "together, from histograms that are within 1 %. The server keeps only mean, least, most and "
    "standard deviation of its own execution time."
)


def coverage_line(unseen: pd.DataFrame, detail: StatementDetail) -> str:
    """Return in markdown how many of a statement's calls a hook saw.

    `unseen` is `perfcore.aggregate.coverage.unseen` of the range.
    """
    rows = unseen[
        (unseen["target_id"] == detail.target_id) & (unseen["fingerprint"] == detail.fingerprint)
    ]
    calls, missing = int(rows["calls"].sum()), int(rows["unseen_calls"].sum())
    if not calls:
        return ""
    if not missing:
        return ":gray[A hook saw all of its calls: its percentiles stand for all of them.]"
    if missing >= calls:
        return (
            ":orange[No hook saw it]: it has no percentiles and no endpoints. Its "
            f"{words.count(calls)} calls come from psql, cron or a service without the hook."
        )
    seen = words.percent(_nearly(1 - missing / calls))
    return (
        f"A hook saw {seen} of its {words.count(calls)} calls: its percentiles and endpoints stand "
        "for these alone."
    )


def share_line(unseen: pd.DataFrame) -> str:
    """Return in markdown how much of the databases' time the hooks saw."""
    share = coverage.unseen_share(unseen)
    if words.is_missing(share):
        return ""
    if share >= 1:
        return "No hook saw any of the databases' time"
    if not share:
        return "The hooks saw all of the databases' time"
    return f"The hooks saw {words.percent(_nearly(1 - share))} of the databases' time"


def _nearly(share: float) -> float:
    """Return a share that is not whole so that it is not rounded to a whole one."""
    return min(share, 0.999)


def unseen_statements(unseen: pd.DataFrame) -> None:
    """Draw the share, and one click away what no hook saw."""
    line = share_line(unseen)
    missing = unseen[unseen["unseen_ms"] > 0].head(_UNSEEN_LIMIT)
    if not line:
        return
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.markdown(f":material/visibility: {line}", help=PERCENTILES, width="stretch")
        if missing.empty:
            return
        is_open = st.toggle("Show what they did not see", key="query_unseen", bind="query-params")
    if is_open:
        _table(missing)


def _may_be(text: str) -> str:
    """Return who may have sent a statement that says nothing of it.

    >>> _may_be("COMMIT"), _may_be("VACUUM orders")
    ('a driver, around what an application runs', 'unknown: psql, cron, another service')
    """
    word = text.strip().partition(" ")[0].upper()
    if word in _OF_DRIVERS:
        return "a driver, around what an application runs"
    return "unknown: psql, cron, another service"


def _table(missing: pd.DataFrame) -> None:
    told = [tag_words(str(t)) for t in missing["text"]]
    if not any(told):
        st.caption(
            "Nothing in their texts says who sends them: psql, cron, another service, or a part "
            "of an application whose engine is not watched. Comments as sqlcommenter writes them "
            "would tell."
        )
    rows = missing.assign(
        queryid=missing["queryid"].astype(str),
        text=[words.gist(without_tags(str(t))) for t in missing["text"]],
        sender=[t or _may_be(str(text)) for t, text in zip(told, missing["text"], strict=True)],
        seen=1 - missing["unseen_calls"] / missing["calls"].where(missing["calls"] > 0),
        unseen_s=missing["unseen_ms"] / 1000,
    )
    parts.table(
        rows,
        {
            "text": parts.text("Query", width=380),
            "unseen_s": parts.number(
                "Unseen", "%,.2f s", "The server's time of the calls that no hook saw.", 80
            ),
            "unseen_calls": parts.number("Calls", "%,d", "Calls that no hook saw.", 75),
            "seen": parts.bar("Seen", "Share of its calls that a hook saw.", width=110),
            "sender": parts.text("Sent by", "From the comment in its text.", 260),
        },
        key="unseen",
        opens=lambda row: frame.open_page("query", queryid=row["queryid"]),
        max_rows=12,
    )
