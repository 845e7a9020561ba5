-- Keep the plans of a suggestion's most saving statement; an applied one's promise is not touched.
INSERT INTO perfcore.suggestion_plans (suggestion_id, fingerprint, statement, before, after)
SELECT suggestion_id, %(fingerprint)s, %(statement)s, %(before)s, %(after)s
  FROM perfcore.suggestions
 WHERE suggestion_id = %(suggestion_id)s AND state <> 'applied'
ON CONFLICT (suggestion_id) DO UPDATE
   SET fingerprint = excluded.fingerprint, statement = excluded.statement,
       before = excluded.before, after = excluded.after, updated_at = now()
