-- Which reads ran with which parameters, sampled and hashed, and when tables were written: what the
-- replay of a cache needs. A row is what one process saw between two flushes, packed by columns.
SET LOCAL search_path = perfcore;

CREATE TABLE reference_streams (
    started_at   timestamptz NOT NULL,            -- of its first reference or write
    service      text NOT NULL,
    process      text NOT NULL,                   -- "host:pid:start"
    "references" integer NOT NULL,                -- rows in it
    content      bytea NOT NULL                   -- compressed by its sender
);
ALTER TABLE reference_streams ALTER COLUMN content SET STORAGE EXTERNAL;
CREATE INDEX reference_streams_time_idx ON reference_streams (started_at);
