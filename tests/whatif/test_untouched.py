"""While the twin and HypoPG work, nothing on the target is locked, written or left behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest
from psycopg.rows import TupleRow

from perfcore.db import connect
from perfcore.server.embedded import Cluster, system_binaries, wheel_binaries
from perfcore.whatif.choose import best_planner
from perfcore.whatif.definition import parse_create_index
from perfcore.whatif.twin import Twin
from tests.conftest import DEBIAN_15
from tests.needs import need

Connection = psycopg.Connection[TupleRow]

SCHEMA = """
CREATE TABLE t (id int PRIMARY KEY, a int NOT NULL, b text NOT NULL);
INSERT INTO t SELECT i, i % 4000, md5(i::text) FROM generate_series(1, 20000) AS i;
CREATE TABLE parts (id int, day date NOT NULL) PARTITION BY RANGE (day);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE TABLE parts_2 PARTITION OF parts DEFAULT;
CREATE INDEX parts_id ON parts (id);
INSERT INTO parts SELECT i, date '2026-01-01' + i % 60 FROM generate_series(1, 20000) AS i;
CREATE MATERIALIZED VIEW m AS SELECT a, count(*) AS n FROM t GROUP BY a;
CREATE VIEW v AS SELECT * FROM t WHERE a < 10;
"""
# Nothing is to write but who is watched: no vacuum, no checkpoint, no record of what runs.
_SETTINGS = {
    "autovacuum": "off", "checkpoint_timeout": "1h", "wal_level": "minimal", "max_wal_senders": "0",
}  # fmt: skip
_ALLOWED = {"AccessShareLock"}
QUESTIONS = (
    ("SELECT * FROM t WHERE a = $1", "t (a)"),
    ("SELECT count(*) FROM t WHERE b LIKE 'ab%'", "t (b text_pattern_ops)"),
    ("SELECT * FROM parts WHERE id = $1", "parts (id, day)"),
    ("SELECT * FROM m WHERE a = $1", "m (a)"),
    ("SELECT * FROM v WHERE id = $1", "t (id) INCLUDE (a, b)"),
    ("UPDATE t SET b = $1 WHERE id = $2", "t (b)"),
    ("DELETE FROM t WHERE a = $1", "t USING hash (a)"),
)
_LOCKS = """
SELECT DISTINCT l.mode, l.relation::regclass::text
FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid)
WHERE l.locktype <> 'virtualxid'
    -- Every session that begins takes this one.
    AND NOT (l.locktype = 'object' AND l.classid = 'pg_database'::regclass)
    AND a.application_name <> 'watcher'
    AND a.backend_type = 'client backend'
"""
_STATE = """
SELECT pg_current_wal_insert_lsn()::text AS wal, (SELECT wal_records FROM pg_stat_wal),
    d.tup_inserted, d.tup_updated, d.tup_deleted, d.temp_files, d.temp_bytes,
    (SELECT sum(n_tup_ins + n_tup_upd + n_tup_del) FROM pg_stat_user_tables) AS changes,
    (SELECT array_agg((oid, relname, relfilenode, relpages, reltuples) ORDER BY oid)::text
     FROM pg_class) AS relations,
    (SELECT count(*) FROM pg_prepared_xacts) AS prepared
FROM pg_stat_database AS d WHERE d.datname = current_database()
"""


@dataclass
class Record:
    """What a watcher saw of a target during a block."""

    locks: set[tuple[str, str]] = field(default_factory=set)
    samples: int = 0
    changed: list[str] = field(default_factory=list)

    @property
    def offences(self) -> list[str]:
        found = [f"{mode} on {name}" for mode, name in self.locks if mode not in _ALLOWED]
        return found + self.changed


@contextmanager
def watched(dsn: str, folder: Path) -> Iterator[Record]:
    """Sample a target's locks during a block, and compare its WAL, counters and files after it."""
    record = Record()
    done = threading.Event()

    def sample() -> None:
        with connect(dsn, autocommit=True) as connection:
            connection.execute("SET application_name = watcher")
            while not done.is_set():
                record.locks.update(connection.execute(_LOCKS).fetchall())
                record.samples += 1

    with connect(dsn, autocommit=True) as connection:
        # Nothing is left that any reader tidies up: no hint bit to set, no dead row of ANALYZE.
        connection.execute("VACUUM")
    with connect(dsn, autocommit=True) as connection:
        connection.execute("SET application_name = watcher")
        files = _files(connection, folder)
        before = _counters(connection)
        thread = threading.Thread(target=sample)
        thread.start()
        try:
            yield record
        finally:
            done.set()
            thread.join()
        after = _counters(connection)
        if _files(connection, folder) != files:
            record.changed.append("files changed")
    record.changed += [
        f"{name}: {was} is now {after[name]}" for name, was in before.items() if was != after[name]
    ]


