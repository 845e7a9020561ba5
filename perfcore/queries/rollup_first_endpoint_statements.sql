-- The oldest row that is to be moved.
SELECT min(bucket_start) AS at FROM perfcore.endpoint_statements WHERE bucket_start < %(before)s
