"""What the twin is told of an expression's values before its index exists."""

from __future__ import annotations

from pathlib import Path

import pytest

from perfcore.db import connect
from perfcore.types import IndexDefinition, IndexKey
from perfcore.whatif.explain import explain
from perfcore.whatif.twin import Twin


def test_an_expression_is_as_selective_as_its_column(dsn: str, work_folder: Path) -> None:
    index = IndexDefinition("public", "people", (IndexKey("lower(email)", True),))
    asked = "SELECT * FROM people WHERE lower(email) = 'a7@x.example'"
    with connect(dsn, autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE people (id integer, email text); INSERT INTO people "
            "SELECT n, 'A' || n || '@x.example' FROM generate_series(1, 20000) AS n; ANALYZE people"
        )
        with Twin.build(dsn, work_folder) as twin:
            promised = twin.plan(asked, indexes=[index])
            size = twin.index_bytes(index)
        connection.execute(index.ddl(concurrently=False).encode())
        connection.execute("ANALYZE people")
        real = explain(connection, asked)
        row = connection.execute(
            "SELECT pg_relation_size(%s::text::regclass)", [index.name]
        ).fetchone()
    # Without these statistics half a percent of the rows match: 100 of them, at 50 times the cost.
    assert promised.total_cost == pytest.approx(real.total_cost, rel=0.05)
    assert row is not None and size == pytest.approx(row[0], rel=0.1)
