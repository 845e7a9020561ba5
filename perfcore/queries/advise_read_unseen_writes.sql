-- Per table the intervals since an instant in which rows of it were written.
SELECT schema_name, table_name,
       array_agg(extract(epoch FROM interval_start)::float8 ORDER BY interval_end),
       array_agg(extract(epoch FROM interval_end)::float8 ORDER BY interval_end),
       array_agg((n_tup_ins + n_tup_upd + n_tup_del)::float8 ORDER BY interval_end)
  FROM perfcore.table_deltas
 WHERE target_id = %(target_id)s AND interval_end > %(since)s
   AND n_tup_ins + n_tup_upd + n_tup_del > 0
 GROUP BY schema_name, table_name
 ORDER BY schema_name, table_name
