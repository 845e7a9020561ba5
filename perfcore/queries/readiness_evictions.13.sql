-- PostgreSQL 13 does not count the entries that pg_stat_statements gave up.
SELECT 0::bigint AS evictions
