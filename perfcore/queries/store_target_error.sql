-- The target did not answer.
UPDATE perfcore.targets SET last_error = %(last_error)s WHERE target_id = %(target_id)s
