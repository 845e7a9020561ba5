"""What a target still needs: each missing extension, setting or right, its cost and its remedy.

One list feeds `perfcore doctor` and the readiness page.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from perfcore.collect.target import Connection, open_target, read
from perfcore.db import redact
from perfcore.target import (
    CertificateRefused,
    NeedsDirectConnection,
    dangerous_rights,
    is_remote,
    secured,
    shown,
)

OLDEST_MAJOR, NEWEST_MAJOR = 13, 18
MAX_SKEW_S = 5.0
LEAST_QUERY_SIZE_BYTES = 4096
_EXTENSION = "pg_stat_statements"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that a target has, lacks, or that is worth knowing."""

    name: str
    state: str  # ok, missing (costs a feature), note (costs nothing that was asked for)
    finding: str
    cost: str = ""  # what does not work meanwhile
    remedy: str = ""  # the exact SQL or command
    needs_restart: bool = False


@dataclass(frozen=True, slots=True)
class Readiness:
    """One target, with every check in the order in which it is best mended."""

    target: str
    place: str  # user@host:port/database
    is_reachable: bool
    server_version: str
    checks: tuple[Check, ...]

    @property
    def missing(self) -> tuple[Check, ...]:
        return tuple(c for c in self.checks if c.state == "missing")


@dataclass(frozen=True, slots=True)
class Extension:
    """An extension that the server has, and what this database has of it."""

    available: str
    installed: str  # empty: not in this database
    schema: str


@dataclass(frozen=True, slots=True)
class Facts:
    """What a target says of itself, as far as readiness depends on it."""

    server_version: int
    server_version_text: str
    database: str
    role: str
    role_identifier: str  # as SQL writes it
    is_standby: bool
    reads_all_stats: bool
    is_monitor: bool
    is_encrypted: bool
    is_remote: bool
    sslmode: str
    skew_s: float
    settings: Mapping[str, str]
    extensions: Mapping[str, Extension]
    evictions: int
    unreadable: tuple[tuple[str, str, int], ...]  # schema, as SQL writes it, tables
    dangerous: tuple[str, ...]

    @property
    def major(self) -> int:
        return self.server_version // 10000


def examine(targets: Sequence[tuple[str, str]]) -> list[Readiness]:
    """Return the readiness of each (name, DSN), all asked at the same time."""
    if not targets:
        return []
    with ThreadPoolExecutor(min(8, len(targets)), thread_name_prefix="perfcore-doctor") as pool:
        return list(pool.map(lambda target: examine_one(*target), targets))


def _utc_now() -> datetime:
    return datetime.now(UTC)


def examine_one(name: str, dsn: str, now: Callable[[], datetime] = _utc_now) -> Readiness:
    """Return the readiness of one target, over a connection of its own that is closed again."""
    place = shown(dsn)
    try:
        with open_target(dsn) as connection:
            facts = read_facts(connection, dsn, now)
    except psycopg.Error as error:
        return Readiness(name, place, False, "", (_unreachable(dsn, error),))
    version = f"PostgreSQL {facts.server_version_text}"
    return Readiness(name, place, True, version, tuple(checks(facts)))


def read_facts(connection: Connection, dsn: str, now: Callable[[], datetime] = _utc_now) -> Facts:
    """Ask a target for everything that the checks look at."""
    before = now()
    server = read(connection, "readiness_server")[0]
    between = before + (now() - before) / 2
    extensions = {
        row["name"]: Extension(row["available"], row["installed"] or "", row["schema"] or "")
        for row in read(connection, "readiness_extensions")
    }
    settings = {row["name"]: row["setting"] for row in read(connection, "readiness_settings")}
    parameters = conninfo_to_dict(secured(dsn))
    host = str(parameters.get("host") or parameters.get("hostaddr") or "")
    target_now = server.pop("now")
    return Facts(
        **server,
        is_remote=any(is_remote(each) for each in host.split(",")),
        sslmode=str(parameters.get("sslmode") or "prefer"),
        skew_s=(target_now - between).total_seconds(),
        settings=settings,
        extensions=extensions,
        evictions=_evictions(connection, extensions.get(_EXTENSION), settings),
        unreadable=tuple(
            (row["schema"], row["identifier"], int(row["tables"]))
            for row in read(connection, "readiness_unreadable")
        ),
        dangerous=dangerous_rights(connection),
    )


