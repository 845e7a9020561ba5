-- Rows that no table takes, so that one of them costs itself and not its whole batch.
SET LOCAL search_path = perfcore;

CREATE TABLE quarantine (
    quarantine_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    received_at   timestamptz NOT NULL DEFAULT now(),
    batch_id      uuid   NOT NULL,
    service       text   NOT NULL,
    process       text   NOT NULL,
    kind          text   NOT NULL,           -- rollup, raw, endpoint_statement, slow_query, text, series
    reason        text   NOT NULL,           -- SQLSTATE and the server's words
    samples       bigint NOT NULL DEFAULT 0, -- of the histograms, so many are not stored
    content       text   NOT NULL            -- the row as the sender had it, shortened
);
CREATE INDEX quarantine_received_idx ON quarantine (received_at);
