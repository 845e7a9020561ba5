-- In the store: the histograms of whole minutes in a window.
SELECT s.service, s.metric_name, r.buckets
  FROM perfcore.metric_rollups r
  JOIN perfcore.series s USING (series_id)
 WHERE r.resolution = 'minute'
   AND s.metric_type = %(metric_type)s
   AND s.metric_name = ANY (%(names)s)
   AND r.bucket_start >= %(start)s
   AND r.bucket_start < %(end)s
