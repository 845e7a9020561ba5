-- On the target: size, rows, columns and indexes of tables, to copy them and to know them again.
-- A partitioned table comes with all its partitions, which hold its rows; `root` names it.
WITH wanted AS (
    SELECT c.oid, c.relkind
      FROM pg_catalog.pg_class c
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE (n.nspname || '.' || c.relname) = ANY (%(tables)s)
       AND c.relkind IN ('r', 'm', 'p')
),
member AS (
    SELECT DISTINCT ON (found.oid) found.oid, found.root
      FROM (SELECT w.oid, w.oid AS root, 0 AS level FROM wanted w
            UNION ALL
            SELECT t.relid::oid, w.oid, t.level
              FROM wanted w, LATERAL pg_catalog.pg_partition_tree(w.oid) t
             WHERE w.relkind = 'p') found
     ORDER BY found.oid, found.level DESC
)
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
            FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND i.indisvalid),
         pg_catalog.pg_get_expr(c.relpartbound, c.oid))) AS shape,
       pg_catalog.has_table_privilege(c.oid, 'SELECT') AS is_readable,
       (SELECT q.nspname || '.' || r.relname
          FROM pg_catalog.pg_class r
          JOIN pg_catalog.pg_namespace q ON q.oid = r.relnamespace
         WHERE r.oid = m.root)::text AS root,
       c.relkind = 'p' AS is_partitioned
  FROM member m
  JOIN pg_catalog.pg_class c ON c.oid = m.oid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'm', 'p')
 ORDER BY n.nspname, c.relname
