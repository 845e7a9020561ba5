-- Captured executions over the threshold.
COPY perfcore.slow_queries
    (slow_query_id, occurred_at, service, endpoint, fingerprint, duration_ms, is_error,
     parameters) FROM STDIN
