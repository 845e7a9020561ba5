-- Every valid index of the users' tables, with what would build it again.
SELECT i.indexrelid::bigint AS oid, i.indrelid::bigint AS table_oid,
       n.nspname || '.' || c.relname AS name,
       pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) AS identifier,
       pg_catalog.pg_get_indexdef(i.indexrelid) AS definition,
       pg_catalog.pg_relation_size(i.indexrelid) AS bytes
  FROM pg_catalog.pg_index i
  JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) i.indexrelid
  JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
 WHERE i.indisvalid
   AND n.nspname OPERATOR(pg_catalog.<>) ALL (ARRAY['pg_catalog', 'information_schema']::name[])
   AND n.nspname::text NOT LIKE 'pg\_toast%%'
   AND n.nspname::text NOT LIKE 'pg\_temp%%'
