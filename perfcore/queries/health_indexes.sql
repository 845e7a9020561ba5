-- The storage parameters of the users' indexes, where there are any.
SELECT c.oid::pg_catalog.int8 AS oid, c.reloptions AS options
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind = 'i' AND c.reloptions IS NOT NULL AND n.nspname NOT LIKE 'pg\_%%'
