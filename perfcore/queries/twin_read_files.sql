-- Where the twin keeps its tables and indexes.
SELECT n.nspname::pg_catalog.text, c.relname::pg_catalog.text, pg_catalog.pg_relation_filepath(c.oid)
FROM pg_catalog.pg_class AS c
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'm', 'i') AND n.nspname <> 'information_schema'
    AND n.nspname NOT LIKE 'pg\_%%'
