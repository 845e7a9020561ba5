-- In the store: the endpoints that ran the statements, those that spent most on them first.
SELECT service, endpoint
  FROM perfcore.endpoint_work
 WHERE fingerprint = ANY (%(fingerprints)s)
   AND bucket_start >= %(start)s
   AND bucket_start < %(end)s
 GROUP BY service, endpoint
 ORDER BY sum(duration_ms) DESC
 LIMIT 10
