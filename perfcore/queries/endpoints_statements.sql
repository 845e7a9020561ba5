-- The statements that an endpoint ran, with the queryid that the server last knew them by.
WITH ran AS (
    SELECT fingerprint, sum(calls)::bigint AS calls, sum(duration_ms) AS total_ms,
           sum(requests)::bigint AS requests,
           sum(repeated_requests)::bigint AS repeated_requests, max(max_calls) AS max_calls
      FROM perfcore.endpoint_work
     WHERE bucket_start >= %(start)s AND bucket_start < %(end)s
       AND endpoint = %(endpoint)s
       AND (%(service)s::text IS NULL OR service = %(service)s)
     GROUP BY fingerprint
)
SELECT r.fingerprint, s.queryid, coalesce(t.text, s.text, ''), r.calls, r.total_ms, r.requests,
       r.repeated_requests, r.max_calls
  FROM ran AS r
  LEFT JOIN perfcore.statement_texts AS t USING (fingerprint)
  LEFT JOIN LATERAL (
       SELECT queryid, text FROM perfcore.statements
        WHERE fingerprint = r.fingerprint ORDER BY last_seen DESC LIMIT 1) AS s ON true
 ORDER BY r.total_ms DESC, r.fingerprint
