"""Every rewrite on real rows: the same where it says so, different where it says so."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from perfcore.advise.rewrites.registry import RULES
from perfcore.advise.rewrites.rewrite import Equality
from perfcore.db import connect
from perfcore.server.embedded import Cluster
from perfcore.types import Catalog
from perfcore.whatif.catalog import read_catalog
from tests.advise.rewriting import (
    EXAMPLES,
    NOT_REWRITTEN,
    SCHEMA,
    Example,
    are_same,
    rewrite_by,
    run,
)


@dataclass
class Library:
    """The rows of rewriting.sql and what the catalogue says of them."""

    connection: psycopg.Connection[Any]
    catalog: Catalog


def _library(cluster: Cluster, name: str) -> Iterator[Library]:
    with connect(cluster.dsn(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    with connect(cluster.dsn(name), autocommit=True) as connection:
        connection.execute(SCHEMA.encode())
        connection.execute("ANALYZE")
        yield Library(connection, read_catalog(connection))


@pytest.fixture(scope="module")
def library(cluster18: Cluster) -> Iterator[Library]:
    yield from _library(cluster18, "rewrites")


@pytest.fixture(scope="module")
def library15(cluster15: Cluster) -> Iterator[Library]:
    yield from _library(cluster15, "rewrites")


def _check(library: Library, example: Example) -> None:
    found = rewrite_by(example.rule, example.sql, library.catalog)
    assert found is not None, "it is not recognised"
    assert found.equality is example.equality, found.obligation
    _in_zone(library, example.zone)
    for values in example.values:
        before = run(library.connection, example.sql, values)
        after = run(library.connection, found.sql, values)
        assert not isinstance(before, str), before
        assert are_same(before, after), (values, found.sql, before, after)
        assert not example.ordered or before == after, (values, found.sql, before, after)
    _in_zone(library, example.apart_zone)
    for values in example.apart:
        before = run(library.connection, example.sql, values)
        after = run(library.connection, found.sql, values)
        assert not are_same(before, after), (values, found.sql, before)


def _in_zone(library: Library, zone: str) -> None:
    library.connection.execute("SELECT pg_catalog.set_config('TimeZone', %s, false)", [zone])


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: f"{e.rule}: {e.sql[:60]} {e.zone}")
def test_the_rows_are_the_same(library: Library, example: Example) -> None:
    _check(library, example)


@pytest.mark.parametrize(("rule", "sql", "why"), NOT_REWRITTEN)
def test_what_would_change_the_rows_is_left_alone(
    library: Library, rule: str, sql: str, why: str
) -> None:
    if "$" not in sql:
        run(library.connection, sql)  # it is a statement of this server
    assert rewrite_by(rule, sql, library.catalog) is None, why


def test_every_rule_has_examples_of_both_kinds() -> None:
    special = {"keyset", "any_array", "random_order", "select_star"}
    assert {e.rule for e in EXAMPLES} | special == set(RULES)
    assert {rule for rule, _, _ in NOT_REWRITTEN} == set(RULES)
    assert {e.equality for e in EXAMPLES} == {Equality.ALWAYS, Equality.CONDITION}
