-- Partial minutes; readers and the roller add them up.
COPY perfcore.metric_rollups
    (resolution, bucket_start, series_id, count, error_count, sum, min, max, buckets) FROM STDIN
