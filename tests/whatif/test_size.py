import pytest

from perfcore.db import connect
from perfcore.errors import PerfcoreError
from perfcore.types import IndexDefinition, IndexKey
from perfcore.whatif.catalog import read_catalog
from perfcore.whatif.definition import parse_create_index
from perfcore.whatif.size import estimate_index_bytes

ROWS = 60_000
TABLE = f"""
CREATE TABLE t (
    id bigint, few int, part int, at timestamptz, word text, mail text, maybe int, amount numeric,
    tags int[], doc jsonb
);
INSERT INTO t SELECT
    i, (random() * 5)::int, (random() * 3000)::int, now() - i * interval '1 s',
    (ARRAY['new', 'paid', 'shipped', 'cancelled'])[1 + (power(random(), 3) * 4)::int],
    'user' || (random() * 9000)::int || '@example.org',
    CASE WHEN random() < 0.9 THEN NULL ELSE i END, (random() * 1000)::numeric(10, 2),
    ARRAY[i % 7, i % 11], jsonb_build_object('kind', i % 50, 'size', i % 10)
FROM generate_series(1, {ROWS}) AS i;
ANALYZE t;
"""
BTREES = [
    "(id)", "(few)", "(part)", "(at)", "(word)", "(mail)", "(maybe)", "(amount)",
    "(part, at)", "(few, word)", "(word, id)", "(part) include (id, at)",
    "(id) where maybe is not null", "(part) where word = 'paid'",
]  # fmt: skip
OTHERS = ["using brin (at)", "using hash (part)", "using gin (tags)", "using gin (doc)"]


def test_btrees_within_a_tenth_the_rest_within_a_factor_of_three(dsn: str) -> None:
    with connect(dsn, autocommit=True) as connection:
        connection.execute(TABLE)
        catalog = read_catalog(connection)
        ratios = {}
        for text in BTREES + OTHERS:
            index = parse_create_index(f"create index on t {text}")
            connection.execute(index.ddl(concurrently=False, name="x"))
            row = connection.execute("SELECT pg_relation_size('x')").fetchone()
            assert row is not None
            ratios[text] = estimate_index_bytes(catalog, index) / row[0]
            connection.execute("DROP INDEX x")
    print({k: round(v, 3) for k, v in ratios.items()})
    assert {k: v for k, v in ratios.items() if k in BTREES and not 0.9 < v < 1.1} == {}
    assert {k: v for k, v in ratios.items() if not 1 / 3 < v < 3} == {}


def test_names_what_is_missing(dsn: str) -> None:
    with connect(dsn) as connection:
        connection.execute("CREATE TABLE t (a int)")
        catalog = read_catalog(connection)
    with pytest.raises(PerfcoreError, match="no table public.gone"):
        estimate_index_bytes(catalog, IndexDefinition("public", "gone", (IndexKey("a"),)))
    with pytest.raises(PerfcoreError, match="public.t has no column 'b'"):
        estimate_index_bytes(catalog, IndexDefinition("public", "t", (IndexKey("b"),)))
    assert estimate_index_bytes(catalog, IndexDefinition("public", "t", (IndexKey("a"),))) == 16384
