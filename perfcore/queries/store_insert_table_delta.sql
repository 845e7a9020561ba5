INSERT INTO perfcore.table_deltas
       (target_id, schema_name, table_name, interval_start, interval_end, heap_blks_hit,
        heap_blks_read, idx_blks_hit, idx_blks_read, seq_scan, idx_scan, n_tup_ins, n_tup_upd,
        n_tup_hot_upd, n_tup_del)
VALUES (%(target_id)s, %(schema_name)s, %(table_name)s, %(start)s, %(end)s, %(heap_blks_hit)s,
        %(heap_blks_read)s, %(idx_blks_hit)s, %(idx_blks_read)s, %(seq_scan)s, %(idx_scan)s,
        %(n_tup_ins)s, %(n_tup_upd)s, %(n_tup_hot_upd)s, %(n_tup_del)s)
