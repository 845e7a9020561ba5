"""Statements and rows drawn at random: what claims the same rows must return them."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from perfcore.advise.rewrites.registry import rewrites_of
from perfcore.advise.rewrites.rewrite import Equality
from perfcore.db import connect
from perfcore.server.embedded import Cluster
from perfcore.types import Catalog
from perfcore.whatif.catalog import read_catalog
from tests.advise.rewriting import are_same, run

# Small domains, so that joins meet, groups tie and NULLs are everywhere.
SCHEMA = """
    CREATE TABLE p (id int PRIMARY KEY, a int, b text, c int NOT NULL, u int UNIQUE);
    CREATE TABLE q (id int PRIMARY KEY, p_id int, a int NOT NULL, b text, d timestamp);
    CREATE TABLE r (p_id int NOT NULL, n int NOT NULL, b text, PRIMARY KEY (p_id, n));
"""
COLUMNS = {
    "p": {"id": "int", "a": "int", "b": "text", "c": "int", "u": "int"},
    "q": {"id": "int", "p_id": "int", "a": "int", "b": "text", "d": "time"},
    "r": {"p_id": "int", "n": "int", "b": "text"},
}
SEEN_RULES = {
    "not_exists", "range", "column_cast", "or_to_union", "grouped_join", "lookup_join",
    "distinct_to_exists", "exists", "one_lateral", "needless_distinct", "unseen_order",
    "union_all", "having_to_where", "count_of_key",
}  # fmt: skip


class Writer:
    """Writes one statement after the other, the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def rows(self) -> str:
        pick = self.random.choice
        ids = self.random.sample(range(1, 9), self.random.randint(0, 8))
        unique = self.random.sample([1, 2, 3, 4, "NULL", "NULL", "NULL", "NULL"], len(ids))
        lines = [
            f"INSERT INTO p VALUES ({i}, {self.integer()}, {self.word()}, {pick([1, 2, 3])}, {u})"
            for i, u in zip(ids, unique, strict=True)
        ]
        lines += [
            f"INSERT INTO q VALUES ({i}, {self.integer()}, {pick([1, 2, 3])}, {self.word()}, "
            f"{self.instant()})"
            for i in range(1, self.random.randint(1, 12))
        ]
        keys = [(i, n) for i in range(1, 5) for n in range(1, 4) if self.random.random() < 0.5]
        lines += [f"INSERT INTO r VALUES ({i}, {n}, {self.word()})" for i, n in keys]
        return "; ".join(lines)

    def integer(self) -> str:
        return str(self.random.choice([1, 2, 3, 4, "NULL"]))

    def word(self) -> str:
        return self.random.choice(["'x'", "'X'", "''", "'ä'", "NULL"])

    def instant(self) -> str:
        return self.random.choice(
            ["'2026-01-01'", "'2026-01-01 23:59:59.999999'", "'2025-12-31 12:00'", "NULL"]
        )

    def statement(self) -> str:
        kinds = [self.plain, self.plain, self.distinct, self.scalar, self.grouped, self.union]
        return self.random.choice([*kinds, self.derived, self.counted])()

    def column(self, alias: str, kind: str = "int") -> str:
        names = [n for n, k in COLUMNS[alias[0]].items() if k == kind]
        return f"{alias}.{self.random.choice(names or ['b'])}"

    def condition(self, aliases: list[str], depth: int = 2) -> str:
        pick = self.random.choice
        if depth and self.random.random() < 0.45:
            joined = pick([" OR ", " AND ", " OR "]).join(
                f"({self.condition(aliases, depth - 1)})" for _ in range(self.random.randint(2, 3))
            )
            return f"NOT ({joined})" if self.random.random() < 0.15 else joined
        alias = pick(aliases)
        column = self.column(alias)
        simple = [
            f"{column} = {self.integer()}",
            f"{column} {pick(['<', '>=', '<>'])} {pick(['2.0', '2.5', '3'])}",
            f"{column} IS {pick(['', 'NOT '])}NULL",
            f"{alias}.b = {self.word()}",
            *([self.timed(alias)] * 3 if alias[0] == "q" else []),
        ]
        if len(aliases) > 4 or self.random.random() < 0.5:
            return pick(simple)
        inner = self.subquery(aliases)
        return pick(
            [
                f"{column} {pick(['IN', 'NOT IN'])} ({inner})",
                f"{column} NOT IN ({inner})",
                f"EXISTS ({inner})",
                f"(SELECT count({pick(['*', 's.b', 'DISTINCT s.a'])}) FROM q s WHERE s.p_id = "
                f"{column}) {pick(['> 0', '= 0', '>= 1', '< 1', '> 1', '<> 0'])}",
            ]
        )

    def timed(self, alias: str) -> str:
        day = self.random.choice(["'2026-01-01'", "'2025-12-31'", "'2026-01-02'"])
        sign = self.random.choice(["=", ">", "<=", "<", ">="])
        return self.random.choice(
            [
                f"{alias}.d::date {sign} {day}",
                f"date_trunc('day', {alias}.d) = {day}",
                f"date_trunc('month', {alias}.d) = {day}",
                f"extract(year FROM {alias}.d) {sign} {self.random.choice([2025, 2026])}",
            ]
        )

    def subquery(self, aliases: list[str]) -> str:
        table = self.random.choice("pqr")
        inner = f"{table}{len(aliases)}i"
        where = self.condition([*aliases, inner], 0) if self.random.random() < 0.5 else "true"
        if self.random.random() < 0.3:
            where += f" AND {self.column(inner)} = {self.column(self.random.choice(aliases))}"
        distinct = self.random.choice(["", "", "DISTINCT "])
        order = self.random.choice(["", "", " ORDER BY 1"])
        union = " UNION SELECT c FROM p" if self.random.random() < 0.15 else order
        return f"SELECT {distinct}{self.column(inner)} FROM {table} {inner} WHERE {where}{union}"

    def sources(self) -> tuple[str, list[str]]:
        first = self.random.choice("pqr") + "1"
        text, aliases = f"{first[0]} {first}", [first]
        for n in range(2, 2 + self.random.choice([0, 1, 1, 2])):
            alias = self.random.choice("pqr") + str(n)
            left, right = self.column(aliases[-1]), self.column(alias)
            if self.random.random() < 0.5:
                keys = {"p": "id", "q": "p_id", "r": "p_id"}
                left = f"{aliases[-1]}.{keys[aliases[-1][0]]}"
                right = f"{alias}.{keys[alias[0]]}"
            more = f" AND {self.condition([alias], 0)}" if self.random.random() < 0.2 else ""
            how = self.random.choice(["JOIN", "JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"])
            on = f"{left} = {right}" if how == "FULL JOIN" else f"{left} = {right}{more}"
            text += f" {how} {alias[0]} {alias} ON {on}"
            aliases.append(alias)
        return text, aliases

    def where(self, aliases: list[str]) -> str:
        return f" WHERE {self.condition(aliases)}" if self.random.random() < 0.8 else ""

    def selected(self, aliases: list[str]) -> str:
        chosen = [self.column(self.random.choice(aliases)) for _ in range(2)]
        if self.random.random() < 0.3:
            chosen = [f"{self.random.choice(aliases)}.*"]
        return ", ".join(chosen)

    def plain(self) -> str:
        source, aliases = self.sources()
        return f"SELECT {self.selected(aliases)} FROM {source}{self.where(aliases)}"

    def distinct(self) -> str:
        source, aliases = self.sources()
        alias = self.random.choice(aliases)
        listed = self.random.choice([f"{alias}.*", self.selected([alias]), self.selected(aliases)])
        return f"SELECT DISTINCT {listed} FROM {source}{self.where(aliases)}"

    def scalar(self) -> str:
        source, aliases = self.sources()
        outer = self.column(self.random.choice(aliases))
        lookup = self.random.choice(["p", "r"])
        found = [
            f"(SELECT {what} FROM q WHERE q.{key} = {outer})"
            for key in [self.random.choice(["p_id", "a"])]
            for what in self.random.sample(
                ["count(*)", "max(q.a)", "coalesce(sum(q.id), 0)", "count(DISTINCT q.b)"], 2
            )
        ]
        if self.random.random() < 0.4:
            found = [f"(SELECT p.b FROM p WHERE p.id = {outer})"]
        elif self.random.random() < 0.3:
            key = "p.u" if lookup == "p" else "r.n = 2 AND r.p_id"
            found = [f"(SELECT {lookup}.b FROM {lookup} WHERE {key} = {outer})"] * 2
        return f"SELECT {outer}, {', '.join(found)} FROM {source}{self.where(aliases)}"

    def grouped(self) -> str:
        source, aliases = self.sources()
        key, other = self.column(aliases[0]), self.column(aliases[-1])
        unique = self.random.choice([f"{a}.{'id' if a[0] != 'r' else 'n'}" for a in aliases])
        having = self.random.choice(
            ["", f" HAVING {key} > 1", f" HAVING {key} IS NULL OR count(*) > 1"]
        )
        distinct = self.random.choice(["", "DISTINCT "])
        return (
            f"SELECT {distinct}{key}, count(DISTINCT {unique}), sum({other}) FROM {source}"
            f"{self.where(aliases)} GROUP BY {key}{having}"
        )

    def union(self) -> str:
        one, other = self.random.choice([("'x'", "'y'"), ("1", "2"), ("1", "1.0")])
        left, right = self.random.choice(["id", "a", "u"]), self.random.choice(["id", "a"])
        return f"SELECT {left}, {one} FROM p UNION SELECT {right}, {other} FROM q"

    def derived(self) -> str:
        source, aliases = self.sources()
        inner = f"SELECT {aliases[0]}.*, 1 AS one FROM {source}{self.where(aliases)} ORDER BY 1, 2"
        outer = self.random.choice(["count(*), sum(one), max(b)", "array_agg(one)", "b, count(*)"])
        group = " GROUP BY b" if outer.startswith("b,") else ""
        return f"SELECT {outer} FROM ({inner}) AS s{group}"

    def counted(self) -> str:
        source, aliases = self.sources()
        key = self.random.choice([f"{a}.{'id' if a[0] != 'r' else 'n'}" for a in aliases])
        return f"SELECT count(DISTINCT {key}) FROM {source}{self.where(aliases)}"


