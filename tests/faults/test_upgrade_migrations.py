"""Migrations: killed after any statement, under load, beside others, and on a big store."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.rows import TupleRow

from perfcore.db import connect
from perfcore.errors import MigrationError
from perfcore.histogram import Histogram
from perfcore.store import migrate as migrating
from perfcore.store.ingest import write_batch
from perfcore.store.migrate import MIGRATIONS, Migration, migrate, read_migrations
from tests.store.test_ingest import a_batch

Connection = psycopg.Connection[TupleRow]
# What the first release had: later files must not stop a store that is full.
FIRST_RELEASE = "20261123130107"
GATE = 4711
WAIT_S = 60.0

# Stops whoever runs the statement whose number is in test_gate.stop_at, after that statement.
_TRAP = """
CREATE SCHEMA test_gate;
CREATE TABLE test_gate.stop_at (statement int);
INSERT INTO test_gate.stop_at VALUES (0);
CREATE FUNCTION test_gate.pass() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    nth int := coalesce(nullif(current_setting('test_gate.nth', true), ''), '0')::int + 1;
BEGIN
    PERFORM set_config('test_gate.nth', nth::text, true);
    IF nth = (SELECT statement FROM test_gate.stop_at) THEN
        -- Not a lock that one waits for: that would end by lock_timeout.
        WHILE NOT pg_try_advisory_xact_lock(4711) LOOP PERFORM pg_sleep(0.005); END LOOP;
    END IF;
END $$;
CREATE FUNCTION test_gate.after_ddl() RETURNS event_trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM test_gate.pass(); END $$;
CREATE FUNCTION test_gate.after_row() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM test_gate.pass(); RETURN NULL; END $$;
CREATE EVENT TRIGGER test_gate ON ddl_command_end EXECUTE FUNCTION test_gate.after_ddl();
CREATE TRIGGER test_gate AFTER INSERT ON perfcore.schema_migrations
    FOR EACH ROW EXECUTE FUNCTION test_gate.after_row();
"""
_SCHEMA = """
SELECT c.oid::regclass::text, c.relkind, c.relfilenode, a.attname, a.atttypid, a.attnotnull
  FROM pg_class c LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
 WHERE c.relnamespace = 'perfcore'::regnamespace
 UNION ALL
SELECT t.tgname, t.tgrelid::regclass::text::"char", 0, p.proname, 0, false
  FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid WHERE NOT tgisinternal
 UNION ALL
SELECT version, 'v', 0, name, 0, false FROM perfcore.schema_migrations
 ORDER BY 1, 2, 4
"""


@pytest.fixture
def admin(dsn: str) -> Iterator[Connection]:
    with connect(dsn, autocommit=True) as connection:
        yield connection


def folder_of(migrations: list[Migration], folder: Path) -> Path:
    """Return a folder that holds these files only, as an earlier version has them."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for m in migrations:
        shutil.copy(MIGRATIONS / f"{m.version}_{m.name}.sql", folder)
    return folder


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)


def _start_migrating(dsn: str, folder: Path) -> int:
    """Migrate in a child process; return its number. It ends without a word."""
    child = os.fork()
    if child:
        return child
    try:
        migrate(dsn, folder)
    finally:
        os._exit(0)


def _backends(admin: Connection) -> list[str]:
    rows = admin.execute(
        "SELECT coalesce(wait_event, '') FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid() "
        "AND backend_type = 'client backend'"
    )
    return [event for (event,) in rows]


def _kill_at(admin: Connection, dsn: str, folder: Path, statement: int) -> bool:
    """Kill -9 a process after its n-th statement; False when it had fewer and is through."""
    admin.execute("SELECT pg_advisory_lock(%s)", (GATE,))
    admin.execute("UPDATE test_gate.stop_at SET statement = %s", (statement,))
    child = _start_migrating(dsn, folder)
    ended: list[int] = []

    def stopped_or_over() -> bool:
        if "PgSleep" in _backends(admin):
            return True
        pid, _ = os.waitpid(child, os.WNOHANG)
        ended.extend([pid] if pid else [])
        return bool(ended)

    until(stopped_or_over)
    if not ended:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    admin.execute("SELECT pg_advisory_unlock(%s)", (GATE,))
    until(lambda: not _backends(admin))
    return not ended


