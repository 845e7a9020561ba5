-- What the collector could not count, and how complete the list of statements was meanwhile.
SET LOCAL search_path = perfcore;

-- A span in which work ran that no difference holds. The next one begins at its end.
CREATE TABLE collection_gaps (
    target_id integer NOT NULL REFERENCES targets ON DELETE CASCADE,
    view      text NOT NULL,              -- pg_stat_statements, pg_stat_database
    gap_start timestamptz NOT NULL,
    gap_end   timestamptz NOT NULL,
    reason    text NOT NULL,              -- restart, failover, statistics reset, eviction, ...
    queryids  bigint[]                    -- NULL: all statements
);
CREATE INDEX collection_gaps_time_idx ON collection_gaps (target_id, gap_end);

-- One row a reading of pg_stat_statements that could be subtracted from the one before.
CREATE TABLE statement_intervals (
    target_id      integer NOT NULL REFERENCES targets ON DELETE CASCADE,
    interval_start timestamptz NOT NULL,
    interval_end   timestamptz NOT NULL,
    entries        integer NOT NULL,      -- in the server's list, of all databases
    max_entries    integer NOT NULL,      -- pg_stat_statements.max
    evictions      bigint,                -- times that the list was full; NULL: 13 does not count
    counted_ms     double precision NOT NULL,  -- of top-level statements, ours left out
    active_ms      double precision       -- of this database's sessions; NULL: 13 does not say
);
CREATE INDEX statement_intervals_time_idx ON statement_intervals (target_id, interval_end);

-- The lifetime of the server's entries of a statement, merged over its users.
ALTER TABLE statements ADD COLUMN server_calls bigint;
ALTER TABLE statements ADD COLUMN min_exec_time_ms double precision;
ALTER TABLE statements ADD COLUMN mean_exec_time_ms double precision;
ALTER TABLE statements ADD COLUMN max_exec_time_ms double precision;
ALTER TABLE statements ADD COLUMN stddev_exec_time_ms double precision;
ALTER TABLE statements ADD COLUMN counted_since timestamptz;  -- NULL: the server does not say

ALTER TABLE targets ADD COLUMN is_standby boolean NOT NULL DEFAULT false;
