-- What the catalogue and the counters tell of a table beyond its size: its storage, how it is
-- vacuumed, whether it is published.
WITH published AS MATERIALIZED (
    SELECT pt.schemaname, pt.tablename,
           pg_catalog.string_agg(p.pubname, ', ' ORDER BY p.pubname) AS names
      FROM pg_catalog.pg_publication_tables pt
      JOIN pg_catalog.pg_publication p ON p.pubname = pt.pubname
     WHERE p.pubupdate OR p.pubdelete
     GROUP BY 1, 2
)
SELECT n.nspname::pg_catalog.text AS schema, c.relname::pg_catalog.text AS name,
       coalesce(c.reloptions, '{}'::pg_catalog.text[]) AS options,
       c.relpages::pg_catalog.int8 AS pages, c.reltuples::pg_catalog.float8 AS tuples,
       coalesce(t.relpages, 0)::pg_catalog.int8 AS toast_pages,
       greatest(pg_catalog.age(c.relfrozenxid), pg_catalog.age(t.relfrozenxid))
           ::pg_catalog.int8 AS xid_age,
       greatest(pg_catalog.mxid_age(c.relminmxid), pg_catalog.mxid_age(t.relminmxid))
           ::pg_catalog.int8 AS mxid_age,
       coalesce(pg_catalog.pg_stat_get_tuples_newpage_updated(c.oid), -1) AS newpage_updates,
       greatest(s.last_vacuum, s.last_autovacuum) AS vacuumed_at,
       coalesce(s.vacuum_count + s.autovacuum_count, 0) AS vacuums,
       pg_catalog.has_table_privilege(c.oid, 'SELECT') AS is_readable,
       c.relreplident <> 'f' AND NOT EXISTS (
           SELECT FROM pg_catalog.pg_index i
            WHERE i.indrelid = c.oid
              AND CASE c.relreplident WHEN 'd' THEN i.indisprimary
                                      WHEN 'i' THEN i.indisreplident END)
           AS lacks_identity,
       c.relreplident::pg_catalog.text AS identity,
       coalesce(p.names, '') AS publications
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_catalog.pg_class t ON t.oid = c.reltoastrelid
  LEFT JOIN pg_catalog.pg_stat_all_tables s ON s.relid = c.oid
  LEFT JOIN published p ON p.schemaname = n.nspname AND p.tablename = c.relname
 WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't'
   AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\_%%'
 ORDER BY 1, 2
