-- The totals of a range; where they are not complete, what completes them.
SELECT service, unit, bucket_start, count, error_count, sum, min, max, buckets
  FROM perfcore.metric_totals
 WHERE resolution = %(resolution)s AND metric_type = %(metric_type)s
   AND bucket_start >= %(start)s AND bucket_start < %(end)s
   AND bucket_start <> ALL (%(stale)s::timestamptz[])
   AND (%(service)s::text IS NULL OR service = %(service)s)
UNION ALL
SELECT s.service, s.unit, m.bucket_start, m.count, m.error_count, m.sum, m.min, m.max, m.buckets
  FROM perfcore.metric_rollups AS m
  JOIN perfcore.series AS s USING (series_id)
 WHERE m.resolution = %(resolution)s AND s.metric_type = %(metric_type)s
   AND m.bucket_start >= %(start)s AND m.bucket_start < %(end)s
   AND NOT m.merged
   AND (%(service)s::text IS NULL OR s.service = %(service)s)
UNION ALL
SELECT s.service, s.unit, m.bucket_start, m.count, m.error_count, m.sum, m.min, m.max, m.buckets
  FROM perfcore.metric_rollups AS m
  JOIN perfcore.series AS s USING (series_id)
 WHERE m.resolution = %(resolution)s AND s.metric_type = %(metric_type)s
   AND m.bucket_start = ANY (%(stale)s::timestamptz[])
   AND m.merged
   AND (%(service)s::text IS NULL OR s.service = %(service)s)
