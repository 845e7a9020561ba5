-- On the target: the table that an index of that name belongs to.
SELECT i.indrelid::bigint AS table_oid,
       tn.nspname::text AS table_schema,
       t.relname::text AS table_name,
       i.indexrelid::bigint AS index_oid
  FROM pg_catalog.pg_index i
  JOIN pg_catalog.pg_class ic ON ic.oid = i.indexrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = ic.relnamespace
  JOIN pg_catalog.pg_class t ON t.oid = i.indrelid
  JOIN pg_catalog.pg_namespace tn ON tn.oid = t.relnamespace
 WHERE n.nspname = %(schema)s
   AND ic.relname = %(name)s
