DELETE FROM perfcore.statement_deltas WHERE interval_end < %(before)s