@pytest.mark.fault(118)
def test_killed_after_any_statement_it_leaves_no_half_and_the_next_start_completes(
    dsn: str, admin: Connection, tmp_path: Path
) -> None:
    migrate(dsn, folder_of([], tmp_path / "none"))
    admin.execute(_TRAP)
    everything = read_migrations()
    killed = 0
    for n, migration in enumerate(everything):
        folder = folder_of(everything[: n + 1], tmp_path / "some")
        before = admin.execute(_SCHEMA).fetchall()
        statement = 1
        while _kill_at(admin, dsn, folder, statement):
            assert admin.execute(_SCHEMA).fetchall() == before, (migration.name, statement)
            statement += 1
            killed += 1
        assert statement > 1  # at least the entry in the ledger
        applied = admin.execute("SELECT max(version) FROM perfcore.schema_migrations").fetchone()
        assert applied == (migration.version,)
    assert killed > 50
    assert migrate(dsn) == []


@pytest.mark.fault(117)
def test_ten_processes_at_once_are_one_that_migrates_and_nine_that_wait(
    dsn: str, admin: Connection
) -> None:
    code = (
        "import sys; from perfcore.store.migrate import migrate; print(len(migrate(sys.argv[1])))"
    )
    children = [
        subprocess.Popen(
            [sys.executable, "-c", code, dsn], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        )
        for _ in range(10)
    ]  # fmt: skip
    answers = [child.communicate(timeout=WAIT_S) for child in children]
    assert [child.returncode for child in children] == [0] * 10, answers
    counts = sorted(int(out) for out, _ in answers)
    assert counts == [0] * 9 + [len(read_migrations())]


@pytest.mark.fault(117)
def test_one_that_waits_too_long_says_so_and_ends(
    dsn: str, admin: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrating, "_LOCK_WAIT_S", 0.2)
    admin.execute("SELECT pg_advisory_lock(%s)", (migrating._LOCK_KEY,))
    with pytest.raises(MigrationError, match=r"migrating this store for over 0\.2 s: try again"):
        migrate(dsn)


@pytest.mark.fault(120)
def test_an_older_program_refuses_a_newer_schema_and_touches_nothing(
    dsn: str, admin: Connection, tmp_path: Path
) -> None:
    migrate(dsn)
    *earlier, newest = read_migrations()
    before = admin.execute(_SCHEMA).fetchall()
    message = (
        rf"schema {newest.version} is newer than this program \({earlier[-1].version}\): "
        "upgrade, or restore"
    )
    with pytest.raises(MigrationError, match=message):
        migrate(dsn, folder_of(earlier, tmp_path / "earlier"))
    assert admin.execute(_SCHEMA).fetchall() == before


@pytest.mark.fault(122)
def test_any_applied_file_that_was_edited_is_refused_by_name(
    dsn: str, admin: Connection, tmp_path: Path
) -> None:
    migrate(dsn)
    for migration in read_migrations():
        folder = folder_of(read_migrations(), tmp_path / "edited")
        path = folder / f"{migration.version}_{migration.name}.sql"
        path.write_text(path.read_text() + "-- a remark\n")
        with pytest.raises(MigrationError, match=f"{migration.name} was edited after it was"):
            migrate(dsn, folder)


def _fill(admin: Connection, rows: int) -> None:
    """Put rows into every table that grows."""
    h = Histogram()
    h.record(5.0)
    admin.execute(
        "INSERT INTO perfcore.series (service, metric_type, metric_name, unit) "
        "VALUES ('s', 'api_endpoint', 'GET /', 'ms')"
    )
    admin.execute(
        "INSERT INTO perfcore.metric_rollups "
        "SELECT r, now() - n * interval '1 minute', 1, 1, 0, 5, 5, 5, %s "
        "FROM unnest(ARRAY['minute', 'hour', 'day']) AS r, generate_series(1, %s) AS n",
        (h.to_bytes(), rows),
    )
    admin.execute(
        "INSERT INTO perfcore.performance_metrics (metric_type, metric_name, value, timestamp) "
        "SELECT 'cpu', 'x', 1, now() FROM generate_series(1, %s)",
        (rows,),
    )
    admin.execute(
        "INSERT INTO perfcore.batches (batch_id, service, process, sent_at, samples, raw_samples) "
        "SELECT gen_random_uuid(), 's', 'p', now(), 1, 1 FROM generate_series(1, %s)",
        (rows,),
    )
    admin.execute(
        "INSERT INTO perfcore.endpoint_statements "
        "SELECT now(), 's', 'GET /', n, 1, 1, 1, 0, 1 FROM generate_series(1, %s) AS n",
        (rows,),
    )
    admin.execute("INSERT INTO perfcore.targets (name) VALUES ('t')")
    admin.execute(
        "INSERT INTO perfcore.statement_deltas "
        "SELECT 1, n, now(), now(), 1, 1, 1, 1, 1, 1, 1 FROM generate_series(1, %s) AS n",
        (rows,),
    )


