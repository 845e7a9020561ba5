-- Which endpoints ran which statements since an instant, and the hours that were seen of it.
SELECT e.fingerprint, e.service, e.endpoint,
       sum(e.calls)::float8, sum(e.duration_ms), sum(e.requests)::float8,
       sum(e.repeated_requests)::float8, max(e.max_calls),
       greatest(extract(epoch FROM now() - min(min(e.bucket_start)) OVER ()), 60)::float8 / 3600
  FROM perfcore.endpoint_work AS e
 WHERE e.bucket_start >= %(since)s AND e.endpoint <> '(unattributed)'
 GROUP BY e.fingerprint, e.service, e.endpoint
 ORDER BY e.fingerprint, e.service, e.endpoint
