DELETE FROM perfcore.silences WHERE target_id = %(target_id)s
