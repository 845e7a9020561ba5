-- Raw samples, one row each or thinned with their weight.
COPY perfcore.performance_metrics
    (metric_type, metric_name, value, timestamp, service, unit, is_error, weight) FROM STDIN
