"""A server set badly, on purpose: each rule speaks; when its DDL was run, none does.

Each server is ill once, with what its counters must have seen, and is then cured by running what
was proposed, restarted, and asked again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from perfcore.advise.server_state import MB, Observed, XidReading
from perfcore.db import connect
from perfcore.server.embedded import Cluster, system_binaries, wheel_binaries
from perfcore.types import Suggestion
from tests.advise.ailing import advice, follow, kinds, read, run, the
from tests.conftest import DEBIAN_15
from tests.needs import need

HOURS = timedelta(hours=2)
MEMORY = 1024 * MB
ILL = {
    "shared_buffers": "2MB",
    "effective_cache_size": "8MB",
    "maintenance_work_mem": "1MB",
    "random_page_cost": "4",
    "effective_io_concurrency": "1",
    "max_wal_size": "32MB",
    "min_wal_size": "32MB",
    "checkpoint_completion_target": "0.3",
    "autovacuum": "off",
    "autovacuum_freeze_max_age": "100000",
    "max_connections": "40",
    "max_prepared_transactions": "5",
    "wal_level": "logical",
    "pg_stat_statements.max": "100",
    "track_io_timing": "on",
}
ROWS = (
    "CREATE TABLE heap (id int PRIMARY KEY, r float8, note text) WITH (autovacuum_enabled = on)",
    "INSERT INTO heap SELECT g, hashint4(g), repeat('n', 60) FROM generate_series(1, 120000) g",
    "CREATE INDEX heap_r_idx ON heap (r)",
    "UPDATE heap SET note = repeat('m', 60)",
    "CREATE INDEX heap_wide_idx ON heap (id, r, note)",
    "VACUUM ANALYZE heap",
    # Each row is fetched from a page of its own, past shared_buffers.
    "SET enable_seqscan = off; SET enable_sort = off; "
    "SELECT count(note) FROM (SELECT note FROM heap ORDER BY r) AS ordered",
    *(f"SELECT {', '.join(['1'] * n)}" for n in range(1, 400)),
)
# A subtransaction that writes takes an id, and costs less than a transaction.
BURNT_IDS = """
    DO $$ BEGIN
        FOR i IN 1..120000 LOOP
            BEGIN INSERT INTO burnt VALUES (i); EXCEPTION WHEN division_by_zero THEN NULL; END;
        END LOOP;
    END $$
