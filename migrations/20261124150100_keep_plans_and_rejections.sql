-- What the planner said of a suggestion, and what was weighed and not suggested.
SET LOCAL search_path = perfcore;

-- The plans of a suggestion's most saving statement, without it and with it, as EXPLAIN's JSON.
CREATE TABLE suggestion_plans (
    suggestion_id text PRIMARY KEY REFERENCES suggestions ON DELETE CASCADE,
    fingerprint   bigint NOT NULL,
    statement     text NOT NULL,               -- as it was planned
    before        jsonb NOT NULL,
    after         jsonb NOT NULL,
    updated_at    timestamptz NOT NULL DEFAULT now()
);

-- The indexes that the last round weighed and did not suggest.
CREATE TABLE rejections (
    target_id         integer NOT NULL REFERENCES targets ON DELETE CASCADE,
    digest            text NOT NULL,           -- of the index
    index_body        jsonb NOT NULL,          -- the IndexDefinition
    reason            text NOT NULL,
    fingerprints      bigint[] NOT NULL,       -- of the statements that it was weighed for
    index_bytes       bigint,
    saved_ms_per_hour double precision NOT NULL,
    updated_at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (target_id, digest)
);
