SELECT settings FROM perfcore.targets WHERE target_id = %(target_id)s
