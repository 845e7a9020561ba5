"""Statements and indexes of every kind, for which a promise is compared with the real index.

`SCHEMA` makes the tables, `CASES` are the questions; `real` builds a case's indexes on the target,
asks for the plan and takes them back.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
from psycopg.rows import TupleRow

from perfcore.plan import Plan
from perfcore.types import IndexDefinition
from perfcore.whatif.definition import parse_create_index
from perfcore.whatif.explain import explain, with_index_names
from perfcore.whatif.expressions import has_known_values
from perfcore.whatif.planner import Planner

EXTENSIONS = "pg_trgm btree_gin btree_gist hstore citext ltree intarray bloom".split()

_ORDERS = """
CREATE TYPE mood AS ENUM ('calm', 'cross', 'gone');
CREATE TYPE pair AS (a int, b text);
CREATE DOMAIN code AS text CHECK (VALUE <> '');
CREATE COLLATION plain (PROVIDER = libc, LOCALE = 'C.UTF-8');
CREATE TABLE customers (
    id int PRIMARY KEY, email text NOT NULL, mood mood NOT NULL, country text NOT NULL
);
INSERT INTO customers SELECT i, 'user' || i || '@example.org',
    (ARRAY['calm', 'calm', 'calm', 'cross', 'gone'])[1 + i % 5]::mood, 'c' || i % 40
    FROM generate_series(1, {rows} / 20) AS i;
CREATE TABLE orders (
    id bigint PRIMARY KEY,
    customer_id int NOT NULL REFERENCES customers,
    status text NOT NULL,
    created_at timestamptz NOT NULL,
    total numeric(10, 2) NOT NULL,
    discount int,
    note text NOT NULL,
    payload jsonb NOT NULL,
    tags int[] NOT NULL,
    labels text[] NOT NULL,
    key uuid NOT NULL,
    year int GENERATED ALWAYS AS (id % 7 + 2020) STORED
);
INSERT INTO orders SELECT
    i, 1 + (random() * ({rows} / 20 - 1))::int,
    CASE WHEN random() < 0.02 THEN 'open' WHEN random() < 0.2 THEN 'sent' ELSE 'done' END,
    timestamptz '2026-01-01' + i * interval '1 minute', (random() * 500)::numeric(10, 2),
    CASE WHEN random() < 0.7 THEN NULL ELSE (random() * 90)::int END,
    md5(i::text) || md5((i * 7)::text),
    jsonb_build_object('kind', i % 997, 'tags', jsonb_build_array(i % 13, i % 17), 'n', i),
    ARRAY[i % 50, i % 331, (random() * 2000)::int],
    ARRAY['l' || i % 9, 'l' || (random() * 300)::int], md5('k' || i)::uuid
FROM generate_series(1, {rows}) AS i;
CREATE TABLE items (
    order_id bigint NOT NULL REFERENCES orders, line int NOT NULL, product int NOT NULL,
    amount int NOT NULL, PRIMARY KEY (order_id, line)
);
INSERT INTO items SELECT 1 + i / 2, i % 2, (power(random(), 3) * 5000)::int, (random() * 9)::int
    FROM generate_series(2, {rows}) AS i;
CREATE VIEW open_orders AS
    SELECT o.*, c.email FROM orders o JOIN customers c ON c.id = o.customer_id
    WHERE o.status = 'open';
CREATE MATERIALIZED VIEW per_day AS
    SELECT id, created_at::date AS day, customer_id AS who, total FROM orders;
CREATE UNLOGGED TABLE sessions (id int, token text, seen timestamptz);
INSERT INTO sessions SELECT i, md5(i::text), now() - i * interval '1 s'
    FROM generate_series(1, {rows}) AS i;
