-- The extensions of interest: whether the server has them, and this database, where and how old.
SELECT a.name::text AS name, a.default_version::text AS available,
       e.extversion::text AS installed,
       n.nspname::text AS schema
  FROM pg_catalog.pg_available_extensions a
  LEFT JOIN pg_catalog.pg_extension e ON e.extname OPERATOR(pg_catalog.=) a.name
  LEFT JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) e.extnamespace
 WHERE a.name OPERATOR(pg_catalog.=) ANY (ARRAY['pg_stat_statements', 'hypopg']::name[])
