-- Write an index of the twin out and forget its pages, so that its file may be changed.
SELECT pg_catalog.pg_relation_filepath(c.oid)
FROM pg_catalog.pg_class AS c
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace,
    LATERAL perfcore_twin.pg_buffercache_evict_relation(c.oid)
WHERE n.nspname = %(schema)s AND c.relname = %(relation)s
