-- One row per statement for the readings that ended within ten minutes, in (since, before].
WITH several AS (
    SELECT ceil(extract(epoch FROM interval_end) / 600) AS slot, target_id, queryid
      FROM perfcore.statement_deltas
     WHERE interval_end > %(since)s AND interval_end <= %(before)s
     GROUP BY 1, 2, 3
    HAVING count(*) > 1
), taken AS (
    DELETE FROM perfcore.statement_deltas d
     USING several s
     WHERE d.target_id = s.target_id AND d.queryid = s.queryid
       AND d.interval_end > to_timestamp(s.slot * 600 - 600)
       AND d.interval_end <= to_timestamp(s.slot * 600)
       AND d.interval_end > %(since)s AND d.interval_end <= %(before)s
    RETURNING d.*
)
INSERT INTO perfcore.statement_deltas
       (target_id, queryid, interval_start, interval_end, calls, total_exec_time_ms, rows,
        shared_blks_hit, shared_blks_read, temp_blks_read, temp_blks_written, wal_bytes)
SELECT target_id, queryid, min(interval_start), max(interval_end), sum(calls),
       sum(total_exec_time_ms), sum(rows), sum(shared_blks_hit), sum(shared_blks_read),
       sum(temp_blks_read), sum(temp_blks_written), sum(wal_bytes)
  FROM taken
 GROUP BY target_id, queryid, ceil(extract(epoch FROM interval_end) / 600)
