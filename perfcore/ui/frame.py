"""Around every page: the store, the view, the way from page to page, and what to say when lost."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy
import streamlit as st
from streamlit.navigation.page import StreamlitPage

from perfcore import db
from perfcore.ui.timerange import View

PAGES = Path(__file__).parents[2] / "pages"
_PAGES_KEY = "_pages"
_VIEW_KEY = "_view"
_DESTINATION_KEY = "_destination"
T = TypeVar("T")


def store_dsn(environ: Mapping[str, str] | None = None) -> str:
    """Return the DSN of the store as this process was given it, empty if it was not."""
    return (os.environ if environ is None else environ).get("PERFCORE_STORE", "")


@st.cache_resource(show_spinner=False, max_entries=4)
def _engine(dsn: str) -> sqlalchemy.Engine:
    return db.engine(dsn)


def store() -> sqlalchemy.Engine:
    """Return the pooled engine on the store; the shell has made sure that there is one."""
    return _engine(store_dsn())


@st.cache_data(ttl=30, max_entries=400, show_spinner=False)
def _remembered(key: str, _call: Callable[[], Any]) -> Any:
    return _call()


def read(reader: Callable[..., T], *arguments: Any, **options: Any) -> T:
    """Call a reader of the store with the engine first; equal calls share one answer for 30 s."""
    name = f"{reader.__module__}.{reader.__qualname__}"
    key = repr((store_dsn(), name, arguments, sorted(options.items())))
    answer: T = _remembered(key, lambda: reader(store(), *arguments, **options))
    return answer


def forget() -> None:
    """Drop every remembered answer, after something was written."""
    _remembered.clear()


def hold_view(view: View) -> None:
    st.session_state[_VIEW_KEY] = view


def view() -> View:
    """Return what the time control says."""
    found: View = st.session_state[_VIEW_KEY]
    return found


def hold_pages(pages: Mapping[str, StreamlitPage]) -> None:
    st.session_state[_PAGES_KEY] = dict(pages)


def arrive(page: str) -> None:
    """Forget what belongs to the page that was left, if this is another."""
    if st.session_state.get("_page") != page:
        st.session_state["_page"] = page
        st.session_state.pop("_followed_change", None)


def has_page(name: str) -> bool:
    """Say whether a page of that file name is part of this installation."""
    return name in st.session_state[_PAGES_KEY]


def open_page(name: str, **parameters: Any) -> None:
    """Leave for another page once the callback that calls this is over."""
    st.session_state[_DESTINATION_KEY] = (name, parameters)


def follow() -> None:
    """Go where a callback wanted to; the shell calls this before it draws a page."""
    if destination := st.session_state.pop(_DESTINATION_KEY, None):
        name, parameters = destination
        st.switch_page(
            st.session_state[_PAGES_KEY][name],
            query_params={**view().unbound_parameters(), **_own(parameters)},
        )


def link(
    name: str, label: str, *, icon: str | None = None, help: str = "", **parameters: Any
) -> None:
    """Draw a link to another page; `label` is markdown."""
    if not has_page(name):
        return
    st.page_link(
        st.session_state[_PAGES_KEY][name],
        label=label,
        icon=icon,
        help=help or None,
        query_params={**view().unbound_parameters(), **_own(parameters)},
    )


def parameter(name: str) -> str:
    """Return a parameter of the page's URL, empty if it is not there."""
    return str(st.query_params.get(name, ""))


def number_parameter(name: str) -> int | None:
    """Return a whole number from the page's URL, None if there is none."""
    try:
        return int(parameter(name))
    except ValueError:
        return None


def drop_parameters(*names: str) -> None:
    """Take parameters out of the page's URL, so that what they opened is closed."""
    for name in names:
        st.query_params.pop(name, None)


def nothing_here(what: str, remedy: str = "", *, command: str = "", language: str = "bash") -> None:
    """Say that something is missing, why, and the command that changes it."""
    with st.container(border=True):
        st.markdown(f":material/inbox: **{what}**")
        if remedy:
            st.caption(remedy)
        if command:
            st.code(command, language=language)


def _own(parameters: Mapping[str, Any]) -> dict[str, str]:
    return {k: str(v) for k, v in parameters.items() if v not in (None, "")}
