-- User tables, partitioned ones and materialized views with their sizes and counters. A table
-- under an exclusive lock is left out, because asking for its size would wait for the lock.
WITH locked AS (
    SELECT l.relation FROM pg_catalog.pg_locks AS l
    WHERE l.mode = 'AccessExclusiveLock' AND l.relation IS NOT NULL
        AND l.pid <> pg_catalog.pg_backend_pid()
        AND l.database = (SELECT d.oid FROM pg_catalog.pg_database AS d
                          WHERE d.datname = pg_catalog.current_database())
)
SELECT
    c.oid,
    n.nspname::pg_catalog.text,
    c.relname::pg_catalog.text,
    -- Before version 14 a table that was never analysed says 0 rows, since then -1.
    CASE WHEN c.reltuples = 0 AND c.relpages = 0
            AND pg_catalog.current_setting('server_version_num')::pg_catalog.int4 < 140000
        THEN -1 ELSE c.reltuples END::pg_catalog.float8,
    coalesce(pg_catalog.pg_table_size(c.oid), 0),
    coalesce(s.n_live_tup, 0),
    coalesce(s.n_dead_tup, 0),
    coalesce(s.n_mod_since_analyze, 0),
    coalesce(s.seq_scan, 0),
    coalesce(s.idx_scan, 0),
    coalesce(s.n_tup_ins, 0),
    coalesce(s.n_tup_upd, 0),
    coalesce(s.n_tup_hot_upd, 0),
    coalesce(s.n_tup_del, 0),
    coalesce(io.heap_blks_hit, 0),
    coalesce(io.heap_blks_read, 0),
    greatest(s.last_analyze, s.last_autoanalyze),
    c.relkind::pg_catalog.text,
    coalesce((SELECT pg_catalog.concat(q.nspname, '.', p.relname)
              FROM pg_catalog.pg_inherits AS h
              JOIN pg_catalog.pg_class AS p ON p.oid = h.inhparent
              JOIN pg_catalog.pg_namespace AS q ON q.oid = p.relnamespace
              WHERE h.inhrelid = c.oid ORDER BY h.inhseqno LIMIT 1), '')
FROM pg_catalog.pg_class AS c
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_stat_user_tables AS s ON s.relid = c.oid
LEFT JOIN pg_catalog.pg_statio_user_tables AS io ON io.relid = c.oid
WHERE c.relkind IN ('r', 'p', 'm')
    AND c.relpersistence <> 't'
    AND n.nspname <> 'information_schema'
    AND n.nspname NOT LIKE 'pg\_%%'
    AND c.oid NOT IN (SELECT relation FROM locked)
ORDER BY n.nspname, c.relname
