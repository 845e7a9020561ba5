-- The server's own times of some statements, where it was read with them.
SELECT server_calls, min_exec_time_ms, mean_exec_time_ms, max_exec_time_ms, stddev_exec_time_ms,
       counted_since
  FROM perfcore.statements
 WHERE target_id = %(target_id)s AND queryid = ANY (%(queryids)s::bigint[])
   AND server_calls IS NOT NULL
