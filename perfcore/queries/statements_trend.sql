-- Calls and time of a statement on the server, per step of a trend.
SELECT to_timestamp(floor(extract(epoch FROM d.interval_end) / %(step_s)s) * %(step_s)s) AS at,
       sum(d.calls)::bigint, sum(d.total_exec_time_ms)
  FROM perfcore.statement_deltas AS d
  JOIN perfcore.statements AS s USING (target_id, queryid)
 WHERE d.target_id = %(target_id)s AND s.fingerprint = %(fingerprint)s
   AND d.interval_end > %(start)s AND d.interval_end <= %(end)s
 GROUP BY at
 ORDER BY at
