"""Suggestions about settings and maintenance: what they share, and their numbers in words."""

from __future__ import annotations

import math
from datetime import datetime, timedelta

from psycopg import sql

from perfcore.advise.identity import suggestion_id
from perfcore.advise.server_state import MB, ServerState, SettingValue
from perfcore.advise.workload import Options
from perfcore.types import Evidence, Finding, StatementGain, Suggestion

# Between the statements of a DDL that has several: each is to be run on its own.
STEP = ";\n"
RELOAD = "SELECT pg_catalog.pg_reload_conf()"
_MANAGED = "On a managed server set it where the provider keeps its settings."


def suggest(
    options: Options,
    kind: str,
    subject: str,
    title: str,
    finding: Finding,
    reason: str,
    *,
    ddl: str = "",
    undo: str = "",
    present: str = "",
    proposed: str = "",
    verify: str = "",
    risk: str = "",
    caveats: tuple[str, ...] = (),
    statements: tuple[StatementGain, ...] = (),
    index_bytes: int | None = None,
    write_cost: str = "",
    id_kind: str = "",
) -> Suggestion:
    """Return a suggestion whose gain is no time that anybody could promise.

    `id_kind` stands for the kind in its identity, where the kind alone is not enough.
    """
    return Suggestion(
        suggestion_id=suggestion_id(options.target_id, id_kind or kind, subject),
        target_id=options.target_id,
        kind=kind,
        title=title,
        reason=reason,
        finding=finding,
        evidence=Evidence.ESTIMATED,
        saved_ms_per_hour=0.0,
        ddl=ddl,
        undo=undo,
        index_bytes=index_bytes,
        write_cost=write_cost,
        risk=risk,
        statements=statements,
        caveats=caveats,
        present=present,
        proposed=proposed,
        verify=verify,
    )


def suggest_setting(
    options: Options,
    setting: SettingValue,
    value: str,
    title: str,
    finding: Finding,
    reason: str,
    *,
    verify: str,
    risk: str = "",
    caveats: tuple[str, ...] = (),
) -> Suggestion:
    """Return the suggestion to give a setting of the whole server another value."""
    takes_over = (
        "The server must be restarted to take it over: connections are cut for seconds."
        if setting.needs_restart
        else "A reload takes it over; nothing is interrupted."
    )
    return suggest(
        options,
        "setting",
        f"setting/{setting.name}",
        title,
        finding,
        reason,
        ddl=alter_system(setting, value),
        undo=alter_system(setting, exact_words(setting)),
        present=setting_words(setting),
        proposed=value,
        verify=verify,
        risk=f"{risk} {takes_over}".strip(),
        caveats=(*caveats, *_pending(setting), _MANAGED),
    )


def _pending(setting: SettingValue) -> tuple[str, ...]:
    if not setting.is_pending_restart:
        return ()
    return (f"{setting.name} was changed already and waits for a restart: restart first.",)


def alter_system(setting: SettingValue, value: str) -> str:
    """Return the statements that set it; one that needs a restart is not reloaded in vain."""
    statement = (
        sql.SQL("ALTER SYSTEM SET {} = {}")
        .format(sql.SQL(".").join(map(sql.Identifier, setting.name.split("."))), sql.Literal(value))
        .as_string(None)
    )
    return statement if setting.needs_restart else statement + STEP + RELOAD


def alter_database(server: ServerState, name: str, value: str) -> tuple[str, str]:
    """Return what sets it for this database's new sessions, and what takes that back."""
    database = sql.Identifier(server.counters.database).as_string(None)
    return (
        f"ALTER DATABASE {database} SET {name} = {sql.Literal(value).as_string(None)}",
        f"ALTER DATABASE {database} RESET {name}",
    )


def table_sql(schema: str, name: str) -> str:
    return sql.Identifier(schema, name).as_string(None)


def exact_words(setting: SettingValue) -> str:
    """Return the value as ALTER SYSTEM takes it, exact.

    >>> exact_words(SettingValue("work_mem", "4096", "kB", "user"))
    '4096kB'
    >>> exact_words(SettingValue("shared_buffers", "16384", "8kB", "postmaster"))
    '128MB'
    """
    if setting.unit in ("8kB", "16MB") and setting.number >= 0:
        kilobytes = int(setting.size_bytes) >> 10
        return f"{kilobytes}kB" if kilobytes % 1024 else f"{kilobytes >> 10}MB"
    return setting.text + ("" if setting.number_is_special else setting.unit)


def setting_words(setting: SettingValue) -> str:
    """Return the value for people: "128 MB", "on", "4"."""
    if setting.unit in ("kB", "8kB", "MB", "16MB", "GB") and setting.number >= 0:
        return size_words(setting.size_bytes)
    return f"{setting.text} {setting.unit}".strip()


def size_words(size_bytes: float) -> str:
    """Return a size of memory or a file, in binary units as PostgreSQL's settings are.

    >>> size_words(128 * MB), size_words(1.5 * 1024 * MB), size_words(8192)
    ('128 MB', '1.5 GB', '8 kB')
    """
    if size_bytes >= 1024 * MB:
        return f"{size_bytes / 1024 / MB:,.1f}".removesuffix(".0") + " GB"
    if size_bytes >= MB:
        return f"{size_bytes / MB:,.0f} MB"
    return f"{size_bytes / 1024:,.0f} kB"


def size_literal(size_bytes: float) -> str:
    """Return a size as a setting takes it, rounded down to a number that people would write.

    >>> size_literal(6.4 * 1024 * MB), size_literal(1000 * MB), size_literal(37 * MB)
    ('6GB', '960MB', '32MB')
    """
    megabytes = int(size_bytes / MB)
    if megabytes >= 2048:
        return f"{megabytes // 1024}GB"
    step = 64 if megabytes >= 128 else 8
    return f"{max(megabytes // step * step, 1)}MB"


def literal_bytes(literal: str) -> int:
    """Return the bytes of what `size_literal` wrote.

    >>> literal_bytes("6GB") == 6 * 1024 * MB
    True
    """
    return int(literal[:-2]) * (1024 * MB if literal.endswith("GB") else MB)


def span_words(hours: float) -> str:
    """Return a span in the unit that suits it.

    >>> span_words(0.5), span_words(5), span_words(100)
    ('30 minutes', '5.0 hours', '4.2 days')
    """
    if hours < 2:
        return f"{hours * 60:,.0f} minutes"
    return f"{hours:,.1f} hours" if hours < 48 else f"{hours / 24:,.1f} days"


def hours_between(start: datetime, end: datetime) -> float:
    return (end - start) / timedelta(hours=1)


def power_of_two_mb(size_bytes: float) -> int:
    """Return the megabytes rounded up to a power of two.

    >>> power_of_two_mb(33 * MB)
    64
    """
    return int(2 ** math.ceil(math.log2(max(size_bytes / MB, 1.0))))


def assumed_memory(server: ServerState | None) -> tuple[float, str]:
    """Return the host's memory, or what it is at least where nobody told, with the words for it.

    Four times shared_buffers is assumed: the manual's rule of a quarter of the memory.
    """
    if server is not None and server.memory_bytes is not None:
        words = f"{size_words(server.memory_bytes)} of memory, {server.memory_source}"
        return float(server.memory_bytes), words
    shared = (server.size_bytes("shared_buffers") if server else None) or 128.0 * MB
    memory = max(4 * shared, 1024.0 * MB)
    words = (
        f"assuming {size_words(memory)} of memory, four times shared_buffers; tell the true figure "
        "in PERFCORE_TARGET_MEMORY_MB"
    )
    return memory, words