def _evictions(
    connection: Connection, extension: Extension | None, settings: Mapping[str, str]
) -> int:
    if extension is None or not extension.installed or f"{_EXTENSION}.max" not in settings:
        return 0
    try:
        rows = read(connection, "readiness_evictions", extension_schema=extension.schema)
    except psycopg.Error:
        return 0  # an extension from before the server's upgrade; its own check says so
    return int(rows[0]["evictions"])


def checks(facts: Facts) -> list[Check]:
    """Return every check, with what is well among them."""
    if facts.major < OLDEST_MAJOR:
        return [_too_old(facts)]
    found = [
        _version(facts),
        _encryption(facts),
        _clock(facts),
        _standby(facts),
        _role(facts),
        _monitor(facts),
        *_statements(facts),
        *(_setting(facts, need) for need in _NEEDS),
        _query_size(facts),
        *_plan_rights(facts),
        _hypopg(facts),
    ]
    return [check for check in found if check is not None]


def _too_old(facts: Facts) -> Check:
    return Check(
        "version",
        "missing",
        f"PostgreSQL {facts.server_version_text} is too old",
        f"nothing is collected: Perfcore reads {OLDEST_MAJOR} and newer",
        "-- upgrade the server (pg_upgrade)",
        needs_restart=True,
    )


def _version(facts: Facts) -> Check:
    said = f"PostgreSQL {facts.server_version_text}"
    if facts.major > NEWEST_MAJOR:
        return Check(
            "version",
            "note",
            f"{said} is newer than {NEWEST_MAJOR}, the newest that this Perfcore knows",
            "what it renamed may be missing; the rest is collected",
            "-- upgrade Perfcore",
        )
    return Check("version", "ok", said)


def _encryption(facts: Facts) -> Check:
    if not facts.is_remote:
        return Check("encryption", "ok", "the connection does not leave this machine")
    if facts.is_encrypted and facts.sslmode == "verify-full":
        return Check("encryption", "ok", "encrypted, and the server's certificate is verified")
    what = "encrypted" if facts.is_encrypted else "in plain text"
    return Check(
        "encryption",
        "note",
        f"the connection is {what}, and sslmode={facts.sslmode} does not verify the server",
        "whoever is in between can read statements and password",
        "-- write ?sslmode=verify-full into the DSN, or leave sslmode out",
    )


def _clock(facts: Facts) -> Check:
    if abs(facts.skew_s) <= MAX_SKEW_S:
        return Check("clock", "ok", "its clock agrees with this machine's")
    side = "ahead of" if facts.skew_s > 0 else "behind"
    return Check(
        "clock",
        "missing",
        f"its clock is {abs(facts.skew_s):.0f} s {side} this machine's",
        "what the server counted and what the application measured do not line up on charts",
        "-- set both clocks by NTP (timedatectl set-ntp true)",
    )


def _standby(facts: Facts) -> Check:
    if not facts.is_standby:
        return Check("standby", "ok", "the server takes writes")
    return Check(
        "standby",
        "note",
        "the target is a standby",
        "indexes are made on its primary only, and so are the statements of setup.sql",
        "-- give the primary's address in PERFCORE_APPLY_DSNS",
    )


def _role(facts: Facts) -> Check:
    if not facts.dangerous:
        return Check("role", "ok", f"{facts.role} may read and nothing else of note")
    return Check(
        "role",
        "missing",
        f"{facts.role} may more than watching needs: {', '.join(facts.dangerous)}",
        "no advice: refusing to EXPLAIN as superuser or with rights like its: "
        "create the role from setup.sql",
        "-- perfcore doctor --setup-sql > setup.sql; psql -f setup.sql; then name "
        "perfcore_reader in PERFCORE_TARGETS",
    )


