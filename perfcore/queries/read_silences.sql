-- Why each other statement of the last round has no suggestion.
SELECT q.target_id, q.fingerprint, q.queryid, coalesce(s.text, t.text, ''), q.reason, q.detail,
       q.updated_at
  FROM perfcore.silences AS q
  LEFT JOIN perfcore.statements AS s USING (target_id, queryid)
  LEFT JOIN perfcore.statement_texts AS t ON t.fingerprint = q.fingerprint
 WHERE (%(target_id)s::integer IS NULL OR q.target_id = %(target_id)s)
 ORDER BY q.target_id, q.fingerprint
