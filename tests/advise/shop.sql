-- Sixty thousand orders with the skews of a shop; whatever index is missing is missing on purpose.
CREATE EXTENSION pg_trgm;
CREATE TABLE customers (
    id integer PRIMARY KEY, email text NOT NULL, name text NOT NULL, attributes jsonb NOT NULL,
    tags text[] NOT NULL, bio text NOT NULL, words tsvector
) WITH (autovacuum_enabled = false);
INSERT INTO customers
SELECT n, 'Customer' || n || '@mail.example', 'Name ' || n,
       jsonb_build_object('color', n % 100, 'size', n % 7),
       ARRAY['t' || n % 500, 'u' || n % 300], md5(n::text) || ' ' || md5((n + 1)::text),
       to_tsvector('simple', 'word' || n % 1000 || ' other' || n % 10)
FROM generate_series(1, 20000) AS n;

CREATE TABLE orders (
    id integer PRIMARY KEY, customer_id integer NOT NULL, status text NOT NULL,
    total integer NOT NULL, reference text NOT NULL, note text, created_at timestamptz NOT NULL,
    closed_at timestamptz
) WITH (autovacuum_enabled = false);
INSERT INTO orders
SELECT n, 1 + (n * 7919) % 500, CASE WHEN n % 100 = 0 THEN 'pending' ELSE 'done' END,
       n % 1000, 'REF-' || n, repeat('x', 100), timestamptz '2026-01-01' + n * interval '1 minute',
       CASE WHEN n % 150 > 0 THEN timestamptz '2026-02-01' + n * interval '1 minute' END
FROM generate_series(1, 60000) AS n;

CREATE TABLE order_items (
    id integer PRIMARY KEY, order_id integer NOT NULL, product_id integer, quantity integer NOT NULL
) WITH (autovacuum_enabled = false);
INSERT INTO order_items
SELECT n, 1 + (n * 31) % 60000, 1 + n % 5000, n % 5 FROM generate_series(1, 60000) AS n;

CREATE TABLE countries (id integer PRIMARY KEY, code text NOT NULL)
WITH (autovacuum_enabled = false);
INSERT INTO countries SELECT n, 'C' || n FROM generate_series(1, 200) AS n;

-- Large enough for a block range index to be worth a thought.
CREATE TABLE events (at timestamptz NOT NULL, kind integer NOT NULL, payload text NOT NULL)
WITH (autovacuum_enabled = false);
INSERT INTO events
SELECT timestamptz '2026-01-01' + n * interval '1 second', n % 50, repeat('y', 1500)
FROM generate_series(1, 50000) AS n;
