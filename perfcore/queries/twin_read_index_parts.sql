-- An index of the twin and the indexes of the partitions that it is made of, the parent first.
WITH RECURSIVE part AS (
    SELECT c.oid, 0 AS level FROM pg_catalog.pg_class AS c
    JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    WHERE n.nspname = %(schema)s AND c.relname = %(index)s
    UNION ALL
    SELECT h.inhrelid, p.level + 1 FROM part AS p JOIN pg_catalog.pg_inherits AS h ON h.inhparent = p.oid
)
SELECT n.nspname::pg_catalog.text, c.relname::pg_catalog.text, t.relname::pg_catalog.text,
    c.relkind = 'I'
FROM part AS p
JOIN pg_catalog.pg_class AS c ON c.oid = p.oid
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_index AS i ON i.indexrelid = c.oid
JOIN pg_catalog.pg_class AS t ON t.oid = i.indrelid
ORDER BY p.level, c.oid
