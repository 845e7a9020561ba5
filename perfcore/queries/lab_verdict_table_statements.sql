-- In the store: the statements that name a table, by the time they took, the heaviest first.
SELECT s.fingerprint
  FROM perfcore.statement_work d
  JOIN perfcore.statements s USING (target_id, queryid)
 WHERE d.target_id = %(target_id)s
   AND d.interval_start >= %(start)s
   AND d.interval_end <= %(end)s
   AND s.text ~* ('\m' || %(table)s || '\M')
   AND s.text !~* '^\s*(/\*.*\*/)?\s*(create|drop|alter|analyze|vacuum|copy|comment|explain)\M'
 GROUP BY s.fingerprint
 ORDER BY sum(d.total_exec_time_ms) DESC
 LIMIT %(limit)s
