-- Buckets whose totals are to be made anew, the latest first.
SELECT resolution, bucket_start FROM perfcore.stale_totals
 ORDER BY bucket_start DESC LIMIT %(limit)s
