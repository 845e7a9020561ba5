-- On the target: the index builds that run in this database.
SELECT p.pid,
       n.nspname::text AS schema,
       c.relname::text AS table,
       coalesce(ic.relname::text, '') AS index,
       p.phase,
       p.blocks_total,
       p.blocks_done,
       p.tuples_total,
       p.tuples_done,
       nullif(p.current_locker_pid, 0)::integer AS blocked_by_pid
  FROM pg_catalog.pg_stat_progress_create_index p
  JOIN pg_catalog.pg_class c ON c.oid = p.relid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_catalog.pg_class ic ON ic.oid = p.index_relid
 WHERE p.datname = pg_catalog.current_database()
