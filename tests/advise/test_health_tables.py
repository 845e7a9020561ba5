"""What is wrong with tables, sequences and indexes of real servers, and that the remedy ends it."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import replace
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from perfcore.advise.bloat import index_bloat, table_bloat
from perfcore.advise.health import health
from perfcore.advise.readers import Reader, reader_of
from perfcore.advise.server_state import IndexUse, Observed, SlotState, read_server_state
from perfcore.advise.vacuum import vacuum_advice
from perfcore.advise.workload import Options, WriteRate, Writes
from perfcore.db import connect
from perfcore.target import READER_ROLE
from perfcore.whatif.catalog import read_catalog
from tests.advise.ailing import MAJORS, advice, dsn_of, follow, kinds, read, run, take_back, the
from tests.targets import reader_dsn, run_setup

HEALTHY = (
    "CREATE TABLE plain (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, word text, n int)",
    "INSERT INTO plain (word, n) SELECT 'word ' || g, g FROM generate_series(1, 20000) g",
    "CREATE INDEX plain_n_idx ON plain (n)",
    "VACUUM ANALYZE plain",
)


@MAJORS
def test_a_healthy_database_has_nothing_to_say(request: pytest.FixtureRequest, major: int) -> None:
    dsn = dsn_of(request, major)
    run(dsn, *HEALTHY)
    # Other tests' databases are dropped on the same server, each with a checkpoint.
    assert set(kinds(advice(dsn))) <= {"requested_checkpoints"}


@MAJORS
def test_a_table_without_autovacuum(request: pytest.FixtureRequest, major: int) -> None:
    dsn = dsn_of(request, major)
    run(dsn, *HEALTHY, "ALTER TABLE plain SET (autovacuum_enabled = off)")
    found = [s for s in advice(dsn) if s.title == "Let autovacuum look after plain"]
    assert reader_of(found[0]) is Reader.RUN_NOW
    assert len(found) == 1 and "20,000 of its rows were written" in found[0].finding.summary
    follow(dsn, found[0])
    assert not [s for s in advice(dsn) if s.title == "Let autovacuum look after plain"]
    take_back(dsn, found[0])
    assert [s for s in advice(dsn) if s.title == "Let autovacuum look after plain"]


@MAJORS
def test_a_large_busy_table_is_vacuumed_sooner(request: pytest.FixtureRequest, major: int) -> None:
    dsn = dsn_of(request, major)
    run(
        dsn,
        "CREATE TABLE hot (id int, n int)",
        "INSERT INTO hot SELECT g, 0 FROM generate_series(1, 600000) g",
        "VACUUM ANALYZE hot",
    )
    assert "late_autovacuum" not in kinds(advice(dsn))
    run(dsn, "UPDATE hot SET n = 1 WHERE id <= 40000")
    rates = Writes({"public.hot": WriteRate(updates=30_000)})
    found = the("late_autovacuum", advice(dsn, writes=rates))
    assert "120,050 of its 600,000 rows are dead; 40,000 were" in found.finding.summary
    assert ("between two vacuums", "4.0 hours") in found.finding.numbers
    assert found.ddl == 'ALTER TABLE "public"."hot" SET (autovacuum_vacuum_scale_factor = 0.02)'
    assert (found.present, found.proposed) == ("0.2 (the server's)", "0.02")
    follow(dsn, found)
    assert "late_autovacuum" not in kinds(advice(dsn))


@MAJORS
def test_dead_rows_wait_and_nobody_is_sent_in_vain(
    request: pytest.FixtureRequest, major: int
) -> None:
    dsn = dsn_of(request, major)
    run(dsn, *HEALTHY, "DELETE FROM plain WHERE id > 6000")
    found = the("dead_rows", advice(dsn))
    assert "14,000 rows of plain are dead" in found.finding.summary
    with connect(dsn) as idle:
        idle.execute("SELECT count(*) FROM plain")
        later = advice(dsn, later=timedelta(minutes=10))
        # Between two statements it looks at nothing, unless it wrote: it has its locks alone.
        assert "dead_rows" in kinds(later)
        assert "It keeps its locks, for" in the("idle_in_transaction", later).reason
        idle.execute("CREATE TABLE mine ()")
        held = advice(dsn, later=timedelta(minutes=10))
        assert "dead_rows" not in kinds(held)
        told = the("idle_in_transaction", held)
        assert "removes no row version" in told.reason
        assert f"Session {idle.info.backend_pid} of postgres (perfcore)" in told.finding.summary
        assert "10 minutes" in told.finding.summary
        assert "idle_in_transaction" not in kinds(advice(dsn))
    follow(dsn, told)
    with connect(dsn, autocommit=True) as connection:
        assert connection.execute("SHOW idle_in_transaction_session_timeout").fetchone() == (
            "5min",
        )
    take_back(dsn, told)
    follow(dsn, found)
    assert "dead_rows" not in kinds(advice(dsn))


def test_the_log_that_a_slot_keeps_is_no_reason_to_leave_dead_rows(dsn: str) -> None:
    run(dsn, *HEALTHY, "DELETE FROM plain WHERE id > 6000")
    catalog, state = read(dsn)
    slot = SlotState("left", "physical", False, "", None, 1 << 40)
    for held, slots in (
        (False, (slot,)),
        (False, (replace(slot, kind="logical", xid_age=10**7),)),
        (True, (replace(slot, xid_age=10**7),)),
    ):
        found = vacuum_advice(replace(state, slots=slots), catalog, Writes({}), Options())
        assert any(s.finding.kind == "dead_rows" for s in found) is not held


def test_a_vacuum_that_takes_long_holds_back_nothing(dsn: str) -> None:
    run(dsn, *HEALTHY, "DELETE FROM plain WHERE id > 6000")
    with connect(dsn, autocommit=True) as connection:
        connection.execute("SET vacuum_cost_delay = 100; SET vacuum_cost_limit = 1")
        slow = threading.Thread(target=_execute, args=(connection, "VACUUM plain"))
        slow.start()
        try:
            _wait_until(dsn, "query = 'VACUUM plain' AND state = 'active'")
            _wait_until(dsn, "EXISTS (SELECT FROM pg_stat_progress_vacuum)")
            assert "held_xmin" not in kinds(advice(dsn, later=timedelta(hours=3)))
        finally:
            connection.cancel()
            slow.join(10)


@MAJORS
def test_a_long_report_holds_back_vacuum(request: pytest.FixtureRequest, major: int) -> None:
    dsn = dsn_of(request, major)
    with connect(dsn) as connection:
        thread = threading.Thread(target=_execute, args=(connection, "SELECT pg_sleep(30)"))
        thread.start()
        try:
            _wait_until(dsn, "query LIKE '%pg_sleep(30)%' AND backend_xmin IS NOT NULL")
            found = the("held_xmin", advice(dsn, later=timedelta(hours=3)))
            assert "is active in a transaction that began 3.0 hours ago" in found.finding.summary
            assert "held_xmin" not in kinds(advice(dsn, later=timedelta(minutes=30)))
        finally:
            connection.cancel()
            thread.join(10)


def _execute(connection: psycopg.Connection[Any], statement: str) -> None:
    with contextlib.suppress(psycopg.errors.QueryCanceled):
        connection.execute(statement.encode())


def _wait_until(dsn: str, condition: str) -> None:
    query = f"SELECT FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND {condition}"
    with connect(dsn, autocommit=True) as connection:
        for _ in range(200):
            if connection.execute(query.encode()).fetchone() is not None:
                return
            connection.execute("SELECT pg_sleep(0.05)")
    raise AssertionError(f"never: {condition}")


@MAJORS
def test_updates_that_find_no_room(request: pytest.FixtureRequest, major: int) -> None:
    dsn = dsn_of(request, major)
    run(
        dsn,
        "CREATE TABLE moved (id int PRIMARY KEY, n int, note text)",
        "INSERT INTO moved SELECT g, 0, repeat('x', 90) FROM generate_series(1, 12000) g",
        "VACUUM ANALYZE moved",
        "UPDATE moved SET n = n + 1",
    )
    updated = Writes({}, {"public.moved": {"n": 12_000.0}})
    found = the("few_hot_updates", advice(dsn, writes=updated))
    assert "updates of moved stayed on their page" in found.finding.summary
    if major >= 16:
        assert any(label == "moved to another page" for label, _ in found.finding.numbers)
    else:  # nobody counted where they went, nor which column they changed
        assert "few_hot_updates" not in kinds(advice(dsn))
    assert found.ddl == 'ALTER TABLE "public"."moved" SET (fillfactor = 90)'
    indexed = Writes({}, {"public.moved": {"id": 12_000.0}})
    assert "few_hot_updates" not in kinds(advice(dsn, writes=indexed))
    follow(dsn, found)
    assert "few_hot_updates" not in kinds(advice(dsn, writes=updated))


@MAJORS
def test_sequences_near_their_end(request: pytest.FixtureRequest, major: int) -> None:
    dsn = dsn_of(request, major)
    run(
        dsn,
        "CREATE TABLE a (id serial PRIMARY KEY)",
        "CREATE TABLE b (id smallint GENERATED ALWAYS AS IDENTITY)",
        "CREATE SEQUENCE shared",
        "CREATE TABLE c (id int DEFAULT nextval('shared'), other bigint DEFAULT nextval('shared'))",
        "CREATE SEQUENCE short MAXVALUE 1000",
        "CREATE SEQUENCE round MAXVALUE 1000 CYCLE",
        "CREATE TABLE fine (id bigserial PRIMARY KEY)",
        "CREATE SEQUENCE bound AS int MAXVALUE 1000",
        "CREATE TABLE d (id int DEFAULT nextval('bound'))",
        "SELECT setval('bound', 900)",
        "SELECT setval('a_id_seq', 2000000000), setval('b_id_seq', 30000), "
        "setval('shared', 1900000000), setval('short', 900), setval('round', 999), "
        "setval('fine_id_seq', 5000000000)",
    )
    rates = Writes({"public.a": WriteRate(inserts=100_000)})
    found = {s.title: s for s in advice(dsn, writes=rates) if s.finding.kind == "sequence_end"}
    assert sorted(found) == [
        "a.id runs out of numbers",
        "b.id runs out of numbers",
        "c.id runs out of numbers",
        "d.id runs out of numbers",
        "public.short runs out of numbers",
    ]
    first = found["a.id runs out of numbers"]
    assert "2,000,000,000, 93.1 % of the 2,147,483,647" in first.finding.summary
    assert ("at the present rate of inserts", "61.5 days") in first.finding.numbers
    own = found["d.id runs out of numbers"]
    assert own.ddl == 'ALTER SEQUENCE "public"."bound" NO MAXVALUE'
    for suggestion in found.values():
        follow(dsn, suggestion)
    assert "sequence_end" not in kinds(advice(dsn))
    run(dsn, "SELECT setval('a_id_seq', 3000000000), setval('b_id_seq', 40000)")
    run(dsn, "INSERT INTO a DEFAULT VALUES", "INSERT INTO b DEFAULT VALUES")


@MAJORS
def test_an_invalid_index_and_a_reindex_cut_short(
    request: pytest.FixtureRequest, major: int
) -> None:
    dsn = dsn_of(request, major)
    run(dsn, *HEALTHY, "UPDATE plain SET n = 1 WHERE n = 2", "VACUUM ANALYZE plain")
    for name in ("twice", "plain_n_idx_ccnew"):
        with pytest.raises(psycopg.errors.UniqueViolation):
            run(dsn, f"CREATE UNIQUE INDEX CONCURRENTLY {name} ON plain (n)")
    found = {s.title: s for s in advice(dsn) if s.finding.kind == "invalid_index"}
    assert sorted(found) == ["Drop plain_n_idx_ccnew on plain", "Drop twice on plain"]
    assert "REINDEX CONCURRENTLY" in found["Drop plain_n_idx_ccnew on plain"].reason
    assert "CREATE INDEX CONCURRENTLY" in found["Drop twice on plain"].reason
    for suggestion in found.values():
        follow(dsn, suggestion)
    assert "invalid_index" not in kinds(advice(dsn))


@MAJORS
def test_an_index_that_is_being_built_is_no_left_over(
    request: pytest.FixtureRequest, major: int
) -> None:
    dsn = dsn_of(request, major)
    run(dsn, *HEALTHY)
    with connect(dsn) as reader, connect(dsn, autocommit=True) as builder:
        reader.execute("DELETE FROM plain WHERE id = 1")  # the build waits for its end
        build = threading.Thread(
            target=builder.execute, args=("CREATE INDEX CONCURRENTLY late ON plain (word)",)
        )
        build.start()
        _wait_until(dsn, "query LIKE 'CREATE INDEX CONCURRENTLY%' AND wait_event_type = 'Lock'")
        catalog, state = read(dsn)
        (late,) = [i for t in catalog.tables for i in t.indexes if i.name == "late"]
        assert not late.is_valid and late.oid in state.building
        assert "invalid_index" not in kinds(advice(dsn))
        reader.rollback()
        build.join(20)
    assert "invalid_index" not in kinds(advice(dsn))


SHAPES = {
    "narrow": ("id int, n int", "g, g"),
    "text": ("id bigint, name text, city text", "g, 'customer number ' || g, 'city ' || g % 90"),
    "mixed": (
        "a boolean, b bigint, c smallint, d timestamptz, e text, f uuid, h numeric(12,2)",
        "g % 2 = 0, g, 1, now(), repeat('y', g % 40), gen_random_uuid(), g / 7.0",
    ),
    "nulls": (
        "a int, b text, c int, d bigint",
        "nullif(g % 3, 0), nullif('w' || g % 4, 'w1'), NULL, g",
    ),
    "long": ("id int, body text", "g, repeat(md5(g::text), 9)"),
}


@MAJORS
def test_the_estimated_empty_space_is_what_pgstattuple_measures(
    request: pytest.FixtureRequest, major: int
) -> None:
    """Within 6 % of the size, on tables and B-trees, full and with two thirds deleted."""
    dsn = dsn_of(request, major)
    run(dsn, "CREATE EXTENSION pgstattuple")
    for name, (columns, values) in SHAPES.items():
        run(
            dsn,
            f"CREATE TABLE {name} ({columns}, k int)",
            f"INSERT INTO {name} SELECT {values}, g FROM generate_series(1, 20000) g",
            f"CREATE INDEX {name}_k_idx ON {name} (k)",
            f"VACUUM ANALYZE {name}",
        )
    _compare_with_pgstattuple(dsn)
    for name in SHAPES:
        # The last page stays, so that VACUUM cannot cut the end off.
        run(dsn, f"DELETE FROM {name} WHERE k % 3 > 0 AND k < 19990", f"VACUUM ANALYZE {name}")
    _compare_with_pgstattuple(dsn)


def _compare_with_pgstattuple(dsn: str) -> None:
    catalog, state = read(dsn)
    with connect(dsn, autocommit=True) as connection:
        for name in SHAPES:
            table = catalog.table(name)
            assert table is not None
            row = connection.execute(
                "SELECT free_percent + dead_tuple_percent FROM pgstattuple(%s)", (name,)
            ).fetchone()
            density = connection.execute(
                "SELECT avg_leaf_density FROM pgstatindex(%s)", (f"{name}_k_idx",)
            ).fetchone()
            assert row is not None and density is not None
            found = table_bloat(table, state.tables[table.qualified_name])
            tree = index_bloat(catalog, table.indexes[0])
            assert found is not None and tree is not None
            assert 100 * found.share == pytest.approx(row[0], abs=6), name
            # A fresh B-tree is filled to nine tenths.
            assert 100 * tree.share == pytest.approx(100 - density[0] / 0.9, abs=6), name


@MAJORS
def test_a_table_and_an_index_that_are_mostly_empty(
    request: pytest.FixtureRequest, major: int
) -> None:
    dsn = dsn_of(request, major)
    run(
        dsn,
        "CREATE TABLE wide (id int, note text)",
        "INSERT INTO wide SELECT g, repeat('z', 1000) FROM generate_series(1, 60000) g",
        "VACUUM ANALYZE wide",
        "CREATE TABLE tree (id int, n bigint) WITH (fillfactor = 10)",
        "CREATE INDEX tree_n_idx ON tree (n) WITH (fillfactor = 10)",
        "INSERT INTO tree SELECT g, g FROM generate_series(1, 300000) g",
        "VACUUM ANALYZE tree",
    )
    assert {"table_bloat", "index_bloat"}.isdisjoint(kinds(advice(dsn)))
    run(
        dsn,
        "DELETE FROM wide WHERE id % 3 > 0 AND id < 59990",
        "VACUUM ANALYZE wide",
        "ALTER INDEX tree_n_idx RESET (fillfactor)",
    )
    found = the("table_bloat", advice(dsn))
    assert found.ddl == 'VACUUM (FULL, ANALYZE) "public"."wide"'
    assert "ACCESS EXCLUSIVE" in found.risk and "pg_repack" in found.caveats[0]
    follow(dsn, found)
    index = the("index_bloat", advice(dsn))
    assert index.ddl == 'REINDEX INDEX CONCURRENTLY "public"."tree_n_idx"'
    assert reader_of(index) is Reader.RUN_NOW
    follow(dsn, index)
    assert {"table_bloat", "index_bloat"}.isdisjoint(kinds(advice(dsn)))


@MAJORS
def test_an_index_unused_over_a_stated_window(request: pytest.FixtureRequest, major: int) -> None:
    dsn = dsn_of(request, major)
    run(
        dsn,
        "CREATE TABLE owner (id int PRIMARY KEY)",
        "CREATE TABLE item (id int PRIMARY KEY, owner int REFERENCES owner, a int, b int UNIQUE)",
        "INSERT INTO item SELECT g, NULL, g, g FROM generate_series(1, 60000) g",
        "CREATE INDEX item_owner_idx ON item (owner, a)",
        "CREATE INDEX item_a_idx ON item (a)",
        "CREATE INDEX item_u_idx ON item (a, b, id)",
        "DROP INDEX item_u_idx",
        "VACUUM ANALYZE item",
    )
    assert "unused_index" not in kinds(advice(dsn))
    found = the("unused_index", advice(dsn, later=timedelta(days=3)))
    assert found.title == "Drop item_a_idx on item"
    assert "3.0 days" in found.finding.summary
    assert any("on every replica" in c for c in found.caveats)
    with connect(dsn, autocommit=True) as replica:
        query = found.verify.removeprefix("On every replica: ").partition(" must be")[0]
        assert replica.execute(query.encode()).fetchone() == (0,)
    run(dsn, "SET enable_seqscan = off", "SELECT FROM item WHERE a = 5")
    assert "unused_index" not in kinds(advice(dsn, later=timedelta(days=3)))
    # Its counter says 1 for ever, our own readings tell that this was long ago.
    catalog, state = read(dsn)
    (index,) = [i for t in catalog.tables for i in t.indexes if i.name == "item_a_idx"]
    assert index.scans == 1
    used = state.counters.read_at
    observed = Observed({index.oid: IndexUse(used - timedelta(days=40), used)})
    assert "unused_index" not in kinds(advice(dsn, observed=observed))
    told = the("unused_index", advice(dsn, observed=observed, later=timedelta(days=30)))
    assert told.finding.summary == "item_a_idx was not scanned once in the last 30.0 days."
    assert ("window", "30.0 days, by Perfcore's own readings") in told.finding.numbers


@MAJORS
def test_two_indexes_become_one(request: pytest.FixtureRequest, major: int) -> None:
    dsn = dsn_of(request, major)
    run(
        dsn,
        "CREATE TABLE m (a int, b int, c int, d bigint)",
        "INSERT INTO m SELECT g / 3, g, g * 7 % 60000, g FROM generate_series(1, 200000) g",
        "CREATE INDEX m_ab ON m (a, b)",
        "CREATE INDEX m_ac ON m (a, c)",
        "CREATE INDEX m_d ON m (d) INCLUDE (b)",
        "CREATE INDEX m_dc ON m (d) INCLUDE (c)",
        "CREATE INDEX m_e ON m (c) WHERE a > 5",
        "CREATE INDEX m_f ON m (c, d) INCLUDE (b) WHERE a > 6",
        "VACUUM ANALYZE m",
    )
    found = {s.title: s for s in advice(dsn) if s.finding.kind == "mergeable_indexes"}
    assert sorted(found) == [
        "Make one index of m_ab and m_ac on m",
        "Make one index of m_d and m_dc on m",
    ]
    three = found["Make one index of m_ab and m_ac on m"]
    assert '("a", "b", "c")' in three.ddl
    assert any("sorts them" in c for c in three.caveats)
    included = found["Make one index of m_d and m_dc on m"]
    assert '("d") INCLUDE ("b", "c")' in included.ddl
    before = _index_bytes(dsn)
    for suggestion in found.values():
        follow(dsn, suggestion)
    after = _index_bytes(dsn)
    promised = sum(s.index_bytes or 0 for s in found.values())
    assert sum(before.values()) - sum(after.values()) == pytest.approx(promised, rel=0.05)
    assert sum(after.values()) < 0.75 * sum(before.values())
    for suggestion in found.values():
        take_back(dsn, suggestion)
    assert _index_bytes(dsn) == before


def _index_bytes(dsn: str) -> dict[str, int]:
    with connect(dsn, autocommit=True) as connection:
        rows = connection.execute(
            "SELECT relname, pg_relation_size(oid) FROM pg_class "
            "WHERE relkind = 'i' AND relnamespace = 'public'::regnamespace"
        ).fetchall()
    return dict(rows)


@MAJORS
def test_what_could_not_be_read_is_said(request: pytest.FixtureRequest, major: int) -> None:
    dsn = dsn_of(request, major)
    run(dsn, *HEALTHY)
    run_setup(dsn)
    reader = reader_dsn(dsn)
    assert "unread" not in kinds(advice(reader))
    run(
        dsn,
        f"REVOKE SELECT ON plain FROM {READER_ROLE}",
        f"REVOKE SELECT ON SEQUENCE plain_id_seq FROM {READER_ROLE}",
        f"REVOKE pg_monitor FROM {READER_ROLE}",
    )
    try:
        found = the("unread", advice(reader))
        for words in ("pg_read_all_stats is missing", "1 tables (public.plain)", "plain_id_seq"):
            assert words in found.finding.summary, found.finding.summary
        follow(dsn, found)
        assert "unread" not in kinds(advice(reader))
    finally:
        run(dsn, f"GRANT pg_monitor TO {READER_ROLE}")


@MAJORS
def test_indexes_that_only_look_alike_stay(request: pytest.FixtureRequest, major: int) -> None:
    dsn = dsn_of(request, major)
    run(
        dsn,
        'CREATE TABLE people (id int NOT NULL, name text, "Name" text, UNIQUE (id) DEFERRABLE)',
        "CREATE UNIQUE INDEX people_ref ON people (id)",  # a deferrable one is no target of keys
        "CREATE TABLE letters (person_id int REFERENCES people (id))",
        "CREATE INDEX ON people (name)",
        'CREATE INDEX ON people ("Name")',
        'CREATE INDEX ON people (name COLLATE "C")',
        "CREATE INDEX ON people (name DESC, id)",
        "CREATE INDEX ON people (name DESC NULLS LAST)",
        "CREATE INDEX ON people (id) WHERE name = 'A B'",
        "CREATE INDEX ON people (id) WHERE name = 'ab'",
        "CREATE INDEX ON people (lower(name))",
        'CREATE INDEX ON people (lower(name) COLLATE "C", id)',
        "ALTER TABLE people ADD PRIMARY KEY (id)",
    )
    assert [s.title for s in advice(dsn) if s.kind == "drop_index"] == []
    run(dsn, 'CREATE INDEX twin ON people (name COLLATE "C")')
    assert [s.title for s in advice(dsn) if s.kind == "drop_index"] == ["Drop twin on people"]


@pytest.mark.parametrize("word", ["no", "F", "off"])
def test_autovacuum_is_off_however_that_was_typed(dsn: str, word: str) -> None:
    run(dsn, *HEALTHY, f"ALTER TABLE plain SET (autovacuum_enabled = {word})")
    found = [s for s in advice(dsn) if s.title == "Let autovacuum look after plain"]
    assert len(found) == 1 and found[0].undo.endswith(f"= {word.lower()})")


@MAJORS
def test_the_identity_of_published_tables(request: pytest.FixtureRequest, major: int) -> None:
    dsn = dsn_of(request, major)
    run(
        dsn,
        "CREATE TABLE keyless (id int)",
        "CREATE TABLE nothing (id int PRIMARY KEY)",
        "ALTER TABLE nothing REPLICA IDENTITY NOTHING",
        "CREATE TABLE gone (id int NOT NULL)",
        "CREATE UNIQUE INDEX gone_id ON gone (id)",
        "ALTER TABLE gone REPLICA IDENTITY USING INDEX gone_id",
        "DROP INDEX gone_id",
        "CREATE PUBLICATION all_of_it FOR ALL TABLES",
    )
    found = {s.title.split()[1]: s for s in advice(dsn) if s.finding.kind == "no_replica_identity"}
    assert {name: s.ddl.split()[-1] for name, s in found.items()} == {
        "keyless": "FULL",
        "nothing": "DEFAULT",
        "gone": "FULL",
    }
    assert "has no primary key:" in found["keyless"].finding.summary
    assert "has REPLICA IDENTITY NOTHING:" in found["nothing"].finding.summary
    assert "whose index is gone:" in found["gone"].finding.summary
    for suggestion in found.values():
        follow(dsn, suggestion)
    assert "no_replica_identity" not in kinds(advice(dsn))
    take_back(dsn, found["nothing"])
    assert "REPLICA IDENTITY NOTHING" in the("no_replica_identity", advice(dsn)).finding.summary


def test_rights_for_names_that_must_be_quoted(dsn: str) -> None:
    role = 'to "be" from'
    quoted = '"' + role.replace('"', '""') + '"'
    run(dsn, 'CREATE TABLE "how TO do" (id int)', f"CREATE ROLE {quoted} LOGIN")
    try:
        with connect(dsn, autocommit=True) as connection:
            connection.execute(f"SET ROLE {quoted}".encode())
            catalog, state = read_catalog(connection), read_server_state(connection)
        told = the("unread", health(catalog, Writes({}), Options(), server=state))
        assert 'GRANT SELECT ON "public"."how TO do" TO "to ""be"" from"' in told.ddl
        follow(dsn, told)
        take_back(dsn, told)
    finally:
        run(dsn, f"DROP ROLE {quoted}")
