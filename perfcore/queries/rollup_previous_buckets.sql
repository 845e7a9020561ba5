-- The latest buckets before an instant that hold merged rows.
WITH RECURSIVE found AS (
    SELECT (SELECT max(bucket_start) FROM perfcore.metric_rollups
             WHERE resolution = %(resolution)s AND merged AND bucket_start < %(before)s) AS at,
           1 AS nth
    UNION ALL
    SELECT (SELECT max(bucket_start) FROM perfcore.metric_rollups
             WHERE resolution = %(resolution)s AND merged AND bucket_start < f.at), nth + 1
      FROM found AS f
     WHERE f.at IS NOT NULL AND nth < %(limit)s
)
SELECT at FROM found WHERE at IS NOT NULL
