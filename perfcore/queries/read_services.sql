-- The instrumented applications, by the requests they reported.
SELECT DISTINCT service
  FROM perfcore.series
 WHERE metric_type = 'api_endpoint'
 ORDER BY service
