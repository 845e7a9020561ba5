DELETE FROM perfcore.performance_metrics_default WHERE timestamp < %(before)s
