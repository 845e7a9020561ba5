"""Bring the store's schema up to date: forward only, one transaction a file, checked by sha256.

A file changes the catalogue and reads and rewrites no big table: what stored rows need is done
afterwards by the roller, some at a time. A lock that a file needs is waited for in short turns,
because whoever sends meanwhile queues behind the wait.
"""

from __future__ import annotations

import hashlib
import re
import time
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg.rows import TupleRow

from perfcore.db import connect
from perfcore.errors import MigrationError, StoreUnavailable

MIGRATIONS = Path(__file__).parents[2] / "migrations"
# Any constant will do, as long as every program that migrates this store uses the same.
_LOCK_KEY = 0x70657266636F7265 & 0x7FFFFFFFFFFFFFFF
_LOCK_WAIT_S = 30.0
_TURN_MS, _PAUSE_S = 500, 0.5

_LEDGER = """
CREATE SCHEMA IF NOT EXISTS perfcore;
CREATE TABLE IF NOT EXISTS perfcore.schema_migrations (
    version    text PRIMARY KEY,
    name       text NOT NULL,
    sha256     text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)
"""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file: `version` is its fourteen digits, `sha256` that of its bytes."""

    version: str
    name: str
    text: str
    sha256: str


def read_migrations(folder: Path = MIGRATIONS) -> list[Migration]:
    """Return the migrations of a folder in the order they apply.

    Raises MigrationError when a file's name has another form or two share a version.
    """
    found: dict[str, Migration] = {}
    for path in sorted(folder.glob("*.sql")):
        match = re.fullmatch(r"(\d{14})_([a-z0-9_]+)\.sql", path.name)
        if not match:
            raise MigrationError(
                f"migration {path.name}: the name must be YYYYMMDDHHMMSS_verb_subject.sql"
            )
        version, name = match.groups()
        if version in found:
            raise MigrationError(
                f"migrations {found[version].name} and {name} share the version {version}"
            )
        content = path.read_bytes()
        found[version] = Migration(
            version, name, content.decode(), hashlib.sha256(content).hexdigest()
        )
    return list(found.values())


def migrate(dsn: str, folder: Path = MIGRATIONS) -> list[Migration]:
    """Apply what the store lacks and return it, an empty list when nothing was missing.

    Any number of processes may call it at once: one migrates, the others wait up to 30 s
    for it. Raises MigrationError when the store is newer than this program, when an
    applied file was edited since, or when the wait is over; StoreUnavailable when the
    store cannot be reached.
    """
    migrations = read_migrations(folder)
    try:
        connection = connect(dsn, autocommit=True)
    except psycopg.OperationalError as error:
        raise StoreUnavailable(
            f"cannot reach the store: {error}", hint="check PERFCORE_STORE"
        ) from error
    with connection:
        connection.execute(f"SET lock_timeout = {round(_LOCK_WAIT_S * 1000)}")
        try:
            connection.execute("SELECT pg_advisory_lock(%s)", (_LOCK_KEY,))
        except psycopg.errors.LockNotAvailable:
            raise MigrationError(
                f"another process has been migrating this store for over {_LOCK_WAIT_S:g} s: "
                "try again when it is done"
            ) from None
        connection.execute(f"SET lock_timeout = {_TURN_MS}")
        connection.execute(_LEDGER)
        missing = _missing(connection, migrations)
        for migration in missing:
            _apply(connection, migration)
        return missing


def _missing(
    connection: psycopg.Connection[TupleRow], migrations: list[Migration]
) -> list[Migration]:
    rows = connection.execute("SELECT version, sha256 FROM perfcore.schema_migrations").fetchall()
    applied: dict[str, str] = dict(rows)
    known = {m.version: m for m in migrations}
    newest = max(known, default="0")
    for version, sha256 in sorted(applied.items()):
        if version not in known:
            raise MigrationError(
                f"schema {version} is newer than this program ({newest}): upgrade, or restore"
            )
        if known[version].sha256 != sha256:
            raise MigrationError(
                f"migration {version}_{known[version].name} was edited after it was applied: "
                "restore the file and write a new migration"
            )
    return [m for m in migrations if m.version not in applied]


def _apply(connection: psycopg.Connection[TupleRow], migration: Migration) -> None:
    name = f"migration {migration.version}_{migration.name}"
    until = time.monotonic() + _LOCK_WAIT_S
    while True:
        try:
            _apply_once(connection, migration)
            return
        except psycopg.errors.LockNotAvailable as error:
            if time.monotonic() > until:
                raise MigrationError(
                    f"{name} waited over {_LOCK_WAIT_S:g} s for a lock: end the long transactions "
                    "on the store (pg_stat_activity shows them) and try again"
                ) from error
            time.sleep(_PAUSE_S)
        except psycopg.Error as error:
            raise MigrationError(f"{name} failed and was rolled back: {error}") from error


def _apply_once(connection: psycopg.Connection[TupleRow], migration: Migration) -> None:
    with connection.transaction():
        connection.execute(migration.text.encode())
        connection.execute("RESET search_path")
        connection.execute(
            "INSERT INTO perfcore.schema_migrations (version, name, sha256) VALUES (%s, %s, %s)",
            (migration.version, migration.name, migration.sha256),
        )
