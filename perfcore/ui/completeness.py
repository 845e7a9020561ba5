"""What the list of statements lacks, said where it is shown."""

from __future__ import annotations

import streamlit as st

from perfcore.aggregate.completeness import QueryListState
from perfcore.store.targets import Gap
from perfcore.ui import words
from perfcore.ui.timerange import View

_GAPS_SHOWN = 3


def notice(state: QueryListState, view: View, target: str = "") -> None:
    """Say what is missing from the list of a target's statements; nothing when nothing is."""
    if state.is_incomplete:
        with st.container(border=True, gap="xsmall"):
            st.markdown(f":orange-badge[:material/warning: Incomplete] {incomplete(state, target)}")
            st.caption(
                "A longer list holds them all; it takes about 1 KB of shared memory for each "
                "statement, and a restart:"
            )
            st.code(remedy(state), language="sql")
    if gaps := state.server_gaps:
        st.caption(f":material/hide_source: {not_counted(gaps, view)}")


def incomplete(state: QueryListState, target: str = "") -> str:
    """Return in a sentence how incomplete the list is, as markdown."""
    of = f" of {words.plain(target)}" if target else ""
    if state.evictions is None:
        return (
            f"The query list{of} may be incomplete: statements vanished from it in "
            f"{_counted(state.vanished, 'reading')} of this range. PostgreSQL 13 does not say "
            "whether they were evicted, nor how much of its time the others cover."
        )
    times = _counted(state.evictions, "eviction")
    coverage = state.coverage
    covered = (
        f"the listed statements cover {words.percent(coverage)} of the time the database was active"
        if coverage is not None
        else "how much of the database's time the listed statements cover cannot be known"
    )
    return f"The query list{of} is incomplete: {times} in this range; {covered}."


def _counted(number: int, noun: str) -> str:
    return f"{words.count(number)} {noun}{'' if number == 1 else 's'}"


def remedy(state: QueryListState) -> str:
    """Return the statement that makes the server's list long enough.

    >>> remedy(QueryListState(1, 2, 5000, 5000, 0.0, None))
    'ALTER SYSTEM SET pg_stat_statements.max = 10000;'
    """
    return f"ALTER SYSTEM SET pg_stat_statements.max = {max(2 * state.max_entries, 10_000)};"


def not_counted(gaps: tuple[Gap, ...], view: View) -> str:
    """Return in a sentence in which spans nothing was counted and why, the latest first."""
    spans = [
        f"{gap.start.astimezone(view.zone):%d %b %H.%M.%S} to "
        f"{gap.end.astimezone(view.zone):%H.%M.%S} ({gap.reason})"
        for gap in gaps[:_GAPS_SHOWN]
    ]
    more = f" and {len(gaps) - _GAPS_SHOWN} more" if len(gaps) > _GAPS_SHOWN else ""
    return f"Not counted: {', '.join(spans)}{more}."
