-- Raw samples, the latest first.
SELECT id, metric_type, metric_name, service, value, unit, timestamp, is_error, weight
  FROM perfcore.performance_metrics
 WHERE timestamp >= %(start)s AND timestamp < %(end)s
   AND (%(metric_type)s::text IS NULL OR metric_type = %(metric_type)s)
   AND (%(metric_name)s::text IS NULL OR metric_name = %(metric_name)s)
   AND (%(service)s::text IS NULL OR service = %(service)s)
 ORDER BY timestamp DESC, id
 LIMIT %(limit)s
