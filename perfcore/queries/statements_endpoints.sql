-- Who ran a statement, and how long each of them spent in all of its statements together.
WITH work AS (
    SELECT service, endpoint, fingerprint, calls, requests, duration_ms
      FROM perfcore.endpoint_work
     WHERE bucket_start >= %(start)s AND bucket_start < %(end)s
       AND (service, endpoint) IN (
           SELECT service, endpoint FROM perfcore.endpoint_work
            WHERE fingerprint = %(fingerprint)s
              AND bucket_start >= %(start)s AND bucket_start < %(end)s)
), its AS (
    SELECT service, endpoint, sum(calls)::bigint AS calls, sum(requests)::bigint AS requests,
           sum(duration_ms) AS total_ms
      FROM work
     WHERE fingerprint = %(fingerprint)s
     GROUP BY service, endpoint
), whole AS (
    SELECT service, endpoint, sum(duration_ms) AS statements_ms FROM work GROUP BY 1, 2
)
SELECT service, endpoint, calls, requests, total_ms, statements_ms
  FROM its JOIN whole USING (service, endpoint)
 ORDER BY total_ms DESC, service, endpoint
