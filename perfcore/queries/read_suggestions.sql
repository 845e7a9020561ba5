-- Suggestions with what became of them, the most saving first.
SELECT body, state, state_reason, created_at, updated_at, snoozed_until, snoozed_until_ms
  FROM perfcore.suggestions
 WHERE (%(suggestion_id)s::text IS NULL OR suggestion_id = %(suggestion_id)s)
   AND (%(target_id)s::integer IS NULL OR target_id = %(target_id)s)
   AND (%(state)s::text IS NULL OR state = %(state)s)
 ORDER BY saved_ms_per_hour DESC, created_at, suggestion_id
