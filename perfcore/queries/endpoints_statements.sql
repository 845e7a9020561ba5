-- The statements an endpoint ran, with what the server knows of them.
SELECT e.fingerprint, s.queryid, coalesce(s.text, t.text, ''), sum(e.calls)::bigint,
       sum(e.duration_ms), sum(e.requests)::bigint, sum(e.repeated_requests)::bigint,
       max(e.max_calls)
  FROM perfcore.endpoint_statements AS e
  LEFT JOIN perfcore.statement_texts AS t USING (fingerprint)
  LEFT JOIN LATERAL (
       SELECT queryid, text FROM perfcore.statements
        WHERE fingerprint = e.fingerprint ORDER BY last_seen DESC LIMIT 1) AS s ON true
 WHERE e.bucket_start >= %(start)s AND e.bucket_start < %(end)s
   AND e.service = %(service)s AND e.endpoint = %(endpoint)s
 GROUP BY e.fingerprint, s.queryid, s.text, t.text
 ORDER BY sum(e.duration_ms) DESC
