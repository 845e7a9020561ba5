"""The Live page: what runs on a target now, who waits for whom, what is held open."""

from __future__ import annotations

import html
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from perfcore.collect.activity import (
    PREPARED,
    WITHHELD,
    Activity,
    Node,
    Picture,
    Seen,
    Watcher,
    blocking_trees,
)
from perfcore.config import Config
from perfcore.errors import PerfcoreError
from perfcore.lab.cancel import cancel_statement, may_cancel
from perfcore.store import read
from perfcore.ui import frame, parts, words

REFRESH_S = 2.0
# A session that waits for nothing is on a processor, or may be.
_WAIT_COLOURS = {
    "Lock": "red", "LWLock": "orange", "BufferPin": "orange", "IO": "blue", "IPC": "violet",
    "Timeout": "yellow", "Client": "gray", "Extension": "gray", "Activity": "gray", "none": "green",
}  # fmt: skip
_TREE_STYLE = """<style>
ul.pf-tree, ul.pf-tree ul {list-style: none; margin: 0; padding: 0}
ul.pf-tree li {margin: 0}
ul.pf-tree > li + li {margin-top: .8rem}
ul.pf-tree ul {margin-left: 0.6rem}
.pf-tree ul > li {border-left: 2px solid rgba(128,128,128,.45); padding: .35rem 0 .1rem 1.4rem;
  position: relative}
.pf-tree ul > li::before {content: ""; position: absolute; left: 0; top: 1.05rem; width: 1.1rem;
  border-top: 2px solid rgba(128,128,128,.45)}
.pf-tree ul > li:last-child {border-left-color: transparent}
.pf-tree ul > li:last-child::after {content: ""; position: absolute; left: -2px; top: 0;
  height: 1.15rem; border-left: 2px solid rgba(128,128,128,.45)}
.pf-tree code {display: block; white-space: nowrap; overflow: hidden; text-overflow: ellipsis;
  font-size: .8rem; opacity: .85; padding: 0; background: none; color: inherit}
.pf-tree .tag {border-radius: .4rem; padding: .05rem .45rem; font-size: .8rem;
  margin-right: .3rem}
.pf-tree .blocks {background: rgba(239,68,68,.22)}
.pf-tree .waits {background: rgba(245,158,11,.22)}
.pf-tree .idle {background: rgba(139,92,246,.22)}
</style>"""


@st.cache_resource(show_spinner=False, max_entries=32)
def _watcher(dsn: str) -> Watcher:
    return Watcher(dsn)


def choose(config: Config) -> tuple[str, str] | None:
    """Return the (name, DSN) to look at: the only one, or the one that the viewer chose."""
    targets = dict(config.targets)
    if not targets:
        frame.nothing_here(
            "No database to look at",
            "This page asks the database itself, so this process needs its DSN. The restricted "
            "role that perfcore doctor --setup-sql makes is enough.",
            command='export PERFCORE_TARGETS="shop=postgresql://perfcore_reader:…@host:5432/shop"',
        )
        return None
    name = next(iter(targets))
    if len(targets) > 1:
        name = st.selectbox(
            "Database", list(targets), key="live_target", bind="query-params", width=260
        )
    return name, targets[name]


def watch(config: Config, name: str, dsn: str) -> None:
    """Draw the target, again every two seconds until the viewer stops it."""
    with st.container(horizontal=True, vertical_alignment="center"):
        is_on = st.toggle(
            "Refresh every 2 s", value=True, key="live_refresh", bind="query-params",
            help="While it is on, one short connection at a time looks at the database.",
        )  # fmt: skip
        once = not is_on and st.button("Look once", icon=":material/refresh:", key="live_once")
    age_s = 1.5 if is_on else 0.0 if once else math.inf
    draw = st.fragment(partial(_draw, config, name, dsn), run_every=REFRESH_S if is_on else None)
    draw(age_s)


def _draw(config: Config, name: str, dsn: str, max_age_s: float) -> None:
    seen = _watcher(dsn).current(max_age_s)
    if seen.problem:
        st.warning(_silence(name, seen), icon=":material/cloud_off:")
    picture = seen.picture
    if picture is None:
        if not seen.problem:
            st.caption("Nothing was looked at yet.")
        return
    at = picture.taken_at.astimezone(frame.view().zone)
    st.caption(f"{words.plain(name)} at {at:%H:%M:%S} by its own clock")
    if picture.withheld:
        st.caption(
            ":material/lock: Statements of other roles are withheld: "
            "`GRANT pg_read_all_stats TO` the role in PERFCORE_TARGETS."
        )
    _tiles(picture)
    _running(picture)
    _blocking(picture)
    board = parts.Board(2, least_width_px=420)
    with board.card("Idle in transaction", "transactions open, nothing done in them"):
        _idle(picture)
    with board.card("Connections", "of the whole server, by state"):
        _connections(picture)
    _cancelling(config, name, picture)


def _silence(name: str, seen: Seen) -> str:
    """Return in words that the target does not answer, and how old what is shown is."""
    what = f"{words.plain(name)} does not answer: {words.plain(seen.problem)}"
    if seen.picture is None:
        return what
    return f"{what}. What is shown is {words.ms(1000 * max(seen.age_s, 1))} old."


