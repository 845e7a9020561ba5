"""Advice that needs no planner's answer: what the catalogue and the server's counters show."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence

from psycopg import sql

from perfcore.advise.bloat import bloat_advice
from perfcore.advise.costs import OutOfTime
from perfcore.advise.held_back import held_back
from perfcore.advise.index_merges import Weigh, Weighing, merges
from perfcore.advise.sequences import sequence_advice
from perfcore.advise.server_state import ServerState
from perfcore.advise.settings import setting_advice
from perfcore.advise.statement import plannable
from perfcore.advise.statistics import Plans, Weighed, stale_statistics, statistics_advice
from perfcore.advise.unused_indexes import Drops
from perfcore.advise.upkeep import STEP, suggest, table_sql
from perfcore.advise.vacuum import vacuum_advice
from perfcore.advise.workload import ForeignKey, Options, Writes
from perfcore.advise.wraparound import wraparound_advice
from perfcore.plan import Plan
from perfcore.types import Catalog, Finding, IndexDefinition, Suggestion, TableInfo

LOW_HIT_RATIO = 0.9
_MIN_READS = 100_000  # blocks, 800 MB: below, a cold cache says nothing


_MOST_WEIGHED = 50  # statements of a table, the heaviest first

WhatIf = Callable[[str, IndexDefinition, Sequence[str]], Plan | None]


def _no_plan(text: str) -> None:
    return None


def health(
    catalog: Catalog,
    writes: Writes,
    options: Options,
    *,
    indexed: Collection[str] = (),
    foreign_keys: Collection[ForeignKey] = (),
    server: ServerState | None = None,
    statements: Sequence[Weighed] = (),
    plans: Plans = _no_plan,
    what_if: WhatIf | None = None,
) -> list[Suggestion]:
    """Return what tables, then what the server shows, in the order of the catalogue's tables.

    A table that is to be `indexed` is not blamed for cold reads: the index may end them.
    Without `server` only the catalogue speaks. `plans` tells what the planner expects of the
    `statements`, as things are, `what_if` with an index and without others.
    """
    found: list[Suggestion] = []
    weigh = _weigh(statements, plans, what_if, options) if what_if else None
    drops = Drops(catalog, writes, options, server, foreign_keys)
    for table in catalog.tables:
        if table.kind == "p":
            continue  # its partitions are looked at, and its indexes go by other statements
        dropped = drops.of_table(table)
        found += dropped.values()
        found += merges(table, catalog, writes, options, spoken_for=dropped, weigh=weigh)
        found += stale_statistics(table, options)
        if table.name not in indexed:
            found += _cold(table, options)
    found += statistics_advice(catalog, options, server, statements, plans)
    if server is not None:
        found += _of_server(server, catalog, writes, options)
    return found


def _weigh(statements: Sequence[Weighed], plans: Plans, what_if: WhatIf, options: Options) -> Weigh:
    def weigh(table: TableInfo, index: IndexDefinition, hidden: tuple[str, str]) -> Weighing:
        texts = [s.text for s, shape in statements if shape.uses_of(table.qualified_name)]
        worse, count = [], 0
        for text in texts[:_MOST_WEIGHED]:
            try:
                before = plans(plannable(text))
                after = what_if(plannable(text), index, hidden) if before else None
            except OutOfTime:
                break
            if before is None or after is None:
                continue
            count += 1
            if after.total_cost > before.total_cost * (1 + options.max_regression):
                worse.append(text)
        return Weighing(count, tuple(worse))

    return weigh


def _of_server(
    server: ServerState, catalog: Catalog, writes: Writes, options: Options
) -> Iterator[Suggestion]:
    yield from wraparound_advice(server, options)
    yield from held_back(server, options)
    yield from sequence_advice(server, writes, options)
    yield from vacuum_advice(server, catalog, writes, options)
    yield from bloat_advice(server, catalog, options)
    yield from setting_advice(server, catalog, options)
    yield from _unread(server, options)


def _cold(table: TableInfo, options: Options) -> Iterator[Suggestion]:
    total = table.blocks_hit + table.blocks_read
    if table.blocks_read < _MIN_READS or table.blocks_hit / total >= LOW_HIT_RATIO:
        return
    ratio = 100 * table.blocks_hit / total
    yield suggest(
        options,
        "setting",
        table.qualified_name,
        f"{table.name} is read past the cache",
        Finding(
            "low_cache_hit",
            f"Only {ratio:.1f} % of the block reads of {table.name} were answered from the cache.",
            (("blocks read", f"{table.blocks_read:,}"), ("blocks hit", f"{table.blocks_hit:,}")),
        ),
        "PostgreSQL finds too few of the table's blocks in shared_buffers. First see whether "
        "an index spares the reads; then compare shared_buffers with the size of what is read "
        "all the time.",
        present=f"{ratio:.1f} % of the reads hit",
        proposed=f"over {100 * LOW_HIT_RATIO:.0f} %",
        verify=f"heap_blks_hit against heap_blks_read of {table.name} in pg_statio_user_tables.",
        caveats=("The operating system's cache may answer what PostgreSQL's does not.",),
        id_kind="cache_hit",
    )


def _unread(server: ServerState, options: Options) -> Iterator[Suggestion]:
    """Say which rules could not speak for want of rights, and the grant that lets them."""
    role = sql.Identifier(server.counters.role).as_string(None)
    lacking = [*server.unread]
    rights = []
    if not (server.counters.reads_all_stats and server.counters.reads_all_settings):
        rights.append("pg_monitor")
    tables = sorted(n for n, t in server.tables.items() if not t.is_readable)
    for name in tables[:5]:
        state = server.tables[name]
        rights.append(f"SELECT ON {table_sql(state.schema, state.name)}")
    if tables:
        lacking.append(
            f"the columns' statistics of {len(tables)} tables ({', '.join(tables[:5])}): bloat and "
            "correlated columns there."
        )
    for sequence in [s for s in server.sequences if not s.is_readable][:5]:
        name = f"{sequence.schema}.{sequence.name}"
        lacking.append(f"the sequence {name}: whether it nears its end.")
        rights.append(f"SELECT ON SEQUENCE {table_sql(sequence.schema, sequence.name)}")
    if not lacking:
        return
    yield suggest(
        options,
        "maintenance",
        "unread",
        "Let Perfcore read what it could not",
        Finding("unread", "Not read: " + " ".join(lacking)),
        "Where nothing was read nothing is advised, and that is no sign of health. setup.sql gives "
        "all of these rights; none of them lets the role change anything.",
        ddl=STEP.join(f"GRANT {right} TO {role}" for right in rights),
        undo=STEP.join(f"REVOKE {right} FROM {role}" for right in rights),
        present="a part not read" if len(lacking) == 1 else f"{len(lacking)} parts not read",
        proposed="all read",
        verify="perfcore doctor, and the next round of advice.",
    )
