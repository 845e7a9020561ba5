-- When the statistics of statements were last reset, how often their list was full, its size.
SELECT i.stats_reset, i.dealloc AS evictions,
       coalesce(pg_catalog.current_setting('pg_stat_statements.max', true)::integer, 0)
           AS max_entries
  FROM {schema}.pg_stat_statements_info i
