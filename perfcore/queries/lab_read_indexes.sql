-- On the target: a table's indexes, in PostgreSQL's own spelling of their parts; the size of one on
-- a partitioned table is that of its partitions'.
SELECT i.indexrelid::bigint AS oid,
       ic.relname::text AS name,
       am.amname::text AS method,
       i.indisunique AS is_unique,
       i.indisvalid AS is_valid,
       i.indisready AS is_ready,
       i.indislive AS is_live,
       i.indisprimary AS is_primary,
       i.indisreplident AS is_replica_identity,
       ic.relispartition AS is_partition,
       EXISTS (SELECT 1 FROM pg_catalog.pg_constraint k WHERE k.conindid = i.indexrelid)
         AS is_constraint,
       i.indnkeyatts::integer AS key_count,
       ARRAY(SELECT pg_catalog.pg_get_indexdef(i.indexrelid, g, true)
               FROM pg_catalog.generate_series(1, i.indnatts) g ORDER BY g)::text[] AS columns,
       pg_catalog.string_to_array(i.indclass::text, ' ') AS classes,
       pg_catalog.string_to_array(i.indoption::text, ' ') AS options,
       coalesce(pg_catalog.pg_get_expr(i.indpred, i.indrelid, true), '') AS predicate,
       pg_catalog.pg_get_indexdef(i.indexrelid) AS definition,
       coalesce((SELECT sum(pg_catalog.pg_relation_size(t.relid))
                   FROM pg_catalog.pg_partition_tree(i.indexrelid) t),
                pg_catalog.pg_relation_size(i.indexrelid))::bigint AS index_bytes,
       coalesce(pg_catalog.obj_description(i.indexrelid, 'pg_class'), '') AS comment
  FROM pg_catalog.pg_index i
  JOIN pg_catalog.pg_class ic ON ic.oid = i.indexrelid
  JOIN pg_catalog.pg_am am ON am.oid = ic.relam
 WHERE i.indrelid = %(table_oid)s
 ORDER BY ic.relname
