-- Statements whose plan is worth knowing: slow on average, among the first twenty by time, or
-- captured as slow, of the last hour. Of several with one fingerprint, the busiest.
WITH recent AS (
    SELECT d.queryid, sum(d.calls) AS calls, sum(d.total_exec_time_ms) AS total_ms
      FROM perfcore.statement_deltas d
     WHERE d.target_id = %(target_id)s AND d.interval_end > now() - interval '1 hour'
     GROUP BY d.queryid
), ranked AS (
    SELECT DISTINCT ON (s.fingerprint) s.queryid, s.fingerprint, s.text, r.total_ms,
           r.total_ms / greatest(r.calls, 1) AS mean_ms
      FROM recent r
      JOIN perfcore.statements s ON s.target_id = %(target_id)s AND s.queryid = r.queryid
     WHERE s.text ~* '^\s*(--[^\n]*\n\s*|/\*.*?\*/\s*)*(SELECT|INSERT|UPDATE|DELETE|WITH)\M'
     ORDER BY s.fingerprint, r.total_ms DESC
), numbered AS (
    SELECT ranked.*, row_number() OVER (ORDER BY total_ms DESC) AS place FROM ranked
)
SELECT n.queryid, n.fingerprint, n.text
  FROM numbered n
 WHERE n.mean_ms >= %(slow_ms)s
    OR n.place <= 20
    OR n.fingerprint IN (SELECT q.fingerprint
                           FROM perfcore.slow_queries q
                          WHERE q.occurred_at > now() - interval '1 hour')
 ORDER BY n.total_ms DESC
 LIMIT 200
