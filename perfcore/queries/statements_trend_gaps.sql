-- Spans in which nothing is known of a statement. Those of another statement of its fingerprint
-- leave out only a part: `is_whole` says whether nothing at all is counted in the span.
WITH known AS (
    SELECT array_agg(queryid) AS queryids
      FROM perfcore.statements
     WHERE target_id = %(target_id)s AND fingerprint = %(fingerprint)s
)
SELECT g.gap_start, g.gap_end, g.queryids IS NULL OR g.queryids @> k.queryids AS is_whole
  FROM perfcore.collection_gaps AS g
 CROSS JOIN known AS k
 WHERE g.target_id = %(target_id)s
   AND g.view = 'pg_stat_statements'
   AND g.gap_end > %(start)s AND g.gap_start < %(end)s
   AND (g.queryids IS NULL OR g.queryids && k.queryids)
UNION ALL
-- What was not read yet.
SELECT taken_at, %(end)s, true
  FROM perfcore.collector_snapshots
 WHERE target_id = %(target_id)s AND view = 'pg_stat_statements' AND taken_at < %(end)s
