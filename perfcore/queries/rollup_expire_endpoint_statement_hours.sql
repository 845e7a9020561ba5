DELETE FROM perfcore.endpoint_statement_hours WHERE bucket_start < %(before)s
