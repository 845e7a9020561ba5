DELETE FROM perfcore.slow_queries WHERE occurred_at < %(before)s
