-- What the roller made; in the order of its rows, binary.
COPY perfcore.metric_rollups
    (resolution, bucket_start, series_id, count, error_count, sum, min, max, buckets, merged)
FROM STDIN (FORMAT BINARY)
