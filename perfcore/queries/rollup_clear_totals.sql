-- Takes the totals of a bucket away, and that they are stale.
WITH fresh AS (
    DELETE FROM perfcore.stale_totals
     WHERE resolution = %(resolution)s AND bucket_start = %(bucket_start)s
)
DELETE FROM perfcore.metric_totals
 WHERE resolution = %(resolution)s AND bucket_start = %(bucket_start)s
   AND metric_type IN ('api_endpoint', 'database_query')
