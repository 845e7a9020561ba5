-- The merged histograms of a resolution in [start, end), one row a series:
-- its histograms one behind the other, and their lengths.
SELECT series_id, string_agg(buckets, ''), string_agg(int4send(octet_length(buckets)), '')
  FROM perfcore.metric_rollups
 WHERE resolution = %(resolution)s
   AND merged
   AND bucket_start >= %(start)s AND bucket_start < %(end)s
 GROUP BY series_id
