-- Counts and sums of one resolution's histograms that begin in a range, by series.
SELECT s.service, s.metric_name, s.unit, sum(m.count)::bigint, sum(m.sum)
  FROM perfcore.metric_rollups AS m
  JOIN perfcore.series AS s USING (series_id)
 WHERE m.resolution = %(resolution)s
   AND m.bucket_start >= %(start)s
   AND m.bucket_start < %(end)s
   AND s.metric_type = %(metric_type)s
   AND (%(service)s::text IS NULL OR s.service = %(service)s)
   AND (%(names)s::text[] IS NULL OR s.metric_name = ANY (%(names)s))
 GROUP BY s.service, s.metric_name, s.unit
