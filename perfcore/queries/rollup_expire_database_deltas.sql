DELETE FROM perfcore.database_deltas WHERE interval_end < %(before)s
