"""Cards, tiles and tables that several pages draw."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from perfcore import charts
from perfcore.charts import Figure
from perfcore.ui import timerange, words

_CHART_CONFIG = {"displayModeBar": False, "displaylogo": False, "responsive": True}
_ROW_HEIGHT_PX = 33
COLUMN = st.column_config
MEAN_OF_EXECUTIONS = (
    "Per execution, as the application measured it; an executemany is one execution, however "
    "many rows it has."
)


@contextlib.contextmanager
def card(title: str, note: str = "", *, help: str = "") -> Iterator[None]:
    """Draw a bordered box with a heading and a quieter note behind it; both are markdown."""
    with st.container(border=True, gap="small"):
        _heading(title, note, help)
        yield


class Board:
    """Cards side by side, of equal height in a row, fewer in a row where there is less room."""

    def __init__(self, columns: int = 3, *, least_width_px: int = 300) -> None:
        self._grid = st.grid(columns, min_column_width=least_width_px, gap="small", border=True)

    @contextlib.contextmanager
    def card(self, title: str, note: str = "", *, span: int = 1, help: str = "") -> Iterator[None]:
        """Draw the next card, `span` columns wide where there is room."""
        with self._grid.cell(column_span=span):
            _heading(title, note, help)
            yield


class Tiles:
    """A row of single numbers, of equal height."""

    def __init__(self, columns: int = 6) -> None:
        self._grid = st.grid(columns, min_column_width=150, gap="small", border=True)

    def draw(
        self,
        label: str,
        value: str,
        difference: str,
        *,
        help: str,
        trend: Sequence[float | None] = (),
        colour: str = charts.BLUE,
    ) -> None:
        """Draw one number with its definition, its change (markdown) and its recent course."""
        with self._grid.cell(), st.container(gap=None):
            st.caption(label, help=help)
            st.markdown(
                f"### {value} " + (f":small[{difference}]" if difference else ""), anchors=False
            )
            if sum(v is not None and v == v for v in trend) > 1:
                chart(
                    charts.sparkline(trend, colour, height=40),
                    f"{label} over the range",
                    key=f"spark_{label}",
                )


def _heading(title: str, note: str, help: str) -> None:
    st.markdown(f"**{title}**" + (f" :gray[{note}]" if note else ""), help=help or None)


def chart(figure: Figure, alt: str, *, key: str | None = None) -> None:
    """Draw a figure that nothing happens on but hovering."""
    st.plotly_chart(figure, config=_CHART_CONFIG, key=key, alt=alt)


def ink() -> str:
    """Return the colour of text in the viewer's theme, for what a figure must stress."""
    return "#e2e8f0" if st.context.theme.type == "dark" else "#0f172a"


def styles() -> None:
    """Give SQL and plans colours that are readable on their background, at least 4.5:1.

    Of a page whose header is "timeless", what follows the title is not shown.
    """
    keyword, string, mark = (
        ("#7db4fb", "#5fd39b", "#9fb0c7")
        if st.context.theme.type == "dark"
        else ("#1d4ed8", "#0a6e36", "#5b6779")
    )
    st.html(
        "<style>"
        f"[data-testid=stCode] .token.keyword {{color: {keyword}}}"
        f"[data-testid=stCode] .token.string {{color: {string}}}"
        "[data-testid=stCode] .token.punctuation, [data-testid=stCode] .token.comment"
        f" {{color: {mark}}}"
        ".st-key-header_timeless > :not(:first-child) {display: none}"
        "</style>"
    )


def selectable_chart(figure: Figure, alt: str, *, key: str) -> None:
    """Draw a figure on which dragging selects the dashboard's time range."""
    st.plotly_chart(
        figure,
        config=_CHART_CONFIG,
        key=key,
        alt=alt,
        on_select=lambda: timerange.select_from_chart(key),
        selection_mode=("box",),
    )


