-- Blocks found in and read into shared buffers, per step of a range, over all targets.
SELECT
    to_timestamp(floor(extract(epoch FROM interval_end) / %(step_s)s) * %(step_s)s) AS time,
    sum(blks_hit)::float8 AS hit,
    sum(blks_read)::float8 AS read
FROM perfcore.database_deltas
WHERE interval_end > %(start)s AND interval_end <= %(end)s
GROUP BY 1
ORDER BY 1
