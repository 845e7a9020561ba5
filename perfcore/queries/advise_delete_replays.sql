DELETE FROM perfcore.cache_replays WHERE target_id = %(target_id)s
