-- Which endpoint ran which statement; additive.
COPY perfcore.endpoint_statements
    (bucket_start, service, endpoint, fingerprint, calls, duration_ms, requests,
     repeated_requests, max_calls) FROM STDIN
