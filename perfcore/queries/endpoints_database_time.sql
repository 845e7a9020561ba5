-- Time spent in statements within requests, whole days from their sums; null when none was seen.
WITH work AS (
    SELECT service, endpoint, duration_ms FROM perfcore.endpoint_statement_days
     WHERE bucket_start >= %(first_day)s AND bucket_start < %(last_day)s
    UNION ALL
    SELECT service, endpoint, duration_ms FROM perfcore.endpoint_statement_hours
     WHERE bucket_start >= %(start)s AND bucket_start < %(first_day)s
    UNION ALL
    SELECT service, endpoint, duration_ms FROM perfcore.endpoint_statement_hours
     WHERE bucket_start >= %(last_day)s AND bucket_start < %(end)s
    UNION ALL
    SELECT service, endpoint, duration_ms FROM perfcore.endpoint_statements
     WHERE bucket_start >= %(start)s AND bucket_start < %(end)s
)
SELECT sum(duration_ms)::float8
  FROM work
 WHERE endpoint <> '(unattributed)'
   AND (%(service)s::text IS NULL OR service = %(service)s)
