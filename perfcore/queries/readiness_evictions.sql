-- How often pg_stat_statements gave up entries to make room, since its last reset.
SELECT i.dealloc AS evictions FROM {schema}.pg_stat_statements_info i
