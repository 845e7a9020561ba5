-- Calls and time of a statement per step; a reading counts for the step in which it ended.
SELECT to_timestamp(
           (ceil(extract(epoch FROM d.interval_end) / %(width_s)s::numeric) - 1)
           * %(width_s)s::numeric),
       sum(d.calls)::bigint, sum(d.total_exec_time_ms)::float8
  FROM perfcore.statement_work AS d
  JOIN perfcore.statements AS s USING (target_id, queryid)
 WHERE d.target_id = %(target_id)s
   AND s.fingerprint = %(fingerprint)s
   AND d.interval_end > %(start)s AND d.interval_end <= %(end)s
 GROUP BY 1
