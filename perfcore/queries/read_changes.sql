-- What was done to the targets, the latest first.
SELECT c.change_id, c.target_id, t.name, c.suggestion_id, c.kind, c.object_name, c.ddl, c.undo,
       c.origin, c.state, c.message, c.index_oid, c.index_bytes, c.fingerprints, c.intended_at,
       c.started_at, c.applied_at, c.reverted_at, c.verdict
  FROM perfcore.changes AS c
  JOIN perfcore.targets AS t USING (target_id)
 WHERE (%(change_id)s::uuid IS NULL OR c.change_id = %(change_id)s)
 ORDER BY c.intended_at DESC, c.change_id
 LIMIT %(limit)s
