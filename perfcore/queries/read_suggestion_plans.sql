-- The plans of a suggestion's most saving statement, without it and with it.
SELECT suggestion_id, fingerprint, statement, before, after
  FROM perfcore.suggestion_plans
 WHERE suggestion_id = %(suggestion_id)s
