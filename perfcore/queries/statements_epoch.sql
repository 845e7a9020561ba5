-- When the statistics of statements were last reset.
SELECT stats_reset FROM {schema}.pg_stat_statements_info
