-- Extended statistics that exist, with their kinds: d ndistinct, f dependencies, m mcv.
SELECT n.nspname::pg_catalog.text AS schema, c.relname::pg_catalog.text AS table_name,
       x.stxname::pg_catalog.text AS name, x.stxkind::pg_catalog.text[] AS kinds,
       ARRAY(SELECT a.attname::pg_catalog.text
               FROM pg_catalog.unnest(x.stxkeys::pg_catalog.int2[]) AS k (number)
               JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.number
              ORDER BY 1) AS columns
  FROM pg_catalog.pg_statistic_ext x
  JOIN pg_catalog.pg_class c ON c.oid = x.stxrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 ORDER BY 1, 2, 3
