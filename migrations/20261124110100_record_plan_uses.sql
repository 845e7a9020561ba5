-- When each shape of a plan was in use, with whose parameters, and why a statement has no plan.
SET LOCAL search_path = perfcore;

-- One row a span in which a shape was seen each time; it begins anew when a shape comes back.
-- Generic plans and those for given parameters are two histories.
CREATE TABLE plan_uses (
    plan_use_id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    plan_id       bigint  NOT NULL REFERENCES plans ON DELETE CASCADE,
    target_id     integer NOT NULL REFERENCES targets ON DELETE CASCADE,
    fingerprint   bigint  NOT NULL,
    is_generic    boolean NOT NULL,
    parameters_at timestamptz,                   -- of the last execution whose values it is for
    seen_from     timestamptz NOT NULL,          -- by the target's clock, as the readings are
    seen_to       timestamptz NOT NULL
);
CREATE INDEX plan_uses_statement_idx ON plan_uses (target_id, fingerprint, is_generic, seen_from);
CREATE INDEX plan_uses_plan_idx ON plan_uses (plan_id);

CREATE TABLE plan_refusals (
    target_id   integer NOT NULL REFERENCES targets ON DELETE CASCADE,
    fingerprint bigint  NOT NULL,
    queryid     bigint  NOT NULL,
    reason      text NOT NULL,
    remedy      text NOT NULL,
    refused_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (target_id, fingerprint)
);
