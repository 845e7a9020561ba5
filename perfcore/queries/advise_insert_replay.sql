INSERT INTO perfcore.cache_replays (target_id, position, body)
VALUES (%(target_id)s, %(position)s, %(body)s)