# Dropping a constraint unlinks files: it closes its tables for the length of that, at any size.
# A new column that is empty or constant is an entry in the catalogue, whatever the table holds.
_BRIEF = {
    "drop_raw_sample_key",
    "add_collection_gaps",
    "add_snooze_until_slower",
    "try_rewrites",
}


@pytest.mark.fault(121)
def test_no_migration_since_the_first_release_holds_a_full_table(
    dsn: str, admin: Connection, tmp_path: Path
) -> None:
    """Seconds on a big store are work by the row: a scan, a rewrite, an index over old rows."""
    everything = read_migrations()
    old = [m for m in everything if m.version <= FIRST_RELEASE]
    migrate(dsn, folder_of(old, tmp_path / "old"))
    _fill(admin, 2_000)
    admin.execute("ANALYZE")
    for migration in everything[len(old) :]:
        files = admin.execute(
            "SELECT oid, relfilenode FROM pg_class WHERE relnamespace = 'perfcore'::regnamespace"
        ).fetchall()
        with connect(dsn, autocommit=True) as other, other.transaction():
            other.execute(migration.text.encode())
            worked = other.execute(
                "SELECT relname, seq_tup_read, idx_tup_fetch, n_tup_upd, n_tup_del "
                "FROM pg_stat_xact_user_tables WHERE relid = ANY (%s) "
                "AND seq_tup_read + coalesce(idx_tup_fetch, 0) + n_tup_upd + n_tup_del > 100",
                ([oid for oid, _ in files],),
            ).fetchall()
            assert worked == [], migration.name
            rewritten = other.execute(
                "SELECT c.oid::regclass::text FROM pg_class c "
                "JOIN unnest(%s::oid[], %s::oid[]) AS was (oid, file) USING (oid) "
                "WHERE c.relfilenode <> was.file",
                ([oid for oid, _ in files], [file for _, file in files]),
            ).fetchall()
            assert rewritten == [], migration.name
            closed = other.execute(
                "SELECT relation::regclass::text FROM pg_locks WHERE pid = pg_backend_pid() "
                "AND mode = 'AccessExclusiveLock' AND relation = ANY (%s)",
                ([oid for oid, _ in files],),
            ).fetchall()
            assert closed == [] or migration.name in _BRIEF, migration.name


@pytest.mark.fault(121)
def test_a_migration_waits_for_its_locks_in_short_turns_and_senders_go_on(
    dsn: str, admin: Connection, tmp_path: Path
) -> None:
    old = [m for m in read_migrations() if m.version <= FIRST_RELEASE]
    migrate(dsn, folder_of(old, tmp_path / "old"))
    table = "ALTER TABLE perfcore.batches ADD COLUMN test_note text NOT NULL DEFAULT ''"
    folder = folder_of(old, tmp_path / "new")
    (folder / "20990101000000_add_test_note.sql").write_text(table)
    done: list[Migration] = []
    with connect(dsn) as reader:
        reader.execute("SELECT count(*) FROM perfcore.batches")
        migrator = threading.Thread(target=lambda: done.extend(migrate(dsn, folder)))
        migrator.start()
        until(lambda: "relation" in _backends(admin))  # it waits for the reader's lock
        with connect(dsn, autocommit=True) as sender:
            for number in range(3):
                assert write_batch(sender, a_batch(number))
        assert migrator.is_alive() and not done
        reader.rollback()
    migrator.join(WAIT_S)
    assert [m.name for m in done] == ["add_test_note"]
    assert admin.execute("SELECT count(*) FROM perfcore.batches").fetchone() == (3,)


@pytest.mark.fault(121)
def test_a_lock_that_never_comes_free_is_said_with_the_remedy(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = [m for m in read_migrations() if m.version <= FIRST_RELEASE]
    folder = folder_of(old, tmp_path / "new")
    migrate(dsn, folder)
    (folder / "20990101000000_add_note.sql").write_text(
        "ALTER TABLE perfcore.batches ADD COLUMN test_note text"
    )
    monkeypatch.setattr(migrating, "_LOCK_WAIT_S", 0.3)
    monkeypatch.setattr(migrating, "_TURN_MS", 50)
    with connect(dsn) as reader:
        reader.execute("SELECT count(*) FROM perfcore.batches")
        with pytest.raises(MigrationError, match=r"add_note waited over 0\.3 s for a lock: end"):
            migrate(dsn, folder)
