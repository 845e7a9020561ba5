DELETE FROM perfcore.statement_delta_days WHERE bucket_start < %(before)s
