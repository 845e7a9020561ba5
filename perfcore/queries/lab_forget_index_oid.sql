-- In the store: nothing of a failed change is left on the target.
UPDATE perfcore.changes
   SET index_oid = NULL
 WHERE change_id = %(change_id)s
