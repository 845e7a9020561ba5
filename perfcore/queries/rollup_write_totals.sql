-- Totals, in the order of their columns, binary.
COPY perfcore.metric_totals
    (resolution, bucket_start, service, metric_type, unit, count, error_count, sum, min, max,
     buckets)
FROM STDIN (FORMAT BINARY)
