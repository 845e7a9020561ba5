"""Migrations to paste, carried out and taken back on a real server.

Django runs them as a project does. Alembic is not among the development requirements: its
revision is run with the two calls that it makes of `op`, on a connection as Alembic opens it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy

from perfcore import db
from perfcore.advise.migration_text import (
    alembic,
    django,
    is_of_a_schema,
    migration_texts,
    plain_sql,
    statements_of,
)
from perfcore.db import connect
from perfcore.types import Evidence, Finding, Suggestion

SCHEMA = """
    CREATE TABLE orders (id bigint PRIMARY KEY, note text, "it's 100%" integer);
    CREATE INDEX unused_idx ON orders (note);
"""
FINDING = Finding("seq_scan", "It reads all.")


def suggestion(ddl: str, undo: str = "", title: str = "A title") -> Suggestion:
    return Suggestion(
        "0123456789abcdef", 1, "index", title, "r", FINDING, Evidence.ESTIMATED, 1.0, ddl, undo
    )


INDEX = suggestion(
    'CREATE INDEX CONCURRENTLY "i" ON "public"."orders" ("it\'s 100%") '
    "WHERE note LIKE '10%; %%' AND note <> ':x \\'",
    'DROP INDEX CONCURRENTLY "public"."i"',
    'Index "orders" \\ """quoted""" "',
)
TWO = suggestion(
    "CREATE INDEX CONCURRENTLY a ON orders (note);\nCREATE INDEX CONCURRENTLY b ON orders (id);",
    "DROP INDEX CONCURRENTLY b; DROP INDEX CONCURRENTLY a",
)
DROP = suggestion(
    'DROP INDEX CONCURRENTLY "public"."unused_idx"',
    "CREATE INDEX CONCURRENTLY unused_idx ON public.orders USING btree (note)",
)
STATISTICS = suggestion(
    "CREATE STATISTICS s (dependencies) ON note, id FROM orders", "DROP STATISTICS s"
)
NO_WAY_BACK = suggestion('ALTER TABLE "orders" SET (autovacuum_vacuum_scale_factor = 0.01)')
ALL = (INDEX, TWO, DROP, STATISTICS, NO_WAY_BACK)

_OBJECTS = """
    SELECT indexname FROM pg_indexes WHERE tablename = 'orders'
     UNION ALL SELECT stxname FROM pg_statistic_ext
     UNION ALL SELECT unnest(reloptions) FROM pg_class WHERE relname = 'orders'
     ORDER BY 1
"""
BEFORE = ["orders_pkey", "unused_idx"]
AFTER = ["a", "autovacuum_vacuum_scale_factor=0.01", "b", "i", "orders_pkey", "s"]
BACK = ["autovacuum_vacuum_scale_factor=0.01", *BEFORE]


@pytest.fixture
def shop(dsn: str) -> str:
    with connect(dsn, autocommit=True) as connection:
        connection.execute(SCHEMA.encode())
    assert objects(dsn) == BEFORE
    return dsn


def objects(dsn: str) -> list[str]:
    with connect(dsn) as connection:
        return [str(row[0]) for row in connection.execute(_OBJECTS.encode())]


_MANAGE = """
import sys
import django
from django.conf import settings
from django.core.management import call_command
django.setup()
if sys.argv[1] == "there":
    call_command("migrate", verbosity=0)
else:
    for app in reversed(settings.INSTALLED_APPS):
        call_command("migrate", app, "zero", verbosity=0)
