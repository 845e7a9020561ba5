"""Transaction and multixact ids that grow old, and how long they last."""

from __future__ import annotations

from collections.abc import Iterator

from perfcore.advise.server_state import DatabaseAge, ServerState, TableState
from perfcore.advise.upkeep import span_words, suggest, table_sql
from perfcore.advise.workload import Options
from perfcore.types import Finding, Suggestion

WALL_XIDS = 2**31 - 3_000_000  # from here on the server takes no more writes
FREEZE_OVERDUE = 1.1  # times autovacuum_freeze_max_age
_FREEZE_MAX_AGE = 200_000_000.0
_MULTIXACT_FREEZE_MAX_AGE = 400_000_000.0


def wraparound_advice(server: ServerState, options: Options) -> Iterator[Suggestion]:
    """Yield a suggestion for ids that autovacuum should have frozen by now."""
    limits = (
        ("transaction", "autovacuum_freeze_max_age", _FREEZE_MAX_AGE),
        ("multixact", "autovacuum_multixact_freeze_max_age", _MULTIXACT_FREEZE_MAX_AGE),
    )
    for word, name, default in limits:
        limit = FREEZE_OVERDUE * server.number(name, default)
        old = [d for d in server.databases if _age(d, word) > limit]
        here = [d for d in old if d.name == server.counters.database]
        for database in here or old[:1]:
            yield _old_ids(database, word, limit, server, options)


def _age(item: DatabaseAge | TableState, word: str) -> int:
    return (item.xid_age if word == "transaction" else item.mxid_age) or 0


def _old_ids(
    database: DatabaseAge, word: str, limit: float, server: ServerState, options: Options
) -> Suggestion:
    age = _age(database, word)
    is_here = database.name == server.counters.database
    oldest = max(server.tables.values(), key=lambda t: _age(t, word), default=None)
    # A table of the catalogue may be the oldest: then the whole database is vacuumed.
    named = oldest if is_here and oldest and _age(oldest, word) >= limit else None
    what = f"VACUUM (FREEZE) {table_sql(named.schema, named.name)}" if named else "VACUUM (FREEZE)"
    where = () if is_here else (f"To be run in the database {database.name}.",)
    rate = server.xids_per_hour() if word == "transaction" else None
    left = max(WALL_XIDS - age, 0)
    pace = (
        (("used per hour", f"{rate:,.0f}"), ("left", span_words(left / max(rate, 1.0))))
        if rate is not None
        else (("left", f"{left:,}; how long that lasts is known after a second reading"),)
    )
    return suggest(
        options,
        "maintenance",
        f"wraparound/{word}/{database.name}",
        f"{database.name} runs out of {word} ids",
        Finding(
            "wraparound",
            f"The oldest {word} id in {database.name} is {age:,} ids old, "
            f"{100 * age / WALL_XIDS:.0f} % of the way to where the server takes no more writes.",
            (*((("oldest table", named.qualified_name),) if named else ()), *pace),
        ),
        f"Autovacuum should have frozen it at {limit / FREEZE_OVERDUE:,.0f}. It is off, too slow, "
        "or held back by an open transaction, a prepared one or a replication slot: end that "
        "first.",
        ddl=what,
        present=f"{age:,} ids old",
        proposed=f"younger than {limit / FREEZE_OVERDUE:,.0f}",
        verify="SELECT datname, age(datfrozenxid), mxid_age(datminmxid) FROM pg_database.",
        risk="It reads and writes the whole table; reads and writes of others go on.",
        caveats=where,
    )
