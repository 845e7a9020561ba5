-- One row per endpoint and statement for each closed minute of the last hours.
WITH several AS (
    SELECT bucket_start, service, endpoint, fingerprint
      FROM perfcore.endpoint_statements
     WHERE bucket_start >= %(since)s AND bucket_start < %(before)s
     GROUP BY 1, 2, 3, 4
    HAVING count(*) > 1
), taken AS (
    DELETE FROM perfcore.endpoint_statements e
     USING several s
     WHERE e.bucket_start = s.bucket_start AND e.service = s.service
       AND e.endpoint = s.endpoint AND e.fingerprint = s.fingerprint
    RETURNING e.*
)
INSERT INTO perfcore.endpoint_statements
       (bucket_start, service, endpoint, fingerprint, calls, duration_ms, requests,
        repeated_requests, max_calls)
SELECT bucket_start, service, endpoint, fingerprint, sum(calls), sum(duration_ms), sum(requests),
       sum(repeated_requests), max(max_calls)
  FROM taken
 GROUP BY 1, 2, 3, 4
