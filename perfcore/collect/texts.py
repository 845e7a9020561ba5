"""The texts of statements: fetched apart from the counters, few at a time, whatever their bytes.

pg_stat_statements keeps the texts of all databases in one file and gives all or none: one text
that is not in the encoding of the database that asks, and may be another database's, fails them
all. Only a database in SQL_ASCII is given any bytes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.errors import CharacterNotInRepertoire, UntranslatableCharacter

from perfcore.collect.target import TEXTS_TIMEOUT_MS, Connection, open_target, read
from perfcore.db import MARKER

TEXT_LIMIT_BYTES = 64 * 1024
_WRONG_BYTES = (CharacterNotInRepertoire, UntranslatableCharacter)


class TextsUnreadable(Exception):
    """No text of any statement can be had; the counters go on."""


@dataclass(frozen=True, slots=True)
class Text:
    """A statement's text as the server keeps it."""

    queryid: int
    text: str
    is_hex: bool = False  # it held bytes that are no UTF-8, shown as hexadecimal


def read_texts(
    connection: Connection, schema: str, database_oid: int, queryids: Collection[int]
) -> Iterator[list[Text]]:
    """Yield the texts of these statements, our own included, some at a time.

    Withheld ones are absent. Raises TextsUnreadable, with the remedy, when a text of another
    database stands in the way; psycopg.Error passes through.
    """
    if not queryids:
        return
    for encoding in ("UTF8", "SQL_ASCII"):
        try:
            yield from _texts(connection, schema, database_oid, queryids, encoding)
            return
        except _WRONG_BYTES:
            continue
    yield from _through_another_database(connection, database_oid, queryids)


def _texts(
    connection: Connection,
    schema: str,
    database_oid: int,
    queryids: Collection[int],
    encoding: str,
) -> Iterator[list[Text]]:
    with connection.transaction():
        connection.execute(f"SET LOCAL statement_timeout = {TEXTS_TIMEOUT_MS} {MARKER}".encode())
        read(
            connection,
            "statements_read_texts",
            {"queryids": list(queryids), "encoding": encoding, "database_oid": database_oid},
            extension_schema=schema,
        )
        while rows := read(connection, "statements_fetch_texts"):
            yield [decoded(int(row["queryid"]), bytes(row["text"])) for row in rows]


def _through_another_database(
    connection: Connection, database_oid: int, queryids: Collection[int]
) -> Iterator[list[Text]]:
    names = [str(row["name"]) for row in read(connection, "target_ascii_databases")]
    for name in names:
        try:
            dsn = make_conninfo(connection.info.dsn, password=connection.info.password, dbname=name)
            with open_target(dsn) as other:
                if found := read(other, "target_extension"):
                    schema = str(found[0]["schema"])
                    yield from _texts(other, schema, database_oid, queryids, "SQL_ASCII")
                    return
        except psycopg.OperationalError:
            continue
    place = f"in database {names[0]}, which is in SQL_ASCII, " if names else ""
    raise TextsUnreadable(
        "a text of another database is not in this one's encoding, and the server then gives none: "
        f"run {place}CREATE EXTENSION pg_stat_statements; for the texts to be read from there"
    )


def decoded(queryid: int, text: bytes) -> Text:
    r"""Return the text, with bytes that are no UTF-8 written as hexadecimal.

    >>> decoded(1, b"SELECT 'caf\xe9'").text
    "SELECT 'caf\\xe9'"
    """
    try:
        return Text(queryid, text.decode())
    except UnicodeDecodeError as error:
        # A text may only have been cut in the middle of its last character.
        if error.start >= len(text) - 3 and len(text) >= TEXT_LIMIT_BYTES:
            return Text(queryid, text[: error.start].decode())
        return Text(queryid, text.decode(errors="backslashreplace"), is_hex=True)
