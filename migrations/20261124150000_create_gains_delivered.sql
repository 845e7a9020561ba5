-- What the planner promised of an index and what was delivered, per statement and set of values.
SET LOCAL search_path = perfcore;

CREATE TABLE gains_delivered (
    gain_id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    target_id          integer NOT NULL REFERENCES targets ON DELETE CASCADE,
    suggestion_id      text NOT NULL,             -- the index's own, whether or not it was suggested
    trial_id           uuid REFERENCES trials ON DELETE CASCADE,
    change_id          uuid REFERENCES changes ON DELETE CASCADE,
    source_id          uuid NOT NULL GENERATED ALWAYS AS (coalesce(trial_id, change_id)) STORED,
    index_digest       text NOT NULL,             -- of the index, whatever its name
    fingerprint        bigint NOT NULL,
    parameters         text NOT NULL DEFAULT '',  -- which values a trial took; empty in live traffic
    plan_change        text NOT NULL,             -- see perfcore.plan_change
    evidence           text NOT NULL CHECK (evidence IN ('measured', 'proven')),
    promised_ratio     double precision NOT NULL, -- planner cost, after divided by before
    promised_saved_ms  double precision,          -- a call, as the suggestion said; null without one
    delivered_ratio    double precision NOT NULL, -- time, after divided by before
    delivered_low      double precision NOT NULL, -- its 95 % interval
    delivered_high     double precision NOT NULL,
    delivered_saved_ms double precision NOT NULL, -- a call
    recorded_at        timestamptz NOT NULL DEFAULT now(),
    CHECK ((trial_id IS NULL) <> (change_id IS NULL))
);
-- A trial or a change says one thing of a statement, however often it is judged.
CREATE UNIQUE INDEX gains_delivered_source_idx
    ON gains_delivered (source_id, fingerprint, parameters);
