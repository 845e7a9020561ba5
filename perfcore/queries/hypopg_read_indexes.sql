-- The existing indexes that go by the given names, bare or with their schema.
SELECT c.oid
FROM pg_catalog.pg_class AS c
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind = 'i'
    AND (c.relname = ANY(%(names)s::pg_catalog.text[])
        OR pg_catalog.concat(n.nspname, '.', c.relname) = ANY(%(names)s::pg_catalog.text[]))