def pointed_chart(
    figure: Figure, alt: str, *, key: str, opens: Callable[[Sequence[Any]], None]
) -> None:
    """Draw a figure of points; clicking one calls `opens` with its data, as a callback."""
    # A new key after each use: the same point can be clicked again on coming back.
    turn = st.session_state.setdefault(f"_{key}_turn", 0)
    widget = f"{key}_{turn}"

    def clicked() -> None:
        points = st.session_state[widget]["selection"]["points"]
        st.session_state[f"_{key}_turn"] = turn + 1
        if points and points[0].get("customdata"):
            opens(points[0]["customdata"])

    st.plotly_chart(
        figure, config=_CHART_CONFIG, key=widget, alt=alt, on_select=clicked,
        selection_mode=("points",),
    )  # fmt: skip


def table(
    frame: pd.DataFrame,
    columns: Mapping[str, Any],
    *,
    key: str,
    opens: Callable[[Mapping[Any, Any]], None] | None = None,
    max_rows: int = 12,
) -> None:
    """Draw a table of the configured columns; clicking a row calls `opens` with it.

    `opens` runs as a callback, with the row as it was shown: by the time of the rerun the
    table may hold other rows in another order.
    """
    look: dict[str, Any] = {
        "hide_index": True,
        "column_order": list(columns),
        "column_config": dict(columns),
        "row_height": _ROW_HEIGHT_PX,
        "height": _ROW_HEIGHT_PX * (min(len(frame), max_rows) + 1) + 2,
        "placeholder": words.NOTHING,
    }
    if opens is None:
        st.dataframe(frame, key=key, **look)
        return
    # A new key after each use: the same cell can be clicked again on coming back.
    turn = st.session_state.setdefault(f"_{key}_turn", 0)
    widget = f"{key}_{turn}"
    rows = frame.to_dict("records")

    def clicked() -> None:
        cells = st.session_state[widget]["selection"]["cells"]
        st.session_state[f"_{key}_turn"] = turn + 1
        if cells and int(cells[0][0]) < len(rows):
            opens(rows[int(cells[0][0])])

    st.dataframe(frame, key=widget, on_select=clicked, selection_mode="single-cell", **look)


def filters(name: str, sorts: Mapping[str, str], label: str) -> tuple[str, str]:
    """Draw a filter and an order, both kept in the URL; return the text and a key of `sorts`."""
    with st.container(horizontal=True, vertical_alignment="center"):
        needle = st.text_input(
            label,
            key=f"{name}_filter",
            bind="query-params",
            placeholder=label,
            label_visibility="collapsed",
            icon=":material/search:",
            width="stretch",
        )
        order = st.selectbox(
            "Sort by",
            list(sorts),
            key=f"{name}_sort",
            bind="query-params",
            label_visibility="collapsed",
            icon=":material/sort:",
            width=190,
        )
    return needle or "", order if order in sorts else next(iter(sorts))


def text(label: str, help: str = "", width: Any = None) -> Any:
    return COLUMN.TextColumn(label, help=help or None, width=width)


def number(label: str, form: str, help: str = "", width: Any = None) -> Any:
    return COLUMN.NumberColumn(label, format=form, help=help or None, width=width)


def bar(label: str, help: str = "", top: float = 1.0, width: Any = None) -> Any:
    """Return a column that draws a ratio as a bar, full at `top`."""
    return COLUMN.ProgressColumn(
        label, help=help or None, format="percent", min_value=0.0, max_value=top, width=width
    )


def bar_of(label: str, form: str, help: str, top: float, width: Any = None) -> Any:
    """Return a column that draws a number as a bar, full at `top`."""
    return COLUMN.ProgressColumn(
        label, help=help or None, format=form, min_value=0.0, max_value=max(top, 1e-9), width=width
    )


def moment(label: str, zone: str, help: str = "", width: Any = None) -> Any:
    return COLUMN.DatetimeColumn(
        label, format="D MMM HH:mm:ss", timezone=zone, help=help or None, width=width
    )


def chosen(frame: pd.DataFrame, needle: str, columns: Sequence[str]) -> pd.DataFrame:
    """Return the rows of which one of the columns holds the text, whatever its case.

    >>> f = pd.DataFrame({"endpoint": ["GET /a", "POST /b"]})
    >>> list(chosen(f, "post", ["endpoint"])["endpoint"])
    ['POST /b']
    """
    needle = needle.strip()
    if not needle or frame.empty:
        return frame
    found = pd.Series(False, index=frame.index)
    for column in columns:
        found |= frame[column].astype(str).str.contains(needle, case=False, regex=False)
    return frame[found]
