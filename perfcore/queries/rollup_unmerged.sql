-- The oldest buckets before an instant that hold rows not merged yet.
SELECT DISTINCT bucket_start
  FROM perfcore.metric_rollups
 WHERE resolution = %(resolution)s AND NOT merged AND bucket_start < %(before)s
 ORDER BY 1
 LIMIT %(limit)s
