-- What ran, by the hour and by the day once it is a day old: small to keep, quick to add up.
-- The roller moves the rows, an hour a transaction; until it has, they are read where they are.
SET LOCAL search_path = perfcore;

CREATE TABLE endpoint_statement_hours (LIKE endpoint_statements INCLUDING ALL);
CREATE TABLE endpoint_statement_days (
    bucket_start      timestamptz NOT NULL,
    service           text   NOT NULL,
    endpoint          text   NOT NULL,
    fingerprint       bigint NOT NULL,
    calls             bigint NOT NULL,
    duration_ms       double precision NOT NULL,
    requests          bigint NOT NULL,
    repeated_requests bigint NOT NULL,
    max_calls         integer NOT NULL,
    PRIMARY KEY (bucket_start, fingerprint, service, endpoint)
);

CREATE TABLE statement_delta_hours (LIKE statement_deltas INCLUDING ALL);
ALTER TABLE statement_delta_hours
    ADD FOREIGN KEY (target_id) REFERENCES targets ON DELETE CASCADE;
-- A reading belongs to the day in which it ended; midnight still ends the day before.
CREATE TABLE statement_delta_days (
    bucket_start       timestamptz NOT NULL,
    target_id          integer NOT NULL REFERENCES targets ON DELETE CASCADE,
    queryid            bigint  NOT NULL,
    calls              bigint  NOT NULL,
    total_exec_time_ms double precision NOT NULL,
    rows               bigint  NOT NULL,
    shared_blks_hit    bigint  NOT NULL,
    shared_blks_read   bigint  NOT NULL,
    temp_blks_written  bigint  NOT NULL,
    PRIMARY KEY (bucket_start, target_id, queryid)
);

CREATE VIEW endpoint_work AS
    SELECT * FROM endpoint_statements UNION ALL SELECT * FROM endpoint_statement_hours;
CREATE VIEW statement_work AS
    SELECT * FROM statement_deltas UNION ALL SELECT * FROM statement_delta_hours;
