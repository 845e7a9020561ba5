"""Who reads a suggestion: what may be run at once, what needs a developer, what a decision."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from perfcore.advise.migration_text import statements_of
from perfcore.types import Suggestion

BIG_INDEX_BYTES = 1 << 30
# From here on the pending list of a GIN index fills so often that writers wait for its cleaning.
HEAVY_GIN_MS_PER_HOUR = 1000.0
# Keeping an index may take this share of what it saves before somebody should weigh the two.
MAX_UPKEEP_SHARE = 0.1


class Reader(StrEnum):
    """Whom a suggestion is for; the value is the group's name."""

    RUN_NOW = "run now"
    DEVELOPER = "needs a developer"
    DECISION = "needs a decision"


@dataclass(frozen=True, slots=True)
class Placed:
    """The group of a suggestion, with the reason in a few words."""

    reader: Reader
    why: str


def reader_of(suggestion: Suggestion) -> Reader:
    """Return whom the suggestion is for."""
    return place(suggestion).reader


def place(suggestion: Suggestion) -> Placed:
    """Return the suggestion's group and why it is in it.

    Only what is known to be safe is called so: online, taken back by its undo, and nothing
    that anybody relies on is lost. All else waits for somebody to decide.
    """
    return _PLACES.get(suggestion.kind, _unknown)(suggestion)


def _index(suggestion: Suggestion) -> Placed:
    size, upkeep = suggestion.index_bytes, suggestion.write_ms_per_hour
    if suggestion.index is not None and suggestion.index.unique:
        return Placed(Reader.DECISION, "a unique index refuses rows that were allowed before")
    if not _is_concurrent(suggestion.ddl):
        return Placed(Reader.DECISION, "its build blocks writes to the table")
    if re.search(r"\bDROP\b", suggestion.ddl):
        return Placed(Reader.DECISION, "it drops an index as well")
    if size is None:
        return Placed(Reader.DECISION, "how much disk it takes is not known")
    if size >= BIG_INDEX_BYTES:
        return Placed(Reader.DECISION, f"it takes {size / 1e9:,.1f} GB of disk")
    if _is_gin(suggestion) and upkeep >= HEAVY_GIN_MS_PER_HOUR:
        return Placed(Reader.DECISION, "a GIN index makes the many writes to this table dearer")
    if upkeep > MAX_UPKEEP_SHARE * suggestion.saved_ms_per_hour:
        return Placed(Reader.DECISION, "its upkeep takes over a tenth of the time it saves")
    return Placed(Reader.RUN_NOW, "it is built while reads and writes go on, and dropped as easily")


def _is_concurrent(ddl: str) -> bool:
    return re.match(r"CREATE (UNIQUE )?INDEX CONCURRENTLY ", ddl) is not None


def _is_gin(suggestion: Suggestion) -> bool:
    return suggestion.index is not None and suggestion.index.method == "gin"


def _drop(suggestion: Suggestion) -> Placed:
    if suggestion.finding.kind == "invalid_index":
        return Placed(Reader.RUN_NOW, "no query can use an invalid index, so none loses it")
    if suggestion.finding.kind == "unused_index":
        return Placed(
            Reader.DECISION, "a query that is rarely run, or runs on a replica, may need it"
        )
    return Placed(Reader.DECISION, "an index goes, and what it served is left to another one")


def _application(suggestion: Suggestion) -> Placed:
    return Placed(Reader.DEVELOPER, "the application's code changes")


def _setting(suggestion: Suggestion) -> Placed:
    if suggestion.ddl.startswith("SET LOCAL "):
        return Placed(Reader.DEVELOPER, "the application sets it in its own transaction")
    if _is_of_one_table(suggestion.ddl):
        return Placed(Reader.RUN_NOW, _OF_ONE_TABLE)
    if not suggestion.ddl:
        return Placed(Reader.DECISION, "there is no one statement that does it")
    if suggestion.ddl.startswith("ALTER TABLE "):
        return Placed(Reader.DECISION, "the table grows by what its pages leave free")
    whole = "database" if suggestion.ddl.startswith("ALTER DATABASE ") else "server"
    return Placed(Reader.DECISION, f"it changes what every session of the {whole} does")


def _maintenance(suggestion: Suggestion) -> Placed:
    statements = statements_of(suggestion.ddl)
    if not statements:
        return Placed(Reader.DECISION, "there is no one statement that does it")
    if re.match(r"REINDEX (INDEX|TABLE) CONCURRENTLY ", statements[0]):
        return _rebuild(suggestion)
    known = [_why_online(s) for s in statements]
    if all(known):
        return Placed(Reader.RUN_NOW, known[0])
    if any(re.match(r"VACUUM|CLUSTER|REINDEX|ALTER TABLE", s) for s in statements):
        return Placed(Reader.DECISION, "it may lock or rewrite a table")
    return Placed(Reader.DECISION, "it changes what others may rely on")


def _why_online(statement: str) -> str:
    """Return why a statement may be run at any time, empty where it may not."""
    if re.match(r"(ANALYZE|CREATE STATISTICS)\b", statement):
        return "it reads a sample, and reads and writes go on"
    if re.match(r"VACUUM\b(?!.*\bFULL\b)", statement, re.DOTALL):
        return "it cleans up while reads and writes go on"
    return _OF_ONE_TABLE if _is_of_one_table(statement) else ""


_OF_ONE_TABLE = "it changes when autovacuum looks at one table, at once"


def _is_of_one_table(ddl: str) -> bool:
    settings = re.match(r"ALTER TABLE .+? (?:SET|RESET) \(([^()]+)\)\s*$", ddl)
    return settings is not None and all(
        re.match(r"\s*(toast\.)?autovacuum_", each) for each in settings[1].split(",")
    )


def _rebuild(suggestion: Suggestion) -> Placed:
    if 0 < (suggestion.index_bytes or 0) < BIG_INDEX_BYTES:
        return Placed(Reader.RUN_NOW, "it is built anew while reads and writes go on")
    return Placed(Reader.DECISION, "its second copy may take more than 1 GiB of disk meanwhile")


def _unknown(suggestion: Suggestion) -> Placed:
    return Placed(Reader.DECISION, "it is of a kind that nothing is known of")


_PLACES: dict[str, Callable[[Suggestion], Placed]] = {
    "index": _index,
    "drop_index": _drop,
    "rewrite": _application,
    "cache": _application,
    "setting": _setting,
    "maintenance": _maintenance,
}
