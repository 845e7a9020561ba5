-- Captured slow executions, the latest first, with the plan that was in use.
SELECT q.slow_query_id, q.occurred_at, q.service, q.endpoint, q.fingerprint, s.queryid,
       coalesce(t.text, s.text, ''), q.duration_ms, q.is_error, q.parameters, p.plan_id
  FROM perfcore.slow_queries AS q
  LEFT JOIN perfcore.statement_texts AS t ON t.fingerprint = q.fingerprint
  LEFT JOIN LATERAL (
       SELECT queryid, text FROM perfcore.statements
        WHERE fingerprint = q.fingerprint ORDER BY last_seen DESC LIMIT 1) AS s ON true
  LEFT JOIN LATERAL (
       SELECT plan_id FROM perfcore.plans
        WHERE fingerprint = q.fingerprint
        ORDER BY (first_seen <= q.occurred_at) DESC, last_seen DESC LIMIT 1) AS p ON true
 WHERE q.occurred_at >= %(start)s AND q.occurred_at < %(end)s
   AND q.duration_ms >= %(min_duration_ms)s
   AND (%(fingerprint)s::bigint IS NULL OR q.fingerprint = %(fingerprint)s)
   AND (%(queryid)s::bigint IS NULL OR q.fingerprint IN (
        SELECT fingerprint FROM perfcore.statements WHERE queryid = %(queryid)s))
   AND (%(endpoint)s::text IS NULL OR q.endpoint = %(endpoint)s)
   AND (%(service)s::text IS NULL OR q.service = %(service)s)
 ORDER BY q.occurred_at DESC, q.slow_query_id
 LIMIT %(limit)s
