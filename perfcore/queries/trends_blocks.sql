-- Blocks found in and read into the buffer cache, per step of a trend.
SELECT to_timestamp(floor(extract(epoch FROM interval_end) / %(step_s)s) * %(step_s)s) AS at,
       sum(blks_hit)::bigint, sum(blks_read)::bigint
  FROM perfcore.database_deltas
 WHERE interval_end > %(start)s AND interval_end <= %(end)s
 GROUP BY at
 ORDER BY at
