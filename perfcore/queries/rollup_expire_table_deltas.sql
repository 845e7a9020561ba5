DELETE FROM perfcore.table_deltas WHERE interval_end < %(before)s
