"""pg_stat_statements: readings, and the differences between two of them.

The rules of an epoch keep every difference true or absent: counters of another server, of
another life of the server or from before a reset are never subtracted, and an entry any of
whose counters went down is left out once.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from psycopg.errors import Error

from perfcore.collect.target import TEXTS_TIMEOUT_MS, Connection, read
from perfcore.db import MARKER
from perfcore.normalise import fingerprint
from perfcore.sqlcommenter import is_marked

COUNTERS = (
    "calls", "total_exec_time", "rows", "shared_blks_hit", "shared_blks_read",
    "temp_blks_read", "temp_blks_written", "wal_bytes",
)  # fmt: skip
TEXT_LIMIT_BYTES = 64 * 1024

# A reading: "queryid/userid/toplevel" -> [since, counters in the order of COUNTERS].
Reading = Mapping[str, list[Any]]


@dataclass(frozen=True, slots=True)
class Extension:
    """Where pg_stat_statements lives, or the reason why it cannot be read."""

    schema: str = ""
    problem: str = ""


def find_extension(connection: Connection) -> Extension:
    """Return where pg_stat_statements is, or what is missing with the SQL that mends it."""
    rows = read(connection, "target_extension")
    if not rows:
        return Extension(
            problem="pg_stat_statements is not installed in this database: run "
            "CREATE EXTENSION pg_stat_statements;"
        )
    schema = str(rows[0]["schema"])
    try:
        read(connection, "statements_epoch", extension_schema=schema)
    except Error as error:
        if error.sqlstate == "55000":
            return Extension(
                problem="pg_stat_statements is not loaded: run ALTER SYSTEM SET "
                "shared_preload_libraries = 'pg_stat_statements'; and restart PostgreSQL "
                "(keep what the setting lists already)"
            )
        raise
    return Extension(schema)


def read_counters(connection: Connection, schema: str) -> dict[str, list[Any]]:
    """Return the counters of every entry of this database."""
    return {
        f"{row['queryid']}/{row['userid']}/{int(row['toplevel'])}": [
            row["since"],
            *(_number(row[name]) for name in COUNTERS),
        ]
        for row in read(connection, "statements_read", extension_schema=schema)
    }


def _number(value: Any) -> float | int:
    return value if isinstance(value, float) else int(value)


def queryid_of(key: str) -> int:
    """Return the queryid in a reading's key."""
    return int(key.partition("/")[0])


def differences(before: Reading, now: Reading) -> dict[int, dict[str, float]]:
    """Return per queryid what ran between two readings of one epoch, summed over users.

    An entry that was not there before, or that says it counts from a later instant than
    before, began in between: it counts whole. One with any counter lower than before was
    lost and began anew: nothing certain can be said, and it is left out.

    >>> differences({"7/10/1": ["", 2, 1.0, 2, 0, 0, 0, 0, 0]},
    ...             {"7/10/1": ["", 5, 2.5, 5, 0, 0, 0, 0, 0]})[7]["calls"]
    3
    """
    result: dict[int, dict[str, float]] = {}
    for key, (since, *counters) in now.items():
        old = before.get(key)
        if old is None or old[0] != since:
            change = counters
        else:
            change = [n - o for n, o in zip(counters, old[1:], strict=True)]
        if any(c < 0 for c in change) or change[0] <= 0:
            continue
        sums = result.setdefault(queryid_of(key), dict.fromkeys(COUNTERS, 0))
        for name, amount in zip(COUNTERS, change, strict=True):
            sums[name] += amount
    return result


def read_texts(connection: Connection, schema: str, queryids: Collection[int]) -> dict[int, str]:
    """Return the texts of these statements, our own included; withheld ones are absent."""
    if not queryids:
        return {}
    with connection.transaction():
        connection.execute(f"SET LOCAL statement_timeout = {TEXTS_TIMEOUT_MS} {MARKER}".encode())
        rows = read(
            connection,
            "statements_read_texts",
            {"queryids": list(queryids)},
            extension_schema=schema,
        )
    return {
        int(row["queryid"]): str(row["text"])
        for row in rows
        if row["text"] != "<insufficient privilege>"
    }


def is_own(text: str) -> bool:
    """Say whether a statement is one of Perfcore's.

    >>> is_own("SELECT 1 /* perfcore */"), is_own("/*app:/* perfcore */*/ SELECT 1")
    (True, False)
    """
    return is_marked(text, MARKER)


def describe(texts: Iterable[tuple[int, str]]) -> list[tuple[int, int, str]]:
    """Return (queryid, fingerprint, text fit to store) for statements that are not ours."""
    return [(q, fingerprint(t), clean(t)) for q, t in texts if not is_own(t)]


_PASSWORD = re.compile(
    r"(\bpassword(?:\s*=)?\s*)(?:E?'(?:[^']|'')*'?|\$\$.*?\$\$)", re.IGNORECASE | re.DOTALL
)
_SECRET_DDL = re.compile(
    r"^\s*(?:CREATE|ALTER)\s+(?:ROLE|USER|GROUP|USER\s+MAPPING|SERVER|SUBSCRIPTION)\b",
    re.IGNORECASE,
)


def clean(text: str) -> str:
    """Return the text without passwords, NUL and excess length.

    >>> clean("ALTER ROLE a PASSWORD 'geheim'")
    "ALTER ROLE a PASSWORD '***'"
    """
    text = text.replace("\x00", "")
    text = _PASSWORD.sub(r"\1'***'", text)
    if _SECRET_DDL.match(text):
        text = re.sub(r"password=[^'\s]+", "password=***", text, flags=re.IGNORECASE)
    return text.encode()[:TEXT_LIMIT_BYTES].decode(errors="ignore")
