SELECT queryid FROM perfcore.statements WHERE target_id = %(target_id)s
