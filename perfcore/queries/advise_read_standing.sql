-- The indexes that are suggested, or were and are put off or dismissed.
SELECT body -> 'index'
  FROM perfcore.suggestions
 WHERE target_id = %(target_id)s AND kind = 'index'
   AND state IN ('open', 'snoozed', 'dismissed')
   AND body -> 'index' IS NOT NULL AND body -> 'index' <> 'null'::jsonb
 ORDER BY suggestion_id
