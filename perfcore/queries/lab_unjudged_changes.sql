-- In the store: changes whose verdict may still move.
SELECT change_id::text
  FROM perfcore.changes
 WHERE applied_at IS NOT NULL
   AND state IN ('applied', 'reverted')
   AND (verdict IS NULL
        OR applied_at > %(now)s - interval '70 minutes'
        OR (verdict ->> 'verdict' = 'not enough data yet'
            AND applied_at > %(now)s - interval '7 days'))
   AND (reverted_at IS NULL OR verdict IS NULL)
 ORDER BY applied_at
