INSERT INTO perfcore.statement_deltas
       (target_id, queryid, interval_start, interval_end, calls, total_exec_time_ms, rows,
        shared_blks_hit, shared_blks_read, temp_blks_read, temp_blks_written, wal_bytes)
VALUES (%(target_id)s, %(queryid)s, %(start)s, %(end)s, %(calls)s, %(total_exec_time)s, %(rows)s,
        %(shared_blks_hit)s, %(shared_blks_read)s, %(temp_blks_read)s, %(temp_blks_written)s,
        %(wal_bytes)s)
