-- The store: raw samples, rollups, statements and plans, suggestions and what became of them.
CREATE SCHEMA IF NOT EXISTS perfcore;
SET LOCAL search_path = perfcore;

-- Raw samples, one row a sample (or `weight` samples, when thinned). Short retention.
CREATE TABLE performance_metrics (
    id          uuid             NOT NULL DEFAULT gen_random_uuid(),
    metric_type text             NOT NULL,
    metric_name text             NOT NULL,
    value       double precision NOT NULL,
    timestamp   timestamptz      NOT NULL,
    service     text             NOT NULL DEFAULT '',
    unit        text             NOT NULL DEFAULT 'ms',
    is_error    boolean          NOT NULL DEFAULT false,
    weight      integer          NOT NULL DEFAULT 1,
    PRIMARY KEY (id, timestamp)
) PARTITION BY RANGE (timestamp);
CREATE INDEX performance_metrics_type_time_idx ON performance_metrics (metric_type, timestamp DESC);
-- Days are created ahead by the roller; whatever falls outside still has a home.
CREATE TABLE performance_metrics_default PARTITION OF performance_metrics DEFAULT;

CREATE TABLE series (
    series_id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    service     text NOT NULL,
    metric_type text NOT NULL,
    metric_name text NOT NULL,
    unit        text NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    UNIQUE (service, metric_type, metric_name, unit)
);
CREATE INDEX series_type_idx ON series (metric_type);

-- Log-bucketed histograms. Several rows may share (resolution, series, bucket): each flush
-- adds one, readers add them up, the roller merges those of closed buckets into one.
CREATE TABLE metric_rollups (
    resolution   text        NOT NULL CHECK (resolution IN ('minute', 'hour', 'day')),
    bucket_start timestamptz NOT NULL,
    series_id    bigint      NOT NULL,
    count        bigint      NOT NULL,
    error_count  bigint      NOT NULL DEFAULT 0,
    sum          double precision NOT NULL,
    min          double precision NOT NULL,
    max          double precision NOT NULL,
    buckets      bytea       NOT NULL
) PARTITION BY LIST (resolution);
CREATE TABLE metric_rollups_minute PARTITION OF metric_rollups FOR VALUES IN ('minute');
CREATE TABLE metric_rollups_hour   PARTITION OF metric_rollups FOR VALUES IN ('hour');
CREATE TABLE metric_rollups_day    PARTITION OF metric_rollups FOR VALUES IN ('day');
CREATE INDEX metric_rollups_time_idx ON metric_rollups (bucket_start, series_id);
CREATE INDEX metric_rollups_series_idx ON metric_rollups (series_id, bucket_start);

-- How far hours and days are rolled: all minutes before `rolled_until` are in that resolution.
CREATE TABLE rollup_progress (
    resolution   text PRIMARY KEY,
    rolled_until timestamptz NOT NULL
);

-- One row a flushed batch: what makes delivery exactly-once and the accounting checkable.
CREATE TABLE batches (
    batch_id      uuid PRIMARY KEY,
    service       text NOT NULL,
    process       text NOT NULL,             -- "host:pid:start" of the sender
    sent_at       timestamptz NOT NULL,
    received_at   timestamptz NOT NULL DEFAULT now(),
    samples       bigint NOT NULL,           -- samples recorded in the histograms of this batch
    raw_samples   bigint NOT NULL,           -- rows written to performance_metrics
    was_spooled   boolean NOT NULL DEFAULT false,
    totals        jsonb NOT NULL DEFAULT '{}' -- the sender's running totals: generated, dropped by reason
);
CREATE INDEX batches_received_idx ON batches (received_at);

-- Statements as applications send them, normalised; the join key with the server's is the fingerprint.
CREATE TABLE statement_texts (
    fingerprint bigint PRIMARY KEY,
    text        text NOT NULL,
    first_seen  timestamptz NOT NULL DEFAULT now()
);

-- Which endpoint ran which statement, per minute. Additive, like the rollups.
CREATE TABLE endpoint_statements (
    bucket_start      timestamptz NOT NULL,
    service           text   NOT NULL,
    endpoint          text   NOT NULL,
    fingerprint       bigint NOT NULL,
    calls             bigint NOT NULL,
    duration_ms       double precision NOT NULL,  -- summed over calls
    requests          bigint NOT NULL,            -- requests that ran it at least once
    repeated_requests bigint NOT NULL,            -- requests that ran it five times or more
    max_calls         integer NOT NULL            -- most calls in one request
);
CREATE INDEX endpoint_statements_time_idx ON endpoint_statements (bucket_start);
CREATE INDEX endpoint_statements_fingerprint_idx ON endpoint_statements (fingerprint, bucket_start);

