"""The parts of Settings & readiness: who is watched, what arrived, how it is set."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

import pandas as pd
import streamlit as st

import perfcore
from perfcore.collect.readiness import Check, Readiness, examine
from perfcore.config import SETTINGS, load_config
from perfcore.db import redact
from perfcore.store.read import CollectionState, ProcessState, TargetState
from perfcore.ui import frame, parts, words

_STALE_S = 120.0
INSTRUMENT = """from perfcore.collect import PerfcoreMiddleware, watch

app.add_middleware(PerfcoreMiddleware, service="shop")  # your ASGI application
watch(engine)                                           # your SQLAlchemy engine"""
# What a target's error speaks of, and the SQL or command that ends it.
_REMEDIES = (
    (
        r"pg_stat_statements.*(does not exist|not (installed|created|found|loaded)|missing)"
        r"|shared_preload_libraries",
        "ALTER SYSTEM SET shared_preload_libraries = 'pg_stat_statements';\n"
        "-- restart the server, then in the watched database:\n"
        "CREATE EXTENSION IF NOT EXISTS pg_stat_statements;",
    ),
    (
        r"permission denied|insufficient privilege|pg_monitor|pg_read_all_stats",
        "GRANT pg_monitor TO {role};\nGRANT SELECT ON ALL TABLES IN SCHEMA public TO {role};",
    ),
    (
        r"password authentication failed|role .* does not exist|no password",
        "CREATE ROLE {role} LOGIN PASSWORD '…';\nGRANT pg_monitor TO {role};\n"
        "-- and write the same password into PERFCORE_TARGETS",
    ),
    (r"database .* does not exist", "-- correct the database's name in PERFCORE_TARGETS"),
    (
        r"refused|timeout|timed out|could not (connect|translate)|connection failed"
        r"|cannot be reached",
        "-- start the server, or correct host and port in PERFCORE_TARGETS",
    ),
)


def remedy(error: str, role: str = "perfcore") -> str:
    """Return the SQL that ends a target's error, empty where none is known.

    >>> remedy("permission denied for view pg_stat_statements").splitlines()[0]
    'GRANT pg_monitor TO perfcore;'
    """
    for pattern, sql in _REMEDIES:
        if re.search(pattern, error, re.IGNORECASE | re.DOTALL):
            return sql.replace("{role}", role)
    return ""


def targets(state: CollectionState) -> None:
    """Draw each watched database with when it was read, and what it lacks."""
    if not state.targets:
        frame.nothing_here(
            "No database is watched",
            "Prepare a server, name its databases and start again. The role it makes only reads.",
            command="python -m perfcore doctor --setup-sql > setup.sql\n"
            "psql -d shop -f setup.sql\n"
            'export PERFCORE_TARGETS="shop=postgresql://perfcore_reader:…@host:5432/shop"',
        )
    dsns = load_config().targets
    found = _examined(dsns) if dsns else {}
    for target in state.targets:
        _target(target, state, found.get(target.name))


@st.cache_data(ttl=30, max_entries=8, show_spinner="Asking each database what it lacks …")
def _examined(targets: tuple[tuple[str, str], ...]) -> dict[str, Readiness]:
    return {found.target: found for found in examine(targets)}


def _target(target: TargetState, state: CollectionState, found: Readiness | None) -> None:
    seen = target.last_seen_at
    is_fresh = seen is not None and (state.read_at - seen).total_seconds() < _STALE_S
    with st.container(border=True, gap="xsmall"):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f"**{words.plain(target.name)}**", width="content")
            _badges(target, found, is_fresh=is_fresh)
        st.caption(
            f"{words.server_version(target.server_version)} · database "
            f"{words.plain(target.database or words.NOTHING)} · last read "
            f"{words.ago(seen, state.read_at)}"
        )
        if target.last_error:
            st.code(target.last_error, language=None, wrap_lines=True)
            if found is None and (sql := remedy(target.last_error)):
                st.caption("This ends it:")
                st.code(sql, language="sql")
        elif not is_fresh:
            st.caption("No collector reads it. Start one with:")
            st.code("python -m perfcore collect", language="bash")
        if found is not None:
            _readiness(found)
        else:
            st.caption(
                "This process has no DSN for it. What it still needs is said by `perfcore doctor` "
                "where the collector runs."
            )
        if target.settings:
            with st.expander("Its settings", key=f"settings_{target.target_id}"):
                _two_columns(target.settings, "Setting", "Value", f"target_{target.target_id}")


def _badges(target: TargetState, found: Readiness | None, *, is_fresh: bool) -> None:
    if target.last_error:
        st.badge("error", icon=":material/error:", color="red")
    elif is_fresh:
        st.badge("read", icon=":material/check:", color="green")
    else:
        st.badge("silent", icon=":material/schedule:", color="orange")
    if found is not None and found.is_reachable:
        count = len(found.missing)
        if count:
            st.badge(f"{count} missing", icon=":material/build:", color="orange")
        else:
            st.badge("ready", icon=":material/verified:", color="green")


