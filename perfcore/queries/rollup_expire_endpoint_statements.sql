DELETE FROM perfcore.endpoint_statements WHERE bucket_start < %(before)s
