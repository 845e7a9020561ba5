-- Every valid index of the users' tables, with what would build it again. To ask for that, or for
-- the size, of one that is locked, or will be as soon as a lock comes free, would be to wait.
WITH locked AS MATERIALIZED (
    SELECT l.relation
      FROM pg_catalog.pg_locks l
     WHERE l.locktype OPERATOR(pg_catalog.=) 'relation'
       AND l.mode OPERATOR(pg_catalog.=) 'AccessExclusiveLock'
       AND l.relation IS NOT NULL
       AND l.database OPERATOR(pg_catalog.=) (
           SELECT d.oid
             FROM pg_catalog.pg_database d
            WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database())
), indexes AS (
    SELECT i.indexrelid, i.indrelid, n.nspname, c.relname, t.relname AS table_name,
           EXISTS (SELECT FROM locked l
                    WHERE l.relation OPERATOR(pg_catalog.=) i.indexrelid
                       OR l.relation OPERATOR(pg_catalog.=) i.indrelid) AS is_locked
      FROM pg_catalog.pg_index i
      JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) i.indexrelid
      JOIN pg_catalog.pg_class t ON t.oid OPERATOR(pg_catalog.=) i.indrelid
      JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
     WHERE i.indisvalid
       AND n.nspname OPERATOR(pg_catalog.<>)
           ALL (ARRAY['pg_catalog', 'information_schema']::name[])
       AND n.nspname::text NOT LIKE 'pg\_toast%%'
       AND n.nspname::text NOT LIKE 'pg\_temp%%'
)
SELECT x.indexrelid::bigint AS oid, x.indrelid::bigint AS table_oid,
       x.nspname OPERATOR(pg_catalog.||) '.' OPERATOR(pg_catalog.||) x.relname AS name,
       pg_catalog.quote_ident(x.nspname) OPERATOR(pg_catalog.||) '.'
           OPERATOR(pg_catalog.||) pg_catalog.quote_ident(x.relname) AS identifier,
       CASE WHEN NOT x.is_locked THEN pg_catalog.pg_get_indexdef(x.indexrelid) END AS definition,
       CASE WHEN NOT x.is_locked THEN pg_catalog.pg_relation_size(x.indexrelid) END AS bytes,
       x.nspname OPERATOR(pg_catalog.||) '.' OPERATOR(pg_catalog.||) x.table_name AS table_name,
       x.is_locked
  FROM indexes x
