-- What the last round of advice found out about an application's cache, for each statement and
-- endpoint whose reads it replayed. Each round replaces a target's rows.
SET LOCAL search_path = perfcore;

CREATE TABLE cache_replays (
    target_id   integer NOT NULL REFERENCES targets ON DELETE CASCADE,
    position    integer NOT NULL,                 -- in the order of the time spent
    replayed_at timestamptz NOT NULL DEFAULT now(),
    body        jsonb NOT NULL,                   -- a CacheReplay
    PRIMARY KEY (target_id, position)
);
