"""Which engine answers, on a target of the twin's version and on an older one with HypoPG."""

from pathlib import Path

import pytest

from perfcore.db import connect
from perfcore.types import IndexDefinition, IndexKey
from perfcore.whatif.choose import best_planner
from perfcore.whatif.definition import parse_create_index
from perfcore.whatif.twin import Twin

SCHEMA = """
CREATE TABLE t (id int PRIMARY KEY, a int NOT NULL, b text NOT NULL);
INSERT INTO t SELECT i, i % 4000, md5(i::text) FROM generate_series(1, 40000) AS i;
CREATE TABLE u (a int, c int);
INSERT INTO u SELECT i % 300, i FROM generate_series(1, 40000) AS i;
CREATE INDEX u_a ON u (a);
"""
POINT = "SELECT * FROM t WHERE a = $1"
# Version 18 skips through the index over the few values of its first column, 15 reads the table.
SKIP = "SELECT c FROM u WHERE c = $1"
INDEX = IndexDefinition("public", "t", (IndexKey("a"),))


def create(dsn: str, *more: str) -> None:
    with connect(dsn, autocommit=True) as connection:
        for statement in (SCHEMA, *more, "VACUUM ANALYZE"):
            connection.execute(statement.encode())


def test_the_twin_answers_where_it_is_of_the_targets_version(dsn: str, work_folder: Path) -> None:
    create(dsn)
    with Twin.build(dsn, work_folder) as twin, best_planner(twin, work_folder) as best:
        found = best.compare(POINT, indexes=[INDEX])
        assert found.engine == "twin" and "own version" in found.why
        assert found.after.total_cost < found.before.total_cost / 5
        assert best.hypopg is None and best.advisory == ""


def test_hypopg_answers_where_an_older_target_plans_otherwise(
    dsn15: str, work_folder: Path
) -> None:
    create(
        dsn15,
        "CREATE EXTENSION hypopg",
        "CREATE INDEX u_few ON u (a, c)",
        "UPDATE u SET a = a % 3",
    )
    with Twin.build(dsn15, work_folder) as twin, best_planner(twin, work_folder) as best:
        assert best.hypopg is not None
        same = best.compare(POINT, indexes=[INDEX])
        assert same.engine == "twin" and "own plan of this statement" in same.why
        other = parse_create_index("CREATE INDEX ON u (c)")
        apart = best.compare(SKIP, indexes=[other])
        assert apart.engine == "hypopg" and "times the target's cost" in apart.why
        assert apart.before.root.node_type == "Seq Scan"
        assert apart.after.uses_index(other.name)
        gin = best.choose(SKIP, [parse_create_index("CREATE INDEX ON u USING gin (c)")])
        assert gin[0] is twin.planner and "knows no gin" in gin[1]


def test_hides_an_existing_index_with_any_hypopg(dsn15: str, work_folder: Path) -> None:
    """Before its version 1.4 HypoPG cannot, so the twin answers."""
    create(dsn15, "CREATE EXTENSION hypopg")
    statement = "SELECT * FROM t WHERE id = $1"
    with Twin.build(dsn15, work_folder) as twin, best_planner(twin, work_folder) as best:
        found = best.compare(statement, hidden=["t_pkey"])
        assert found.before.uses_index("t_pkey")
        assert found.after.root.node_type == "Seq Scan"
        assert best.hypopg is not None
        if not best.hypopg._can_hide:
            words = best.hypopg.cannot(statement, hidden=["t_pkey"])
            assert "came with its version 1.4" in words
            assert best.choose(SKIP, hidden=["u_a"])[0] is twin.planner


@pytest.mark.fault(115)
def test_the_twin_answers_when_hypopg_is_asked_no_more(dsn15: str, work_folder: Path) -> None:
    create(dsn15, "CREATE EXTENSION hypopg")
    with Twin.build(dsn15, work_folder) as twin, best_planner(twin, work_folder / "n") as best:
        assert best.hypopg is not None and best.hypopg._note is not None
        best.hypopg._note.parent.mkdir(parents=True, exist_ok=True)
        best.hypopg._note.write_text("its session ended in a crash of the server")
        assert best.hypopg.cannot(POINT) == "its session ended in a crash of the server"
        with best_planner(twin, work_folder / "n") as again:
            assert again.hypopg is None
            assert again.compare(POINT, indexes=[INDEX]).engine == "twin"