def _tiles(picture: Picture) -> None:
    tiles = parts.Tiles()
    used = sum(count for _, count in picture.connections)
    longest, oldest = picture.longest_transaction, picture.oldest_snapshot
    share = used / picture.max_connections if picture.max_connections else 0.0
    tiles.draw(
        "Connections", f"{used} / {picture.max_connections}", f":gray[{words.percent(share)}]",
        help="Clients' connections to the whole server, against max_connections.",
    )  # fmt: skip
    tiles.draw("Running", str(len(picture.active)), "", help="Sessions that run a statement.")
    tiles.draw(
        "Blocked", str(len(picture.waiting)), "",
        help="Sessions that wait for a lock that another session holds.",
    )  # fmt: skip
    tiles.draw(
        "Idle in transaction", str(len(picture.idle_in_transaction)), "",
        help="Sessions with an open transaction in which nothing is done.",
    )  # fmt: skip
    tiles.draw(
        "Longest transaction",
        words.ms(1000 * longest.transaction_s) if longest else words.NOTHING,
        f":gray[pid {longest.pid}]" if longest else "",
        help="The age of the oldest transaction that is open now.",
    )
    tiles.draw(
        "Oldest snapshot",
        words.count(oldest.xmin_age) if oldest else words.NOTHING,
        f":gray[pid {oldest.pid}]" if oldest else "",
        help="How many transactions began since the oldest snapshot in use: VACUUM removes no row "
        "that died after it.",
    )


def _running(picture: Picture) -> None:
    with parts.card("Running", "the longest first · click a row to open its query"):
        if not picture.active:
            st.caption("Nothing runs at this moment.")
            return
        st.markdown(_waits(picture.active))
        parts.table(
            pd.DataFrame([_row(s) for s in picture.active]),
            _RUNNING_COLUMNS,
            key="live_running",
            opens=_open_query,
        )


def _waits(sessions: Sequence[Activity]) -> str:
    """Return how many wait for each kind of event, as badges in markdown.

    >>> _waits([Activity(1, "", "", "active", "", 0.0, 0.0, "IO", "DataFileRead", ())])
    ':blue-badge[IO 1]'
    """
    counted = Counter(s.wait_event_type or "none" for s in sessions)
    return " ".join(
        f":{_WAIT_COLOURS.get(kind, 'gray')}-badge[{kind} {count}]"
        for kind, count in counted.most_common()
    )


def _row(session: Activity) -> dict[str, Any]:
    return {
        "running_s": session.running_s,
        "pid": str(session.pid),
        "application": session.application,
        "role": session.role,
        "state": session.state,
        "waits": [session.wait_event_type or "none"],
        "wait_event": session.wait_event,
        "blocked_by": ", ".join(map(_pid, session.blocked_by)),
        "query": words.gist(session.query, 200),
        "queryid": session.queryid,
    }


def _pid(pid: int) -> str:
    return "prepared" if pid == PREPARED else str(pid)


_RUNNING_COLUMNS = {
    "running_s": parts.number("Runs for", "%.1f s", "Since the statement began.", 80),
    "waits": parts.COLUMN.MultiselectColumn(
        "Waits",
        help="The kind of event it waits for; none: it is on a processor, or could be.",
        options=list(_WAIT_COLOURS),
        color=list(_WAIT_COLOURS.values()),
        width=85,
    ),
    "query": parts.text("Statement", width=345),
    "wait_event": parts.text("Waits for", "PostgreSQL's name of the event.", 110),
    "blocked_by": parts.text("Blocked by", "Processes that hold what it waits for.", 85),
    "application": parts.text("Application", width=110),
    "role": parts.text("User", width=90),
    "pid": parts.text("Process", width=70),
    "state": parts.text("State", width=70),
}


def _open_query(row: Mapping[Any, Any]) -> None:
    queryid = row["queryid"]
    known = queryid == queryid and queryid is not None
    if known and frame.read(read.statement, int(queryid)) is not None:
        frame.open_page("query", queryid=int(queryid))
    elif known:
        st.toast("The collector has not stored this statement yet.")
    else:
        st.toast("The server does not say which query it is (PostgreSQL 14, compute_query_id).")


def _blocking(picture: Picture) -> None:
    trees = blocking_trees(picture.sessions)
    with parts.card(
        "Who blocks whom",
        help="At the root of each tree stands who waits for nobody: end its transaction, and the "
        "others go on.",
    ):
        if not trees:
            st.caption("No session waits for another.")
            return
        roots = "".join(f"<li>{_branch(tree, picture)}</li>" for tree in trees)
        st.html(f'{_TREE_STYLE}<ul class="pf-tree" aria-label="Who blocks whom">{roots}</ul>')


def _branch(node: Node, picture: Picture) -> str:
    """Return a blocker with all it blocks as HTML; every text in it is escaped."""
    below = "".join(f"<li>{_branch(child, picture)}</li>" for child in node.blocks)
    tags = _tag("blocks", f"blocks {node.waiting}") if node.blocks else ""
    session = picture.session(node.pid)
    if node.pid == PREPARED:
        shown = tags + _prepared(picture)
    elif session is None:
        shown = f"<b>{node.pid}</b> {tags}a session of the server or of another database"
    else:
        shown = _session(session, tags, picture)
    return shown + (f"<ul>{below}</ul>" if below else "")


