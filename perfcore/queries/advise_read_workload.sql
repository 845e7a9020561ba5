-- What the target ran since an instant, one row a fingerprint; the text and queryid are those of
-- its heaviest form, the window is what the collector really saw. A statement whose plan or whose
-- indexes changed since then counts from that change on: what was before is no longer its cost.
WITH settled AS (
    SELECT fingerprint, max(at) AS at
      FROM (SELECT fingerprint, max(seen_from) AS at
              FROM perfcore.plan_uses
             WHERE target_id = %(target_id)s AND is_generic
             GROUP BY fingerprint
            HAVING count(*) > 1
             UNION ALL
            SELECT unnest(fingerprints), greatest(applied_at, reverted_at)
              FROM perfcore.changes
             WHERE target_id = %(target_id)s) AS changed
     GROUP BY fingerprint
), counted AS (
    SELECT s.fingerprint, d.queryid, s.text, sum(d.calls) AS calls,
           sum(d.total_exec_time_ms) AS total_exec_time_ms, sum(d.rows) AS rows,
           sum(d.shared_blks_hit) AS shared_blks_hit, sum(d.shared_blks_read) AS shared_blks_read,
           sum(d.temp_blks_written) AS temp_blks_written, max(c.at) AS settled_at
      FROM perfcore.statement_work AS d
      JOIN perfcore.statements AS s USING (target_id, queryid)
      LEFT JOIN settled AS c USING (fingerprint)
     WHERE d.target_id = %(target_id)s AND d.interval_end > %(since)s
       AND d.interval_start >= coalesce(c.at, '-infinity')
     GROUP BY s.fingerprint, d.queryid, s.text
), seen AS (
    SELECT min(interval_start) AS first, max(interval_end) AS last
      FROM perfcore.statement_work
     WHERE target_id = %(target_id)s AND interval_end > %(since)s
)
SELECT fingerprint,
       (array_agg(queryid ORDER BY total_exec_time_ms DESC, queryid))[1],
       (array_agg(text ORDER BY total_exec_time_ms DESC, queryid))[1],
       sum(calls)::bigint,
       sum(total_exec_time_ms),
       extract(epoch FROM max(last) - greatest(max(first), max(settled_at)))::float8,
       sum(rows)::bigint,
       sum(shared_blks_hit)::bigint,
       sum(shared_blks_read)::bigint,
       sum(temp_blks_written)::bigint
  FROM counted CROSS JOIN seen
 WHERE calls > 0 AND text NOT LIKE '/* perfcore */%%'
 GROUP BY fingerprint
 ORDER BY sum(total_exec_time_ms) DESC, fingerprint
