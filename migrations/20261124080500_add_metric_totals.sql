-- All endpoints of a service in one histogram a bucket (and all its statements), so that the
-- course of a whole service is read from one row a step instead of one an endpoint.
SET LOCAL search_path = perfcore;

-- A total is the sum of the merged rows of its bucket. Rows that are not merged add to it.
CREATE TABLE metric_totals (
    resolution   text        NOT NULL CHECK (resolution IN ('minute', 'hour', 'day')),
    bucket_start timestamptz NOT NULL,
    service      text        NOT NULL,
    metric_type  text        NOT NULL,
    unit         text        NOT NULL,
    count        bigint      NOT NULL,
    error_count  bigint      NOT NULL DEFAULT 0,
    sum          double precision NOT NULL,
    min          double precision NOT NULL,
    max          double precision NOT NULL,
    buckets      bytea       NOT NULL,
    PRIMARY KEY (resolution, metric_type, bucket_start, service, unit)
);

-- Buckets whose total is not the sum of their merged rows: they are read row by row.
CREATE TABLE stale_totals (
    resolution   text        NOT NULL,
    bucket_start timestamptz NOT NULL,
    PRIMARY KEY (resolution, bucket_start)
);

-- From where on the totals are complete; what was merged before has none yet.
INSERT INTO rollup_progress (resolution, rolled_until)
SELECT 'totals of ' || kind, coalesce(
    (SELECT max(bucket_start) + interval '1 day' FROM metric_rollups WHERE resolution = kind),
    '1970-01-01 00:00+00')
FROM unnest(ARRAY['minute', 'hour', 'day']) AS kind;

-- A roller of an earlier version merges rows and knows of no totals: the bucket is then stale.
CREATE FUNCTION mark_stale_total() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO perfcore.stale_totals (resolution, bucket_start)
    VALUES (NEW.resolution, NEW.bucket_start) ON CONFLICT DO NOTHING;
    RETURN NULL;
END
$$;
CREATE TRIGGER mark_stale_total AFTER INSERT ON metric_rollups
    FOR EACH ROW
    WHEN (NEW.merged AND current_setting('perfcore.totals', true) IS DISTINCT FROM 'on')
    EXECUTE FUNCTION mark_stale_total();
