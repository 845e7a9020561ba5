"""How large a GIN index would be, from the sample of values that ANALYZE left in pg_stats.

The entries of each value are told as the operator class extracts them; how many there are in all
is estimated by Haas and Stokes' Duj1 (as ANALYZE does for columns), and each one's posting list by
its length as ginpostinglist.c encodes it.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from perfcore.types import ColumnInfo

_PAGE = 8192
_ROOM = _PAGE - 24 - 8
_ENTRY_FILL = 0.55  # pages split in halves while keys come in their order
_DATA_FILL = 0.96
_LONGEST_LIST = 2700  # a longer posting list gets a tree of pages of its own

# An entry: the group of alike ones that it belongs to, itself, and the bytes of its key.
_Entry = tuple[str, object, int]


@dataclass(frozen=True, slots=True)
class GinSize:
    """What a GIN index is made of, as its metapage would tell."""

    entries: float
    entry_pages: int
    data_pages: int

    @property
    def pages(self) -> int:
        return 2 + self.entry_pages + self.data_pages


def gin_size(
    rows: float, rows_per_page: float, columns: Iterable[tuple[ColumnInfo, str]]
) -> GinSize | None:
    """Return the size for columns with their operator classes; None where no sample tells."""
    entries = entry_bytes = 0.0
    data_pages = 0
    for column, operator_class in columns:
        values = _sample(column)
        found = [list(_entries(v, column, operator_class)) for v in values]
        if not any(found):
            return None
        held = rows * (1.0 - (column.null_fraction or 0.0))
        for group in _grouped(found):
            for count, postings, key_bytes in group.classes(held, len(values)):
                entries += count
                size = _list_bytes(postings, rows, rows_per_page)
                if size > _LONGEST_LIST:
                    data_pages += math.ceil(count) * math.ceil(size / (_ROOM * _DATA_FILL))
                    size = 8.0
                entry_bytes += count * (math.ceil((8 + key_bytes + size) / 8) * 8 + 4)
    entry_pages = max(1, math.ceil(entry_bytes / (_ROOM * _ENTRY_FILL)))
    return GinSize(entries, entry_pages + entry_pages // 150, data_pages)


@dataclass(frozen=True, slots=True)
class _Group:
    """Entries of one kind, with how many sampled values hold each."""

    counts: Counter[object]
    key_bytes: float

    def classes(self, rows: float, sampled: int) -> Iterator[tuple[float, float, float]]:
        """Yield (number of entries, rows of each, bytes of a key).

        Only of those that were seen once or twice must it be guessed how many there are.
        """
        for times, entries in Counter(n for n in self.counts.values() if n > 2).items():
            yield entries, rows * times / sampled, self.key_bytes
        rare = [n for n in self.counts.values() if n <= 2]
        if not rare:
            return
        seen, once = sum(rare), rare.count(1)
        whole = max(rows * seen / sampled, seen)
        distinct = seen * len(rare) / (seen - once + once * seen / whole)
        yield distinct, max(1.0, whole / distinct), self.key_bytes


def _grouped(found: Iterable[Iterable[_Entry]]) -> Iterator[_Group]:
    counts: dict[str, Counter[object]] = defaultdict(Counter)
    widths: dict[str, list[int]] = defaultdict(list)
    for entries in found:
        for group, entry, width in set(entries):
            counts[group][entry] += 1
            widths[group].append(width)
    for group, counter in counts.items():
        yield _Group(counter, sum(widths[group]) / len(widths[group]))


def _list_bytes(postings: float, rows: float, rows_per_page: float) -> float:
    """Return the bytes of a posting list: differences of row addresses, seven bits a byte."""
    gap_pages = rows / postings / max(1.0, rows_per_page)
    if gap_pages < 1:
        each = 1 + gap_pages
    else:
        each = max(2.0, math.ceil(math.log2(gap_pages * 2048) / 7))
    return 8 + max(0.0, postings - 1) * each


def _sample(column: ColumnInfo) -> list[str]:
    """Return values about as frequent as they are in the column."""
    bounds = list(column.histogram_bounds)
    rest = max(0.0, 1 - (column.null_fraction or 0.0) - sum(column.most_common_freqs))
    each = max(1e-3, rest / len(bounds) if bounds else 1e-3)
    common = zip(column.most_common_values, column.most_common_freqs, strict=False)
    # A common value was seen more than once, or it would not be one.
    return bounds + [v for v, f in common for _ in range(min(1000, max(2, round(f / each))))]


def _entries(value: str, column: ColumnInfo, operator_class: str) -> Iterator[_Entry]:
    name = operator_class.rpartition(".")[2].strip('"')
    if "trgm" in name:
        yield from (("", t, 4) for t in _trigrams(value))
    elif column.type.endswith("[]"):
        fixed = re.match(r"integer|smallint|date|bigint", column.type) is not None
        for element in _elements(value):
            yield "", element, 8 if fixed else len(element.encode()) + 1
    elif column.type == "jsonb":
        with_paths = name == "jsonb_path_ops"
        yield from _of_json(json.loads(value), (), with_paths)
    elif column.type.rpartition(".")[2] == "hstore":
        for key, inner in re.findall(r'"((?:[^"\\]|\\.)*)"=>(?:"((?:[^"\\]|\\.)*)"|NULL)', value):
            yield "", key, len(key) + 2
            yield key, inner, len(inner) + 2
    elif column.type not in ("tsvector", "json"):
        yield "", value, max(4, column.avg_width_bytes or 4)  # btree_gin: a value is an entry


def _of_json(value: Any, path: tuple[str, ...], with_paths: bool) -> Iterator[_Entry]:
    """Yield keys and values as jsonb_ops takes them, or one hash a path as jsonb_path_ops does."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if not with_paths:
                yield "", key, len(key) + 2
            yield from _of_json(inner, (*path, key), with_paths)
    elif isinstance(value, list):
        for inner in value:
            yield from _of_json(inner, path, with_paths)
    else:
        text = str(value)
        yield "/".join(path), text, 4 if with_paths else len(text) + 2


def _trigrams(value: str) -> set[str]:
    words = re.findall(r"\w+", value.lower())
    return {f"  {w} "[i : i + 3] for w in words for i in range(len(w) + 1)}


def _elements(array: str) -> list[str]:
    r"""Return the elements of an array's text.

    >>> _elements('{a,"b, c",NULL}')
    ['a', 'b, c']
    """
    found = re.findall(r'"((?:[^"\\]|\\.)*)"|([^{},"]+)', array)
    return [quoted or bare for quoted, bare in found if bare != "NULL"]
