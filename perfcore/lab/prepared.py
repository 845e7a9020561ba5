"""A statement prepared on a lab's connection, to be run with values given as text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow
from psycopg.types.string import TextLoader

from perfcore.db import MARKER
from perfcore.errors import TrialFailed

Connection = psycopg.Connection[TupleRow]
Row = tuple[str | None, ...]


class Prepared:
    """One prepared statement; the name is free again after `close`."""

    def __init__(self, lab: Connection, name: str, text: str, types: Sequence[str]) -> None:
        self._lab = lab
        self._name = name
        self.types = tuple(types)
        # A binary cursor makes psycopg use the extended protocol: one statement only.
        lab.cursor(binary=True).execute(f"PREPARE {name} AS {MARKER} {text}".encode())

    def call(self, values: Sequence[str | None]) -> sql.Composable:
        """Return what stands after EXECUTE; raises TrialFailed for a wrong number of values."""
        if len(values) != len(self.types):
            raise TrialFailed(
                f"the statement takes {len(self.types)} parameters, {len(values)} were given"
            )
        if not values:
            return sql.Identifier(self._name)
        literals = [
            sql.SQL("{}::{}").format(sql.Literal(v), sql.SQL(t))
            for v, t in zip(values, self.types, strict=True)
        ]
        return sql.SQL("{}({})").format(sql.Identifier(self._name), sql.SQL(", ").join(literals))

    def rows(self, values: Sequence[str | None]) -> Iterator[Row]:
        """Yield the rows as the server writes them, one by one: none is kept."""
        with self._lab.cursor() as cursor:
            _load_text(cursor)
            yield from cursor.stream(self._execute(values))

    def columns(self) -> tuple[tuple[str, int], ...]:
        """Return names and types (by OID) of what the statement returns, without running it."""
        told = self._lab.pgconn.describe_prepared(self._name.encode())
        return tuple(((told.fname(n) or b"").decode(), told.ftype(n)) for n in range(told.nfields))

    def _execute(self, values: Sequence[str | None]) -> sql.Composed:
        return sql.SQL("EXECUTE {}").format(self.call(values))

    def close(self) -> None:
        """Forget the statement, so that the next one can be prepared."""
        with suppress(psycopg.Error):
            self._lab.execute(f"DEALLOCATE {self._name}")


def _load_text(cursor: psycopg.Cursor[TupleRow]) -> None:
    """Make a cursor return every value as the server's text."""
    for known in psycopg.adapters.types:
        cursor.adapters.register_loader(known.oid, TextLoader)
        if known.array_oid:
            cursor.adapters.register_loader(known.array_oid, TextLoader)
