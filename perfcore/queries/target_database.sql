-- The counters of this database, its connections and its size.
SELECT d.blks_hit, d.blks_read, d.xact_commit, d.xact_rollback, d.temp_bytes, d.deadlocks,
       d.numbackends AS backends,
       pg_catalog.pg_database_size(d.datid) AS database_bytes
  FROM pg_catalog.pg_stat_database d
 WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()
