-- Name the series that are new. In a fixed order, so that two senders cannot deadlock.
INSERT INTO perfcore.series (service, metric_type, metric_name, unit)
SELECT service, metric_type, metric_name, unit
FROM unnest(%(services)s::text[], %(types)s::text[], %(names)s::text[], %(units)s::text[])
    AS new (service, metric_type, metric_name, unit)
ORDER BY service, metric_type, metric_name, unit
ON CONFLICT DO NOTHING
