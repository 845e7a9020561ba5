"""The parts of the plan viewer's page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from perfcore.advise.plan_findings import plan_findings
from perfcore.errors import PlanUnreadable
from perfcore.plan import MAX_PASTED_BYTES, read_plan
from perfcore.ui import parts, words
from perfcore.ui import plan as drawing

_FOLDER = Path(__file__).parent / "plan_examples"
_FIRST, _SECOND = "plan_pasted", "plan_compared"


@dataclass(frozen=True, slots=True)
class Example:
    """A plan, or two to be compared, one click away."""

    label: str
    first: str  # a file's name
    second: str = ""


EXAMPLES = (
    Example("A filter that throws rows away", "seq_scan_sort.json"),
    Example("A hash join that spills to disk", "hash_spill.json"),
    Example("A nested loop, as text", "nested_loop.txt"),
    Example("Before and after an index", "seq_scan_sort.json", "index_scan.json"),
)
_COMMAND = "EXPLAIN (ANALYZE, BUFFERS, SETTINGS, FORMAT JSON)\nSELECT …;"
_WRITING = "BEGIN;\nEXPLAIN (ANALYZE, BUFFERS, SETTINGS, FORMAT JSON)\nUPDATE …;\nROLLBACK;"


def inputs() -> tuple[str, str]:
    """Draw where plans are pasted; return what is there."""
    st.caption(
        "Paste what EXPLAIN answered, as text or JSON. It stays in this browser session: nothing "
        "is stored, and no database is asked."
    )
    with st.container(horizontal=True, vertical_alignment="center"):
        for number, example in enumerate(EXAMPLES):
            st.button(
                example.label,
                icon=":material/difference:" if example.second else ":material/account_tree:",
                key=f"plan_example_{number}",
                on_click=_fill,
                args=(example,),
            )
        if st.session_state.get(_FIRST) or st.session_state.get(_SECOND):
            st.button("Clear", icon=":material/close:", key="plan_clear", on_click=_clear)
    board = parts.Board(2, least_width_px=340)
    with board.card("Plan"):
        first = _box(_FIRST, "Plan")
    with board.card("Compare with", "if you like"):
        second = _box(_SECOND, "A second plan of the same statement")
    return first, second


def _box(key: str, label: str) -> str:
    text = st.text_area(
        label,
        key=key,
        height=120,
        max_chars=MAX_PASTED_BYTES,
        placeholder='[{"Plan": {"Node Type": …   or   Seq Scan on orders  (cost=0.00..1342.00 …',
        label_visibility="collapsed",
    )
    return text or ""


def _fill(example: Example) -> None:
    _clear()
    st.session_state[_FIRST] = read_example(example.first)
    if example.second:
        st.session_state[_SECOND] = read_example(example.second)


def _clear() -> None:
    st.session_state[_FIRST] = st.session_state[_SECOND] = ""
    st.query_params.pop(drawing.STEP, None)


def read_example(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


def show(first: str, second: str) -> None:
    """Draw what was pasted, or say what to paste."""
    shown = [plan for plan in (_read(first), _read(second)) if plan is not None]
    if len(shown) == 2:
        drawing.side_by_side(shown[0].plan, shown[1].plan, ("", ""), key="viewer_both")
    elif shown:
        drawing.explained(shown[0], "own share of each step", key="viewer", name="plan")
    elif not first.strip() and not second.strip():
        _how()


def _read(pasted: str) -> drawing.Shown | None:
    """Return the plan in what was pasted; say why there is none."""
    if not pasted.strip():
        return None
    try:
        plan = read_plan(pasted)
    except PlanUnreadable as error:
        st.error(
            f"{words.plain(str(error))}." + (f" {_sentence(error.hint)}" if error.hint else ""),
            icon=":material/error:",
        )
        return None
    return drawing.Shown(plan, plan_findings(plan), pasted)


def _sentence(hint: str) -> str:
    return words.plain(hint[:1].upper() + hint[1:].rstrip(".")) + "\\."


def _how() -> None:
    """Say which EXPLAIN tells most."""
    board = parts.Board(2, least_width_px=340)
    with board.card("Which EXPLAIN tells most"):
        st.markdown(
            "ANALYZE runs the statement and measures each step, BUFFERS counts the blocks it "
            "touched, SETTINGS names planner settings that are not the default."
        )
        st.code(_COMMAND, language="sql")
    with board.card("For a statement that writes"):
        st.markdown(
            "ANALYZE executes it, so take it back at once. Rows stay locked until the ROLLBACK; "
            "sequences and what functions did outside of the database are not taken back."
        )
        st.code(_WRITING, language="sql")