CREATE TABLE targets (
    target_id         integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name              text NOT NULL UNIQUE,
    server_version    integer,
    database          text,
    system_identifier text,
    last_seen_at      timestamptz,
    last_error        text NOT NULL DEFAULT '',
    settings          jsonb NOT NULL DEFAULT '{}',  -- planner and memory settings, name -> value
    created_at        timestamptz NOT NULL DEFAULT now()
);

-- Statements as the server knows them.
CREATE TABLE statements (
    target_id   integer NOT NULL REFERENCES targets ON DELETE CASCADE,
    queryid     bigint  NOT NULL,
    fingerprint bigint  NOT NULL,
    text        text    NOT NULL,
    first_seen  timestamptz NOT NULL DEFAULT now(),
    last_seen   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (target_id, queryid)
);
CREATE INDEX statements_fingerprint_idx ON statements (fingerprint);

-- Differences of pg_stat_statements between two readings in the same epoch, summed over users.
CREATE TABLE statement_deltas (
    target_id           integer NOT NULL REFERENCES targets ON DELETE CASCADE,
    queryid             bigint  NOT NULL,
    interval_start      timestamptz NOT NULL,
    interval_end        timestamptz NOT NULL,
    calls               bigint NOT NULL,
    total_exec_time_ms  double precision NOT NULL,
    rows                bigint NOT NULL,
    shared_blks_hit     bigint NOT NULL,
    shared_blks_read    bigint NOT NULL,
    temp_blks_read      bigint NOT NULL,
    temp_blks_written   bigint NOT NULL,
    wal_bytes           numeric NOT NULL DEFAULT 0
);
CREATE INDEX statement_deltas_time_idx ON statement_deltas (target_id, interval_end);
CREATE INDEX statement_deltas_query_idx ON statement_deltas (target_id, queryid, interval_end);

CREATE TABLE database_deltas (
    target_id      integer NOT NULL REFERENCES targets ON DELETE CASCADE,
    interval_start timestamptz NOT NULL,
    interval_end   timestamptz NOT NULL,
    blks_hit       bigint NOT NULL,
    blks_read      bigint NOT NULL,
    xact_commit    bigint NOT NULL,
    xact_rollback  bigint NOT NULL,
    temp_bytes     bigint NOT NULL,
    deadlocks      bigint NOT NULL,
    backends       integer NOT NULL,
    database_bytes bigint NOT NULL
);
CREATE INDEX database_deltas_time_idx ON database_deltas (target_id, interval_end);

-- Buffer counters per table between two readings.
CREATE TABLE table_deltas (
    target_id      integer NOT NULL REFERENCES targets ON DELETE CASCADE,
    schema_name    text NOT NULL,
    table_name     text NOT NULL,
    interval_start timestamptz NOT NULL,
    interval_end   timestamptz NOT NULL,
    heap_blks_hit  bigint NOT NULL,
    heap_blks_read bigint NOT NULL,
    idx_blks_hit   bigint NOT NULL,
    idx_blks_read  bigint NOT NULL,
    seq_scan       bigint NOT NULL,
    idx_scan       bigint NOT NULL,
    n_tup_ins      bigint NOT NULL,
    n_tup_upd      bigint NOT NULL,
    n_tup_hot_upd  bigint NOT NULL,
    n_tup_del      bigint NOT NULL
);
CREATE INDEX table_deltas_time_idx ON table_deltas (target_id, interval_end);

-- The last raw reading per target and view, so that a restarted collector goes on where it stopped.
CREATE TABLE collector_snapshots (
    target_id integer NOT NULL REFERENCES targets ON DELETE CASCADE,
    view      text NOT NULL,
    taken_at  timestamptz NOT NULL,
    epoch     text NOT NULL,
    snapshot  jsonb NOT NULL,
    PRIMARY KEY (target_id, view)
);

CREATE TABLE plans (
    plan_id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    target_id   integer NOT NULL REFERENCES targets ON DELETE CASCADE,
    fingerprint bigint NOT NULL,
    queryid     bigint NOT NULL,
    shape_hash  text NOT NULL,
    is_generic  boolean NOT NULL,
    total_cost  double precision NOT NULL,
    plan        jsonb NOT NULL,
    first_seen  timestamptz NOT NULL DEFAULT now(),
    last_seen   timestamptz NOT NULL DEFAULT now(),
    UNIQUE (target_id, fingerprint, shape_hash)
);

