-- As for later versions; up to 13 a session does not say which statement it runs.
WITH sessions AS MATERIALIZED (
  SELECT a.*,
         CASE WHEN a.wait_event_type OPERATOR(pg_catalog.=) 'Lock'
              THEN pg_catalog.pg_blocking_pids(a.pid) ELSE ARRAY[]::integer[] END AS blocked_by
    FROM pg_catalog.pg_stat_activity a
   WHERE a.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()
     AND a.pid OPERATOR(pg_catalog.<>) pg_catalog.pg_backend_pid()
), blockers AS (
  SELECT pg_catalog.unnest(s.blocked_by) AS pid FROM sessions s
)
SELECT s.pid, coalesce(s.usename::text, '') AS role,
       coalesce(s.application_name, '') AS application,
       coalesce(s.state, '') AS state,
       coalesce(pg_catalog.left(s.query, 65536), '') AS query,
       NULL::bigint AS queryid,
       s.query_start, s.xact_start, s.state_change,
       coalesce(s.wait_event_type, '') AS wait_event_type,
       coalesce(s.wait_event, '') AS wait_event,
       s.blocked_by,
       pg_catalog.age(s.backend_xmin)::bigint AS xmin_age,
       pg_catalog.clock_timestamp() AS now
  FROM sessions s
 WHERE s.pid IN (SELECT b.pid FROM blockers b)
    OR (s.backend_type OPERATOR(pg_catalog.=) 'client backend'
        AND s.application_name OPERATOR(pg_catalog.<>) 'perfcore'
        AND s.state OPERATOR(pg_catalog.<>) 'idle')
 ORDER BY s.query_start NULLS LAST
