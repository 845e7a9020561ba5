-- A ticket system for many tenants, of which a few have most of the tickets. Primary keys only.
SELECT setseed(0.42);

CREATE TABLE tenants (id integer PRIMARY KEY, name text NOT NULL, plan text NOT NULL);
INSERT INTO tenants
SELECT n, 'Tenant ' || n, CASE WHEN n % 10 = 0 THEN 'enterprise' ELSE 'team' END
  FROM generate_series(1, 300) AS n;

CREATE TABLE users (
    id integer PRIMARY KEY, tenant_id integer NOT NULL REFERENCES tenants, email text NOT NULL,
    name text NOT NULL, role text NOT NULL, last_seen_at timestamptz
);
INSERT INTO users
SELECT n, 1 + floor(300 * power(random(), 3))::integer, 'User' || n || '@example.org',
       'Name ' || md5(n::text), CASE WHEN n % 20 = 0 THEN 'agent' ELSE 'customer' END,
       CASE WHEN n % 4 > 0 THEN timestamptz '2026-06-01' - random() * interval '300 days' END
  FROM generate_series(1, 30000) AS n;

CREATE TABLE tickets (
    id integer PRIMARY KEY, tenant_id integer NOT NULL REFERENCES tenants,
    requester_id integer NOT NULL, assignee_id integer, status text NOT NULL,
    priority smallint NOT NULL, subject text NOT NULL, external_ref text,
    tags text[] NOT NULL, custom jsonb NOT NULL, created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL, due_at timestamptz, closed_at timestamptz
);
INSERT INTO tickets
SELECT n, t, 1 + floor(30000 * random())::integer,
       CASE WHEN r < 0.85 THEN 20 * (1 + floor(1500 * power(random(), 2))::integer) END,
       CASE WHEN r < 0.02 THEN 'new' WHEN r < 0.07 THEN 'open' WHEN r < 0.10 THEN 'pending'
            ELSE 'closed' END,
       1 + floor(4 * random())::smallint, 'Subject ' || md5(n::text),
       CASE WHEN n % 5 = 0 THEN 'EXT-' || n END,
       ARRAY['tag' || floor(40 * power(random(), 2))::integer, 'area' || n % 12],
       jsonb_build_object('product', n % 60, 'channel', (ARRAY['mail', 'web', 'phone'])[1 + n % 3]),
       timestamptz '2026-06-01' - (300000 - n) * interval '70 seconds',
       timestamptz '2026-06-01' - (300000 - n) * interval '70 seconds' + random() * interval '9 days',
       CASE WHEN r < 0.10 THEN timestamptz '2026-06-01' + (random() * 20 - 5) * interval '1 day' END,
       CASE WHEN r >= 0.10 THEN timestamptz '2026-06-01' - (300000 - n) * interval '69 seconds' END
  FROM (SELECT n, random() AS r, 1 + floor(300 * power(random(), 3))::integer AS t
          FROM generate_series(1, 300000) AS n) AS drawn;

CREATE TABLE comments (
    id integer PRIMARY KEY, ticket_id integer NOT NULL REFERENCES tickets, author_id integer NOT NULL,
    is_public boolean NOT NULL, body text NOT NULL, created_at timestamptz NOT NULL
);
INSERT INTO comments
SELECT n, 1 + floor(300000 * random())::integer, 1 + floor(30000 * random())::integer,
       n % 5 > 0, repeat(md5(n::text), 5),
       timestamptz '2026-06-01' - (700000 - n) * interval '30 seconds'
  FROM generate_series(1, 700000) AS n;

CREATE TABLE events (
    id bigint PRIMARY KEY, tenant_id integer NOT NULL, ticket_id integer NOT NULL,
    kind text NOT NULL, detail jsonb NOT NULL, at timestamptz NOT NULL
);
INSERT INTO events
SELECT n, 1 + floor(300 * power(random(), 3))::integer, 1 + floor(300000 * random())::integer,
       (ARRAY['created', 'assigned', 'commented', 'status', 'sla_breached'])[
           CASE WHEN n % 200 = 0 THEN 5 ELSE 1 + n % 4 END],
       jsonb_build_object('by', n % 1000), timestamptz '2026-06-01' - (900000 - n) * interval '20 s'
  FROM generate_series(1, 900000) AS n;

CREATE TABLE attachments (
    id integer PRIMARY KEY, comment_id integer NOT NULL, file_name text NOT NULL,
    size_bytes integer NOT NULL, sha256 text NOT NULL
);
INSERT INTO attachments
SELECT n, 1 + floor(700000 * random())::integer, 'file' || n || '.pdf', n % 5000000, md5(n::text)
  FROM generate_series(1, 120000) AS n;

CREATE TABLE watchers (ticket_id integer NOT NULL, user_id integer NOT NULL,
    PRIMARY KEY (ticket_id, user_id));
INSERT INTO watchers
SELECT DISTINCT 1 + floor(300000 * random())::integer, 1 + floor(30000 * power(random(), 2))::integer
  FROM generate_series(1, 250000);
