-- Calls and time of a statement per step. A reading is spread evenly over the steps that it
-- covers: after an outage of the collector it covers many.
WITH work AS (
    SELECT extract(epoch FROM d.interval_start) AS began, extract(epoch FROM d.interval_end) AS ended,
           d.calls, d.total_exec_time_ms
      FROM perfcore.statement_work AS d
      JOIN perfcore.statements AS s USING (target_id, queryid)
     WHERE d.target_id = %(target_id)s
       AND s.fingerprint = %(fingerprint)s
       AND d.interval_end > %(start)s AND d.interval_end <= %(end)s::timestamptz + interval '1 hour'
       AND d.interval_start < %(end)s
), spread AS (
    SELECT n.step, w.calls, w.total_exec_time_ms,
           CASE WHEN w.ended > w.began
                THEN (least(w.ended, (n.step + 1) * %(width_s)s::numeric)
                      - greatest(w.began, n.step * %(width_s)s::numeric)) / (w.ended - w.began)
                ELSE 1 END AS share
      FROM work AS w
     CROSS JOIN LATERAL generate_series(
           greatest(least(floor(w.began / %(width_s)s::numeric),
                          ceil(w.ended / %(width_s)s::numeric) - 1),
                    floor(extract(epoch FROM %(start)s::timestamptz) / %(width_s)s::numeric)),
           least(ceil(w.ended / %(width_s)s::numeric),
                 ceil(extract(epoch FROM %(end)s::timestamptz) / %(width_s)s::numeric)) - 1
           ) AS n (step)
)
SELECT to_timestamp(step * %(width_s)s::numeric), sum(calls * share)::float8,
       sum(total_exec_time_ms * share::float8)
  FROM spread
 GROUP BY step
