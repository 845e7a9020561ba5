-- N+1: what requests asked of a statement that they ran again and again. A row only where that was.
SET LOCAL search_path = perfcore;

CREATE TABLE repetitions (
    bucket_start timestamptz NOT NULL,
    service      text   NOT NULL,
    endpoint     text   NOT NULL,
    fingerprint  bigint NOT NULL,
    location     text   NOT NULL,                 -- "file:line in function", empty when not known
    requests     bigint NOT NULL,                 -- that ran it often enough and for long enough
    calls        bigint NOT NULL,                 -- of it, in these requests
    duration_ms  double precision NOT NULL,       -- of it, in these requests
    max_calls    integer NOT NULL                 -- most calls in one request
);
CREATE INDEX repetitions_time_idx ON repetitions (bucket_start);
