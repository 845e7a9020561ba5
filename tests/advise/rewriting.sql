-- Few rows, with all that rewriting trips over: NULLs, duplicates, ties, empty groups, letters of
-- many alphabets, instants around midnight and around the changes of clocks.
CREATE TABLE authors (
    id integer PRIMARY KEY, name text NOT NULL, email text, country text, code character(3),
    born date
);
INSERT INTO authors VALUES
    (1, 'Ada', 'ada@example.org', 'GB', 'a', '1815-12-10'),
    (2, 'Åsa', 'ADA@example.org', 'SE', 'ab', '1970-01-01'),
    (3, 'Ωμέγα', NULL, NULL, NULL, NULL),
    (4, 'ada', 'ada@example.org', 'GB', 'abc', '1970-01-01'),
    (5, '''"\%_', '', '', '', '2000-02-29'),
    (6, 'ẞ straße', 'x@example.org', 'SE', 'a', '9999-12-31'),
    (7, 'no books', NULL, 'SE', NULL, '0001-01-01');

CREATE TABLE shelves (id integer PRIMARY KEY, room text NOT NULL, author_id integer NOT NULL);
INSERT INTO shelves SELECT n, 'room ' || n % 3, 1 + n % 5 FROM generate_series(1, 12) AS n;

CREATE TABLE books (
    id integer PRIMARY KEY, author_id integer, editor_id integer, isbn text UNIQUE,
    title text NOT NULL, kind text NOT NULL, pages integer, price numeric(10, 2),
    weight double precision, ref character varying(20), token uuid NOT NULL,
    published timestamptz, printed timestamp, released date
);
INSERT INTO books
SELECT n, CASE WHEN n % 7 > 0 THEN 1 + n % 6 END, CASE WHEN n % 5 > 0 THEN 1 + n % 4 END,
       CASE WHEN n % 4 > 0 THEN 'isbn-' || n END,
       (ARRAY['Zebra', 'zebra', 'Ñandú', 'The tree', 'the TREE', '', '100%'])[1 + n % 7],
       (ARRAY['novel', 'poem', 'essay'])[1 + n % 3], CASE WHEN n % 6 > 0 THEN n % 4 * 100 END,
       CASE WHEN n % 8 > 0 THEN (n % 5)::numeric / 2 END, n % 3 / 10.0,
       (ARRAY['7', '007', ' 7', '12', NULL, '12'])[1 + n % 6],
       md5((n % 9)::text)::uuid,
       CASE WHEN n % 11 > 0 THEN timestamptz '2026-01-01 00:00+00' + n * interval '7 hours' END,
       CASE WHEN n % 9 > 0 THEN timestamp '2026-01-01 00:00' + n * interval '8 hours' END,
       CASE WHEN n % 10 > 0 THEN date '2025-12-20' + n END
  FROM generate_series(1, 60) AS n;
INSERT INTO books (id, author_id, title, kind, token, published, printed, released) VALUES
    (101, 1, 'edge', 'novel', md5('x')::uuid, '2026-03-29 00:59:59.999999+00', '2026-03-29', '2026-03-29'),
    (102, 1, 'edge', 'novel', md5('x')::uuid, '2026-03-29 01:00+00', '2026-03-28 23:59:59.999999', '2026-03-01'),
    (103, 2, 'edge', 'novel', md5('x')::uuid, '2026-10-25 00:30+00', '2026-10-25 02:30', '2026-10-25'),
    (104, 2, 'edge', 'novel', md5('x')::uuid, '2026-10-25 01:30+00', '2025-12-31 23:59:59.999999', '2025-12-31'),
    (105, 3, 'edge', 'poem', md5('x')::uuid, '2018-11-04 03:00+00', '2026-01-01', '2026-01-01'),
    (106, 3, 'edge', 'poem', md5('x')::uuid, '2018-11-05 02:30+00', '0044-03-15 BC', '0044-03-15 BC'),
    (107, 3, 'edge', 'poem', md5('x')::uuid, '2026-11-01 04:30+00', 'infinity', 'infinity'),
    (108, 3, 'edge', 'poem', md5('x')::uuid, '2026-11-01 05:30+00', '-infinity', '-infinity'),
    (109, 3, 'edge', 'poem', md5('x')::uuid, 'infinity', '2026-02-28 12:00', '2026-02-28'),
    (110, 3, 'edge', 'poem', md5('x')::uuid, '-infinity', '2026-12-31 23:59', '2026-12-31'),
    (111, 3, 'edge', 'poem', md5('x')::uuid, '2011-12-30 10:00+00', NULL, NULL),
    (112, 3, 'edge', 'poem', md5('x')::uuid, '2025-12-31 23:00+00', NULL, NULL);

CREATE TABLE sales (
    id bigint PRIMARY KEY, book_id integer NOT NULL, buyer_id integer, quantity integer NOT NULL,
    discount real, sold_at timestamptz NOT NULL
);
INSERT INTO sales
SELECT n, 1 + n * 7 % 50, CASE WHEN n % 6 > 0 THEN n % 9 END, n % 4, n % 10 / 3.0,
       timestamptz '2026-01-01' + (n % 40) * interval '1 day'
  FROM generate_series(1, 200) AS n;

CREATE TABLE loans (
    book_id integer NOT NULL, reader integer NOT NULL, until date, PRIMARY KEY (book_id, reader)
);
INSERT INTO loans
SELECT n % 20, n / 20, CASE WHEN n % 3 > 0 THEN date '2026-01-01' + n END
  FROM generate_series(0, 99) AS n;

-- A name unique among those that have one; a table without any key; an empty one.
CREATE TABLE tags (book_id integer, tag text);
INSERT INTO tags SELECT n % 30, (ARRAY['a', 'b', NULL])[1 + n % 3] FROM generate_series(1, 60) AS n;
CREATE TABLE nothing (id integer PRIMARY KEY, book_id integer NOT NULL);

-- The key of a parent does not hold over its children.
CREATE TABLE places (id integer PRIMARY KEY, name text NOT NULL);
CREATE TABLE cities () INHERITS (places);
INSERT INTO places VALUES (1, 'here'), (2, 'there');
INSERT INTO cities VALUES (1, 'here'), (3, 'far');

-- Rows of which one column is the bulk.
CREATE TABLE letters (id integer PRIMARY KEY, sender text NOT NULL, body text NOT NULL);
INSERT INTO letters
SELECT n, 'sender ' || n % 5, repeat(md5(n::text), 40) FROM generate_series(1, 50) AS n;

CREATE TABLE tagged (
    id integer PRIMARY KEY, tags text[], codes character varying(4)[], numbers integer[],
    amounts numeric(6, 2)[]
);
INSERT INTO tagged VALUES
    (1, '{red,green}', '{ab}', '{1,2}', '{1.50}'),
    (2, '{red,NULL}', '{abcd,ab}', '{2,NULL}', '{NULL}'),
    (3, '{}', '{}', '{}', '{}'),
    (4, NULL, NULL, NULL, NULL),
    (5, '{NULL}', '{NULL}', '{NULL}', '{2.00,2.00}'),
    (6, '{{red,blue},{green,red}}', '{ab,ab}', '{{1,2},{3,4}}', '{{1.5,2}}'),
    (7, '{"",red }', '{""}', '{-1}', '{0}');

-- Names that hide one another: a view before a table elsewhere, columns called like positions.
CREATE SCHEMA archive;
CREATE TABLE archive.writers (id integer PRIMARY KEY, name text);
CREATE VIEW writers AS SELECT author_id AS id, title AS name FROM books;
CREATE TABLE grid ("1" integer, "2" integer, "last-seen" integer PRIMARY KEY);
INSERT INTO grid SELECT n % 5, 20 - n, n FROM generate_series(1, 20) AS n;

-- Numbers of two kinds, of which several are equal to one, and rows in rows.
CREATE TABLE readings (value double precision PRIMARY KEY);
INSERT INTO readings VALUES (9007199254740992), (1), (0.5);
CREATE TABLE counters (id bigint PRIMARY KEY, place places, bits bit(8));
INSERT INTO counters VALUES
    (9007199254740992, ROW (1, NULL), B'00000001'), (9007199254740993, NULL, NULL), (1, NULL, NULL);
