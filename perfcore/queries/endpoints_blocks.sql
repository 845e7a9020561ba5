-- Blocks found in and read into shared buffers, over all targets.
SELECT sum(blks_hit)::float8, sum(blks_read)::float8
  FROM perfcore.database_deltas
 WHERE interval_end > %(start)s AND interval_end <= %(end)s
