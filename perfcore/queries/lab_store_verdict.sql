-- In the store: what live traffic says of a change.
UPDATE perfcore.changes SET verdict = %(verdict)s WHERE change_id = %(change_id)s
