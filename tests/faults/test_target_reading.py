"""What a target may be, hold or do while it is read, and what the collector makes of it."""

from __future__ import annotations

import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from perfcore.collect.reading import Collector, clock_problem, version_problem
from perfcore.collect.target import identify, open_target
from perfcore.db import MARKER, QUERIES, connect, query
from perfcore.normalise import fingerprint
from perfcore.store import targets

SCHEMA = """
CREATE EXTENSION IF NOT EXISTS pg_stat_statements;
CREATE TABLE orders (id int PRIMARY KEY, note text);
CREATE TABLE items (id int PRIMARY KEY);
INSERT INTO orders SELECT n, 'n' FROM generate_series(1, 100) n;
"""
QUESTION = "SELECT note FROM public.orders WHERE id = 7"


@pytest.fixture(params=["18", "15"])
def target_dsn(request: pytest.FixtureRequest) -> str:
    dsn: str = request.getfixturevalue("dsn" if request.param == "18" else "dsn15")
    ask(dsn, SCHEMA)
    return dsn


@pytest.fixture
def collector(target_dsn: str, store: str) -> Iterator[Collector]:
    with open_target(target_dsn) as target, connect(store, autocommit=True) as connection:
        yield Collector(target, connection, targets.ensure_target(connection, "shop"))


def ask(dsn: str, text: str, times: int = 1, **options: Any) -> None:
    with connect(dsn, autocommit=True, **options) as connection:
        for _ in range(times):
            connection.execute(text.encode())


def rows(collector: Collector, text: str) -> list[tuple[Any, ...]]:
    return collector.store.execute(text.encode()).fetchall()


def calls(collector: Collector, text: str = QUESTION) -> int:
    return int(
        rows(
            collector,
            "SELECT coalesce(sum(d.calls), 0) FROM perfcore.statement_deltas d "
            f"JOIN perfcore.statements s USING (target_id, queryid) "
            f"WHERE s.fingerprint = {fingerprint(text)}",
        )[0][0]
    )


def in_database(dsn: str, name: str) -> str:
    return make_conninfo(dsn, dbname=name)


