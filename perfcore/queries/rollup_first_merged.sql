-- Where rolling begins.
SELECT min(bucket_start)
  FROM perfcore.metric_rollups
 WHERE resolution = %(resolution)s AND merged
