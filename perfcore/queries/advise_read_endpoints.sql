-- Which endpoints ran which statements since an instant, what their requests asked of those they
-- ran again and again and from where, and the hours that were seen of it.
WITH placed AS (
    SELECT fingerprint, service, endpoint, location, sum(requests) AS requests,
           sum(calls) AS calls, sum(duration_ms) AS duration_ms
      FROM perfcore.repetitions
     WHERE bucket_start >= %(since)s
     GROUP BY fingerprint, service, endpoint, location
), repeated AS (
    SELECT fingerprint, service, endpoint, sum(requests) AS requests, sum(calls) AS calls,
           sum(duration_ms) AS duration_ms,
           (array_agg(location ORDER BY requests DESC, location)
            FILTER (WHERE location <> ''))[1] AS location
      FROM placed
     GROUP BY fingerprint, service, endpoint
), ran AS (
    SELECT e.fingerprint, e.service, e.endpoint, sum(e.calls)::float8 AS calls,
           sum(e.duration_ms) AS duration_ms, sum(e.requests)::float8 AS requests,
           max(e.max_calls) AS max_calls,
           greatest(extract(epoch FROM now() - min(min(e.bucket_start)) OVER ()), 60)::float8
           / 3600 AS hours
      FROM perfcore.endpoint_work AS e
     WHERE e.bucket_start >= %(since)s AND e.endpoint <> '(unattributed)'
     GROUP BY e.fingerprint, e.service, e.endpoint
)
SELECT fingerprint, service, endpoint, e.calls, e.duration_ms, e.requests, e.max_calls, e.hours,
       coalesce(r.requests, 0)::float8, coalesce(r.calls, 0)::float8,
       coalesce(r.duration_ms, 0)::float8, coalesce(r.location, '')
  FROM ran AS e
  LEFT JOIN repeated AS r USING (fingerprint, service, endpoint)
 ORDER BY fingerprint, service, endpoint
