"""Two indexes made one, and one made narrower."""

from __future__ import annotations

import pytest

from perfcore.advise.candidates import Candidate
from perfcore.advise.merging import merge, merged, narrower
from perfcore.types import IndexDefinition, IndexKey


def index(*keys: str, include: tuple[str, ...] = (), predicate: str = "") -> IndexDefinition:
    made = tuple(IndexKey(k) for k in keys)
    return IndexDefinition("public", "orders", made, include=include, predicate=predicate)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (index("a"), index("b"), index("a", "b")),
        (index("a", "b"), index("a", "c"), index("a", "b", "c")),
        (index("a", include=("x",)), index("a", include=("y",)), index("a", include=("x", "y"))),
        # What is a key of one need not be included for the other.
        (index("a", include=("b",)), index("b"), index("a", "b")),
        (index("a", "b", "c"), index("d", "e"), None),
    ],
)
def test_the_first_keeps_its_order_and_takes_the_rest(
    first: IndexDefinition, second: IndexDefinition, expected: IndexDefinition | None
) -> None:
    assert merge(first, second) == expected


def test_only_indexes_of_the_same_rows_are_merged() -> None:
    apart = [index("a"), index("b", predicate="c IS NULL")]
    assert not list(merged(Candidate(i, "equality") for i in apart))
    both = {c.index for c in merged(Candidate(i, "equality") for i in (index("a"), index("b")))}
    assert both == {index("a", "b"), index("b", "a")}


def test_an_index_is_narrowed_from_its_end() -> None:
    steps = []
    candidate: Candidate | None = Candidate(index("a", "b", include=("x", "y")), "covering")
    while candidate is not None:
        steps.append(candidate.index)
        candidate = narrower(candidate)
    assert steps == [
        index("a", "b", include=("x", "y")),
        index("a", "b", include=("x",)),
        index("a", "b"),
        index("a"),
    ]
