-- The merged rows of a resolution in [start, end).
SELECT series_id, buckets
  FROM perfcore.metric_rollups
 WHERE resolution = %(resolution)s
   AND merged
   AND bucket_start >= %(start)s AND bucket_start < %(end)s
