"""Two indexes of a table made into one: the same searches, fewer bytes and fewer writes.

Index merging as Chaudhuri and Narasayya describe it (ICDE 1999): the merged one begins as both
begin. Where one is not simply the other's beginning, something is lost; what, is said.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from itertools import combinations

from perfcore.advise.bloat import definition_of
from perfcore.advise.candidates import MAX_KEYS, rows_of
from perfcore.advise.unused_indexes import drop_sql, may_go, relief
from perfcore.advise.upkeep import STEP, size_words, suggest
from perfcore.advise.workload import Options, Writes
from perfcore.errors import PerfcoreError
from perfcore.types import (
    Catalog,
    Finding,
    IndexDefinition,
    IndexInfo,
    IndexKey,
    Suggestion,
    TableInfo,
)
from perfcore.whatif.size import estimate_index_bytes

MIN_SAVED_BYTES = 2 << 20
MIN_SAVED_SHARE = 0.2
FEW_ROWS = 100.0  # of the shared keys' values: so many entries more are read for nothing
MANY_OF_A_VALUE = 5_000.0
MAX_INCLUDED_BYTES = 64


@dataclass(frozen=True, slots=True)
class Weighing:
    """What the planner says of the statements on a table with one index in place of two."""

    statements: int
    worse: tuple[str, ...]  # texts of those that would cost more than the regression allowed


Weigh = Callable[[TableInfo, IndexDefinition, tuple[str, str]], Weighing]


@dataclass(frozen=True, slots=True)
class _Merged:
    index: IndexDefinition
    first: IndexInfo
    second: IndexInfo
    index_bytes: int
    lost: str  # what the merged one does less well, in words

    @property
    def present_bytes(self) -> int:
        return self.first.index_bytes + self.second.index_bytes

    @property
    def saved_bytes(self) -> int:
        return self.present_bytes - self.index_bytes


def merges(
    table: TableInfo,
    catalog: Catalog,
    writes: Writes,
    options: Options,
    *,
    spoken_for: Collection[str] = (),
    weigh: Weigh | None = None,
) -> Iterator[Suggestion]:
    """Yield merges, the most bytes saved first; an index takes part in one, none `spoken_for`.

    A merge that `weigh` finds making a statement worse is not proposed.
    """
    taken = set(spoken_for)
    pairs = combinations([i for i in table.indexes if _may_merge(i)], 2)
    found = [m for a, b in pairs if (m := _merged(a, b, table, catalog)) is not None]
    for merged in sorted(found, key=lambda m: (-m.saved_bytes, m.first.oid, m.second.oid)):
        names = {merged.first.name, merged.second.name}
        if names & taken:
            continue
        weighed = (
            weigh(table, merged.index, (merged.first.name, merged.second.name)) if weigh else None
        )
        if weighed is None or not weighed.worse:
            taken |= names
            yield _suggestion(merged, table, catalog, writes, options, weighed)


def _may_merge(index: IndexInfo) -> bool:
    return may_go(index) and index.method == "btree"


def _merged(one: IndexInfo, other: IndexInfo, table: TableInfo, catalog: Catalog) -> _Merged | None:
    if one.predicate != other.predicate:
        return None
    long, short = (one, other) if _leads(one, other) else (other, one)
    shared = _shared_keys(long, short, table)
    if shared == len(short.keys):
        index, lost = _with_included(long, short, table), ""
    elif shared == len(short.keys) - 1 == len(long.keys) - 1 and _tells_rows_apart(
        table, long, shared
    ):
        index, lost = _with_last_key(long, short, table), _lost(short)
    else:
        return None
    if index is None:
        return None
    try:
        size = estimate_index_bytes(catalog, index)
    except PerfcoreError:
        return None
    merged = _Merged(index, long, short, size, lost)
    enough = max(MIN_SAVED_BYTES, MIN_SAVED_SHARE * merged.present_bytes)
    return merged if merged.saved_bytes >= enough else None


def _leads(one: IndexInfo, other: IndexInfo) -> bool:
    """Say whether its keys come first: the longer one's, then the more used one's."""
    return (len(one.keys), one.scans, -one.oid) > (len(other.keys), other.scans, -other.oid)


def _shared_keys(one: IndexInfo, other: IndexInfo, table: TableInfo) -> int:
    count = 0
    for a, b in zip(_keys(one, table), _keys(other, table), strict=False):
        if a != b:
            break
        count += 1
    return count


def _keys(index: IndexInfo, table: TableInfo) -> tuple[IndexKey, ...]:
    return definition_of(index, table).keys


def _with_included(long: IndexInfo, short: IndexInfo, table: TableInfo) -> IndexDefinition | None:
    """Return the longer one with what both include; None where that makes it wide."""
    included = dict.fromkeys((*long.include, *short.include))
    return _including(long, tuple(c for c in included if c not in long.keys), table)


def _with_last_key(long: IndexInfo, short: IndexInfo, table: TableInfo) -> IndexDefinition | None:
    """Return (a, b, c) for (a, b) and (a, c)."""
    if len(long.keys) + 1 > MAX_KEYS:
        return None
    base = definition_of(long, table)
    last = definition_of(short, table).keys[-1]
    included = dict.fromkeys((*long.include, *short.include))
    keys = (*long.keys, short.keys[-1])
    wide = _including(long, tuple(c for c in included if c not in keys), table)
    return None if wide is None else replace(wide, keys=(*base.keys, last))


def _including(
    index: IndexInfo, included: tuple[str, ...], table: TableInfo
) -> IndexDefinition | None:
    widths = [c.avg_width_bytes or 0 for n in included if (c := table.column(n)) is not None]
    if sum(widths) > MAX_INCLUDED_BYTES:
        return None
    return replace(definition_of(index, table), include=included)


def _tells_rows_apart(table: TableInfo, index: IndexInfo, shared: int) -> bool:
    """Say whether the shared keys alone leave few rows, so that their order matters little."""
    if not shared:
        return False
    rows = max(rows_of(table), 1.0)
    for name in index.keys[:shared]:
        column = table.column(name)
        if column is None or column.n_distinct is None:
            continue
        values = column.n_distinct if column.n_distinct > 0 else -column.n_distinct * rows
        most = max(column.most_common_freqs, default=0.0) * rows
        if values and rows / values <= FEW_ROWS and most <= MANY_OF_A_VALUE:
            return True
    return False


def _lost(short: IndexInfo) -> str:
    return (
        f"What asks for {short.keys[-1]} after {', '.join(short.keys[:-1])} reads all entries of "
        "these, at most a hundred in the mean, and what wants them in that order sorts them."
    )


def _suggestion(
    merged: _Merged,
    table: TableInfo,
    catalog: Catalog,
    writes: Writes,
    options: Options,
    weighed: Weighing | None,
) -> Suggestion:
    first, second, index = merged.first, merged.second, merged.index
    name = _free_name(index, catalog)
    saved = size_words(merged.saved_bytes)
    columns = index.body().partition(" USING ")[2]
    return suggest(
        options,
        "drop_index",
        f"merge/{table.qualified_name}/{index.digest}",
        f"Make one index of {first.name} and {second.name} on {table.name}",
        Finding(
            "mergeable_indexes",
            f"{first.name} and {second.name} begin alike and take "
            f"{size_words(merged.present_bytes)}; one index on both would take about "
            f"{size_words(merged.index_bytes)}.",
            (
                (first.name, first.definition),
                (second.name, second.definition),
                ("saved", saved),
                ("scans", f"{first.scans:,} and {second.scans:,}"),
                *_weighed_words(weighed, options),
            ),
        ),
        f"One index, {columns}, is found by what either serves, and is written once where two are "
        "now. First it is built, then the two are dropped: at no moment is a search without one.",
        ddl=STEP.join([index.ddl(name=name), drop_sql(first), drop_sql(second)]),
        undo=STEP.join([first.rebuild(), second.rebuild(), index.undo(name=name)]),
        index_bytes=merged.saved_bytes,  # as of a drop: what it gives back
        write_cost=relief(writes.rate(table.qualified_name)),
        present=f"two indexes, {size_words(merged.present_bytes)}",
        proposed=f"one, about {size_words(merged.index_bytes)}",
        verify=f"idx_scan of {name} in pg_stat_user_indexes grows by what the two had; the mean "
        "times of the statements stay.",
        risk="CREATE INDEX CONCURRENTLY reads the whole table twice and waits for transactions "
        "that are open; writes go on. A statement that needs one of the old ones becomes slower.",
        caveats=tuple(
            c
            for c in (
                merged.lost,
                "Each step is to be run on its own, outside a transaction block.",
            )
            if c
        ),
        id_kind="merge_indexes",
    )


def _weighed_words(weighed: Weighing | None, options: Options) -> tuple[tuple[str, str], ...]:
    if weighed is None or not weighed.statements:
        return ()
    limit = 100 * options.max_regression
    words = f"{weighed.statements}, none of which costs more than {limit:.0f} % more by the planner"
    return (("statements weighed", words),)


def _free_name(index: IndexDefinition, catalog: Catalog) -> str:
    taken = {i.name for t in catalog.tables if t.schema == index.schema for i in t.indexes}
    if index.name not in taken:
        return index.name
    stem = index.name.removesuffix("_idx").encode()[:52].decode(errors="ignore")
    return f"{stem}_{index.digest[:6]}_idx"
