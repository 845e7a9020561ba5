-- What the server spent on each statement in a range, the members of a fingerprint together.
-- BEGIN, COMMIT and their like are left out: they search nothing, so nothing can be tuned.
WITH spent AS (
    SELECT d.target_id, s.fingerprint, d.queryid, s.text,
           sum(d.calls) AS calls, sum(d.total_exec_time_ms) AS total_ms, sum(d.rows) AS rows,
           sum(d.shared_blks_hit) AS hit, sum(d.shared_blks_read) AS read,
           sum(d.temp_blks_written) AS temp
      FROM perfcore.statement_deltas AS d
      JOIN perfcore.statements AS s USING (target_id, queryid)
     WHERE d.interval_end > %(start)s AND d.interval_end <= %(end)s
       AND (%(target_id)s::integer IS NULL OR d.target_id = %(target_id)s)
       AND s.text !~* '^\s*(begin|commit|rollback|savepoint|release|set|show|reset|deallocate|discard)\M'
     GROUP BY d.target_id, s.fingerprint, d.queryid, s.text
)
SELECT target_id, fingerprint, (array_agg(queryid ORDER BY total_ms DESC))[1],
       (array_agg(text ORDER BY total_ms DESC))[1], sum(calls)::bigint, sum(total_ms),
       sum(rows)::bigint, sum(hit)::bigint, sum(read)::bigint, sum(temp)::bigint
  FROM spent
 GROUP BY target_id, fingerprint
 ORDER BY sum(total_ms) DESC, fingerprint