CREATE TABLE slow_queries (
    slow_query_id uuid NOT NULL,
    occurred_at   timestamptz NOT NULL,
    service       text NOT NULL,
    endpoint      text NOT NULL,               -- "(unattributed)" outside a request
    fingerprint   bigint NOT NULL,
    duration_ms   double precision NOT NULL,
    is_error      boolean NOT NULL DEFAULT false,
    parameters    jsonb NOT NULL,              -- by policy: types and lengths, or values
    PRIMARY KEY (slow_query_id)
);
CREATE INDEX slow_queries_time_idx ON slow_queries (occurred_at DESC);
CREATE INDEX slow_queries_fingerprint_idx ON slow_queries (fingerprint, occurred_at DESC);

CREATE TABLE suggestions (
    suggestion_id     text PRIMARY KEY,
    target_id         integer NOT NULL REFERENCES targets ON DELETE CASCADE,
    kind              text NOT NULL,
    title             text NOT NULL,
    saved_ms_per_hour double precision NOT NULL,
    evidence          text NOT NULL,
    state             text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'dismissed', 'snoozed', 'applied', 'gone')),
    state_reason      text NOT NULL DEFAULT '',
    snoozed_until     timestamptz,
    body              jsonb NOT NULL,          -- the whole suggestion
    created_at        timestamptz NOT NULL DEFAULT now(),
    updated_at        timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX suggestions_target_idx ON suggestions (target_id, state);

-- Why each other statement has none, of the last round.
CREATE TABLE silences (
    target_id   integer NOT NULL REFERENCES targets ON DELETE CASCADE,
    fingerprint bigint NOT NULL,
    queryid     bigint NOT NULL,
    reason      text NOT NULL,
    detail      text NOT NULL DEFAULT '',
    updated_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (target_id, fingerprint)
);

CREATE TABLE trials (
    trial_id      uuid PRIMARY KEY,
    target_id     integer NOT NULL REFERENCES targets ON DELETE CASCADE,
    suggestion_id text,                        -- null when the user typed the index
    fingerprint   bigint NOT NULL,
    index_body    jsonb NOT NULL,              -- the IndexDefinition
    state         text NOT NULL CHECK (state IN ('queued', 'running', 'done', 'failed')),
    progress      double precision NOT NULL DEFAULT 0,
    message       text NOT NULL DEFAULT '',
    started_at    timestamptz NOT NULL DEFAULT now(),
    finished_at   timestamptz,
    result        jsonb                        -- estimate and measurement, see perfcore.lab.trial
);
CREATE INDEX trials_suggestion_idx ON trials (suggestion_id, started_at DESC);

CREATE TABLE changes (
    change_id     uuid PRIMARY KEY,
    target_id     integer NOT NULL REFERENCES targets ON DELETE CASCADE,
    suggestion_id text,
    kind          text NOT NULL CHECK (kind IN ('create_index', 'drop_index', 'setting')),
    object_name   text NOT NULL,               -- schema-qualified index
    ddl           text NOT NULL,
    undo          text NOT NULL,
    origin        text NOT NULL DEFAULT 'perfcore' CHECK (origin IN ('perfcore', 'by hand')),
    state         text NOT NULL CHECK (state IN ('intended', 'running', 'applied', 'failed', 'reverted')),
    message       text NOT NULL DEFAULT '',
    index_oid     bigint,
    index_bytes   bigint,
    fingerprints  bigint[] NOT NULL DEFAULT '{}',  -- statements it should help
    intended_at   timestamptz NOT NULL DEFAULT now(),
    started_at    timestamptz,
    applied_at    timestamptz,
    reverted_at   timestamptz,
    verdict       jsonb                        -- see perfcore.lab.verdict
);
CREATE INDEX changes_target_idx ON changes (target_id, intended_at DESC);

CREATE TABLE markers (
    marker_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at        timestamptz NOT NULL DEFAULT now(),
    kind      text NOT NULL,                   -- change, release, settings, restart, statistics reset, plan change
    label     text NOT NULL,
    target_id integer REFERENCES targets ON DELETE CASCADE,
    service   text NOT NULL DEFAULT '',
    details   jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX markers_time_idx ON markers (at);
