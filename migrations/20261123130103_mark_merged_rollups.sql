-- Which rollup rows the roller has merged, so that it finds new and late ones without reading all.
SET LOCAL search_path = perfcore;

ALTER TABLE metric_rollups ADD COLUMN merged boolean NOT NULL DEFAULT false;
CREATE INDEX metric_rollups_unmerged_idx ON metric_rollups (bucket_start) WHERE NOT merged;
