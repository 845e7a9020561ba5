-- One row per endpoint, statement and place for each step of so many seconds, in [since, before).
WITH several AS (
    SELECT floor(extract(epoch FROM bucket_start) / %(width_s)s) AS slot, service, endpoint,
           fingerprint, location
      FROM perfcore.repetitions
     WHERE bucket_start >= %(since)s AND bucket_start < %(before)s
     GROUP BY 1, 2, 3, 4, 5
    HAVING count(*) > 1
), taken AS (
    DELETE FROM perfcore.repetitions r
     USING several s
     WHERE floor(extract(epoch FROM r.bucket_start) / %(width_s)s) = s.slot
       AND r.bucket_start >= %(since)s AND r.bucket_start < %(before)s
       AND r.service = s.service AND r.endpoint = s.endpoint
       AND r.fingerprint = s.fingerprint AND r.location = s.location
    RETURNING r.*
)
INSERT INTO perfcore.repetitions
       (bucket_start, service, endpoint, fingerprint, location, requests, calls, duration_ms,
        max_calls)
SELECT to_timestamp(floor(extract(epoch FROM bucket_start) / %(width_s)s) * %(width_s)s), service,
       endpoint, fingerprint, location, sum(requests), sum(calls), sum(duration_ms),
       max(max_calls)
  FROM taken
 GROUP BY 1, 2, 3, 4, 5
