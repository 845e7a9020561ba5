-- The ids of series by their whole names.
SELECT s.service, s.metric_type, s.metric_name, s.unit, s.series_id
FROM unnest(%(services)s::text[], %(types)s::text[], %(names)s::text[], %(units)s::text[])
    AS wanted (service, metric_type, metric_name, unit)
JOIN perfcore.series s USING (service, metric_type, metric_name, unit)