def _counters(connection: Connection) -> dict[str, object]:
    """Return what any write would change."""
    time.sleep(1.2)  # ended sessions report what they did within a second
    cursor = connection.execute(_STATE)
    row, names = cursor.fetchone(), [c.name for c in cursor.description or ()]
    assert row is not None
    return dict(zip(names, row, strict=True))


def _files(connection: Connection, folder: Path) -> dict[Path, int]:
    """Return when each file of tables and indexes was written last."""
    connection.execute("CHECKPOINT")
    found = [p for p in folder.glob("base/*/*") if not p.name.startswith("pg_internal")]
    return {p: p.stat().st_mtime_ns for p in found}


@pytest.fixture(scope="module", params=[18, 15])
def target(request: pytest.FixtureRequest, work_folder: Path) -> Iterator[tuple[str, Path]]:
    """A server of its own: what others do on it would count."""
    if request.param == 15:
        need(DEBIAN_15 / "postgres", "postgresql-15 postgresql-15-hypopg")
        binaries = system_binaries(DEBIAN_15)
    else:
        binaries = wheel_binaries(work_folder)
    with Cluster(
        work_folder / f"untouched-{request.param}", binaries, _SETTINGS, durable=False
    ) as cluster:
        with connect(cluster.dsn(), autocommit=True) as connection:
            connection.execute(SCHEMA)
            if request.param == 15:
                connection.execute("CREATE EXTENSION hypopg")
            connection.execute("VACUUM ANALYZE")
        yield cluster.dsn(), cluster.data_directory


def test_the_engines_only_read_the_target(target: tuple[str, Path], work_folder: Path) -> None:
    dsn, folder = target
    with watched(dsn, folder) as record:
        with Twin.build(dsn, work_folder) as twin, best_planner(twin, work_folder) as best:
            for statement, index in QUESTIONS:
                indexes = [parse_create_index(f"CREATE INDEX ON {index}")]
                twin.self_check(statement)
                best.compare(statement, indexes=indexes)
                best.compare(statement, hidden=["t_pkey", "parts_id"])
                if best.hypopg is not None and not best.hypopg.cannot(statement, indexes):
                    best.hypopg.plan(statement, indexes=indexes)
            twin.refresh()
    assert record.samples > 50 and "t" in {name for _, name in record.locks}
    assert record.offences == [], "\n".join(record.offences)


WRITES: dict[str, tuple[str, str]] = {
    "a row": ("INSERT INTO t VALUES (-1, 1, 'x')", "inserted"),
    "an index": ("CREATE INDEX written ON t (b)", "ShareLock on t"),
    "an index taken back": (
        "BEGIN; CREATE INDEX written_2 ON t (b); SELECT pg_sleep(0.2); ROLLBACK",
        "ShareLock on t",
    ),
    "statistics": ("ANALYZE t", "ShareUpdateExclusiveLock on t"),
    "a lock": ("BEGIN; LOCK t IN SHARE MODE; SELECT pg_sleep(0.2); ROLLBACK", "ShareLock on t"),
    "temporary files": (
        "SET work_mem = '64kB'; SELECT count(*) FROM (SELECT i FROM generate_series(1, 50000) "
        "AS i ORDER BY md5(i::text)) AS x",
        "temp_bytes",
    ),
}


@pytest.mark.parametrize("what", WRITES)
def test_a_write_to_the_target_would_be_seen(target: tuple[str, Path], what: str) -> None:
    dsn, folder = target
    statement, words = WRITES[what]
    with watched(dsn, folder) as record, connect(dsn, autocommit=True) as writer:
        writer.execute("SET application_name = writer")
        writer.execute(statement.encode())
    assert any(words in offence for offence in record.offences), record.offences
