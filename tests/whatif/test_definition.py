import pytest

from perfcore.errors import PerfcoreError
from perfcore.types import IndexDefinition, IndexKey
from perfcore.whatif.definition import parse_create_index


def index(*keys: IndexKey | str, **other: object) -> IndexDefinition:
    whole = tuple(IndexKey(k) if isinstance(k, str) else k for k in keys)
    return IndexDefinition("public", "orders", whole, **other)  # type: ignore[arg-type]


ROUND_TRIPS = [
    index("customer_id"),
    index("customer_id", "created_at"),
    index(IndexKey("created_at", descending=True)),
    index(IndexKey("created_at", descending=True, nulls_first=False), "id"),
    index(IndexKey("created_at", nulls_first=True)),
    index(IndexKey("lower(email)", is_expression=True)),
    index(IndexKey("(payload ->> 'kind'::text)", is_expression=True, descending=True)),
    index(IndexKey("email", operator_class="text_pattern_ops")),
    index(IndexKey("email", operator_class="public.gin_trgm_ops"), method="gin"),
    index(IndexKey("payload", operator_class="jsonb_path_ops"), method="gin"),
    index("created_at", method="brin"),
    index("customer_id", include=("total", "Odd name")),
    index("customer_id", predicate="status = 'open; --' AND (note IS NULL OR note <> E'\\'')"),
    index("customer_id", unique=True, include=("id",), predicate="deleted_at IS NULL"),
    IndexDefinition("Sales", 'odd"table.', (IndexKey("Weird, col"), IndexKey("select"))),
    index(IndexKey("COALESCE(a, b)", is_expression=True, operator_class="text_pattern_ops")),
]


@pytest.mark.parametrize("definition", ROUND_TRIPS, ids=lambda d: d.name)
def test_generated_ddl_parses_back(definition: IndexDefinition) -> None:
    assert parse_create_index(definition.ddl()) == definition
    assert parse_create_index(definition.ddl(concurrently=False) + ";") == definition


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("create index on orders(customer_id)", index("customer_id")),
        ("CREATE INDEX IF NOT EXISTS x ON ONLY Orders (Customer_ID ASC)", index("customer_id")),
        ("create index concurrently s.x on public.orders using BTREE ((id))", index("id")),
        (
            "create index x on orders (lower(email) desc nulls last)",
            index(IndexKey("lower(email)", True, True, False)),
        ),
        (
            "create index x on orders (pg_catalog.date(created_at))",
            index(IndexKey("pg_catalog.date(created_at)", True)),
        ),
    ],
)
def test_reads_what_people_type(text: str, expected: IndexDefinition) -> None:
    assert parse_create_index(text) == expected


def test_uses_the_default_schema() -> None:
    assert parse_create_index("create index on t (a)", "sales").schema == "sales"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "expected CREATE"),
        ("drop index x", "expected CREATE"),
        ("create table t (a int)", "expected INDEX"),
        ("create index on t", r"expected \("),
        ("create index on t ()", "expected a name"),
        ("create index on t (())", "expected an expression"),
        ("create index on t (a", r"expected \)"),
        ("create index on t ((a + (b)", "not closed"),
        ("create index on t (a) where", "expected a condition"),
        ("create index on t (a) where b > 0)", "too many"),
        ("create index on t (a); drop table t", "one statement"),
        ("create index on t (a) where b = 1; drop table t", "one statement"),
        ("create index on t (a) -- now", "without comments"),
        ("create index on t (a) /* x */ where b", "without comments"),
        ("create index on t (a) where b = $$x$$", "not allowed"),
        ("create index on t (a) where b = 'open", "not allowed"),
        ("create index on t (t.a)", "without a prefix"),
        ('create index on t (a collate "C")', "COLLATE is not supported"),
        ("create index on t (a) with (fillfactor = 70)", "WITH"),
        ("create index on t (a) tablespace fast", "TABLESPACE"),
        ("create unique index on t (a) nulls not distinct", "NULLS NOT DISTINCT"),
        ("create index on t using rtree (a)", "index method"),
        ("create index on t using gist (a gist_trgm_ops(siglen = 32))", "parameters"),
        ("create index on t (a) cascade", "expected INCLUDE, WHERE or the end"),
        ("create index on t (" + "a, " * 4000 + "a)", "at most 8192"),
    ],
)
def test_refuses_the_rest_in_words(text: str, words: str) -> None:
    with pytest.raises(PerfcoreError, match=words):
        parse_create_index(text)
