-- In the store: the intent to take a change back, before anything happens on the target.
UPDATE perfcore.changes
   SET revert_requested_at = coalesce(revert_requested_at, now())
 WHERE change_id = %(change_id)s
