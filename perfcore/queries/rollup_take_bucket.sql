-- Takes out of a bucket all rows of the series that got new ones.
DELETE FROM perfcore.metric_rollups
 WHERE resolution = %(resolution)s
   AND bucket_start = %(bucket_start)s
   AND series_id IN (SELECT series_id
                       FROM perfcore.metric_rollups
                      WHERE resolution = %(resolution)s
                        AND bucket_start = %(bucket_start)s
                        AND NOT merged)
RETURNING series_id, buckets, merged
