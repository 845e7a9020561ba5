-- The counters of every ordinary table, and what the planner believes of it. The oid tells a table
-- from its successor of that name.
SELECT t.relid::bigint AS oid, t.schemaname::text AS schema_name, t.relname::text AS table_name,
       coalesce(io.heap_blks_hit, 0) AS heap_blks_hit,
       coalesce(io.heap_blks_read, 0) AS heap_blks_read,
       coalesce(io.idx_blks_hit, 0) AS idx_blks_hit,
       coalesce(io.idx_blks_read, 0) AS idx_blks_read,
       coalesce(t.seq_scan, 0) AS seq_scan, coalesce(t.idx_scan, 0) AS idx_scan,
       t.n_tup_ins, t.n_tup_upd, t.n_tup_hot_upd, t.n_tup_del,
       t.n_live_tup AS live_rows, t.n_dead_tup AS dead_rows,
       t.n_mod_since_analyze AS modified_since_analyze,
       greatest(t.last_analyze, t.last_autoanalyze) AS last_analyze,
       c.reltuples::float8 AS row_count,
       c.relpages::bigint OPERATOR(pg_catalog.*)
           pg_catalog.current_setting('block_size')::bigint AS table_bytes
  FROM pg_catalog.pg_stat_user_tables t
  JOIN pg_catalog.pg_statio_user_tables io ON io.relid OPERATOR(pg_catalog.=) t.relid
  JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) t.relid
