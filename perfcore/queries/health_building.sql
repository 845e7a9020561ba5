-- The indexes that are being built at this moment: invalid, and no left-overs.
SELECT p.index_relid::pg_catalog.int8 AS oid
  FROM pg_catalog.pg_stat_progress_create_index p
 WHERE p.index_relid <> 0
