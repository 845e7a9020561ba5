-- Where pg_stat_statements is installed in this database, if it is.
SELECT n.nspname::text AS schema, e.extversion::text AS version
  FROM pg_catalog.pg_extension e
  JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) e.extnamespace
 WHERE e.extname OPERATOR(pg_catalog.=) 'pg_stat_statements'
