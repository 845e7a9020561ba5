"""Running the readers' SQL files: one snapshot per question, errors in the words of the product."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import psycopg
import sqlalchemy
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from perfcore.db import query
from perfcore.errors import StoreUnavailable

Rows = list[Any]  # of tuples, as wide as the file selects


class Snapshot:
    """One transaction that sees one state of the store, whatever the writers do meanwhile."""

    def __init__(self, connection: sqlalchemy.Connection) -> None:
        self._connection = connection

    def rows(self, name: str, parameters: Mapping[str, Any] | None = None) -> Rows:
        """Return the rows of `queries/<name>.sql`."""
        result = self._connection.exec_driver_sql(query(name), dict(parameters or {}))
        return [tuple(row) for row in result]

    def many_rows(self, name: str, parameters: Mapping[str, Any] | None = None) -> Rows:
        """Return the same in half the time, on both sides: values travel in binary form."""
        driver: Any = self._connection.connection.driver_connection
        with driver.cursor(binary=True) as cursor:
            return list(cursor.execute(query(name), dict(parameters or {})))


@contextmanager
def snapshot(store: sqlalchemy.Engine) -> Iterator[Snapshot]:
    """Open a snapshot of the store.

    Raises StoreUnavailable, with a hint, when the store is away, too slow to answer within
    its statement timeout, or has no tables yet.
    """
    try:
        with store.connect() as connection:
            yield Snapshot(connection.execution_options(isolation_level="REPEATABLE READ"))
    except PoolTimeout as error:
        raise StoreUnavailable(
            "all connections to the store are busy", hint="try again in a few seconds"
        ) from error
    except DBAPIError as error:
        raise _unavailable(error.orig, error) from error
    except psycopg.Error as error:
        raise _unavailable(error, error) from error


def fetch(store: sqlalchemy.Engine, name: str, parameters: Mapping[str, Any] | None = None) -> Rows:
    """Return the rows of one SQL file, in a snapshot of its own."""
    with snapshot(store) as seen:
        return seen.rows(name, parameters)


def _unavailable(cause: BaseException | None, error: Exception) -> Exception:
    if isinstance(cause, psycopg.errors.QueryCanceled):
        return StoreUnavailable(
            "the store did not answer in time", hint="ask for a shorter range, or again later"
        )
    if isinstance(cause, psycopg.errors.UndefinedTable | psycopg.errors.InvalidSchemaName):
        return StoreUnavailable(
            "the store lacks Perfcore's tables", hint="run: python -m perfcore migrate"
        )
    if isinstance(cause, psycopg.OperationalError):
        return StoreUnavailable(
            "the store cannot be reached",
            hint="check that PostgreSQL runs and that PERFCORE_STORE names it",
        )
    return error