"""


def test_django_migrates_there_and_back(shop: str, tmp_path: Path) -> None:
    apps = [f"app{n}" for n in range(len(ALL))]
    for app, each in zip(apps, ALL, strict=True):
        folder = tmp_path / app / "migrations"
        folder.mkdir(parents=True)
        for name in (tmp_path / app / "__init__.py", folder / "__init__.py"):
            name.touch()
        (folder / "0001_advice.py").write_text(django(each), encoding="utf-8")
    (tmp_path / "settings.py").write_text(
        f"INSTALLED_APPS = {apps!r}\nUSE_TZ = True\nDATABASES = {{'default': {_database(shop)!r}}}"
    )
    for way, expected in (("there", AFTER), ("back", BACK)):
        done = subprocess.run(
            [sys.executable, "-c", _MANAGE, way], cwd=tmp_path, text=True, capture_output=True,
            env={**os.environ, "PYTHONPATH": str(tmp_path), "DJANGO_SETTINGS_MODULE": "settings"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert objects(shop) == expected


def _database(dsn: str) -> dict[str, str]:
    url = sqlalchemy.make_url(dsn)
    return {
        "ENGINE": "django.db.backends.postgresql", "NAME": url.database or "",
        "USER": url.username or "", "PASSWORD": url.password or "", "HOST": url.host or "",
        "PORT": str(url.port),
    }  # fmt: skip


class Operations(types.ModuleType):
    """What an Alembic revision asks of `alembic.op`, done as Alembic does it."""

    def __init__(self, connection: sqlalchemy.Connection) -> None:
        super().__init__("alembic.op")
        self.connection = connection

    def execute(self, statement: sqlalchemy.Executable) -> None:
        self.connection.execute(statement)

    def get_context(self) -> Operations:
        return self

    @contextmanager
    def autocommit_block(self) -> Iterator[None]:
        self.connection.commit()
        self.connection.execution_options(isolation_level="AUTOCOMMIT")
        yield
        self.connection.commit()
        self.connection.execution_options(isolation_level="READ COMMITTED")


def run_revision(engine: sqlalchemy.Engine, each: Suggestion, way: str) -> None:
    with engine.connect() as connection:
        package = types.ModuleType("alembic")
        package.op = Operations(connection)  # type: ignore[attr-defined]
        names: dict[str, object] = {}
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(sys.modules, "alembic", package)
            exec(compile(alembic(each), "revision.py", "exec"), names)
        assert names["revision"] == "0123456789ab" and names["down_revision"] is None
        names[way]()  # type: ignore[operator]
        connection.commit()


def test_alembic_migrates_there_and_back(shop: str) -> None:
    engine = db.engine(shop)
    for each in ALL:
        run_revision(engine, each, "upgrade")
    assert objects(shop) == AFTER
    for each in reversed(ALL):
        run_revision(engine, each, "downgrade")
    engine.dispose()
    assert objects(shop) == BACK


def test_plain_sql_is_run_statement_by_statement_there_and_back(shop: str) -> None:
    with connect(shop, autocommit=True) as connection:
        for each in ALL:
            for statement in statements_of(_without_comments(plain_sql(each))):
                connection.execute(statement.encode())
        assert objects(shop) == AFTER
        for each in ALL:
            undo = plain_sql(each).partition("-- To take it back:\n")[2].replace("-- ", "")
            for statement in statements_of(undo):
                connection.execute(statement.encode())
    assert objects(shop) == BACK


def _without_comments(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if not line.startswith("--"))


@pytest.mark.parametrize(("each", "is_outside"), [(INDEX, True), (STATISTICS, False)])
def test_plain_sql_says_what_must_run_outside_a_transaction(
    each: Suggestion, is_outside: bool
) -> None:
    assert ("outside a transaction" in plain_sql(each)) == is_outside


@pytest.mark.parametrize(
    "ddl",
    ["ANALYZE orders", "VACUUM orders", "ALTER SYSTEM SET work_mem = '8MB'",
     "REINDEX INDEX CONCURRENTLY unused_idx"],
)  # fmt: skip
def test_what_is_done_once_by_hand_is_no_migration(ddl: str) -> None:
    assert list(migration_texts(suggestion(ddl))) == ["SQL"]
    assert not is_of_a_schema(suggestion(ddl))


def test_a_value_for_one_transaction_is_set_inside_of_one(dsn: str) -> None:
    texts = migration_texts(suggestion("SET LOCAL work_mem = '77MB'", "RESET work_mem"))
    assert list(texts) == ["SQL"]
    code = _without_comments(texts["SQL"].replace("-- the statement itself", "SHOW work_mem;"))
    answers = []
    with connect(dsn, autocommit=True) as connection:
        for statement in (*statements_of(code), "SHOW work_mem"):
            found = connection.execute(statement.encode())
            answers += found.fetchall() if found.description else []
    assert answers == [("77MB",), ("4MB",)]


def test_what_executes_nothing_has_no_migration() -> None:
    assert migration_texts(suggestion("")) == {}


def test_what_needs_no_transaction_of_its_own_stays_in_the_migrations() -> None:
    assert "atomic" not in django(STATISTICS) and "autocommit" not in alembic(STATISTICS)
    assert "atomic = False" in django(INDEX) and "autocommit_block" in alembic(INDEX)


def test_a_title_of_several_lines_cannot_leave_its_comment() -> None:
    text = plain_sql(replace(DROP, title="a\nDROP TABLE orders;"))
    assert text.splitlines()[0] == "-- a DROP TABLE orders;"
