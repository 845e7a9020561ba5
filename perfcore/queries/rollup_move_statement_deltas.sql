-- Moves the readings that ended within an hour into one row a statement, and adds them to their day.
WITH taken AS (
    DELETE FROM perfcore.statement_deltas
     WHERE interval_end > %(start)s AND interval_end <= %(end)s
    RETURNING *
), summed AS (
    SELECT target_id, queryid, min(interval_start) AS interval_start,
           max(interval_end) AS interval_end, sum(calls) AS calls,
           sum(total_exec_time_ms) AS total_exec_time_ms, sum(rows) AS rows,
           sum(shared_blks_hit) AS shared_blks_hit, sum(shared_blks_read) AS shared_blks_read,
           sum(temp_blks_read) AS temp_blks_read, sum(temp_blks_written) AS temp_blks_written,
           sum(wal_bytes) AS wal_bytes
      FROM taken
     GROUP BY target_id, queryid
), hours AS (
    INSERT INTO perfcore.statement_delta_hours
           (target_id, queryid, interval_start, interval_end, calls, total_exec_time_ms, rows,
            shared_blks_hit, shared_blks_read, temp_blks_read, temp_blks_written, wal_bytes)
    SELECT * FROM summed
)
INSERT INTO perfcore.statement_delta_days AS d
       (bucket_start, target_id, queryid, calls, total_exec_time_ms, rows, shared_blks_hit,
        shared_blks_read, temp_blks_written)
SELECT %(day)s, target_id, queryid, calls, total_exec_time_ms, rows, shared_blks_hit,
       shared_blks_read, temp_blks_written
  FROM summed
ON CONFLICT (bucket_start, target_id, queryid) DO UPDATE SET
       calls = d.calls + excluded.calls,
       total_exec_time_ms = d.total_exec_time_ms + excluded.total_exec_time_ms,
       rows = d.rows + excluded.rows,
       shared_blks_hit = d.shared_blks_hit + excluded.shared_blks_hit,
       shared_blks_read = d.shared_blks_read + excluded.shared_blks_read,
       temp_blks_written = d.temp_blks_written + excluded.temp_blks_written
