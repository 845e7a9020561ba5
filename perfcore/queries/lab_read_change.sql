-- In the store: one change.
SELECT change_id::text, target_id, suggestion_id, kind, object_name, ddl, undo, state, message,
       progress, index_oid, index_bytes, fingerprints, intended_at, started_at, applied_at,
       reverted_at, revert_requested_at, index_body, verdict ->> 'verdict' AS verdict
  FROM perfcore.changes
 WHERE change_id = %(change_id)s
