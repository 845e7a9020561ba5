-- Trials, the latest first.
SELECT trial_id, target_id, suggestion_id, fingerprint, index_body, state, progress, message,
       started_at, finished_at, result, coalesce(rewritten_sql, '')
  FROM perfcore.trials
 WHERE (%(trial_id)s::uuid IS NULL OR trial_id = %(trial_id)s)
   AND (%(suggestion_id)s::text IS NULL OR suggestion_id = %(suggestion_id)s)
 ORDER BY started_at DESC, trial_id
 LIMIT %(limit)s
