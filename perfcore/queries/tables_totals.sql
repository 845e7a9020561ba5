-- How each table was read and written in a range.
SELECT schema_name, table_name, sum(heap_blks_hit + idx_blks_hit)::bigint,
       sum(heap_blks_read + idx_blks_read)::bigint, sum(seq_scan)::bigint, sum(idx_scan)::bigint,
       sum(n_tup_ins + n_tup_upd + n_tup_del)::bigint
  FROM perfcore.table_deltas
 WHERE interval_end > %(start)s AND interval_end <= %(end)s
   AND (%(target_id)s::integer IS NULL OR target_id = %(target_id)s)
 GROUP BY schema_name, table_name
 ORDER BY sum(heap_blks_read + idx_blks_read) DESC, schema_name, table_name
