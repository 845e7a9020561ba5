"""Indexes that only cost: invalid ones, those another one replaces, those that nobody scans.

Primary keys, unique and exclusion constraints and replica identities always stay; so do unique
indexes, which keep rows out, and those that a foreign key's deletes need.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from psycopg import sql

from perfcore.advise.server_state import IndexUse, ServerState
from perfcore.advise.upkeep import hours_between, size_words, span_words, suggest, table_sql
from perfcore.advise.workload import ForeignKey, Options, WriteRate, Writes
from perfcore.types import Catalog, Finding, IndexInfo, Suggestion, TableInfo

MIN_INDEX_BYTES = 1 << 20
_MANY_SCANS = 200  # of the table: an index that none of them took is worth a look


@dataclass(frozen=True, slots=True)
class Drops:
    """Finds the indexes to drop; `server` adds own readings, standbys and builds under way."""

    catalog: Catalog
    writes: Writes
    options: Options
    server: ServerState | None = None
    foreign_keys: Collection[ForeignKey] = ()

    def of_table(self, table: TableInfo) -> dict[str, Suggestion]:
        """Return the suggestions by index: of one index the surest reason.

        One that goes itself because nobody scans it replaces none that somebody does scan.
        """
        unused = dict(self._unused(table))
        found = dict(self._invalid(table))
        for index, keeper, suggestion in self._replaced(table):
            if keeper.name not in unused or index.name in unused:
                found.setdefault(index.name, suggestion)
        return found | {n: s for n, s in unused.items() if n not in found}

    def _invalid(self, table: TableInfo) -> Iterator[tuple[str, Suggestion]]:
        building = self.server.building if self.server else frozenset()
        for index in table.indexes:
            if index.is_valid or index.is_constraint or index.parent or index.oid in building:
                continue
            yield (
                index.name,
                self._drop(
                    index,
                    table,
                    Finding(
                        "invalid_index",
                        f"{index.name} is invalid: it is written on every change and never read.",
                        _size(index),
                    ),
                    _left_behind(index.name),
                    ()
                    if self.server
                    else (
                        "It is also invalid while it is being built: look at "
                        "pg_stat_progress_create_index.",
                    ),
                    verify="SELECT indexrelid::regclass FROM pg_index WHERE NOT indisvalid.",
                ),
            )

    def _replaced(self, table: TableInfo) -> Iterator[tuple[IndexInfo, IndexInfo, Suggestion]]:
        for index in table.indexes:
            other = next((o for o in table.indexes if _replaces(o, index)), None)
            if other is None:
                continue
            same = _identity(other) == _identity(index)
            words = "is the same index as" if same else "is the beginning of"
            yield (
                index,
                other,
                self._drop(
                    index,
                    table,
                    Finding(
                        "duplicate_index" if same else "prefix_index",
                        f"{index.name} {words} {other.name}.",
                        (("keeps", other.definition), ("drops", index.definition), *_size(index)),
                    ),
                    f"Whatever {index.name} serves, {other.name} serves as well; both are "
                    "written on every insert and on every update that is not HOT.",
                    ()
                    if same
                    else (f"{other.name} is wider: scans of it alone read a little more.",),
                    verify=f"idx_scan of {other.name} in pg_stat_user_indexes grows by what "
                    f"{index.name} had; the statements' mean times stay.",
                ),
            )

    def _unused(self, table: TableInfo) -> Iterator[tuple[str, Suggestion]]:
        for index in table.indexes:
            if not may_go(index) or index.index_bytes < MIN_INDEX_BYTES:
                continue
            if serves_a_reference(index, table, self.foreign_keys):
                continue
            window = self._window(index)
            if window is None:
                continue
            is_long = window.hours >= self.options.unused_after_hours
            if is_long or table.seq_scans + table.idx_scans >= _MANY_SCANS:
                yield index.name, self._unused_drop(index, table, window, is_long=is_long)

    def _window(self, index: IndexInfo) -> _Window | None:
        """Return the longest span that nobody scanned the index in, None if it was just used."""
        windows = []
        if not index.scans and self.catalog.stats_since is not None:
            windows.append(
                _Window(
                    hours_between(self.catalog.stats_since, self.catalog.read_at),
                    "since the server's counters began",
                )
            )
        if (use := self._use(index)) is not None:
            since = use.last_used_at or use.watched_since
            hours = hours_between(since, self.catalog.read_at)
            # A counter that moved once is a use: only a long silence after it says anything.
            if not index.scans or hours >= self.options.unused_after_hours:
                windows.append(_Window(hours, "by Perfcore's own readings"))
        return max(windows, key=lambda w: w.hours, default=None)

    def _use(self, index: IndexInfo) -> IndexUse | None:
        return self.server.observed.index_uses.get(index.oid) if self.server else None

    def _unused_drop(
        self, index: IndexInfo, table: TableInfo, window: _Window, *, is_long: bool
    ) -> Suggestion:
        span = span_words(window.hours)
        scans = f"{table.seq_scans + table.idx_scans:,}"
        finding = Finding(
            "unused_index",
            f"{index.name} was not scanned once in {span}, while {table.name} was {scans} times."
            if not index.scans
            else f"{index.name} was not scanned once in the last {span}.",
            (
                ("scans", f"{index.scans:,}"),
                ("window", f"{span}, {window.source}"),
                ("scans of the table", scans),
                *_size(index),
            ),
        )
        caveats = [
            self._look_at_replicas(),
            "A monthly report may need it: is the window long enough?",
        ]
        if not is_long:
            caveats.insert(0, f"Only {span} were seen: wait for a day's traffic, then look again.")
        return self._drop(
            index,
            table,
            finding,
            "No statement has used it in that time, but every insert and every update that is not "
            "HOT writes it, and it takes room in the cache.",
            tuple(caveats),
            verify=f"On every replica: {_scans_query(index)} must be 0 there, too.",
        )

    def _look_at_replicas(self) -> str:
        standbys = self.server.standbys if self.server else ()
        if not standbys:
            return (
                "Statistics are per server: look at idx_scan on every replica too before dropping "
                "it."
            )
        names = ", ".join(f"{s.name} ({s.address})" for s in standbys)
        return (
            f"Statistics are per server: look at idx_scan on every replica too before dropping it; "
            f"connected now: {names}."
        )

    def _drop(
        self,
        index: IndexInfo,
        table: TableInfo,
        finding: Finding,
        reason: str,
        caveats: tuple[str, ...],
        *,
        verify: str,
    ) -> Suggestion:
        return suggest(
            self.options,
            "drop_index",
            f"{index.schema}.{index.name}",
            f"Drop {index.name} on {table.name}",
            finding,
            reason,
            ddl=drop_sql(index),
            undo=index.rebuild(),
            index_bytes=index.index_bytes,
            write_cost=relief(self.writes.rate(table.qualified_name)),
            present=size_words(index.index_bytes),
            proposed="dropped",
            verify=verify,
            risk="A statement that did use it becomes slower; the undo builds it again.",
            caveats=caveats,
        )


@dataclass(frozen=True, slots=True)
class _Window:
    hours: float
    source: str


def _left_behind(name: str) -> str:
    if name.endswith(("_ccnew", "_ccold")) or name[:-1].endswith(("_ccnew", "_ccold")):
        return (
            "A REINDEX CONCURRENTLY that failed or was cancelled left it behind; the index that it "
            "was to replace is still there. Drop it, and run the REINDEX again."
        )
    return (
        "A CREATE INDEX CONCURRENTLY that failed or was cancelled left it behind. Drop it, and "
        "build it again if it is still wanted."
    )


def _scans_query(index: IndexInfo) -> str:
    schema, name = (sql.Literal(w).as_string(None) for w in (index.schema, index.name))
    return (
        "SELECT idx_scan FROM pg_stat_user_indexes "
        f"WHERE schemaname = {schema} AND indexrelname = {name}"
    )


def drop_sql(index: IndexInfo) -> str:
    return f"DROP INDEX CONCURRENTLY {table_sql(index.schema, index.name)}"


def serves_a_reference(
    index: IndexInfo, table: TableInfo, foreign_keys: Collection[ForeignKey]
) -> bool:
    """Say whether deletes in a referenced table find their rows by it."""
    return any(
        name == table.qualified_name and set(index.keys[: len(columns)]) == set(columns)
        for name, columns in foreign_keys
    )


def may_go(index: IndexInfo) -> bool:
    """Say whether nothing but speed depends on it."""
    return _is_plain(index) and not index.is_unique


def _identity(index: IndexInfo) -> tuple[object, ...]:
    return (
        index.method,
        index.keys,
        index.descending,
        index.nulls_first,
        index.opclasses,
        tuple(sorted(index.include)),
        index.predicate,
        # The parameters of operator classes.
        "" if index.method == "btree" else index.definition.partition(" USING ")[2],
        (index.is_unique, index.is_unique and " NULLS NOT DISTINCT" in index.definition),
    )


def _replaces(keeper: IndexInfo, index: IndexInfo) -> bool:
    """Say whether the one does everything that the other does."""
    if keeper is index or not keeper.is_valid or not _is_plain(index):
        return False
    if _identity(keeper) == _identity(index):
        # Of two equal ones the constraint's stays, then the more used, then the older.
        return _rank(keeper) < _rank(index)
    if index.is_unique or index.method != "btree" or keeper.method != "btree":
        return False
    count = len(index.keys)
    return (
        keeper.predicate == index.predicate
        and keeper.keys[:count] == index.keys
        and keeper.descending[:count] == index.descending
        and keeper.nulls_first[:count] == index.nulls_first
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


def _is_plain(index: IndexInfo) -> bool:
    kept = index.is_primary or index.is_constraint or index.is_replica_identity
    # PostgreSQL drops a partition's index only together with its parent's.
    return index.is_valid and not (kept or index.parent)


def relief(rate: WriteRate) -> str:
    """Return what it spares not to write an index, in words."""
    entries = rate.inserts + rate.updates - rate.hot_updates
    return f"Spares {entries:,.0f} index entries an hour at the present rate of writes."


def _size(index: IndexInfo) -> tuple[tuple[str, str], ...]:
    return (("index size", f"{index.index_bytes / 1e6:,.1f} MB"),)
