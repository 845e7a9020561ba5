"""Advice that needs no statement: useless indexes, stale statistics, cold caches."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from psycopg import sql

from perfcore.advise.candidates import is_stale, plain, rows_of
from perfcore.advise.identity import suggestion_id
from perfcore.advise.workload import ForeignKey, Options, WriteRate, Writes
from perfcore.types import Catalog, Evidence, Finding, IndexInfo, Suggestion, TableInfo

MIN_INDEX_BYTES = 1 << 20
_MANY_SCANS = 200  # of the table: an index that none of them took is worth a look
LOW_HIT_RATIO = 0.9
_MIN_READS = 100_000  # blocks, 800 MB: below, a cold cache says nothing
_LOOK_AT_REPLICAS = (
    "Statistics are per server: look at idx_scan on every replica too before dropping it."
)


def health(
    catalog: Catalog,
    writes: Writes,
    options: Options,
    *,
    indexed: Collection[str] = (),
    foreign_keys: Collection[ForeignKey] = (),
) -> list[Suggestion]:
    """Return what the catalogue alone shows, in the order of its tables.

    A table that is to be `indexed` is not blamed for cold reads: the index may end them.
    An index on a foreign key is never called unused: deletes in the other table need it.
    """
    found: list[Suggestion] = []
    for table in catalog.tables:
        if table.kind == "p":
            continue  # its partitions are looked at, and its indexes go by other statements
        dropped: set[str] = set()
        needed = {i.name for i in table.indexes if _serves_a_reference(i, table, foreign_keys)}
        for make in (_invalid, _duplicates, _unused):
            for suggestion, name in make(table, catalog, writes, options):
                if name not in dropped and not (make is _unused and name in needed):
                    dropped.add(name)
                    found.append(suggestion)
        found += _stale(table, options)
        if table.name not in indexed:
            found += _cold(table, options)
    return found


def _serves_a_reference(
    index: IndexInfo, table: TableInfo, foreign_keys: Collection[ForeignKey]
) -> bool:
    return any(
        name == table.qualified_name and set(index.keys[: len(columns)]) == set(columns)
        for name, columns in foreign_keys
    )


_Found = Iterator[tuple[Suggestion, str]]


def _invalid(table: TableInfo, catalog: Catalog, writes: Writes, options: Options) -> _Found:
    for index in table.indexes:
        if index.is_valid or index.is_constraint or index.parent:
            continue
        finding = Finding(
            "invalid_index",
            f"{index.name} is invalid: it is written on every change and never read.",
            _size(index),
        )
        reason = (
            "A CREATE INDEX CONCURRENTLY that failed or was cancelled left it behind. Drop it, and "
            "build it again if it is still wanted."
        )
        caveats = (
            "It is also invalid while it is being built: look at pg_stat_progress_create_index.",
        )
        yield _drop(index, table, writes, options, finding, reason, caveats), index.name


def _duplicates(table: TableInfo, catalog: Catalog, writes: Writes, options: Options) -> _Found:
    for index in table.indexes:
        other = next((o for o in table.indexes if _replaces(o, index)), None)
        if other is None:
            continue
        same = _identity(other) == _identity(index)
        kind, words = (
            ("duplicate_index", "is the same index as")
            if same
            else ("prefix_index", "is the beginning of")
        )
        finding = Finding(
            kind,
            f"{index.name} {words} {other.name}.",
            (("keeps", other.definition), ("drops", index.definition), *_size(index)),
        )
        reason = (
            f"Whatever {index.name} serves, {other.name} serves as well; both are written on every "
            "insert and on every update that is not HOT."
        )
        caveats: tuple[str, ...] = (
            () if same else (f"{other.name} is wider: scans of it alone read a little more.",)
        )
        yield _drop(index, table, writes, options, finding, reason, caveats), index.name


def _unused(table: TableInfo, catalog: Catalog, writes: Writes, options: Options) -> _Found:
    hours = observed_hours(catalog)
    if hours is None:
        return
    long_enough = hours >= options.unused_after_hours
    if not long_enough and table.seq_scans + table.idx_scans < _MANY_SCANS:
        return
    for index in table.indexes:
        if index.scans or not _may_go(index) or index.is_unique:
            continue
        if index.index_bytes < MIN_INDEX_BYTES:
            continue
        span = f"{hours / 24:,.1f} days" if hours >= 48 else f"{hours:,.1f} hours"
        span = f"{hours * 60:,.0f} minutes" if hours < 2 else span
        scans = f"{table.seq_scans + table.idx_scans:,}"
        finding = Finding(
            "unused_index",
            f"{index.name} was not scanned once in {span}, while {table.name} was {scans} times.",
            (("scans", "0"), ("window", span), ("scans of the table", scans), *_size(index)),
        )
        reason = (
            "No statement has used it since the statistics were reset, but every insert and every "
            "update that is not HOT writes it, and it takes room in the cache."
        )
        caveats: tuple[str, ...] = (
            _LOOK_AT_REPLICAS,
            "A monthly report may need it: is the window long enough?",
        )
        if not long_enough:
            caveats = (
                f"Only {span} were seen: wait for a day's traffic, then look again.",
                *caveats,
            )
        yield _drop(index, table, writes, options, finding, reason, caveats), index.name


def observed_hours(catalog: Catalog) -> float | None:
    """Return how long the counters have been counting, None when it is not known."""
    if catalog.stats_since is None:
        return None
    return (catalog.read_at - catalog.stats_since).total_seconds() / 3600.0


def _may_go(index: IndexInfo) -> bool:
    kept = index.is_primary or index.is_constraint or index.is_replica_identity
    # PostgreSQL drops a partition's index only together with its parent's.
    kept = kept or bool(index.parent)
    return index.is_valid and not kept


def _identity(index: IndexInfo) -> tuple[object, ...]:
    return (
        index.method,
        tuple(plain(k) for k in index.keys),
        index.descending,
        index.opclasses,
        tuple(sorted(index.include)),
        plain(index.predicate),
        index.is_unique,
    )


def _replaces(keeper: IndexInfo, index: IndexInfo) -> bool:
    """Say whether the one does everything that the other does."""
    if keeper is index or not keeper.is_valid or not _may_go(index):
        return False
    if _identity(keeper) == _identity(index):
        # Of two equal ones the constraint's stays, then the more used, then the older.
        return _rank(keeper) < _rank(index)
    if index.is_unique or index.method != "btree" or keeper.method != "btree":
        return False
    count = len(index.keys)
    return (
        plain(keeper.predicate) == plain(index.predicate)
        and [plain(k) for k in keeper.keys[:count]] == [plain(k) for k in index.keys]
        and keeper.descending[:count] == index.descending
        and keeper.opclasses[:count] == index.opclasses
        and set(index.include) <= set(keeper.include) | set(keeper.keys)
        and (len(keeper.keys), len(keeper.include)) > (count, len(index.include))
    ) or _same_keys_but_unique(keeper, index)


def _same_keys_but_unique(keeper: IndexInfo, index: IndexInfo) -> bool:
    return keeper.is_unique and _identity(keeper)[:-1] == _identity(index)[:-1]


def _rank(index: IndexInfo) -> tuple[bool, bool, bool, int, int]:
    return (
        not index.is_primary,
        not index.is_constraint,
        not index.is_replica_identity,
        -index.scans,
        index.oid,
    )


def _drop(
    index: IndexInfo,
    table: TableInfo,
    writes: Writes,
    options: Options,
    finding: Finding,
    reason: str,
    caveats: tuple[str, ...],
) -> Suggestion:
    name = sql.Identifier(index.schema, index.name).as_string(None)
    rate = writes.rate(table.qualified_name)
    return Suggestion(
        suggestion_id=suggestion_id(
            options.target_id, "drop_index", f"{index.schema}.{index.name}"
        ),
        target_id=options.target_id,
        kind="drop_index",
        title=f"Drop {index.name} on {table.name}",
        reason=reason,
        finding=finding,
        evidence=Evidence.ESTIMATED,
        saved_ms_per_hour=0.0,
        ddl=f"DROP INDEX CONCURRENTLY {name}",
        undo=index.definition,
        index_bytes=index.index_bytes,
        write_cost=_relief(rate),
        risk="A statement that did use it becomes slower; the undo builds it again.",
        caveats=caveats,
    )


def _relief(rate: WriteRate) -> str:
    entries = rate.inserts + rate.updates - rate.hot_updates
    return f"Spares {entries:,.0f} index entries an hour at the present rate of writes."


def _size(index: IndexInfo) -> tuple[tuple[str, str], ...]:
    return (("index size", f"{index.index_bytes / 1e6:,.1f} MB"),)


def _stale(table: TableInfo, options: Options) -> Iterator[Suggestion]:
    rows = max(table.row_count, 0.0)
    changed = table.modified_since_analyze
    if not is_stale(table):
        return
    if max(rows_of(table), changed) < options.min_table_rows:
        return
    when = f"on {table.last_analyze:%Y-%m-%d %H:%M} UTC" if table.last_analyze else "never"
    share = f" ({100 * changed / rows:,.0f} % of the {rows:,.0f} it knows of)" if rows > 0 else ""
    name = sql.Identifier(table.schema, table.name).as_string(None)
    yield Suggestion(
        suggestion_id=suggestion_id(options.target_id, "analyze", table.qualified_name),
        target_id=options.target_id,
        kind="maintenance",
        title=f"Analyse {table.name}: its statistics are stale",
        reason=(
            "The planner chooses plans by statistics that no longer describe the table. ANALYZE "
            "reads a sample and takes seconds. If it happens again, autovacuum is off for this "
            "table or its thresholds are too high."
        ),
        finding=Finding(
            "stale_statistics",
            f"{changed:,} rows of {table.name} changed since it was last analysed{share}.",
            (("last analysed", when), ("rows changed since", f"{changed:,}")),
        ),
        evidence=Evidence.ESTIMATED,
        saved_ms_per_hour=0.0,
        ddl=f"ANALYZE {name}",
        risk="Plans may change, for the better as a rule.",
    )


def _cold(table: TableInfo, options: Options) -> Iterator[Suggestion]:
    total = table.blocks_hit + table.blocks_read
    if table.blocks_read < _MIN_READS or table.blocks_hit / total >= LOW_HIT_RATIO:
        return
    ratio = 100 * table.blocks_hit / total
    yield Suggestion(
        suggestion_id=suggestion_id(options.target_id, "cache_hit", table.qualified_name),
        target_id=options.target_id,
        kind="setting",
        title=f"{table.name} is read past the cache",
        reason=(
            "PostgreSQL finds too few of the table's blocks in shared_buffers. First see whether "
            "an index spares the reads; then compare shared_buffers with the size of what is read "
            "all the time."
        ),
        finding=Finding(
            "low_cache_hit",
            f"Only {ratio:.1f} % of the block reads of {table.name} were answered from the cache.",
            (("blocks read", f"{table.blocks_read:,}"), ("blocks hit", f"{table.blocks_hit:,}")),
        ),
        evidence=Evidence.ESTIMATED,
        saved_ms_per_hour=0.0,
        caveats=("The operating system's cache may answer what PostgreSQL's does not.",),
    )
