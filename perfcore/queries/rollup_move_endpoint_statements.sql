-- Moves an hour's rows into one row per endpoint and statement, and adds them to their day.
WITH taken AS (
    DELETE FROM perfcore.endpoint_statements
     WHERE bucket_start >= %(start)s AND bucket_start < %(end)s
    RETURNING *
), summed AS (
    SELECT service, endpoint, fingerprint, sum(calls) AS calls, sum(duration_ms) AS duration_ms,
           sum(requests) AS requests, sum(repeated_requests) AS repeated_requests,
           max(max_calls) AS max_calls
      FROM taken
     GROUP BY service, endpoint, fingerprint
), hours AS (
    INSERT INTO perfcore.endpoint_statement_hours
           (bucket_start, service, endpoint, fingerprint, calls, duration_ms, requests,
            repeated_requests, max_calls)
    SELECT %(start)s, * FROM summed
)
INSERT INTO perfcore.endpoint_statement_days AS d
       (bucket_start, service, endpoint, fingerprint, calls, duration_ms, requests,
        repeated_requests, max_calls)
SELECT %(day)s, * FROM summed
ON CONFLICT (bucket_start, fingerprint, service, endpoint) DO UPDATE SET
       calls = d.calls + excluded.calls,
       duration_ms = d.duration_ms + excluded.duration_ms,
       requests = d.requests + excluded.requests,
       repeated_requests = d.repeated_requests + excluded.repeated_requests,
       max_calls = greatest(d.max_calls, excluded.max_calls)