def _monitor(facts: Facts) -> Check:
    role = facts.role_identifier
    if facts.is_monitor:
        return Check("pg_monitor", "ok", "statistics and settings are readable")
    if not facts.reads_all_stats:
        return Check(
            "pg_monitor",
            "missing",
            f"{facts.role} sees <insufficient privilege> in place of others' statements",
            "no texts, no plans and no advice for statements of other roles",
            f"GRANT pg_monitor TO {role};  -- holds pg_read_all_stats",
        )
    return Check(
        "pg_monitor",
        "missing",
        f"{facts.role} is not a member of pg_monitor",
        "some settings and sizes are hidden",
        f"GRANT pg_monitor TO {role};",
    )


def _statements(facts: Facts) -> list[Check]:
    """Return what pg_stat_statements lacks, the first thing to mend first."""
    extension = facts.extensions.get(_EXTENSION)
    if extension is None:
        return [
            Check(
                _EXTENSION,
                "missing",
                "the server's installation has no pg_stat_statements",
                _NO_STATEMENTS,
                f"-- apt-get install postgresql-contrib (Debian: part of postgresql-{facts.major})",
            )
        ]
    found = []
    if f"{_EXTENSION}.max" not in facts.settings:
        found.append(_not_preloaded(facts))
    if not extension.installed:
        found.append(
            Check(
                _EXTENSION,
                "missing",
                f"it is not installed in database {facts.database}",
                _NO_STATEMENTS,
                "CREATE EXTENSION pg_stat_statements;",
            )
        )
    elif extension.installed != extension.available:
        found.append(
            Check(
                _EXTENSION,
                "missing",
                f"its version is {extension.installed}, the server's is {extension.available}",
                "columns of newer versions are missing, and with them what is read from them",
                "ALTER EXTENSION pg_stat_statements UPDATE;",
            )
        )
    found += _counting(facts)
    if not found:
        where = "" if extension.schema == "public" else f" in schema {extension.schema}"
        found.append(
            Check(_EXTENSION, "ok", f"version {extension.installed}{where}, and it counts")
        )
    return found


_NO_STATEMENTS = "no statements: the Queries page stays empty and there is no advice"


def _not_preloaded(facts: Facts) -> Check:
    listed = facts.settings.get("shared_preload_libraries")
    libraries = [*_list(listed or ""), _EXTENSION]
    literals = ", ".join(sql.Literal(name).as_string(None).strip() for name in libraries)
    caution = (
        "" if listed is not None else "-- keep what SHOW shared_preload_libraries lists already\n"
    )
    return Check(
        "shared_preload_libraries",
        "missing",
        "pg_stat_statements is not loaded",
        _NO_STATEMENTS,
        f"{caution}ALTER SYSTEM SET shared_preload_libraries = {literals};",
        needs_restart=True,
    )


def _counting(facts: Facts) -> list[Check]:
    found = []
    if facts.settings.get(f"{_EXTENSION}.track") == "none":
        found.append(
            Check(
                f"{_EXTENSION}.track",
                "missing",
                "it is none",
                "no statement is counted",
                "ALTER SYSTEM SET pg_stat_statements.track = 'top';\nSELECT pg_reload_conf();",
            )
        )
    if facts.settings.get("compute_query_id") == "off":
        found.append(
            Check(
                "compute_query_id",
                "missing",
                "it is off",
                "no statement is counted, and no running one is known by its page",
                "ALTER SYSTEM SET compute_query_id = 'auto';\nSELECT pg_reload_conf();",
            )
        )
    most = int(facts.settings.get(f"{_EXTENSION}.max", 0))
    if facts.evictions:
        found.append(
            Check(
                f"{_EXTENSION}.max",
                "missing",
                f"it is {most}, and entries were evicted {facts.evictions} times",
                "the list of queries is incomplete",
                f"ALTER SYSTEM SET pg_stat_statements.max = {max(10_000, 2 * most)};",
                needs_restart=True,
            )
        )
    return found


@dataclass(frozen=True, slots=True)
class _Need:
    """A setting that must be on."""

    name: str
    cost: str


