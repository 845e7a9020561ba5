-- The UTC days of raw samples that lie in the default partition.
SELECT DISTINCT (timestamp AT TIME ZONE 'UTC')::date AS day
  FROM perfcore.performance_metrics_default
