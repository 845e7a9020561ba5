DELETE FROM perfcore.metric_totals
 WHERE resolution = %(resolution)s AND metric_type IN ('api_endpoint', 'database_query')
   AND bucket_start < %(before)s
