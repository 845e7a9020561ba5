"""A workload given as a file: one JSON object a line, `{"id": "s01", "sql": "…", "calls": 300}`."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psycopg

from perfcore.db import query, redact
from perfcore.errors import ConfigurationError, TargetUnavailable
from perfcore.target import connect_target

_MAX_LINE_CHARACTERS = 1_000_000


@dataclass(frozen=True, slots=True)
class Item:
    """One statement of a workload: its text with constants or `$n`, and how often it runs."""

    id: str
    sql: str
    calls: float  # an hour


def read_workload_file(path: Path) -> tuple[Item, ...]:
    """Return the workload in the file.

    Raises ConfigurationError that names the line, what is wrong with it and what belongs there.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from error
    items = tuple(read_items(text.splitlines()))
    if not items:
        raise ConfigurationError(
            f"{path} holds no statement",
            hint='a line looks like {"id": "s01", "sql": "SELECT …", "calls": 300}',
        )
    return items


def read_items(lines: Iterable[str]) -> Iterable[Item]:
    """Yield the statements in the lines, empty ones left out; an id may be used once.

    >>> list(read_items(['{"id": "a", "sql": "SELECT 1", "calls": 2}']))
    [Item(id='a', sql='SELECT 1', calls=2.0)]
    """
    seen: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        item = _item(line, number)
        if item.id in seen:
            raise _wrong(number, f"the id {item.id!r} is that of line {seen[item.id]} already")
        seen[item.id] = number
        yield item


def _item(line: str, number: int) -> Item:
    if len(line) > _MAX_LINE_CHARACTERS:
        raise _wrong(number, f"it has more than {_MAX_LINE_CHARACTERS:,} characters")
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise _wrong(number, f"it is not JSON: {error}") from None
    if not isinstance(row, dict):
        raise _wrong(number, "it is not a JSON object")
    name, sql, calls = row.get("id", f"line {number}"), row.get("sql"), row.get("calls", 1)
    if not isinstance(name, str | int) or isinstance(name, bool) or name == "":
        raise _wrong(number, f'"id" is {name!r}, not a text')
    if not isinstance(sql, str) or not sql.strip():
        raise _wrong(number, f'"sql" is {sql!r}, not the text of a statement')
    is_number = isinstance(calls, int | float) and not isinstance(calls, bool)
    if not is_number or not math.isfinite(calls) or calls <= 0:
        raise _wrong(number, f'"calls" is {calls!r}, not a number above 0')
    return Item(str(name), sql.strip().rstrip(";"), float(calls))


def _wrong(number: int, what: str) -> ConfigurationError:
    return ConfigurationError(
        f"line {number} of the workload: {what}",
        hint='a line looks like {"id": "s01", "sql": "SELECT …", "calls": 300}',
    )


def read_server(dsn: str) -> tuple[Item, ...]:
    """Return the heaviest statements that the server itself has counted, each under its queryid.

    Raises TargetUnavailable where pg_stat_statements cannot be read.
    """
    try:
        with connect_target(dsn) as connection:
            found = connection.execute(query("target_extension").encode()).fetchone()
            if found is None:
                raise TargetUnavailable(
                    f"pg_stat_statements is not installed in {redact(dsn)}, so nothing is recorded",
                    hint="CREATE EXTENSION pg_stat_statements; or give --workload FILE",
                )
            schema = psycopg.sql.Identifier(found[0]).as_string(connection)
            text = query("advise_read_server").replace("{schema}", schema)
            rows = connection.execute(text.encode()).fetchall()
    except psycopg.Error as error:
        raise TargetUnavailable(
            f"pg_stat_statements of {redact(dsn)} cannot be read: {error}",
            hint="GRANT pg_read_all_stats TO the role, or give --workload FILE",
        ) from error
    return tuple(Item(str(queryid), text, float(calls)) for queryid, text, calls in rows)