"""
COMPILED = (
    "LOAD 'llvmjit'",
    "SET jit = on; SET jit_above_cost = 0; SET jit_inline_above_cost = 0; "
    "SET jit_optimize_above_cost = 0; SET max_parallel_workers_per_gather = 0",
)


@dataclass
class Patient:
    """One server with what was found of it while it was ill."""

    cluster: Cluster
    dsn: str
    found: list[Suggestion]

    @property
    def major(self) -> int:
        return self.cluster.binaries.major


@pytest.fixture(scope="module", params=[18, 15])
def patient(request: pytest.FixtureRequest, work_folder: Path) -> Iterator[Patient]:
    if request.param == 15:
        need(DEBIAN_15 / "postgres", "postgresql-15 postgresql-15-hypopg")
        binaries = system_binaries(DEBIAN_15)
    else:
        binaries = wheel_binaries(work_folder)
    folder = work_folder / f"ill{request.param}"
    # The rest is on the command line, which ALTER SYSTEM does not change.
    harmless = {
        "fsync": "off",
        "synchronous_commit": "off",
        "shared_preload_libraries": "pg_stat_statements",
        "autovacuum_naptime": "86400",  # once it is on it must not clean up what a test needs
    }
    with Cluster(folder, binaries, harmless, durable=False) as cluster:
        dsn = cluster.dsn()
        run(dsn, *(f"ALTER SYSTEM SET {name} = '{value}'" for name, value in ILL.items()))
        _restart(cluster)
        run(dsn, "CREATE EXTENSION pg_stat_statements", "CREATE TABLE unkeyed (n int)")
        run(dsn, "CREATE PUBLICATION all_of_it FOR TABLE unkeyed")
        run(dsn, "SELECT pg_create_physical_replication_slot('gone', true)")
        run(dsn, *ROWS)
        yield Patient(cluster, dsn, advice(dsn, memory_bytes=MEMORY))


def _restart(cluster: Cluster) -> None:
    cluster.stop()
    cluster.start()


def test_shared_buffers_that_miss(patient: Patient) -> None:
    found = the("small_shared_buffers", patient.found)
    assert found.present == "2 MB"
    # Not the quarter of the memory: the database is smaller.
    assert MB * 20 < int(found.proposed.removesuffix("MB")) * MB < 256 * MB
    assert "restarted" in found.risk and "as PERFCORE_TARGET_MEMORY_MB says" in found.reason
    assert found.undo == "ALTER SYSTEM SET \"shared_buffers\" = '2MB'"


def test_without_the_hosts_memory_it_says_what_is_needed(patient: Patient) -> None:
    # The server is on this host; where it is not, nobody tells.
    found = the("small_shared_buffers", advice(patient.dsn, memory_bytes=None, is_far=True))
    assert found.ddl == "" and "PERFCORE_TARGET_MEMORY_MB=name=megabytes" in found.reason
    assert "effective_cache_size" not in kinds(advice(patient.dsn, is_far=True), but=set())


def test_too_large_shared_buffers(patient: Patient) -> None:
    found = the("large_shared_buffers", advice(patient.dsn, memory_bytes=3 * MB))
    assert "67 % of the 3 MB of memory" in found.finding.summary


def test_what_the_planner_is_told_of_cache_and_disk(patient: Patient) -> None:
    cache = the("effective_cache_size", patient.found)
    assert (cache.present, cache.proposed) == ("8 MB", "768MB")
    pages = the("random_page_cost", patient.found)
    assert (pages.present, pages.proposed) == ("4", "1.1")
    ahead = the("effective_io_concurrency", patient.found)
    assert (ahead.present, ahead.proposed) == ("1", "16")


def test_checkpoints_that_the_log_asks_for(patient: Patient) -> None:
    found = the("requested_checkpoints", patient.found)
    assert found.present == "32 MB" and int(found.proposed.removesuffix("GB").removesuffix("MB"))
    assert "came because max_wal_size was reached" in found.finding.summary
    spread = the("checkpoint_burst", patient.found)
    assert (spread.present, spread.proposed) == ("0.3", "0.9")


def test_memory_for_maintenance(patient: Patient) -> None:
    found = the("maintenance_work_mem", patient.found)
    assert (found.present, found.proposed) == ("1 MB", "48MB")


def test_statements_that_were_forgotten(patient: Patient) -> None:
    found = the("statement_evictions", patient.found)
    assert (found.present, found.proposed) == ("100", "5000")


def test_autovacuum_is_off(patient: Patient) -> None:
    found = [s for s in patient.found if s.title == "Turn autovacuum on"]
    assert len(found) == 1 and (found[0].present, found[0].proposed) == ("off", "on")


def test_a_published_table_without_identity(patient: Patient) -> None:
    found = the("no_replica_identity", patient.found)
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
        run(patient.dsn, "UPDATE unkeyed SET n = 1")
    follow(patient.dsn, found)
    run(patient.dsn, "UPDATE unkeyed SET n = 1")
    assert "no_replica_identity" not in kinds(advice(patient.dsn))


def test_a_slot_that_nobody_reads(patient: Patient) -> None:
    found = the("inactive_slot", patient.found)
    assert found.title == "Nobody reads the replication slot gone"
    follow(patient.dsn, found)
    assert "inactive_slot" not in kinds(advice(patient.dsn))


def test_compiling_that_takes_longer_than_it_saves(patient: Patient) -> None:
    if patient.major != 15:  # the wheel's PostgreSQL 18 is built without LLVM
        assert "jit" not in kinds(patient.found)
        return
    with connect(patient.dsn, autocommit=True) as session:
        for statement in COMPILED:
            session.execute(statement.encode())
        for _ in range(40):
            session.execute("SELECT sum(n), max(n), min(n), avg(n) FROM generate_series(1, 9) n")
    found = the("jit", advice(patient.dsn))
    assert (found.present, found.proposed) == ("on", "off")
    follow(patient.dsn, found)
    assert "jit" not in kinds(advice(patient.dsn))
    run(patient.dsn, found.undo)


def burnt_since(dsn: str) -> Observed:
    """Return a reading of two hours before `HOURS` later, 120,000 ids ago."""
    _, state = read(dsn)
    counters = state.counters
    return Observed(xids=XidReading(counters.read_at, counters.next_xid - 120_000))


def test_ids_that_grow_old_behind_a_prepared_transaction(patient: Patient) -> None:
    dsn = patient.dsn
    assert "wraparound" not in kinds(patient.found)
    run(dsn, "CREATE TABLE burnt (n int)")
    with connect(dsn, autocommit=True) as session:
        session.execute("BEGIN")
        session.execute("INSERT INTO burnt VALUES (0)")
        session.execute("PREPARE TRANSACTION 'forgotten'")
    run(dsn, BURNT_IDS)
    ill = advice(dsn, later=HOURS)
    held = the("held_xmin", ill)
    assert held.ddl == "ROLLBACK PREPARED 'forgotten'"
    assert "held_xmin" not in kinds(advice(dsn))
    old = the("wraparound", ill)
    assert old.title == "postgres runs out of transaction ids"
    assert any(label == "oldest table" for label, _ in old.finding.numbers)
    assert any("after a second reading" in value for _, value in old.finding.numbers)
    rated = the("wraparound", advice(dsn, later=HOURS, observed=burnt_since(dsn)))
    used = dict(rated.finding.numbers)["used per hour"].replace(",", "")
    assert int(used) == pytest.approx(60_000, rel=0.01)
    follow(dsn, held)
    for database in ("postgres", "template1"):
        run(patient.cluster.dsn(database), "VACUUM (FREEZE)")
    assert "wraparound" not in kinds(advice(dsn))


def test_once_it_is_done_nobody_speaks(patient: Patient) -> None:
    """The last test of each server: what was proposed is run, and the counters begin anew."""
    dsn = patient.dsn
    settings = [s for s in patient.found if s.ddl.startswith("ALTER SYSTEM")]
    assert len(settings) >= 9
    for suggestion in (*settings, *(s for s in advice(dsn) if s.kind == "maintenance")):
        follow(dsn, suggestion)
    waiting = the("small_shared_buffers", advice(dsn, memory_bytes=MEMORY))
    assert any("waits for a restart" in c for c in waiting.caveats)
    _restart(patient.cluster)
    bgwriter = "checkpointer" if patient.major >= 17 else "bgwriter"
    run(
        dsn,
        f"SELECT pg_stat_reset(), pg_stat_reset_shared('{bgwriter}'), pg_stat_statements_reset()",
    )
    assert kinds(advice(dsn, memory_bytes=MEMORY), but=set()) == []
    _autovacuum_that_is_too_slow(dsn)
    run(dsn, "ALTER SYSTEM SET track_io_timing = off", "SELECT pg_reload_conf()")
    untimed = the("io_not_timed", advice(dsn, memory_bytes=MEMORY))
    follow(dsn, untimed)


def _autovacuum_that_is_too_slow(dsn: str) -> None:
    run(
        dsn,
        "ALTER SYSTEM SET autovacuum_vacuum_cost_delay = '50ms'",
        "SELECT pg_reload_conf()",
        "DELETE FROM heap WHERE id % 4 > 0",
    )
    found = the("slow_autovacuum", advice(dsn, memory_bytes=MEMORY))
    assert (found.present, found.proposed) == ("50 ms", "2ms")
    follow(dsn, found)
    assert "slow_autovacuum" not in kinds(advice(dsn, memory_bytes=MEMORY))
