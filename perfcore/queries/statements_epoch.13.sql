-- PostgreSQL 13 says neither when the statistics of statements were last reset nor what it evicts.
-- The call of the function fails when the library is not loaded.
SELECT NULL::timestamptz AS stats_reset, NULL::bigint AS evictions,
       coalesce(pg_catalog.current_setting('pg_stat_statements.max', true)::integer, 0)
           AS max_entries
  FROM (SELECT pg_catalog.count(*) FROM {schema}.pg_stat_statements(false)) loaded
