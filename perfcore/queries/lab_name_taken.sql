-- On the target: whether a relation of that name exists, and whether it is an INVALID index.
SELECT coalesce(NOT i.indisvalid, false) AS is_invalid_index
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_catalog.pg_index i ON i.indexrelid = c.oid
 WHERE n.nspname = %(schema)s
   AND c.relname = %(name)s
