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
from perfcore.config import SETTINGS
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
        "GRANT pg_monitor TO {role};\nGRANT pg_read_all_data TO {role};",
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
            "Name one or several and start again. A role with pg_monitor is enough to read.",
            command='export PERFCORE_TARGETS="shop=postgresql://monitor:secret@host:5432/shop"',
        )
    for target in state.targets:
        _target(target, state)


def _target(target: TargetState, state: CollectionState) -> None:
    seen = target.last_seen_at
    is_fresh = seen is not None and (state.read_at - seen).total_seconds() < _STALE_S
    with st.container(border=True, gap="xsmall"):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f"**{words.plain(target.name)}**", width="content")
            if target.last_error:
                st.badge("error", icon=":material/error:", color="red")
            elif is_fresh:
                st.badge("read", icon=":material/check:", color="green")
            else:
                st.badge("silent", icon=":material/schedule:", color="orange")
        st.caption(
            f"{words.server_version(target.server_version)} · database "
            f"{words.plain(target.database or words.NOTHING)} · last read "
            f"{words.ago(seen, state.read_at)}"
        )
        if target.last_error:
            st.code(target.last_error, language=None, wrap_lines=True)
            if sql := remedy(target.last_error):
                st.caption("This ends it:")
                st.code(sql, language="sql")
        elif not is_fresh:
            st.caption("No collector reads it. Start one with:")
            st.code("python -m perfcore collect", language="bash")
        if target.settings:
            with st.expander("Its settings", key=f"settings_{target.target_id}"):
                _two_columns(target.settings, "Setting", "Value", f"target_{target.target_id}")


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
