-- Rows written to each of the target's tables since an instant, with the seconds they were seen.
SELECT schema_name, table_name,
       sum(n_tup_ins)::float8, sum(n_tup_upd)::float8, sum(n_tup_hot_upd)::float8,
       sum(n_tup_del)::float8,
       extract(epoch FROM max(interval_end) - min(interval_start))::float8
  FROM perfcore.table_deltas
 WHERE target_id = %(target_id)s AND interval_end > %(since)s
 GROUP BY schema_name, table_name
 ORDER BY schema_name, table_name
