-- Statements whose plan is worth knowing: slow on average, among the first twenty by time, or
-- captured as slow, of the last hour. Of several with one fingerprint, the busiest; beside it the
-- slowest captured execution with its text and parameters. Statements that can have no plan are
-- listed too, so that the reason is stored, and take no other's place.
WITH recent AS (
    SELECT d.queryid, sum(d.calls) AS calls, sum(d.total_exec_time_ms) AS total_ms
      FROM perfcore.statement_deltas d
     WHERE d.target_id = %(target_id)s AND d.interval_end > now() - interval '1 hour'
     GROUP BY d.queryid
), ranked AS (
    SELECT DISTINCT ON (s.fingerprint) s.queryid, s.fingerprint, s.text, r.total_ms,
           r.total_ms / greatest(r.calls, 1) AS mean_ms,
           s.text ~* '^\s*(--[^\n]*\n\s*|/\*.*?\*/\s*)*(SELECT|INSERT|UPDATE|DELETE|WITH|MERGE)\M'
               AS has_plan
      FROM recent r
      JOIN perfcore.statements s ON s.target_id = %(target_id)s AND s.queryid = r.queryid
     ORDER BY s.fingerprint, r.total_ms DESC
), numbered AS (
    SELECT ranked.*,
           row_number() OVER (PARTITION BY has_plan ORDER BY total_ms DESC) AS place
      FROM ranked
), slowest AS (
    SELECT DISTINCT ON (q.fingerprint) q.fingerprint, q.occurred_at, q.parameters
      FROM perfcore.slow_queries AS q
     WHERE q.occurred_at > now() - interval '1 hour'
     ORDER BY q.fingerprint, q.is_error, q.duration_ms DESC
)
SELECT n.queryid, n.fingerprint, n.text, q.occurred_at, q.parameters, t.text AS application_text
  FROM numbered AS n
  LEFT JOIN slowest AS q USING (fingerprint)
  LEFT JOIN perfcore.statement_texts AS t USING (fingerprint)
 WHERE n.mean_ms >= %(slow_ms)s OR n.place <= 20 OR q.fingerprint IS NOT NULL
 ORDER BY n.has_plan DESC, n.total_ms DESC
 LIMIT 200
