DELETE FROM perfcore.statement_intervals WHERE interval_end < %(before)s