"""

_PARTITIONED = """
CREATE TABLE events (
    id bigint NOT NULL, day date NOT NULL, account int NOT NULL, kind text NOT NULL
) PARTITION BY RANGE (day);
CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE TABLE events_2 PARTITION OF events FOR VALUES FROM ('2026-02-01') TO ('2026-03-01')
    PARTITION BY HASH (account);
CREATE TABLE events_2_0 PARTITION OF events_2 FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE events_2_1 PARTITION OF events_2 FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TABLE events_rest PARTITION OF events DEFAULT;
ALTER TABLE events ADD PRIMARY KEY (id, day, account);
CREATE INDEX events_kind ON events (kind);
INSERT INTO events SELECT i, date '2026-01-01' + (i * 90 / {rows})::int,
    (random() * 2000)::int, 'k' || i % 30 FROM generate_series(1, {rows}) AS i;
CREATE TABLE regions (id int NOT NULL, region text NOT NULL, name text NOT NULL)
    PARTITION BY LIST (region);
CREATE TABLE regions_eu PARTITION OF regions FOR VALUES IN ('de', 'fr');
CREATE TABLE regions_us PARTITION OF regions FOR VALUES IN ('us');
INSERT INTO regions SELECT i, (ARRAY['de', 'fr', 'us'])[1 + i % 3], md5(i::text)
    FROM generate_series(1, {rows} / 2) AS i;
CREATE TABLE logs (id bigint, at timestamptz, line text);
CREATE TABLE logs_old (CHECK (id <= {rows} / 2)) INHERITS (logs);
CREATE TABLE logs_new (level int, CHECK (id > {rows} / 2)) INHERITS (logs);
INSERT INTO logs_old SELECT i, now(), md5(i::text) FROM generate_series(1, {rows} / 2) AS i;
INSERT INTO logs_new SELECT i, now(), md5(i::text), i % 5
    FROM generate_series({rows} / 2 + 1, {rows}) AS i;
"""

_TYPES = """
CREATE TABLE people (
    id int PRIMARY KEY, code code NOT NULL, mood mood NOT NULL, pair pair NOT NULL,
    nick citext NOT NULL, sorted text COLLATE "C" NOT NULL, other text COLLATE plain NOT NULL,
    attributes hstore NOT NULL, path ltree NOT NULL, tenant int NOT NULL, address inet NOT NULL
);
INSERT INTO people SELECT i, 'p' || i % 20000,
    (ARRAY['calm', 'cross', 'gone'])[1 + (power(random(), 4) * 2.49)::int]::mood,
    ROW(i % 5000, 'x')::pair, 'Nick' || i % 30000, md5(i::text), md5((i + 1)::text),
    hstore(ARRAY['colour', 'c' || i % 100, 'size', 's' || i % 700]),
    ('top.n' || i % 20 || '.m' || i % 400)::ltree, (power(random(), 2) * 50)::int,
    ('10.' || i % 250 || '.' || (i / 250) % 250 || '.' || i % 9)::inet
FROM generate_series(1, {rows}) AS i;
ALTER TABLE people ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON people USING (tenant = current_setting('app.tenant', true)::int);
CREATE TABLE places (id int PRIMARY KEY, spot point NOT NULL, room int, during tstzrange,
    EXCLUDE USING gist (id WITH =));
INSERT INTO places SELECT i, point(random() * 1000, random() * 1000), i % 300,
    tstzrange(t, t + random() * interval '3 hours')
FROM generate_series(1, {rows}) AS i,
    LATERAL (SELECT timestamptz '2026-01-01' + i * interval '0' + random() * interval '300 days')
    AS x(t);
CREATE TABLE documents (id int PRIMARY KEY, title text NOT NULL, words tsvector NOT NULL);
INSERT INTO documents SELECT i, 'title ' || i, to_tsvector('simple', (
    SELECT string_agg('w' || (power(random(), 3) * 8000)::int || ' ', '')
    FROM generate_series(1, 12 + i % 5)))
