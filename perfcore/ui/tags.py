"""Who sent a statement, as the comment in its text says."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd
import streamlit as st

from perfcore.sqlcommenter import Tags, tags
from perfcore.store.read import StatementDetail
from perfcore.ui import words

_EVERYTHING = "any tag"


def tags_line(detail: StatementDetail) -> str:
    """Return in markdown what the statement is tagged with, empty when it is not.

    PostgreSQL counts executions of one statement together, whatever their comments say, and
    keeps the first one's text.
    """
    found = tags(detail.text)
    if not found:
        return ""
    return (
        f":material/label: tagged by: {words.plain(found.words())} "
        ":gray[(of the execution that PostgreSQL saw first; other routes may share this entry)]"
    )


def tag_words(text: str) -> str:
    """Return a text's tags in words, empty when it has none."""
    return tags(text).words()


def choices(texts: Iterable[str]) -> list[str]:
    """Return what statements can be chosen by: "application shop", "route /orders", ..."""
    found: set[str] = set()
    for text in texts:
        found.update(_choices(tags(text)))
    return sorted(found)


def _choices(of: Tags) -> list[str]:
    return [f"{name} {value}" for name, value in of.named() if name in _CHOSEN]


_CHOSEN = ("application", "route", "controller", "job")


def chosen(statements: pd.DataFrame) -> pd.DataFrame:
    """Draw a choice of tags, kept in the URL, and return the statements that have it.

    Nothing is drawn where no statement is tagged.
    """
    offered = choices(map(str, statements["text"]))
    if not offered:
        return statements
    picked = st.selectbox(
        "Tagged by",
        [_EVERYTHING, *offered],
        key="query_tag",
        bind="query-params",
        label_visibility="collapsed",
        icon=":material/label:",
        help="From sqlcommenter's and Marginalia's comments in the texts.",
        width=300,
    )
    if picked not in offered:
        return statements
    return statements[[picked in _choices(tags(str(t))) for t in statements["text"]]]
