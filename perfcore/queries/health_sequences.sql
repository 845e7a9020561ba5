-- Sequences with where they stand and the column that each one fills, by ownership or by default.
SELECT n.nspname::pg_catalog.text AS schema, c.relname::pg_catalog.text AS name,
       pg_catalog.format_type(q.seqtypid, NULL) AS type,
       q.seqincrement AS increment, q.seqmin AS least, q.seqmax AS most, q.seqcycle AS cycles,
       pg_catalog.has_sequence_privilege(c.oid, 'SELECT, USAGE') AS is_readable,
       CASE WHEN pg_catalog.has_sequence_privilege(c.oid, 'SELECT, USAGE')
            THEN pg_catalog.pg_sequence_last_value(c.oid) END AS last_value,
       coalesce(u.schema, '') AS table_schema, coalesce(u.name, '') AS table_name,
       coalesce(u.column_name, '') AS column_name, coalesce(u.column_type, '') AS column_type
  FROM pg_catalog.pg_sequence q
  JOIN pg_catalog.pg_class c ON c.oid = q.seqrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN LATERAL (
       SELECT tn.nspname::pg_catalog.text AS schema, t.relname::pg_catalog.text AS name,
              a.attname::pg_catalog.text AS column_name,
              pg_catalog.format_type(a.atttypid, NULL) AS column_type
         FROM (SELECT d.refobjid AS relation, d.refobjsubid AS number
                 FROM pg_catalog.pg_depend d
                WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid
                  AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
                  AND d.refobjsubid > 0 AND d.deptype IN ('a', 'i')
                UNION
               SELECT f.adrelid, f.adnum
                 FROM pg_catalog.pg_depend d
                 JOIN pg_catalog.pg_attrdef f ON f.oid = d.objid
                WHERE d.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass
                  AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
                  AND d.refobjid = c.oid) AS use
         JOIN pg_catalog.pg_class t ON t.oid = use.relation
         JOIN pg_catalog.pg_namespace tn ON tn.oid = t.relnamespace
         JOIN pg_catalog.pg_attribute a ON a.attrelid = t.oid AND a.attnum = use.number) AS u
    ON true
 WHERE c.relpersistence <> 't'
   AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\_%%'
 ORDER BY 1, 2, u.schema, u.name, u.column_name