@pytest.fixture
def ascii_database(target_dsn: str) -> Iterator[str]:
    name = f"ascii_{uuid.uuid4().hex[:8]}"
    ask(
        target_dsn,
        f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'",
    )
    yield in_database(target_dsn, name)
    ask(target_dsn, "SELECT pg_stat_statements_reset()")
    ask(target_dsn, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.mark.fault(65)
def test_texts_that_are_not_utf_8_are_shown_as_hex(ascii_database: str, store: str) -> None:
    ask(ascii_database, "CREATE EXTENSION pg_stat_statements")
    with connect(ascii_database, autocommit=True) as odd:
        for _ in range(3):
            odd.pgconn.exec_(b"SELECT 1 AS caf\xe9")
    ask(ascii_database, "SELECT 2, 2 AS ascii")
    with open_target(ascii_database) as target, connect(store, autocommit=True) as connection:
        collector = Collector(target, connection, targets.ensure_target(connection, "odd"))
        problems = collector.collect().problems
        name = conninfo_to_dict(ascii_database)["dbname"]
        assert problems == (f"1 texts in database {name} are not UTF-8: shown as hex",)
        texts = {row[0] for row in rows(collector, "SELECT text FROM perfcore.statements")}
        assert {r"SELECT $1 AS caf\xe9", "SELECT $1, $2 AS ascii"} <= texts
        ask(ascii_database, "SELECT 2, 2 AS ascii", 4)
        collector.collect()
        assert calls(collector, "SELECT 2, 2 AS ascii") == 4


@pytest.mark.fault(65)
def test_a_text_of_another_database_stops_no_counter(
    collector: Collector, target_dsn: str, ascii_database: str
) -> None:
    """The server then gives no text at all to a database in UTF-8."""
    ask(target_dsn, QUESTION)
    with connect(ascii_database, autocommit=True) as odd:
        odd.pgconn.exec_(b"SELECT 1 AS caf\xe9")
    (problem,) = collector.collect().problems
    name = conninfo_to_dict(ascii_database)["dbname"]
    assert f"in database {name}, which is in SQL_ASCII, CREATE EXTENSION" in problem
    ask(target_dsn, QUESTION, 3)
    collector.collect()
    assert rows(collector, "SELECT 1 FROM perfcore.statement_deltas WHERE calls = 3")
    ask(ascii_database, "CREATE EXTENSION pg_stat_statements")
    collector.asked.clear()  # ten minutes later
    assert collector.collect().problems == ()
    assert calls(collector) == 3


@pytest.mark.fault(67)
def test_what_is_withheld_is_never_stored(target_dsn: str, store: str) -> None:
    role = f"poor_{uuid.uuid4().hex[:8]}"
    ask(target_dsn, f"CREATE ROLE {role} LOGIN PASSWORD 'p'")
    ask(target_dsn, QUESTION, 3)
    try:
        dsn = make_conninfo(target_dsn, user=role, password="p")
        with open_target(dsn) as target, connect(store, autocommit=True) as connection:
            collector = Collector(target, connection, targets.ensure_target(connection, "poor"))
            problems = collector.collect().problems
            assert "GRANT pg_read_all_stats TO the role that collects" in "".join(problems)
            texts = rows(collector, "SELECT text FROM perfcore.statements")
            assert not [t for (t,) in texts if "insufficient" in t]
            ask(target_dsn, f"GRANT pg_read_all_stats TO {role}")
            ask(target_dsn, QUESTION, 2)
            collector.collect()
            # What becomes visible counts its lifetime: a gap, not a spike.
            assert calls(collector) == 0
            gaps = "SELECT reason FROM perfcore.collection_gaps WHERE queryids IS NOT NULL"
            assert rows(collector, gaps) == [("rights changed",)]
            ask(target_dsn, QUESTION, 2)
            collector.collect()
            assert calls(collector) == 2
    finally:
        ask(target_dsn, f"DROP ROLE {role}")


def _traps() -> list[str]:
    """Return what shadows whatever an unqualified name of ours could mean."""
    functions = ("count", "current_database", "current_setting", "clock_timestamp", "left",
                 "convert_to", "quote_ident", "pg_get_indexdef", "pg_relation_size",
                 "pg_database_size", "pg_is_in_recovery", "pg_postmaster_start_time",
                 "pg_control_system", "pg_control_checkpoint", "pg_stat_statements_info",
                 "pg_encoding_to_char", "sum", "max", "coalesce_", "set_config")  # fmt: skip
    arguments = ("", "text", "oid", "name")
    made = [
        f"CREATE FUNCTION trap.{name}({of}) RETURNS text LANGUAGE plpgsql AS "
        "$$BEGIN RAISE EXCEPTION 'trapped'; END$$"
        for name in functions
        for of in arguments[:2]
    ]
    made += [
        f"CREATE FUNCTION trap.op_{left}_{right}({left}, {right}) RETURNS bool LANGUAGE plpgsql "
        "AS $$BEGIN RAISE EXCEPTION 'trapped'; END$$; "
        f"CREATE OPERATOR trap.= (LEFTARG = {left}, RIGHTARG = {right}, "
        f"FUNCTION = trap.op_{left}_{right})"
        for left, right in (("name", "name"), ("oid", "oid"), ("text", "text"), ("name", "text"))
    ]
    made += [
        f"CREATE VIEW trap.{view} AS SELECT 1 AS trapped"
        for view in ("pg_database", "pg_class", "pg_index", "pg_stat_database", "pg_settings",
                     "pg_stat_activity", "pg_stat_user_tables", "pg_locks", "pg_extension",
                     "pg_namespace")
    ]  # fmt: skip
    return made


@pytest.mark.fault(68)
def test_fifty_traps_in_the_search_path_change_nothing(target_dsn: str, store: str) -> None:
    traps = _traps()
    assert len(traps) >= 50
    ask(target_dsn, "CREATE SCHEMA trap")
    for trap in traps:
        ask(target_dsn, trap)
    name = conninfo_to_dict(target_dsn)["dbname"]
    ask(target_dsn, f"ALTER DATABASE {name} SET search_path = trap, pg_catalog, public")
    with open_target(target_dsn) as target, connect(store, autocommit=True) as connection:
        collector = Collector(target, connection, targets.ensure_target(connection, "shop"))
        assert collector.collect().problems == ()
        ask(target_dsn, QUESTION, 3)
        assert [p for p in collector.collect().problems if not p.startswith("plans")] == []
        assert calls(collector) == 3


@pytest.mark.fault(70)
@pytest.mark.parametrize("how", ["held", "waited for"])
def test_a_locked_table_is_skipped_and_named(
    collector: Collector, target_dsn: str, how: str
) -> None:
    collector.collect()
    ask(target_dsn, "CREATE INDEX items_again ON items (id)")
    ask(target_dsn, QUESTION, 3)
    waiter = threading.Thread(target=ask, args=(target_dsn, "BEGIN; LOCK TABLE orders; ROLLBACK"))
    with connect(target_dsn) as holder:
        if how == "held":
            holder.execute("LOCK TABLE orders IN ACCESS EXCLUSIVE MODE")
        else:
            holder.execute("LOCK TABLE orders IN ACCESS SHARE MODE")
            waiter.start()
            _until_waiting(target_dsn)
        report = collector.collect()
        assert "locked (ACCESS EXCLUSIVE) and skipped: public.orders" in report.problems
        holder.rollback()
    if how == "waited for":
        waiter.join()
    assert calls(collector) == 3
    for _ in range(2):
        collector.collect()
    changes = rows(collector, "SELECT kind, object_name FROM perfcore.changes")
    assert changes == [("create_index", "public.items_again")]


def _until_waiting(dsn: str) -> None:
    with connect(dsn, autocommit=True) as connection:
        for _ in range(600):
            if connection.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchone():
                return
    raise AssertionError("nobody waits for a lock")


@pytest.mark.fault(72)
def test_our_statements_are_capped_and_marked(collector: Collector) -> None:
    shown = [
        collector.target.execute(f"SHOW {name}".encode()).fetchone()
        for name in ("statement_timeout", "lock_timeout")
    ]
    assert shown == [("1s",), ("100ms",)]
    collector.collect()
    collector.target.execute(f"SELECT pg_catalog.pg_sleep(0.5) {MARKER}".encode())
    share = collector.collect().own_share
    # Another's statement of ours, an advisor's, says nothing of what reading costs.
    assert share is not None and 0 < share < 0.4
    seen = collector.target.execute(
        "SELECT query FROM public.pg_stat_statements WHERE query LIKE '%perfcore%'"
    ).fetchall()
    assert len(seen) > 5
    stored = rows(collector, "SELECT text FROM perfcore.statements WHERE text LIKE '%pg_catalog%'")
    assert stored == []


@pytest.mark.fault(75)
@pytest.mark.parametrize(
    ("name", "majors"),
    [
        ("statements_read", {13: ".13", 14: ".16", 15: ".16", 16: ".16", 17: "", 18: "", 19: ""}),
        ("statements_epoch", {13: ".13", 14: "", 18: "", 19: ""}),
        ("target_identity", {13: ".13", 14: "", 18: "", 19: ""}),
    ],
)
def test_each_major_is_asked_in_its_own_words(name: str, majors: dict[int, str]) -> None:
    for major, variant in majors.items():
        text = (QUERIES / f"{name}{variant}.sql").read_text().strip()
        assert text in query(name, major * 10000 + 3), major


# What the documentation of each major lists, of the columns that Perfcore could ask for.
_SINCE_14 = {"toplevel"}
_SINCE_17 = {"stats_since", "minmax_stats_since"}


@pytest.mark.fault(75)
def test_no_major_is_asked_for_a_column_that_it_has_not() -> None:
    for major in range(13, 19):
        asked = query("statements_read", major * 10000)
        for column in _SINCE_14 if major < 14 else _SINCE_17 if major < 17 else ():
            assert f"s.{column}" not in asked, (major, column)
        # Renamed in 17, and not asked for at all.
        assert "blk_read_time" not in asked
    assert "active_time" not in query("target_identity", 130000)
    assert "pg_stat_statements_info" not in query("statements_epoch", 130000)


@pytest.mark.fault(75)
@pytest.mark.parametrize("version", ["1.8", "1.9", "1.10", "1.11", "1.12"])
def test_the_extension_of_an_older_major_is_read(dsn: str, store: str, version: str) -> None:
    """It has that major's columns: an upgraded server keeps it until ALTER EXTENSION."""
    ask(dsn, f"CREATE EXTENSION pg_stat_statements VERSION '{version}'")
    ask(dsn, SCHEMA)
    with open_target(dsn) as target, connect(store, autocommit=True) as connection:
        collector = Collector(target, connection, targets.ensure_target(connection, "old"))
        assert collector.collect().problems == ()
        ask(dsn, QUESTION, 3)
        assert collector.collect().problems == ()
        assert calls(collector) == 3
        (state,) = rows(
            collector,
            "SELECT evictions IS NULL, active_ms IS NULL FROM perfcore.statement_intervals",
        )
        assert state == (version == "1.8", False)
        (since,) = rows(
            collector,
            "SELECT counted_since IS NOT NULL FROM perfcore.statements "
            f"WHERE fingerprint = {fingerprint(QUESTION)}",
        )
        assert since == (version in ("1.11", "1.12"),)


@pytest.mark.fault(75)
def test_too_old_an_extension_and_too_new_a_server_are_named(dsn: str, store: str) -> None:
    ask(dsn, "CREATE EXTENSION pg_stat_statements VERSION '1.7'")
    with open_target(dsn) as target, connect(store, autocommit=True) as connection:
        collector = Collector(target, connection, targets.ensure_target(connection, "old"))
        assert "ALTER EXTENSION pg_stat_statements UPDATE;" in collector.collect().problems[0]
    assert "PostgreSQL 19 is newer than 18" in version_problem(190000)


@pytest.mark.fault(76)
def test_texts_of_a_megabyte_take_a_bounded_amount_of_memory(dsn: str, store: str) -> None:
    """In a process of its own: this one has grown by other tests."""
    ask(dsn, SCHEMA)
    with connect(dsn, autocommit=True) as connection:
        for n in range(1, 201):
            text = f"SELECT {', '.join('1' * n)} -- {'x' * 1_000_000}"
            connection.execute(text.encode())
    program = f"""
import re
from perfcore.collect.reading import Collector
from perfcore.collect.target import open_target
from perfcore.db import connect
from perfcore.store import targets
with open_target({dsn!r}) as target, connect({store!r}, autocommit=True) as store:
    collector = Collector(target, store, targets.ensure_target(store, "t"))
    for _ in range(3):
        collector.collect()
    # Not getrusage: its maximum is inherited from the process that started this one.
    peak_kb = re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read()).group(1)
    print(len(collector.known), peak_kb)
"""
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    # The file of texts shrinks with a reset only, and other tests read it.
    ask(dsn, "SELECT pg_stat_statements_reset()")
    known, peak_kb = (int(n) for n in answer.stdout.split())
    assert known >= 200
    assert peak_kb < 200_000
    with connect(store) as connection:
        row = connection.execute("SELECT max(octet_length(text)) FROM perfcore.statements")
        assert row.fetchone() == (65_536,)


@pytest.mark.fault(76)
def test_a_text_is_fetched_once(collector: Collector, target_dsn: str) -> None:
    fetched = (
        b"SELECT coalesce(sum(calls), 0) FROM public.pg_stat_statements "
        b"WHERE query LIKE '%DECLARE perfcore_texts%'"
    )
    for _ in range(6):
        # Our own statements are new at first, and so are those with which this one is explained.
        collector.target.execute(fetched)
        collector.collect()
    before = collector.target.execute(fetched).fetchone()
    collector.collect()
    collector.collect()
    assert collector.target.execute(fetched).fetchone() == before
    assert before is not None and before[0] >= 1


@pytest.mark.fault(77)
def test_what_goes_while_it_is_read_is_skipped(collector: Collector, target_dsn: str) -> None:
    collector.collect()
    ask(target_dsn, QUESTION, 3)
    ask(target_dsn, "DROP TABLE items; ALTER TABLE orders RENAME TO old_orders")
    ask(target_dsn, "CREATE TABLE items (id int PRIMARY KEY, more int)")
    report = collector.collect()
    assert [p for p in report.problems if not p.startswith("plans")] == []
    assert calls(collector) == 3
    assert rows(collector, "SELECT 1 FROM perfcore.changes") == []


@pytest.mark.fault(77)
def test_databases_that_change_names_are_another_database(target_dsn: str, store: str) -> None:
    first, second = (f"swap_{uuid.uuid4().hex[:8]}" for _ in range(2))
    for name, times in ((first, 3), (second, 500)):
        ask(target_dsn, f"CREATE DATABASE {name}")
        ask(in_database(target_dsn, name), SCHEMA)
        ask(in_database(target_dsn, name), QUESTION, times)
    with connect(store, autocommit=True) as connection:
        number = targets.ensure_target(connection, "swapped")
        for _ in range(2):
            with open_target(in_database(target_dsn, first)) as target:
                collector = Collector(target, connection, number)
                collector.collect()
        ask(target_dsn, f"ALTER DATABASE {first} RENAME TO {first}_old")
        ask(target_dsn, f"ALTER DATABASE {second} RENAME TO {first}")
        with open_target(in_database(target_dsn, first)) as target:
            collector = Collector(target, connection, number)
            collector.collect()
        assert calls(collector) == 0
        assert rows(collector, "SELECT DISTINCT reason FROM perfcore.collection_gaps") == [
            ("another database answers",)
        ]
    for name in (first, f"{first}_old"):
        ask(target_dsn, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.mark.fault(80)
def test_a_clock_that_is_off_is_said_and_deltas_keep_to_the_targets(
    collector: Collector, target_dsn: str
) -> None:
    who = identify(collector.target)
    assert clock_problem(who, who.now + timedelta(seconds=4)) == ""
    assert "30 s behind the collector's" in clock_problem(who, who.now + timedelta(seconds=30))
    assert "12 s ahead of the collector's" in clock_problem(who, who.now - timedelta(seconds=12))
    collector.clock = lambda: datetime.now(UTC) + timedelta(hours=1)
    collector.collect()
    ask(target_dsn, QUESTION, 3)
    assert "3600 s behind" in collector.collect().problems[0]
    ((end, now),) = rows(
        collector, "SELECT max(interval_end), clock_timestamp() FROM perfcore.statement_deltas"
    )
    assert abs((end - now).total_seconds()) < 600


@pytest.mark.fault(80)
def test_two_collectors_at_once_count_once(
    collector: Collector, target_dsn: str, store: str
) -> None:
    """Even without the lock: the second one's reading is of a snapshot that is gone."""
    collector.collect()
    ask(target_dsn, QUESTION, 4)
    with open_target(target_dsn) as target, connect(store, autocommit=True) as connection:
        other = Collector(target, connection, collector.target_id)
        learn = Collector._learn_texts

        def overtaken(self: Collector, *arguments: Any) -> str:
            other.collect()
            return learn(self, *arguments)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(collector, "_learn_texts", overtaken.__get__(collector))
            problems = collector.collect().problems
    assert any("another collector has read pg_stat_statements" in p for p in problems)
    assert calls(collector) == 4
    ask(target_dsn, QUESTION, 1)
    collector.collect()
    assert calls(collector) == 5


def test_a_snapshot_of_another_version_is_a_gap(collector: Collector, target_dsn: str) -> None:
    """What it holds is not what this version would subtract."""
    collector.collect()
    collector.store.execute(
        'UPDATE perfcore.collector_snapshots SET snapshot = \'{"7/10/1": ["", 5]}\' '
        "WHERE view = 'pg_stat_statements'"
    )
    ask(target_dsn, QUESTION, 3)
    collector.collect()
    assert calls(collector) == 0
    gaps = rows(collector, "SELECT reason FROM perfcore.collection_gaps")
    assert gaps == [("upgrade of Perfcore",)]
    ask(target_dsn, QUESTION, 2)
    collector.collect()
    assert calls(collector) == 2
