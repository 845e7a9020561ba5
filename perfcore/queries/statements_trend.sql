-- Calls and time of a statement per step; a reading counts where it ended.
SELECT to_timestamp(
           floor(extract(epoch FROM d.interval_end) / %(width_s)s::float8) * %(width_s)s::float8),
       sum(d.calls)::bigint, sum(d.total_exec_time_ms)::float8
  FROM perfcore.statement_deltas AS d
  JOIN perfcore.statements AS s USING (target_id, queryid)
 WHERE d.target_id = %(target_id)s
   AND s.fingerprint = %(fingerprint)s
   AND d.interval_end >= %(start)s AND d.interval_end < %(end)s
 GROUP BY 1
