-- In the store: a step of a change; what is null stays as it was.
UPDATE perfcore.changes
   SET state = coalesce(%(state)s, state),
       message = coalesce(%(message)s, message),
       progress = coalesce(%(progress)s, progress),
       object_name = coalesce(%(object_name)s, object_name),
       ddl = coalesce(%(ddl)s, ddl),
       undo = coalesce(%(undo)s, undo),
       index_oid = coalesce(%(index_oid)s, index_oid),
       index_bytes = coalesce(%(index_bytes)s, index_bytes),
       started_at = CASE WHEN %(state)s = 'running' THEN now() ELSE started_at END,
       applied_at = CASE WHEN %(state)s = 'applied' THEN coalesce(applied_at, now())
                         ELSE applied_at END,
       reverted_at = CASE WHEN %(state)s = 'reverted' THEN coalesce(reverted_at, now())
                          ELSE reverted_at END
 WHERE change_id = %(change_id)s
