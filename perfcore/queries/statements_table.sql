-- Statements of a range by target and fingerprint, whole days from their sums; text and queryid
-- are of the one that ran longest.
WITH work AS (
    SELECT target_id, queryid, calls, total_exec_time_ms, rows, shared_blks_hit,
           shared_blks_read, temp_blks_written
      FROM perfcore.statement_delta_days
     WHERE bucket_start >= %(first_day)s AND bucket_start < %(last_day)s
    UNION ALL
    SELECT target_id, queryid, calls, total_exec_time_ms, rows, shared_blks_hit,
           shared_blks_read, temp_blks_written
      FROM perfcore.statement_delta_hours
     WHERE interval_end > %(start)s AND interval_end <= %(first_day)s
    UNION ALL
    SELECT target_id, queryid, calls, total_exec_time_ms, rows, shared_blks_hit,
           shared_blks_read, temp_blks_written
      FROM perfcore.statement_delta_hours
     WHERE interval_end > %(last_day)s AND interval_end <= %(end)s
    UNION ALL
    SELECT target_id, queryid, calls, total_exec_time_ms, rows, shared_blks_hit,
           shared_blks_read, temp_blks_written
      FROM perfcore.statement_deltas
     WHERE interval_end > %(start)s AND interval_end <= %(end)s
), ran AS (
    SELECT target_id, queryid, sum(calls) AS calls, sum(total_exec_time_ms) AS total_ms,
           sum(rows) AS rows, sum(shared_blks_hit) AS hit, sum(shared_blks_read) AS read,
           sum(temp_blks_written) AS temp
      FROM work
     WHERE %(target_id)s::integer IS NULL OR target_id = %(target_id)s
     GROUP BY target_id, queryid
), callers AS (
    SELECT fingerprint, service, endpoint FROM perfcore.endpoint_statement_days
     WHERE bucket_start >= %(first_day)s AND bucket_start < %(last_day)s
    UNION ALL
    SELECT fingerprint, service, endpoint FROM perfcore.endpoint_statement_hours
     WHERE bucket_start >= %(minute)s AND bucket_start < %(first_day)s
    UNION ALL
    SELECT fingerprint, service, endpoint FROM perfcore.endpoint_statement_hours
     WHERE bucket_start >= %(last_day)s AND bucket_start < %(end)s
    UNION ALL
    SELECT fingerprint, service, endpoint FROM perfcore.endpoint_statements
     WHERE bucket_start >= %(minute)s AND bucket_start < %(end)s
), endpoints AS (
    SELECT fingerprint, count(*) AS endpoints
      FROM (SELECT fingerprint FROM callers WHERE endpoint <> '(unattributed)'
             GROUP BY fingerprint, service, endpoint) AS pairs
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
