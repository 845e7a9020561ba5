-- In the store: what statements took, per reading of the target, in a window.
SELECT s.fingerprint,
       d.interval_end,
       sum(d.calls)::bigint AS calls,
       sum(d.total_exec_time_ms) AS total_ms,
       sum(d.shared_blks_hit + d.shared_blks_read)::bigint AS blocks
  FROM perfcore.statement_work d
  JOIN perfcore.statements s USING (target_id, queryid)
 WHERE d.target_id = %(target_id)s
   AND s.fingerprint = ANY (%(fingerprints)s)
   AND d.interval_start >= %(start)s
   AND d.interval_end <= %(end)s
   AND d.calls > 0
 GROUP BY s.fingerprint, d.interval_end
 ORDER BY s.fingerprint, d.interval_end
