-- Time spent in statements within requests; null when no statement was seen.
SELECT sum(duration_ms)::float8
  FROM perfcore.endpoint_statements
 WHERE bucket_start >= %(start)s AND bucket_start < %(end)s
   AND endpoint <> '(unattributed)'
   AND (%(service)s::text IS NULL OR service = %(service)s)
