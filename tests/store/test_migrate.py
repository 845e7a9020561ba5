"""Migrations: once is as twice and as ten at once; edited and newer schemas are refused."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from perfcore.db import connect
from perfcore.errors import MigrationError, StoreUnavailable
from perfcore.store.migrate import MIGRATIONS, migrate, read_migrations


def test_first_run_applies_all_and_the_second_nothing(dsn: str) -> None:
    assert [m.version for m in migrate(dsn)] == [m.version for m in read_migrations()]
    assert migrate(dsn) == []


def test_ten_at_once_are_as_one(dsn: str) -> None:
    with ThreadPoolExecutor(10) as pool:
        applied = [m for done in pool.map(lambda _: migrate(dsn), range(10)) for m in done]
    assert sorted(m.version for m in applied) == [m.version for m in read_migrations()]


def test_the_seed_table_has_its_columns_and_index(store: str) -> None:
    with connect(store) as connection:
        columns = connection.execute(
            "SELECT string_agg(column_name, ' ' ORDER BY ordinal_position) "
            "FROM information_schema.columns "
            "WHERE table_schema = 'perfcore' AND table_name = 'performance_metrics'"
        ).fetchone()
        index = connection.execute(
            "SELECT pg_get_indexdef('perfcore.performance_metrics_type_time_idx'::regclass)"
        ).fetchone()
    assert columns is not None and columns[0].startswith(
        "id metric_type metric_name value timestamp"
    )
    assert index is not None and '(metric_type, "timestamp" DESC)' in index[0]


def test_an_edited_file_is_refused(dsn: str, tmp_path: Path) -> None:
    path = tmp_path / "20260101000000_create_a.sql"
    path.write_text("CREATE TABLE perfcore.a ()")
    migrate(dsn, tmp_path)
    path.write_text("CREATE TABLE perfcore.b ()")
    with pytest.raises(MigrationError, match="create_a was edited"):
        migrate(dsn, tmp_path)


def test_a_newer_schema_is_refused_and_untouched(dsn: str, tmp_path: Path) -> None:
    migrate(dsn)
    with connect(dsn, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO perfcore.schema_migrations VALUES ('29990101000000', 'later', 'x')"
        )
    with pytest.raises(MigrationError, match="29990101000000 is newer than this program"):
        migrate(dsn)


def test_a_failing_migration_leaves_nothing(dsn: str, tmp_path: Path) -> None:
    (tmp_path / "20260101000000_create_a.sql").write_text("CREATE TABLE perfcore.a (); SELECT 1/0")
    with pytest.raises(MigrationError, match="create_a failed and was rolled back"):
        migrate(dsn, tmp_path)
    with connect(dsn) as connection:
        assert connection.execute("SELECT to_regclass('perfcore.a')").fetchone() == (None,)


def test_a_misnamed_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "first.sql").write_text("")
    with pytest.raises(MigrationError, match="first.sql"):
        read_migrations(tmp_path)


def test_an_unreachable_store_is_named() -> None:
    with pytest.raises(StoreUnavailable, match="PERFCORE_STORE|store"):
        migrate("postgresql://nobody@127.0.0.1:1/none", MIGRATIONS)
