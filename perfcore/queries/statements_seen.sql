-- Per statement: how many endpoints ran it, and how many of its executions were slow.
SELECT fingerprint, sum(endpoints)::bigint, sum(slow)::bigint
  FROM (SELECT fingerprint, count(DISTINCT (service, endpoint)) AS endpoints, 0 AS slow
          FROM perfcore.endpoint_statements
         WHERE bucket_start >= %(start)s AND bucket_start < %(end)s
         GROUP BY fingerprint
        UNION ALL
        SELECT fingerprint, 0, count(*)
          FROM perfcore.slow_queries
         WHERE occurred_at >= %(start)s AND occurred_at < %(end)s
         GROUP BY fingerprint) AS seen
 GROUP BY fingerprint
