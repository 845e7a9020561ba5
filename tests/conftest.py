"""Real servers for the tests: PostgreSQL 18 from the wheel, and 15 with HypoPG where Debian has it.

`dsn` is an empty database on 18, `store` one with Perfcore's schema, `dsn15` one on 15. Each test
gets its own, and it is dropped afterwards. In CI (`CI` is set) a missing server fails; elsewhere
the tests that need it are skipped with the command that installs it.
"""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from perfcore.db import connect
from perfcore.server.embedded import (
    THROWAWAY_SETTINGS,
    Cluster,
    system_binaries,
    wheel_binaries,
)
from perfcore.store.migrate import migrate
from tests.needs import need

DEBIAN_15 = Path("/usr/lib/postgresql/15/bin")
_TEST_SETTINGS = {
    **THROWAWAY_SETTINGS,
    # Its snapshot keeps a VACUUM from marking pages visible, and then plans change by themselves.
    "autovacuum": "off",
    "shared_buffers": "64MB",
    "max_connections": "80",
    "shared_preload_libraries": "pg_stat_statements",
    "track_io_timing": "on",
}


@pytest.fixture(scope="session")
def work_folder() -> Iterator[Path]:
    """A folder that the account of the test servers may enter; pytest's own is closed to it."""
    folder = Path(tempfile.mkdtemp(prefix="perfcore-tests-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def cluster18(work_folder: Path) -> Iterator[Cluster]:
    cluster = Cluster(
        work_folder / "pg18", wheel_binaries(work_folder), _TEST_SETTINGS, durable=False
    )
    with cluster:
        yield cluster


@pytest.fixture(scope="session")
def cluster15(work_folder: Path) -> Iterator[Cluster]:
    need(DEBIAN_15 / "postgres", "postgresql-15 postgresql-15-hypopg")
    cluster = Cluster(
        work_folder / "pg15", system_binaries(DEBIAN_15), _TEST_SETTINGS, durable=False
    )
    with cluster:
        yield cluster


@pytest.fixture
def dsn(cluster18: Cluster) -> Iterator[str]:
    yield from _database(cluster18)


@pytest.fixture
def dsn15(cluster15: Cluster) -> Iterator[str]:
    yield from _database(cluster15)


@pytest.fixture(scope="session")
def _store_template(cluster18: Cluster) -> str:
    name = "store_template"
    with connect(cluster18.dsn(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    migrate(cluster18.dsn(name))
    return name


@pytest.fixture
def store(cluster18: Cluster, _store_template: str) -> Iterator[str]:
    """The DSN of a fresh store, all migrations applied."""
    yield from _database(cluster18, _store_template)


def _database(cluster: Cluster, template: str = "template1") -> Iterator[str]:
    name = f"test_{uuid.uuid4().hex[:12]}"
    with connect(cluster.dsn(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        yield cluster.dsn(name)
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
