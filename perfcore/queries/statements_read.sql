-- The counters of this database's statements, without their texts.
SELECT s.queryid,
       s.userid::bigint AS userid,
       s.toplevel AS toplevel,
       s.stats_since::text AS since,
       s.calls, s.total_exec_time, s.rows, s.shared_blks_hit, s.shared_blks_read,
       s.temp_blks_read, s.temp_blks_written, s.wal_bytes
  FROM {schema}.pg_stat_statements(false) s
 WHERE s.queryid IS NOT NULL
   AND s.dbid OPERATOR(pg_catalog.=) (
       SELECT d.oid
         FROM pg_catalog.pg_database d
        WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database())
