-- Per schema the tables that this role may not read: no plan and no statistics of them.
SELECT n.nspname::text AS schema, pg_catalog.quote_ident(n.nspname) AS identifier,
       count(*) AS tables
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
 WHERE c.relkind IN ('r', 'p', 'v', 'm')
   AND n.nspname OPERATOR(pg_catalog.<>) ALL (ARRAY['pg_catalog', 'information_schema']::name[])
   AND n.nspname::text NOT LIKE 'pg\_toast%%'
   AND n.nspname::text NOT LIKE 'pg\_temp%%'
   AND NOT (pg_catalog.has_schema_privilege(n.oid, 'USAGE')
            AND pg_catalog.has_table_privilege(c.oid, 'SELECT'))
 GROUP BY n.oid, n.nspname
 ORDER BY n.nspname
