-- The endpoints that ran a statement.
SELECT service, endpoint, sum(calls)::bigint, sum(requests)::bigint, sum(duration_ms),
       max(max_calls)
  FROM perfcore.endpoint_statements
 WHERE bucket_start >= %(start)s AND bucket_start < %(end)s
   AND fingerprint = %(fingerprint)s
 GROUP BY service, endpoint
 ORDER BY sum(duration_ms) DESC
