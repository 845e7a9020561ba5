-- Sizes and row counts of tables and indexes; of a table under an exclusive lock its last
-- known size, because asking for the present one would wait. May its columns be read?
WITH locked AS (
    SELECT l.relation FROM pg_catalog.pg_locks AS l
    WHERE l.mode = 'AccessExclusiveLock' AND l.relation IS NOT NULL
        AND l.pid <> pg_catalog.pg_backend_pid()
)
SELECT
    n.nspname::pg_catalog.text,
    c.relname::pg_catalog.text,
    c.relkind::pg_catalog.text,
    c.relpages,
    CASE WHEN c.reltuples = 0 AND c.relpages = 0
            AND pg_catalog.current_setting('server_version_num')::pg_catalog.int4 < 140000
            AND c.relkind <> 'i'
        THEN -1 ELSE c.reltuples END::pg_catalog.float8,
    c.relallvisible,
    CASE WHEN c.relkind IN ('p', 'I') THEN 0
        WHEN c.oid IN (SELECT relation FROM locked)
            OR i.indrelid IN (SELECT relation FROM locked) THEN c.relpages * 8192::pg_catalog.int8
        ELSE coalesce(pg_catalog.pg_relation_size(c.oid), 0) END,
    m.amname::pg_catalog.text,
    c.relkind IN ('i', 'I')
        OR (pg_catalog.has_table_privilege(c.oid, 'SELECT')
            OR pg_catalog.has_any_column_privilege(c.oid, 'SELECT'))
        -- Nor does pg_stats show anything of a table whose rows the role sees a part of.
        AND NOT pg_catalog.row_security_active(c.oid)
FROM pg_catalog.pg_class AS c
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_am AS m ON m.oid = c.relam
LEFT JOIN pg_catalog.pg_index AS i ON i.indexrelid = c.oid
WHERE c.relkind IN ('r', 'p', 'm', 'i', 'I')
    AND c.relpersistence <> 't'
    AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\_%%'
ORDER BY n.nspname, c.relname