_NEEDS = (
    _Need("track_io_timing", "no time of reads in plans and statements"),
    _Need("track_activities", "no running statements: the Live page stays empty"),
    _Need("track_counts", "no counters of tables and indexes, and autovacuum does not run"),
    _Need("autovacuum", "tables bloat and statistics age: plans get worse by themselves"),
)


def _setting(facts: Facts, need: _Need) -> Check | None:
    value = facts.settings.get(need.name)
    if value is None:
        return None
    if value == "on":
        return Check(need.name, "ok", "on")
    return Check(
        need.name,
        "missing",
        f"it is {value}",
        need.cost,
        f"ALTER SYSTEM SET {need.name} = on;\nSELECT pg_reload_conf();",
    )


def _query_size(facts: Facts) -> Check | None:
    value = facts.settings.get("track_activity_query_size")
    if value is None:
        return None
    if int(value) >= LEAST_QUERY_SIZE_BYTES:
        return Check("track_activity_query_size", "ok", f"{value} bytes")
    return Check(
        "track_activity_query_size",
        "note",
        f"it is {value} bytes",
        "longer statements are cut on the Live page",
        f"ALTER SYSTEM SET track_activity_query_size = '{LEAST_QUERY_SIZE_BYTES}';",
        needs_restart=True,
    )


def _plan_rights(facts: Facts) -> list[Check]:
    if not facts.unreadable:
        return [Check("SELECT", "ok", "every table is readable: plans and statistics")]
    role = facts.role_identifier
    grants = []
    for _, name, _ in facts.unreadable:
        grants.append(f"GRANT USAGE ON SCHEMA {name} TO {role};")
        grants.append(f"GRANT SELECT ON ALL TABLES IN SCHEMA {name} TO {role};")
    count = sum(tables for _, _, tables in facts.unreadable)
    schemas = ", ".join(schema for schema, _, _ in facts.unreadable)
    return [
        Check(
            "SELECT",
            "missing",
            f"{facts.role} may not read {count} of the tables and views (in {schemas})",
            "no plans of statements on them, no statistics for the twin, no copy for the lab",
            "\n".join(grants),
        )
    ]


def _hypopg(facts: Facts) -> Check:
    extension = facts.extensions.get("hypopg")
    if extension is not None and extension.installed:
        return Check("hypopg", "ok", f"version {extension.installed}")
    package = f"postgresql-{facts.major}-hypopg"
    install = "" if extension else f"-- first: apt-get install {package}\n"
    return Check(
        "hypopg",
        "note",
        "HypoPG is not installed; it is optional",
        "estimates come from the twin alone, without a second opinion by the target itself",
        f"{install}CREATE EXTENSION hypopg;",
    )


_UNREACHABLE = (
    (r"too many connections for role", "-- end the others, or ALTER ROLE … CONNECTION LIMIT 2"),
    (
        r"password authentication failed|no password supplied|role .* does not exist",
        "-- create the role (perfcore doctor --setup-sql), give it a password (\\password in "
        "psql) and write the same one into PERFCORE_TARGETS",
    ),
    (r"database .* does not exist", "-- correct the database's name in PERFCORE_TARGETS"),
    (r"no pg_hba\.conf entry", "-- add a line for this role and host to pg_hba.conf and reload"),
    (r"", "-- start the server, or correct host and port in PERFCORE_TARGETS"),
)


def _unreachable(dsn: str, error: psycopg.Error) -> Check:
    words = redact(" ".join(str(error).split()))
    cost = "nothing is collected"
    if isinstance(error, NeedsDirectConnection):
        return Check("connection", "missing", words, cost, "-- correct PERFCORE_TARGETS")
    if isinstance(error, CertificateRefused):
        return Check("connection", "missing", words, cost, "-- as the line above says")
    remedy = next(text for pattern, text in _UNREACHABLE if re.search(pattern, words))
    return Check("connection", "missing", words, cost, remedy)


def _list(setting: str) -> list[str]:
    """Return the names of a list setting.

    >>> _list('auto_explain, "Odd name"')
    ['auto_explain', 'Odd name']
    """
    return [name.strip().strip('"') for name in setting.split(",") if name.strip()]