FROM generate_series(1, {rows} / 2) AS i;
CREATE TABLE wide (id int, a int, b int, c int, filler text);
INSERT INTO wide SELECT i, (random() * 900)::int, (random() * 900)::int, (random() * 900)::int,
    repeat('x', 60) FROM generate_series(1, {rows}) AS i;
"""

# Only 18 has virtual columns.
_VIRTUAL = """
CREATE TABLE virtual (id int, net int NOT NULL, gross int GENERATED ALWAYS AS (net * 2) VIRTUAL);
INSERT INTO virtual (id, net) SELECT i, (random() * 9000)::int FROM generate_series(1, {rows}) AS i;
"""


@dataclass(frozen=True, slots=True)
class Case:
    """A question: the statement as if the indexes existed and the hidden ones did not."""

    name: str
    statement: str
    indexes: tuple[str, ...] = ()  # after CREATE INDEX ON
    parameters: tuple[str | None, ...] | None = None
    hidden: tuple[str, ...] = ()
    since: int = 13

    @property
    def definitions(self) -> tuple[IndexDefinition, ...]:
        return tuple(parse_create_index(f"CREATE INDEX ON {text}") for text in self.indexes)


def _case(
    name: str, statement: str, *indexes: str, given: tuple[str | None, ...] | None = None
) -> Case:
    return Case(name, statement, indexes, given)


_O = "SELECT * FROM orders WHERE "
_OF_CUSTOMER = (
    "SELECT o.total FROM customers c JOIN orders o ON o.customer_id = c.id WHERE c.email = $1"
)
CASES = (
    _case("equality", _O + "customer_id = $1", "orders (customer_id)"),
    _case("two equalities", _O + "customer_id = $1 AND status = $2",
          "orders (customer_id, status)"),
    _case("range", "SELECT sum(total) FROM orders WHERE created_at >= $1 AND created_at < $2",
          "orders (created_at)", given=("2026-01-05", "2026-01-06")),
    _case("composite, LIMIT",
          "SELECT id FROM orders WHERE customer_id = $1 ORDER BY created_at DESC LIMIT 10",
          "orders (customer_id, created_at DESC)"),
    _case("covering", "SELECT customer_id, total FROM orders WHERE customer_id = $1",
          "orders (customer_id) INCLUDE (total)"),
    _case("index-only count", "SELECT count(*) FROM orders WHERE status = $1", "orders (status)"),
    _case("partial", _O + "status = 'open' AND customer_id = $1",
          "orders (customer_id) WHERE status = 'open'"),
    _case("partial, NOT NULL", _O + "discount > $1 ORDER BY discount LIMIT 20",
          "orders (discount) WHERE discount IS NOT NULL", given=("80",)),
    _case("expression", _O + "lower(note) = $1", "orders (lower(note))"),
    _case("expression of jsonb", _O + "payload ->> 'kind' = $1",
          "orders ((payload ->> 'kind'))"),
    _case("unique, uuid", _O + "key = $1", "orders (key)"),
    _case("nested loop",
          _OF_CUSTOMER,
          "orders (customer_id)"),
    _case("nested loop, two indexes",
          _OF_CUSTOMER,
          "orders (customer_id)", "customers (email)"),
    _case("hash join",
          "SELECT c.country, sum(o.total) FROM orders o JOIN customers c ON c.id = o.customer_id "
          "WHERE o.created_at >= $1 AND o.created_at < $2 GROUP BY c.country",
          "orders (created_at)", given=("2026-01-05", "2026-01-15")),
    _case("merge join",
          "SELECT i.amount, o.total FROM orders o JOIN items i ON i.order_id = o.id "
          "ORDER BY o.id LIMIT 1000", "items (order_id) INCLUDE (amount)"),
    _case("foreign key join", "SELECT c.email, count(*) FROM orders o JOIN items i "
          "ON i.order_id = o.id JOIN customers c ON c.id = o.customer_id WHERE i.product = $1 "
          "GROUP BY c.email", "items (product)", given=("4000",)),
    _case("aggregate", "SELECT customer_id, count(*) FROM orders GROUP BY customer_id",
          "orders (customer_id)"),
    _case("ORDER BY, LIMIT", "SELECT * FROM orders ORDER BY total DESC LIMIT 5", "orders (total)"),
    _case("NULLS LAST", "SELECT * FROM orders ORDER BY discount DESC NULLS LAST LIMIT 5",
          "orders (discount DESC NULLS LAST)"),
    _case("max", "SELECT max(total) FROM orders WHERE status = $1", "orders (status, total)"),
    _case("IN", _O + "customer_id IN (3, 17, 42, 99)", "orders (customer_id)"),
    _case("= ANY", _O + "customer_id = ANY ($1)", "orders (customer_id)"),
    _case("OR", _O + "customer_id = $1 OR total = $2", "orders (customer_id)", "orders (total)"),
    _case("LIKE prefix", _O + "note LIKE $1", "orders (note text_pattern_ops)", given=("ab1%",)),
    _case("DISTINCT", "SELECT DISTINCT customer_id FROM orders", "orders (customer_id)"),
    _case("window", "SELECT id, row_number() OVER (PARTITION BY customer_id ORDER BY created_at) "
          "FROM orders WHERE customer_id < $1", "orders (customer_id, created_at)",
          given=("50",)),
    _case("CTE", "WITH big AS (SELECT * FROM orders WHERE total > $1) SELECT c.email, b.id "
          "FROM big b JOIN customers c ON c.id = b.customer_id", "orders (total)",
          given=("499.5",)),
    _case("EXISTS", "SELECT email FROM customers c WHERE mood = 'gone' AND EXISTS (SELECT FROM "
          "orders o WHERE o.customer_id = c.id AND o.status = 'open')",
          "orders (customer_id) WHERE status = 'open'"),
    _case("NOT EXISTS", "SELECT email FROM customers c WHERE country = $1 AND NOT EXISTS (SELECT "
          "FROM orders o WHERE o.customer_id = c.id)", "orders (customer_id)"),
    _case("LATERAL", "SELECT c.email, o.id FROM customers c, LATERAL (SELECT id FROM orders o "
          "WHERE o.customer_id = c.id ORDER BY created_at DESC LIMIT 3) o WHERE c.country = $1",
          "orders (customer_id, created_at)"),
    _case("view", "SELECT id, email FROM open_orders WHERE created_at > $1 ORDER BY id",
          "orders (status, created_at)", given=("2026-03-01",)),
    _case("UPDATE", "UPDATE orders SET status = $1 WHERE key = $2", "orders (key)"),
    _case("DELETE", "DELETE FROM items WHERE product = $1", "items (product)", given=("4000",)),
    _case("generated column", "SELECT count(*) FROM orders WHERE year = $1", "orders (year)"),
    Case("virtual column", "SELECT * FROM virtual WHERE gross = $1", ("virtual ((net * 2))",),
         since=18),
    _case("hash", _O + "note = $1", "orders USING hash (note)"),
    _case("BRIN", _O + "created_at < $1", "orders USING brin (created_at)",
          given=("2026-01-03",)),
    _case("bloom", "SELECT * FROM wide WHERE a = $1 AND c = $2",
          "wide USING bloom (a, b, c)"),
    _case("GIN jsonb_path_ops", _O + "payload @> $1", "orders USING gin (payload jsonb_path_ops)",
          given=('{"kind": 5}',)),
    _case("GIN jsonb_ops", _O + "payload @> $1", "orders USING gin (payload)",
          given=('{"kind": 5}',)),
    _case("GIN text[]", _O + "labels @> $1", "orders USING gin (labels)", given=("{l250}",)),
    _case("GIN int[], intarray", _O + "tags && $1::int[]", "orders USING gin (tags gin__int_ops)",
          given=("{1999}",)),
    _case("GIN trigram", _O + "note LIKE $1", "orders USING gin (note gin_trgm_ops)",
          given=("%a1b2c3%",)),
    _case("GIN of two columns, btree_gin", _O + "status = 'open' AND labels @> $1",
          "orders USING gin (status, labels)", given=("{l250}",)),
    _case("GIN tsvector", "SELECT id, title FROM documents WHERE words @@ to_tsquery('simple', $1)",
          "documents USING gin (words)", given=("w7001 & w12",)),
    _case("GiST tsvector", "SELECT id FROM documents WHERE words @@ to_tsquery('simple', $1)",
          "documents USING gist (words)", given=("w7001 & w12",)),
    _case("GiST trigram", _O + "note LIKE $1", "orders USING gist (note gist_trgm_ops)",
          given=("%a1b2c3%",)),
    _case("GiST point", "SELECT id FROM places WHERE spot <@ $1::box", "places USING gist (spot)",
          given=("(10,10),(0,0)",)),
    _case("GiST nearest", "SELECT id FROM places ORDER BY spot <-> point '(5,5)' LIMIT 10",
          "places USING gist (spot)"),
    _case("GiST range", "SELECT id FROM places WHERE during && $1::tstzrange",
          "places USING gist (during)",
          given=("[2026-03-01 10:00, 2026-03-01 11:00]",)),
    _case("GiST, btree_gist", "SELECT id FROM places WHERE room = $1 AND during && $2::tstzrange",
          "places USING gist (room, during)", given=("7", "[2026-03-01, 2026-03-02]")),
    _case("GiST ltree", "SELECT id FROM people WHERE path <@ $1::ltree", "people USING gist (path)",
          given=("top.n1",)),
    _case("SP-GiST text", _O + "note ^@ $1", "orders USING spgist (note)", given=("ab1",)),
    _case("SP-GiST point", "SELECT id FROM places WHERE spot <@ $1::box",
          "places USING spgist (spot)",
          given=("(10,10),(0,0)",)),
    _case("SP-GiST inet", "SELECT id FROM people WHERE address << $1::inet",
          "people USING spgist (address)", given=("10.7.3.0/24",)),
    _case("GIN hstore", "SELECT id FROM people WHERE attributes @> $1::hstore",
          "people USING gin (attributes)", given=("size=>s77",)),
    _case("domain", "SELECT * FROM people WHERE code = $1", "people (code)"),
    _case("enum", "SELECT id FROM people WHERE mood = $1 ORDER BY id LIMIT 20",
          "people (mood, id)", given=("gone",)),
    _case("composite type", "SELECT * FROM people WHERE pair = $1", "people (pair)"),
    _case("citext", "SELECT * FROM people WHERE nick = $1", "people (nick)"),
    _case("COLLATE C, LIKE", "SELECT * FROM people WHERE sorted LIKE 'ab1%'", "people (sorted)"),
    _case("other collation, range", "SELECT * FROM people WHERE other > 'ffe' ORDER BY other",
          "people (other)"),
    _case("row level security", "SELECT * FROM people WHERE tenant = $1", "people (tenant)",
          given=("48",)),
    _case("partitioned", "SELECT * FROM events WHERE account = $1", "events (account)"),
    _case("partitioned, pruned, LIMIT", "SELECT * FROM events WHERE account = $1 AND day >= $2 "
          "AND day < $3 ORDER BY id LIMIT 10", "events (account, id)",
          given=("77", "2026-02-01", "2026-03-01")),
    _case("one partition", "SELECT * FROM events_1 WHERE account = $1", "events_1 (account)"),
    _case("partitioned, join", "SELECT e.kind, c.email FROM events e JOIN customers c "
          "ON c.id = e.account WHERE c.email = $1", "events (account)"),
    _case("list partitions", "SELECT * FROM regions WHERE name = $1", "regions (name)"),
    _case("inheritance", "SELECT * FROM logs WHERE line = $1", "logs_new (line)",
          "logs_old (line)"),
    _case("inheritance, excluded by check", "SELECT * FROM logs WHERE id < 0 AND line = $1",
          "logs_old (line)"),
    _case("materialized view", "SELECT * FROM per_day WHERE who = $1", "per_day (who)"),
    _case("unlogged", "SELECT * FROM sessions WHERE token = $1", "sessions (token)"),
    Case("hidden primary key", _O + "id = $1", hidden=("orders_pkey",)),
    Case("hidden, another instead", _O + "id = $1", ("orders (id) INCLUDE (total)",),
         hidden=("public.orders_pkey",)),
    Case("hidden on a partitioned table", "SELECT * FROM events WHERE kind = $1",
         hidden=("events_kind",)),
)  # fmt: skip


def create(connection: psycopg.Connection[TupleRow], rows: int) -> None:
    """Make the tables in an empty database, the larger ones with so many rows, analysed."""
    for extension in EXTENSIONS:
        connection.execute(f"CREATE EXTENSION {extension}".encode())
    if connection.info.server_version < 160000:
        connection.execute("CREATE EXTENSION hypopg")
    parts = [_ORDERS, _PARTITIONED, _TYPES]
    parts += [_VIRTUAL] if connection.info.server_version >= 180000 else []
    connection.execute("SELECT setseed(0.5)")
    for part in parts:
        connection.execute(part.replace("{rows}", str(rows)).encode())
    connection.execute("VACUUM ANALYZE")


@contextmanager
def real(connection: psycopg.Connection[TupleRow], case: Case) -> Iterator[tuple[Plan, int]]:
    """Yield the plan with the indexes really there, and their bytes; then take them back."""
    names: dict[str, str] = {}
    size_bytes = 0
    with contextlib.ExitStack() as stack:
        has_expression = any(has_known_values(k) for i in case.definitions for k in i.keys)
        if has_expression:
            # ANALYZE tells of an expression only once it is in an index; the tables' own
            # statistics, which the twin took over, are to stay as they were.
            stack.enter_context(connection.transaction(force_rollback=True))
        stack.callback(_take_back, connection, case)
        for number, index in enumerate(case.definitions):
            connection.execute(index.ddl(concurrently=False, name=f"real_{number}").encode())
            for name, part_bytes in connection.execute(_PARTS, [f"real_{number}"] * 2).fetchall():
                names[name] = index.name
                size_bytes += part_bytes
        if has_expression:
            table = case.definitions[0]
            connection.execute(f'ANALYZE "{table.schema}"."{table.table}"'.encode())
        _set_valid(connection, case.hidden, False)
        plan = explain(connection, case.statement, case.parameters)
        yield with_index_names(plan, names), size_bytes


def _take_back(connection: psycopg.Connection[TupleRow], case: Case) -> None:
    _set_valid(connection, case.hidden, True)
    for number in range(len(case.indexes)):
        connection.execute(f"DROP INDEX IF EXISTS real_{number}".encode())


_PARTS = """
SELECT relname, pg_relation_size(c.oid) FROM pg_class AS c WHERE c.oid IN (
    SELECT relid FROM pg_partition_tree(%s) UNION SELECT %s::regclass)
"""


def _set_valid(
    connection: psycopg.Connection[TupleRow], names: tuple[str, ...], valid: bool
) -> None:
    for name in names:
        connection.execute(
            "UPDATE pg_index SET indisvalid = %s WHERE indexrelid IN (SELECT relid FROM "
            "pg_partition_tree(%s) UNION SELECT %s::regclass)",
            [valid, name, name],
        )


def promised(planner: Planner, case: Case) -> Plan:
    """Return the plan that an engine promises."""
    return planner.plan(
        case.statement, case.parameters, indexes=case.definitions, hidden=case.hidden
    )