@pytest.fixture(scope="module")
def small(cluster18: Cluster) -> Iterator[tuple[psycopg.Connection[Any], Catalog]]:
    with connect(cluster18.dsn(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE rewrites_random")
    with connect(cluster18.dsn("rewrites_random"), autocommit=True) as connection:
        connection.execute(SCHEMA)
        yield connection, read_catalog(connection)


def compare(connection: psycopg.Connection[Any], catalog: Catalog, seeds: range) -> Counter[str]:
    """Return how often each rule had something to say of the statements of these seeds."""
    seen: Counter[str] = Counter()
    for seed in seeds:
        writer = Writer(seed)
        with connection.transaction(force_rollback=True):
            connection.execute(writer.rows().encode() or b"SELECT 1")
            for sql in (writer.statement() for _ in range(4)):
                seen += _compared(connection, catalog, sql, seed)
    return seen


def _compared(
    connection: psycopg.Connection[Any], catalog: Catalog, sql: str, seed: int
) -> Counter[str]:
    before = run(connection, sql)
    seen: Counter[str] = Counter()
    for rewrite in rewrites_of(sql, catalog):
        if rewrite.equality is not Equality.ALWAYS:
            continue
        after = run(connection, rewrite.sql)
        assert are_same(before, after), (seed, rewrite.rule, sql, rewrite.sql, before, after)
        seen[rewrite.rule] += 1
    return seen


def test_rows_at_random(small: tuple[psycopg.Connection[Any], Catalog]) -> None:
    seen = compare(*small, range(40))
    assert set(seen) >= SEEN_RULES, SEEN_RULES - set(seen)
