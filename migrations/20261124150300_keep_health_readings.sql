-- What the server's own counters forget at a reset or a restart: when an index was last used, and
-- how fast transaction ids are used up.
SET LOCAL search_path = perfcore;

CREATE TABLE index_uses (
    target_id     integer NOT NULL REFERENCES targets ON DELETE CASCADE,
    index_oid     bigint  NOT NULL,
    index_name    text    NOT NULL,          -- schema.index
    scans         bigint  NOT NULL,          -- idx_scan at the last reading
    watched_since timestamptz NOT NULL,
    last_used_at  timestamptz,               -- the reading that first showed its latest scans
    read_at       timestamptz NOT NULL,
    PRIMARY KEY (target_id, index_oid)
);

CREATE TABLE xid_readings (
    target_id integer NOT NULL REFERENCES targets ON DELETE CASCADE,
    read_at   timestamptz NOT NULL,
    next_xid  bigint NOT NULL,               -- of 64 bits
    PRIMARY KEY (target_id, read_at)
);
