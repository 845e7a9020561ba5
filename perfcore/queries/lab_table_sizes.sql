-- On the target: size, rows, columns and indexes of tables, to copy them and to know them again.
SELECT n.nspname::text AS schema,
       c.relname::text AS name,
       pg_catalog.pg_table_size(c.oid)::bigint AS table_bytes,
       greatest(c.reltuples, pg_catalog.pg_stat_get_live_tuples(c.oid))::float8 AS rows,
       pg_catalog.md5(pg_catalog.concat_ws('; ',
         (SELECT pg_catalog.string_agg(
                   a.attname || ' ' || pg_catalog.format_type(a.atttypid, a.atttypmod), ', '
                   ORDER BY a.attnum)
            FROM pg_catalog.pg_attribute a
           WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
         (SELECT pg_catalog.string_agg(pg_catalog.pg_get_indexdef(i.indexrelid), ', '
                                       ORDER BY i.indexrelid)
            FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND i.indisvalid))) AS shape,
       pg_catalog.has_table_privilege(c.oid, 'SELECT') AS is_readable
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE (n.nspname || '.' || c.relname) = ANY (%(tables)s)
   AND c.relkind IN ('r', 'm')
 ORDER BY n.nspname, c.relname
