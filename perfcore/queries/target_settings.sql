-- The settings that the planner and the memory of the server depend on, in their own units.
SELECT s.name::text AS name,
       s.setting || coalesce(' ' || s.unit, '') AS value
  FROM pg_catalog.pg_settings s
 WHERE (s.category LIKE 'Query Tuning%%'
        OR s.category LIKE 'Resource Usage / Memory'
        OR s.category LIKE 'Resource%%Memory'
        OR s.name OPERATOR(pg_catalog.=) ANY (ARRAY[
           'autovacuum', 'track_io_timing', 'default_statistics_target', 'max_connections',
           'max_wal_size', 'checkpoint_timeout', 'synchronous_commit', 'jit',
           'max_parallel_workers', 'max_parallel_workers_per_gather', 'effective_io_concurrency',
           'pg_stat_statements.max', 'pg_stat_statements.track']))
   AND s.source OPERATOR(pg_catalog.<>) 'session'
 ORDER BY 1
