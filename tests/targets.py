"""Watched databases for the tests, prepared by the setup.sql that the product prints."""

from __future__ import annotations

import subprocess
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict

from perfcore.db import connect
from perfcore.target import READER_ROLE, SETUP
from tests.needs import need

PASSWORD = "geheim"


def run_setup(dsn: str, script: Path = SETUP, **variables: str) -> str:
    """Run setup.sql through psql, as its head says; return what it printed."""
    need("psql", "postgresql-client")
    given = [word for name, value in variables.items() for word in ("-v", f"{name}={value}")]
    command = ["psql", "-X", "-v", "ON_ERROR_STOP=1", *given, "-d", dsn, "-f", str(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr
    return done.stdout


def reader_dsn(dsn: str) -> str:
    """Return the DSN of the restricted role, with a password, in the same database."""
    with connect(dsn, autocommit=True) as connection:
        connection.execute(f"ALTER ROLE {READER_ROLE} PASSWORD '{PASSWORD}'".encode())
    found = conninfo_to_dict(dsn)
    return (
        f"postgresql://{READER_ROLE}:{PASSWORD}@{found['host']}:{found['port']}/{found['dbname']}"
    )
