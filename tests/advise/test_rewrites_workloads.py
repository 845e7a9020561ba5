"""Every rewrite of the benchmark's workloads and of the demo is a statement of the server."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy.sql.elements import TextClause

from perfcore.advise.rewrites.registry import rewrites_of
from perfcore.advise.rewrites.rewrite import Equality
from perfcore.advise.rewrites.writing import numbered
from perfcore.advise.statement import Unparsable, plannable
from perfcore.advise.workload_file import read_workload_file
from perfcore.db import connect
from perfcore.demo import statements
from perfcore.demo.seed import create_shop
from perfcore.server.embedded import Cluster
from perfcore.types import Catalog
from perfcore.whatif.catalog import read_catalog
from tests.advise.rewriting import are_same, run

FOLDER = Path(__file__).parents[2] / "benchmarks" / "workloads"
SHRUNK = 400


@pytest.fixture(scope="module", params=["shop", "star", "tickets"])
def workload(
    request: pytest.FixtureRequest, cluster18: Cluster
) -> Iterator[tuple[psycopg.Connection[Any], Catalog, Sequence[str]]]:
    name = request.param
    with connect(cluster18.dsn(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE rewrites_{name}".encode())
    dsn = cluster18.dsn(f"rewrites_{name}")
    texts = [i.sql for i in read_workload_file(FOLDER / f"{name}.jsonl")]
    if name == "shop":
        create_shop(dsn, scale=0.01)
        texts += _demo_statements()
    with connect(dsn, autocommit=True) as connection:
        if name != "shop":
            connection.execute(_shrunk(FOLDER / f"{name}.sql").encode())
        connection.execute("ANALYZE")
        yield connection, read_catalog(connection), texts


def _demo_statements() -> list[str]:
    found = [s for s in vars(statements).values() if isinstance(s, TextClause)]
    return [_with_numbers(str(s)) for s in found]


def _with_numbers(text: str) -> str:
    names = list(dict.fromkeys(re.findall(r"(?<!:):([a-z_]+)", text)))
    return re.sub(r"(?<!:):([a-z_]+)", lambda m: f"${names.index(m[1]) + 1}", text)


def _shrunk(path: Path) -> str:
    """Return the workload's schema with a few rows of each table."""

    def fewer(match: re.Match[str]) -> str:
        return f"generate_series({match[1]}, {max(int(match[2]) // SHRUNK, 30)})"

    text = re.sub(r" REFERENCES \w+", "", path.read_text(encoding="utf-8"))
    return re.sub(r"generate_series\((\d+), (\d+)\)", fewer, text)


def test_every_rewrite_plans_and_returns_the_same_rows(
    workload: tuple[psycopg.Connection[Any], Catalog, Sequence[str]],
) -> None:
    connection, catalog, texts = workload
    offered = 0
    for text in texts:
        try:
            found = rewrites_of(text, catalog)
        except Unparsable:
            continue
        for rewrite in found:
            offered += 1
            planned = plannable(numbered(rewrite.sql))
            connection.execute(f"EXPLAIN (GENERIC_PLAN) {planned}".encode())
            if rewrite.equality is Equality.ALWAYS and "$" not in text:
                before, after = run(connection, text), run(connection, rewrite.sql)
                assert not isinstance(before, str)
                assert are_same(before, after), (text, rewrite.sql)
    # The analyst's statements are written so that no rule finds anything.
    is_star = any(t.name == "inventory" for t in catalog.tables)
    assert bool(offered) is not is_star
