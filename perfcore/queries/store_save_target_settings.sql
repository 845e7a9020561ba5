UPDATE perfcore.targets SET settings = %(settings)s WHERE target_id = %(target_id)s
