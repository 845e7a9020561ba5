-- The histograms of one resolution that begin in a range.
SELECT s.service, s.metric_name, s.unit, m.bucket_start,
       m.count, m.error_count, m.sum, m.min, m.max, m.buckets
  FROM perfcore.metric_rollups AS m
  JOIN perfcore.series AS s USING (series_id)
 WHERE m.resolution = %(resolution)s
   AND m.bucket_start >= %(start)s
   AND m.bucket_start < %(end)s
   AND s.metric_type = %(metric_type)s
   AND (%(service)s::text IS NULL OR s.service = %(service)s)
   AND (%(names)s::text[] IS NULL OR s.metric_name = ANY (%(names)s))
