-- What the sessions of this database are doing now, the longest first; our own are left out.
SELECT a.pid, coalesce(a.usename::text, '') AS role,
       coalesce(a.application_name, '') AS application,
       coalesce(a.state, '') AS state,
       coalesce(pg_catalog.left(a.query, 65536), '') AS query,
       a.query_start, a.xact_start,
       coalesce(a.wait_event_type, '') AS wait_event_type,
       coalesce(a.wait_event, '') AS wait_event,
       pg_catalog.pg_blocking_pids(a.pid) AS blocked_by,
       pg_catalog.clock_timestamp() AS now
  FROM pg_catalog.pg_stat_activity a
 WHERE a.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()
   AND a.backend_type OPERATOR(pg_catalog.=) 'client backend'
   AND a.pid OPERATOR(pg_catalog.<>) pg_catalog.pg_backend_pid()
   AND a.application_name OPERATOR(pg_catalog.<>) 'perfcore'
   AND a.state OPERATOR(pg_catalog.<>) 'idle'
 ORDER BY a.query_start NULLS LAST
