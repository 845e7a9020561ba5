"""Take back the drops that a statement of the workload would suffer from.

That no scan was counted since some instant proves little where the statements are known: so each
index that may go is hidden in the planner, those before it too, and the statements are asked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from perfcore.advise.selection import table_of
from perfcore.errors import PerfcoreError
from perfcore.plan import Plan
from perfcore.types import Catalog, IndexDefinition, IndexInfo, Suggestion
from perfcore.whatif.planner import Planner

_NOTICED = 0.02  # of a statement's cost
_DROP = re.compile(r'DROP INDEX (?:CONCURRENTLY )?"((?:[^"]|"")+)"\."((?:[^"]|"")+)"')


@dataclass(frozen=True, slots=True)
class Asked:
    """A statement as the planner takes it, and the tables it reads."""

    text: str
    tables: frozenset[str]  # schema.table


def harmless(
    suggestions: Sequence[Suggestion],
    statements: Sequence[Asked],
    planner: Planner,
    catalog: Catalog,
    new: Sequence[IndexDefinition],
    has_time: Callable[[], bool],
) -> list[Suggestion]:
    """Return the suggestions without the drops that make a statement dearer.

    The largest index is asked about first, and no index may go that another drop relies on. With
    the new ones there; when the time is over, what was not asked about stays.
    """
    indexes = {f"{i.schema}.{i.name}": i for t in catalog.tables for i in t.indexes}
    drops = [(s, i) for s in suggestions if (i := indexes.get(_dropped(s))) is not None]
    drops.sort(key=lambda pair: (-pair[1].index_bytes, pair[0].suggestion_id))
    gone: list[str] = []
    kept: list[tuple[Suggestion, IndexInfo]] = []
    for suggestion, index in drops:
        name = f"{index.schema}.{index.name}"
        if not has_time():
            kept.append((suggestion, index))
        elif not _is_relied_on(index, kept) and all(
            _is_as_cheap(s, planner, new, gone, name) for s in _on(index, statements)
        ):
            gone.append(name)
            kept.append((suggestion, index))
    refused = {s.suggestion_id for s, _ in drops} - {s.suggestion_id for s, _ in kept}
    return [s for s in suggestions if s.suggestion_id not in refused]


def _dropped(suggestion: Suggestion) -> str:
    found = _DROP.fullmatch(suggestion.ddl) if suggestion.kind == "drop_index" else None
    return ".".join(part.replace('""', '"') for part in found.groups()) if found else ""


def _is_relied_on(index: IndexInfo, kept: Sequence[tuple[Suggestion, IndexInfo]]) -> bool:
    pattern = re.compile(rf"\b{re.escape(index.name)}\b")
    return any(pattern.search(s.finding.summary) for s, _ in kept)


def _on(index: IndexInfo, statements: Sequence[Asked]) -> list[Asked]:
    return [s for s in statements if f"{index.schema}.{index.table}" in s.tables]


def _is_as_cheap(
    statement: Asked, planner: Planner, new: Sequence[IndexDefinition], gone: list[str], name: str
) -> bool:
    near = [i for i in new if table_of(i) in statement.tables]
    before = _plan(planner, statement.text, near, gone)
    if before is None:
        return True
    after = _plan(planner, statement.text, near, [*gone, name])
    return after is not None and after.total_cost <= before.total_cost * (1 + _NOTICED) + 1


def _plan(
    planner: Planner, text: str, indexes: Sequence[IndexDefinition], hidden: Sequence[str]
) -> Plan | None:
    try:
        return planner.plan(text, indexes=indexes, hidden=hidden)
    except PerfcoreError:
        return None
