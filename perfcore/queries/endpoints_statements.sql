-- The statements that an endpoint ran, with the queryid that the server last knew them by, and
-- what its requests asked of those that they ran again and again.
WITH ran AS (
    SELECT fingerprint, sum(calls)::bigint AS calls, sum(duration_ms) AS total_ms,
           sum(requests)::bigint AS requests, max(max_calls) AS max_calls
      FROM perfcore.endpoint_work
     WHERE bucket_start >= %(start)s AND bucket_start < %(end)s
       AND endpoint = %(endpoint)s
       AND (%(service)s::text IS NULL OR service = %(service)s)
     GROUP BY fingerprint
), placed AS (
    SELECT fingerprint, location, sum(requests)::bigint AS requests, sum(calls)::bigint AS calls,
           sum(duration_ms) AS total_ms
      FROM perfcore.repetitions
     WHERE bucket_start >= %(start)s AND bucket_start < %(end)s
       AND endpoint = %(endpoint)s
       AND (%(service)s::text IS NULL OR service = %(service)s)
     GROUP BY fingerprint, location
), repeated AS (
    SELECT fingerprint, sum(requests)::bigint AS requests, sum(calls)::bigint AS calls,
           sum(total_ms) AS total_ms,
           coalesce((array_agg(location ORDER BY requests DESC, location)
                     FILTER (WHERE location <> ''))[1], '') AS location
      FROM placed
     GROUP BY fingerprint
)
SELECT r.fingerprint, s.queryid, coalesce(t.text, s.text, ''), r.calls, r.total_ms, r.requests,
       r.max_calls, coalesce(p.requests, 0), coalesce(p.calls, 0),
       coalesce(p.total_ms, 0)::float8, coalesce(p.location, '')
  FROM ran AS r
  LEFT JOIN repeated AS p USING (fingerprint)
  LEFT JOIN perfcore.statement_texts AS t USING (fingerprint)
  LEFT JOIN LATERAL (
       SELECT queryid, text FROM perfcore.statements
        WHERE fingerprint = r.fingerprint ORDER BY last_seen DESC LIMIT 1) AS s ON true
 ORDER BY r.total_ms DESC, r.fingerprint
