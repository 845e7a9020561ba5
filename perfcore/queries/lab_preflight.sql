-- On the target: everything that decides whether an index may be built on a table now.
SELECT c.oid::bigint AS table_oid,
       c.relkind::text AS kind,
       c.relpersistence::text AS persistence,
       pg_catalog.pg_is_in_recovery() AS is_standby,
       pg_catalog.pg_has_role(c.relowner, 'USAGE') AS is_owner,
       pg_catalog.pg_get_userbyid(c.relowner)::text AS owner,
       pg_catalog.current_setting('default_transaction_read_only')::boolean AS is_read_only,
       (SELECT count(*) FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid) AS index_count,
       (SELECT count(*) FROM pg_catalog.pg_prepared_xacts p
         WHERE p.database = pg_catalog.current_database()) AS prepared_transactions,
       (SELECT min(b.pid) FROM pg_catalog.pg_stat_progress_create_index b
         WHERE b.relid = c.oid
           AND b.datname = pg_catalog.current_database()) AS builder_pid,
       (SELECT min(v.pid) FROM pg_catalog.pg_stat_progress_cluster v
         WHERE v.relid = c.oid
           AND v.datname = pg_catalog.current_database()) AS rewriter_pid,
       o.pid AS oldest_pid,
       o.age_s AS oldest_age_s
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN LATERAL (
       SELECT a.pid,
              extract(epoch FROM pg_catalog.clock_timestamp() - a.xact_start)::float8 AS age_s
         FROM pg_catalog.pg_stat_activity a
        WHERE a.datname = pg_catalog.current_database()
          AND a.pid <> pg_catalog.pg_backend_pid()
          AND (a.backend_xmin IS NOT NULL OR a.backend_xid IS NOT NULL)
          AND a.backend_type = 'client backend'
        ORDER BY a.xact_start
        LIMIT 1) o ON true
 WHERE n.nspname = %(schema)s
   AND c.relname = %(table)s
