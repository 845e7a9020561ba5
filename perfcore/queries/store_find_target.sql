SELECT target_id FROM perfcore.targets WHERE name = %(name)s
