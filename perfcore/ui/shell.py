"""The dashboard's script: navigation, the time control on every page, and the page itself."""

from __future__ import annotations

import time

import streamlit as st
from streamlit.navigation.page import StreamlitPage

from perfcore.db import redact
from perfcore.errors import StoreUnavailable
from perfcore.ui import frame, parts, timerange, words

_GROUPS: dict[str, tuple[tuple[str, str, str], ...]] = {
    "Monitor": (
        ("overview", "Overview", "monitoring"),
        ("endpoints", "Endpoints", "alt_route"),
        ("endpoint", "Endpoint", "alt_route"),
        ("queries", "Queries", "database"),
        ("query", "Query", "database"),
        ("live", "Live", "bolt"),
    ),
    "Tune": (
        ("suggestions", "Suggestions", "lightbulb"),
        ("cache", "Cache & memory", "memory"),
        ("index_lab", "Index lab", "science"),
        ("plan", "Plan viewer", "account_tree"),
        ("ledger", "Ledger", "receipt_long"),
    ),
    "System": (("settings", "Settings & readiness", "settings"),),
}
# Reached from a row or a link, with what they show in the URL.
_DETAILS = {"endpoint", "query"}
# What they show is of no range: the control stays, for its widgets hold the range, but unseen.
_TIMELESS = {"live", "plan"}


def main() -> None:
    """Draw the dashboard once."""
    st.set_page_config(page_title="Perfcore", page_icon=":material/speed:", layout="wide")
    st.logo(":material/speed:", size="large")
    parts.styles()
    pages = _pages()
    frame.hold_pages(pages)
    page = st.navigation(_grouped(pages))
    is_timeless = page.url_path in _TIMELESS
    key = "header_timeless" if is_timeless else "header"
    with st.container(horizontal=True, vertical_alignment="center", key=key):
        st.header(page.title, anchor=False, width="stretch")
        view = timerange.controls()
    frame.hold_view(view)
    frame.follow()
    frame.arrive(page.url_path)
    if not frame.store_dsn():
        _no_store()
        return
    if st.session_state.get("refresh"):
        frame.forget()
    try:
        page.run()
    except StoreUnavailable as error:
        _unavailable(error)
    if view.live and not is_timeless:
        _live()


def _pages() -> dict[str, StreamlitPage]:
    return {
        name: st.Page(
            frame.PAGES / f"{name}.py",
            title=title,
            icon=f":material/{icon}:",
            url_path=name,
            default=name == "overview",
            visibility="hidden" if name in _DETAILS else "visible",
        )
        for group in _GROUPS.values()
        for name, title, icon in group
        if (frame.PAGES / f"{name}.py").exists()
    }


def _grouped(pages: dict[str, StreamlitPage]) -> dict[str, list[StreamlitPage]]:
    return {
        group: [pages[name] for name, _, _ in entries if name in pages]
        for group, entries in _GROUPS.items()
    }


@st.fragment(run_every=timerange.LIVE_S)
def _live() -> None:
    """Run the whole script again every ten seconds; the first call only starts the clock."""
    now = time.monotonic()
    due = st.session_state.setdefault("_live_due", 0.0)
    if 0.0 < due <= now:
        st.session_state["_live_due"] = 0.0
        st.rerun(scope="app")
    st.session_state["_live_due"] = now + timerange.LIVE_S * 0.8


def _no_store() -> None:
    frame.nothing_here(
        "No store is configured",
        "Perfcore keeps its tables in PostgreSQL. Name one and start again, or see the whole "
        "chain on a demo with its own embedded PostgreSQL.",
        command="export PERFCORE_STORE=postgresql://user:password@host:5432/perfcore\n"
        "python -m perfcore migrate\n"
        "# or, on an embedded PostgreSQL with a demo shop under traffic:\n"
        "make demo",
    )


def _unavailable(error: StoreUnavailable) -> None:
    where = words.plain(redact(frame.store_dsn()))
    st.error(f"{words.plain(str(error))}: {where}", icon=":material/error:")
    frame.nothing_here(
        "This page needs the store",
        f"{error.hint or 'Start its server, or correct PERFCORE_STORE'}. The page tries again by "
        "itself.",
        command="python -m perfcore migrate",
    )


if __name__ == "__main__":
    main()
