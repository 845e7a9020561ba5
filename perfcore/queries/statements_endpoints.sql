-- Who ran a statement.
SELECT service, endpoint, sum(calls)::bigint, sum(requests)::bigint, sum(duration_ms)
  FROM perfcore.endpoint_work
 WHERE fingerprint = %(fingerprint)s
   AND bucket_start >= %(start)s AND bucket_start < %(end)s
 GROUP BY service, endpoint
 ORDER BY sum(duration_ms) DESC, service, endpoint
