-- The settings that decide what can be collected; one that this role may not see is absent.
SELECT s.name::text AS name, s.setting
  FROM pg_catalog.pg_settings s
 WHERE s.name OPERATOR(pg_catalog.=) ANY (ARRAY[
       'shared_preload_libraries', 'compute_query_id', 'pg_stat_statements.track',
       'pg_stat_statements.max', 'track_io_timing', 'track_activities', 'track_counts',
       'track_activity_query_size', 'autovacuum'])
