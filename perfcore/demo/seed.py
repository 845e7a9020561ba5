"""Fill an empty database with the shop: four million rows, made by SQL inside the server."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from perfcore.db import connect, redact
from perfcore.demo import words
from perfcore.errors import ServerError

Progress = Callable[[float, str], None]

# Rows at scale 1. The first two keep their size at every scale: they are what others refer to.
ROWS = {
    "categories": 200,
    "suppliers": 250,
    "customers": 300_000,
    "products": 120_000,
    "orders": 400_000,
    "order_items": 1_400_000,
    "reviews": 250_000,
    "wishlist_items": 150_000,
    "cart_items": 20_000,
    "stock_movements": 80_000,
}
_FIXED = ("categories", "suppliers")
_WITH_IDENTITY = (
    "customers", "products", "orders", "order_items", "payments", "invoices", "shipments",
    "reviews", "wishlist_items", "stock_movements",
)  # fmt: skip
_NAME = "Perfcore demo shop"
_HERE = Path(__file__).parent
# One number for all servers and sessions: whoever makes the shop in a database makes it alone.
_LOCK = 0x50455246


@dataclass(frozen=True, slots=True)
class Step:
    """One statement of the three SQL files, with its share of the work."""

    message: str
    weight: int
    statement: str


def create_shop(
    dsn: str, *, scale: float = 1.0, progress: Progress = lambda fraction, message: None
) -> None:
    """Make the shop's tables, rows and indexes in the database, unless they are there already.

    A comment on the schema says whether the shop is complete; a half-made one is dropped
    and made anew. `progress` is told the fraction done and what comes next. Raises
    ServerError for a database that holds somebody else's tables.
    """
    with connect(dsn, autocommit=True, cursor_factory=psycopg.ClientCursor) as connection:
        connection.execute("SELECT pg_catalog.pg_advisory_lock(%s)", [_LOCK])
        if _comment(connection) == _complete(scale):
            return
        _check_ours(connection, dsn)
        _set_comment(connection, f"{_NAME}, unfinished")
        _run(connection, _row_counts(scale), progress)
        _set_comment(connection, _complete(scale))
        progress(1.0, "The shop is ready")


def read_steps(name: str) -> tuple[Step, ...]:
    """Return the steps of one of this folder's SQL files, in order."""
    text = (_HERE / name).read_text(encoding="utf-8")
    parts = re.split(r"^-- step: (.+) \| (\d+)$", text, flags=re.MULTILINE)[1:]
    return tuple(
        Step(message, int(weight), statement.strip())
        for message, weight, statement in zip(parts[::3], parts[1::3], parts[2::3], strict=True)
    )


def _row_counts(scale: float) -> dict[str, int]:
    return {
        table: rows if table in _FIXED else max(1, round(rows * scale))
        for table, rows in ROWS.items()
    }


def _complete(scale: float) -> str:
    return f"{_NAME}, scale {scale:g}"


def _comment(connection: psycopg.Connection[Any]) -> str:
    row = connection.execute(
        "SELECT pg_catalog.obj_description(oid, 'pg_namespace') FROM pg_catalog.pg_namespace "
        "WHERE nspname = 'public'"
    ).fetchone()
    return str(row[0] or "") if row else ""


def _set_comment(connection: psycopg.Connection[Any], text: str) -> None:
    connection.execute("CREATE SCHEMA IF NOT EXISTS public")
    connection.execute(sql.SQL("COMMENT ON SCHEMA public IS {}").format(sql.Literal(text)))


def _check_ours(connection: psycopg.Connection[Any], dsn: str) -> None:
    """Refuse to drop a schema that holds tables which are not the shop's."""
    if _comment(connection).startswith(_NAME):
        return
    row = connection.execute(
        "SELECT c.relname FROM pg_catalog.pg_class c "
        "WHERE c.relnamespace = pg_catalog.to_regnamespace('public') AND NOT EXISTS "
        "(SELECT FROM pg_catalog.pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e') LIMIT 1"
    ).fetchone()
    if row:
        raise ServerError(
            f"{redact(dsn)} holds a table {row[0]!r} that is not the demo shop's: "
            "give the demo an empty database"
        )


def _run(connection: psycopg.Connection[Any], rows: dict[str, int], progress: Progress) -> None:
    parameters = rows | {
        "colors": list(words.COLORS),
        "materials": list(words.MATERIALS),
        "nouns": list(words.NOUNS),
        "rooms": list(words.ROOMS),
        "first_names": list(words.FIRST_NAMES),
        "last_names": list(words.LAST_NAMES),
        "brands": words.BRANDS,
    }
    _prepare_session(connection)
    steps = [step for name in ("schema.sql", "seed.sql", "keys.sql") for step in read_steps(name)]
    total, done = sum(step.weight for step in steps), 0
    for step in steps:
        progress(done / total, step.message)
        if "DROP SCHEMA" in step.statement:
            _drop_schema(connection, step.statement)
        else:
            connection.execute(step.statement, parameters)
        done += step.weight
    _advance_identities(connection)


def _drop_schema(connection: psycopg.Connection[Any], statement: str) -> None:
    """Drop and remake the schema in one transaction: the mark of a half-made shop outlives it."""
    with connection.transaction():
        connection.execute(statement)
        _set_comment(connection, f"{_NAME}, unfinished")


def _prepare_session(connection: psycopg.Connection[Any]) -> None:
    """Make the rows the same each time, and do not wait for the disk at every step."""
    connection.execute("SET synchronous_commit = off")
    connection.execute("SET maintenance_work_mem = '128MB'")
    connection.execute("SET work_mem = '64MB'")
    connection.execute("SET search_path = public")
    connection.execute("SELECT pg_catalog.setseed(0.25)")
    # Two cores serve the shop, its visitors and Perfcore: one statement gets one of them.
    connection.execute(
        sql.SQL("ALTER DATABASE {} SET max_parallel_workers_per_gather = 0").format(
            sql.Identifier(connection.info.dbname)
        )
    )


def _advance_identities(connection: psycopg.Connection[Any]) -> None:
    for table in _WITH_IDENTITY:
        connection.execute(
            sql.SQL(
                "SELECT pg_catalog.setval(pg_catalog.pg_get_serial_sequence({}, 'id'), max(id)) "
                "FROM public.{}"
            ).format(sql.Literal(f"public.{table}"), sql.Identifier(table))
        )
