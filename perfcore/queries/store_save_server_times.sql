-- The lifetime of the server's entries of statements that ran since the last reading.
UPDATE perfcore.statements AS s
   SET last_seen = now(),
       server_calls = t.calls,
       min_exec_time_ms = t.min_ms,
       mean_exec_time_ms = t.mean_ms,
       max_exec_time_ms = t.max_ms,
       stddev_exec_time_ms = t.stddev_ms,
       counted_since = t.since
  FROM unnest(%(queryids)s::bigint[], %(calls)s::bigint[], %(min_ms)s::float8[],
              %(mean_ms)s::float8[], %(max_ms)s::float8[], %(stddev_ms)s::float8[],
              %(since)s::timestamptz[])
       AS t (queryid, calls, min_ms, mean_ms, max_ms, stddev_ms, since)
 WHERE s.target_id = %(target_id)s AND s.queryid = t.queryid
