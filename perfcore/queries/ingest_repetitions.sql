-- Requests that ran one statement again and again; additive.
COPY perfcore.repetitions
    (bucket_start, service, endpoint, fingerprint, location, requests, calls, duration_ms,
     max_calls) FROM STDIN
