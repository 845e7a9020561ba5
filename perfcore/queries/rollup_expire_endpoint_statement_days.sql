DELETE FROM perfcore.endpoint_statement_days WHERE bucket_start < %(before)s