def _readiness(found: Readiness) -> None:
    """Draw what a target lacks with its cost and remedy; what is optional or well, folded."""
    for check in found.missing:
        _check(check)
    notes = [check for check in found.checks if check.state == "note"]
    well = [check for check in found.checks if check.state == "ok"]
    if not notes and not well:
        return
    label = f"Well: {len(well)}" + (f" · worth knowing: {len(notes)}" if notes else "")
    with st.expander(label, key=f"checks_{found.target}"):
        for check in notes:
            _check(check)
        for check in well:
            st.caption(
                f":green[:material/check:] **{words.plain(check.name)}** "
                f"{words.plain(check.finding)}"
            )


def _check(check: Check) -> None:
    colour, icon = ("orange", "build") if check.state == "missing" else ("gray", "info")
    cost = f"  \n:gray[costs: {words.plain(check.cost)}]" if check.cost else ""
    st.markdown(
        f":{colour}[:material/{icon}:] **{words.plain(check.name)}**: "
        f"{words.plain(check.finding)}{cost}"
    )
    if check.remedy:
        restart = "\n-- and restart the server" if check.needs_restart else ""
        st.code(check.remedy + restart, language="sql", wrap_lines=True)


def no_statements(state: CollectionState) -> None:
    """Say why there is no statement to show."""
    frame.nothing_here(
        "No statement was read in this range",
        "Statements come from pg_stat_statements of each watched database. Choose a longer range "
        "if the collector ran earlier; what a database still needs stands below.",
    )
    targets(state)


def accounting(state: CollectionState) -> None:
    """Draw per sending process what it generated and what became of it."""
    if not state.processes:
        frame.nothing_here(
            "No application has sent anything yet",
            "Two lines bring an application in, started with PERFCORE_STORE set to this store.",
            command=INSTRUMENT,
            language="python",
        )
        return
    rows = pd.DataFrame([_account(p) for p in state.processes])
    parts.table(
        rows,
        {
            "service": parts.text("Service"),
            "process": parts.text("Process", "host:pid:start of the sender."),
            "generated": parts.number("Generated", "%,d", "Samples, as the sender counts them."),
            "stored": parts.number("Stored", "%,d", "Samples that arrived here."),
            "spooled": parts.number("Spooled", "%,d", "On the sender's disk, on their way."),
            "buffered": parts.number(
                "Buffered", "%,d", "Measured, and not flushed when the last batch was sent."
            ),
            "dropped": parts.number("Dropped", "%,d", "Given up by the sender, with reasons."),
            "reasons": parts.text("Reasons", width="small"),
            "missing": parts.number("Missing", "%,d", "Unaccounted for: anything but 0 is a bug."),
            "self_errors": parts.number(
                "Own errors", "%,d", "Exceptions of Perfcore's own that the application never saw."
            ),
            "quarantined": parts.number("Bad rows", "%,d", "Rows that no table takes."),
            "spool_bytes": parts.number("Spool bytes", "%,d", "On the sender's disk."),
            "trouble": parts.text("Store was", "The last time that it took nothing."),
            "last": parts.text("Last flush"),
        },
        key="accounting",
    )
    st.caption("generated = stored + spooled + buffered + dropped + missing")


def _account(process: ProcessState) -> dict[str, Any]:
    account = process.account
    return {
        "service": process.service,
        "process": process.process,
        "generated": account.generated,
        "stored": account.stored,
        "spooled": account.spooled,
        "buffered": account.buffered,
        "dropped": sum(account.dropped.values()),
        "reasons": ", ".join(f"{k}: {v}" for k, v in account.dropped.items()),
        "missing": account.missing,
        "self_errors": account.self_errors,
        "quarantined": account.quarantined,
        "spool_bytes": account.spool_bytes,
        "trouble": account.trouble,
        "last": words.ago(process.last_received_at),
    }


def settings(environ: Mapping[str, str] | None = None) -> None:
    """Draw every setting with its value here; passwords are hidden."""
    environ = os.environ if environ is None else environ
    rows = pd.DataFrame(
        [
            {
                "name": s.name,
                "value": redact(environ.get(s.name, s.default)) or "(empty)",
                "origin": "environment" if s.name in environ else "default",
                "unit": s.unit,
                "help": s.help,
            }
            for s in SETTINGS
        ]
    )
    parts.table(
        rows,
        {
            "name": parts.text("Variable", width=230),
            "value": parts.text("Value", width="medium"),
            "origin": parts.text("From", width=100),
            "unit": parts.text("Unit", width=100),
            "help": parts.text("Meaning", width="large"),
        },
        key="settings",
        max_rows=30,
    )


def versions(packages: Sequence[str] = ("streamlit", "plotly", "pandas", "psycopg")) -> None:
    """Say which versions are at work."""
    found = {"Perfcore": perfcore.__version__, "Python": platform.python_version()}
    found |= {name: metadata.version(name) for name in packages}
    st.caption(" · ".join(f"{words.plain(k)} {words.plain(v)}" for k, v in found.items()))


def _two_columns(pairs: Mapping[str, Any], left: str, right: str, key: str) -> None:
    rows = pd.DataFrame({"name": list(pairs), "value": [str(v) for v in pairs.values()]})
    parts.table(rows, {"name": parts.text(left), "value": parts.text(right)}, key=key)
