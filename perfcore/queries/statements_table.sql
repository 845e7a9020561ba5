-- Statements of a range by target and fingerprint; text and queryid are of the one that ran longest.
WITH ran AS (
    SELECT target_id, queryid, sum(calls) AS calls, sum(total_exec_time_ms) AS total_ms,
           sum(rows) AS rows, sum(shared_blks_hit) AS hit, sum(shared_blks_read) AS read,
           sum(temp_blks_written) AS temp
      FROM perfcore.statement_deltas
     WHERE interval_end > %(start)s AND interval_end <= %(end)s
       AND (%(target_id)s::integer IS NULL OR target_id = %(target_id)s)
     GROUP BY target_id, queryid
), endpoints AS (
    SELECT fingerprint, count(DISTINCT (service, endpoint)) AS endpoints
      FROM perfcore.endpoint_statements
     WHERE bucket_start >= %(minute)s AND bucket_start < %(end)s
       AND endpoint <> '(unattributed)'
     GROUP BY fingerprint
), slow AS (
    SELECT fingerprint, count(*) AS slow_count
      FROM perfcore.slow_queries
     WHERE occurred_at >= %(start)s AND occurred_at < %(end)s
     GROUP BY fingerprint
), whole AS (
    SELECT r.target_id, s.fingerprint,
           (array_agg(r.queryid ORDER BY r.total_ms DESC))[1] AS queryid,
           (array_agg(s.text ORDER BY r.total_ms DESC))[1] AS text,
           sum(r.calls)::bigint AS calls, sum(r.total_ms)::float8 AS total_ms,
           sum(r.rows)::bigint AS rows, sum(r.hit)::bigint AS hit, sum(r.read)::bigint AS read,
           sum(r.temp)::bigint AS temp
      FROM ran AS r
      JOIN perfcore.statements AS s USING (target_id, queryid)
     GROUP BY r.target_id, s.fingerprint
)
SELECT w.target_id, w.fingerprint, w.queryid, w.text, w.calls, w.total_ms, w.rows, w.hit, w.read,
       w.temp, coalesce(e.endpoints, 0), coalesce(q.slow_count, 0)
  FROM whole AS w
  LEFT JOIN endpoints AS e USING (fingerprint)
  LEFT JOIN slow AS q USING (fingerprint)
 ORDER BY w.total_ms DESC, w.target_id, w.fingerprint
