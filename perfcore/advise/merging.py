"""Two indexes made one: after Chaudhuri and Narasayya, "Index Merging" (ICDE 1999), section 3.

The merged index has all keys of the first in their order, then what the second has more. It does
the first's work nearly as well and some of the second's, for less room than both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import permutations

from perfcore.advise.candidates import MAX_INCLUDED, MAX_KEYS, Candidate
from perfcore.types import IndexDefinition

_MOST_A_TABLE = 30


def merged(candidates: Iterable[Candidate]) -> Iterator[Candidate]:
    """Yield what the pairs of B-trees on the same table and rows become, the widest left out."""
    by_place: dict[tuple[str, str, str], list[Candidate]] = {}
    for candidate in candidates:
        index = candidate.index
        if index.method == "btree" and not index.unique:
            place = index.schema, index.table, index.predicate
            by_place.setdefault(place, []).append(candidate)
    for place in sorted(by_place):
        ordered = sorted(by_place[place], key=lambda c: c.index.digest)
        made: dict[str, Candidate] = {}
        for first, second in permutations(ordered, 2):
            wide = merge(first.index, second.index)
            if wide is not None and wide not in (first.index, second.index):
                caveats = (*first.caveats, *second.caveats) if wide.include else first.caveats
                caveats = tuple(dict.fromkeys(caveats))
                made.setdefault(wide.digest, Candidate(wide, "merged", caveats))
        yield from list(made.values())[:_MOST_A_TABLE]


def narrower(candidate: Candidate) -> Candidate | None:
    """Return the candidate without its last included column, or else its last key, if it can."""
    index = candidate.index
    if index.include:
        less = replace(index, include=index.include[:-1])
    elif len(index.keys) > 1:
        less = replace(index, keys=index.keys[:-1])
    else:
        return None
    return replace(candidate, index=less)


def merge(first: IndexDefinition, second: IndexDefinition) -> IndexDefinition | None:
    """Return the first with what the second has more, None where that is too wide.

    Keys of the second that only continue the first's become keys; its columns that the first
    neither orders nor holds are included.
    """
    names = {k.expression for k in first.keys}
    rest = tuple(k for k in second.keys if k.expression not in names)
    keys = (*first.keys, *rest)
    held = {k.expression for k in keys}
    include = tuple(dict.fromkeys(c for c in (*first.include, *second.include) if c not in held))
    if len(keys) > MAX_KEYS or len(include) > MAX_INCLUDED:
        return None
    return replace(first, keys=keys, include=include)
