-- How many histograms a request would read, counted no further than the most it may.
SELECT count(*)
  FROM (SELECT
          FROM perfcore.metric_rollups AS m
          JOIN perfcore.series AS s USING (series_id)
         WHERE m.resolution = %(resolution)s
           AND m.bucket_start >= %(start)s
           AND m.bucket_start < %(end)s
           AND (%(metric_type)s::text IS NULL OR s.metric_type = %(metric_type)s)
           AND (%(service)s::text IS NULL OR s.service = %(service)s)
           AND (%(metric_name)s::text IS NULL OR s.metric_name = %(metric_name)s)
         LIMIT %(most)s + 1) AS found