def _session(session: Activity, tags: str, picture: Picture) -> str:
    wait = picture.waits.get(session.pid)
    if session.blocked_by:
        held = f" on {wait.relation}" if wait and wait.relation else ""
        mode = f"{wait.mode}{held}" if wait else session.wait_event
        tags += _tag("waits", f"waits {words.ms(1000 * session.state_s)} for {mode}")
    if session.is_idle_in_transaction:
        tags += _tag("idle", f"{session.state} for {words.ms(1000 * session.state_s)}")
    who = html.escape(f"{session.application or 'no application name'} · {session.role}")
    query = html.escape(words.gist(session.query, 200))
    return f"<b>{session.pid}</b> {tags}{who}<code>{query}</code>"


def _tag(kind: str, text: str) -> str:
    return f'<span class="tag {kind}">{html.escape(text)}</span>'


def _prepared(picture: Picture) -> str:
    names = ", ".join(
        f"{p.gid} of {p.role}, {words.ms(1000 * p.age_s)} old" for p in picture.prepared
    )
    return (
        f"<b>prepared transaction</b> {html.escape(names)}<code>COMMIT PREPARED or ROLLBACK "
        "PREPARED ends it</code>"
    )


def _idle(picture: Picture) -> None:
    rows = [
        {
            "transaction_s": s.transaction_s,
            "state_s": s.state_s,
            "pid": str(s.pid),
            "who": f"{s.application or '?'} · {s.role}",
            "xmin_age": s.xmin_age,
            "query": words.gist(s.query, 120),
        }
        for s in picture.idle_in_transaction
    ] + [
        {
            "transaction_s": p.age_s,
            "state_s": p.age_s,
            "pid": "prepared",
            "who": f"{p.gid} · {p.role}",
            "xmin_age": p.xmin_age,
            "query": "",
        }
        for p in picture.prepared
    ]
    if not rows:
        st.caption("No transaction is left open.")
        return
    parts.table(pd.DataFrame(rows), _IDLE_COLUMNS, key="live_idle", max_rows=8)


_IDLE_COLUMNS = {
    "transaction_s": parts.number("Open for", "%.0f s", "Since the transaction began.", 80),
    "state_s": parts.number("Idle for", "%.0f s", "Since its last statement ended.", 75),
    "pid": parts.text("Process", width=80),
    "who": parts.text("Application · user", width=140),
    "query": parts.text("Last statement", width=200),
    "xmin_age": parts.number(
        "Holds back", "%,d", "Transactions since its snapshot; VACUUM must wait for it.", 85
    ),
}


def _connections(picture: Picture) -> None:
    rows = pd.DataFrame(list(picture.connections), columns=["state", "connections"])
    rows["share"] = rows["connections"] / max(1, picture.max_connections)
    parts.table(
        rows,
        {
            "state": parts.text("State", width=200),
            "connections": parts.number("Connections", "%d", width=100),
            "share": parts.bar("of max_connections", "Share of all there may be.", width=150),
        },
        key="live_connections",
        max_rows=8,
    )


def _cancelling(config: Config, name: str, picture: Picture) -> None:
    """Offer to cancel a statement where the settings allow it; say how where they do not."""
    if not may_cancel(config, name):
        st.caption(
            "Statements are not cancelled from here: that takes `PERFCORE_CANCEL=on` and a DSN in "
            "`PERFCORE_APPLY_DSNS`."
        )
        return
    if said := st.session_state.pop("_live_said", ""):
        st.info(said)
    able = [s for s in picture.active if s.query_start is not None and s.query != WITHHELD]
    if not able:
        return
    with st.popover("Cancel a statement", icon=":material/cancel:"):
        _confirm(config, name, able)


def _confirm(config: Config, name: str, able: Sequence[Activity]) -> None:
    labels = {f"{s.pid}@{s.query_start}": s for s in able}
    chosen = st.selectbox(
        "Statement",
        list(labels),
        format_func=lambda key: f"{labels[key].pid}: {words.gist(labels[key].query, 80)}",
        key="live_cancel_which",
    )
    session = labels[chosen]
    st.code(session.query, language="sql", wrap_lines=True)
    st.markdown(
        f"Process **{session.pid}** of {words.plain(session.application or session.role)}: its "
        "statement ends with an error, its session goes on."
    )
    st.button(
        f"Cancel the statement of process {session.pid}",
        type="primary",
        key=f"live_cancel_{chosen}",
        on_click=_cancel,
        args=(config, name, session),
    )


def _cancel(config: Config, name: str, session: Activity) -> None:
    assert session.query_start is not None
    try:
        cancel_statement(config, name, session.pid, session.query_start)
        said = f"The statement of process {session.pid} was told to end."
    except PerfcoreError as error:
        said = words.plain(f"{error} {error.hint}".strip())
    st.session_state["_live_said"] = said
