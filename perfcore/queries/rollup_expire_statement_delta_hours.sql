DELETE FROM perfcore.statement_delta_hours WHERE interval_end < %(before)s
