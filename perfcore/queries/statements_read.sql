-- The counters of this database's statements without their texts; entries are of all databases.
SELECT s.queryid,
       s.userid::bigint AS userid,
       s.toplevel AS toplevel,
       pg_catalog.date_part('epoch', s.stats_since)::text AS since,
       s.calls, s.total_exec_time, s.rows, s.shared_blks_hit, s.shared_blks_read,
       s.temp_blks_read, s.temp_blks_written, s.wal_bytes,
       s.min_exec_time, s.mean_exec_time, s.max_exec_time, s.stddev_exec_time,
       s.entries
  FROM (SELECT f.*, pg_catalog.count(*) OVER () AS entries
          FROM {schema}.pg_stat_statements(false) f) s
 WHERE s.dbid OPERATOR(pg_catalog.=) (
       SELECT d.oid
         FROM pg_catalog.pg_database d
        WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database())
