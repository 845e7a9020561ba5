-- One row per endpoint and statement for ten minutes, in [since, before).
WITH several AS (
    SELECT floor(extract(epoch FROM bucket_start) / 600) AS slot, service, endpoint, fingerprint
      FROM perfcore.endpoint_statements
     WHERE bucket_start >= %(since)s AND bucket_start < %(before)s
     GROUP BY 1, 2, 3, 4
    HAVING count(*) > 1
), taken AS (
    DELETE FROM perfcore.endpoint_statements e
     USING several s
     WHERE e.bucket_start >= to_timestamp(s.slot * 600)
       AND e.bucket_start < to_timestamp(s.slot * 600 + 600)
       AND e.bucket_start >= %(since)s AND e.bucket_start < %(before)s
       AND e.service = s.service AND e.endpoint = s.endpoint AND e.fingerprint = s.fingerprint
    RETURNING e.*
)
INSERT INTO perfcore.endpoint_statements
       (bucket_start, service, endpoint, fingerprint, calls, duration_ms, requests,
        repeated_requests, max_calls)
SELECT to_timestamp(floor(extract(epoch FROM bucket_start) / 600) * 600), service, endpoint,
       fingerprint, sum(calls), sum(duration_ms), sum(requests), sum(repeated_requests),
       max(max_calls)
  FROM taken
 GROUP BY 1, 2, 3, 4
