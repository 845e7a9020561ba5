-- The merged histograms of a bucket, one row a total: its parts one behind the other, and lengths.
SELECT s.service, s.metric_type, s.unit, string_agg(m.buckets, ''),
       string_agg(int4send(octet_length(m.buckets)), '')
  FROM perfcore.metric_rollups AS m
  JOIN perfcore.series AS s USING (series_id)
 WHERE m.resolution = %(resolution)s AND m.bucket_start = %(bucket_start)s AND m.merged
   AND s.metric_type IN ('api_endpoint', 'database_query')
 GROUP BY s.service, s.metric_type, s.unit
