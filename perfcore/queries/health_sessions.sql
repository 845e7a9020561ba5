-- The sessions whose open transactions hold back what VACUUM may remove, the oldest first. A
-- VACUUM holds back no other.
SELECT a.pid, coalesce(a.usename, '')::pg_catalog.text AS role,
       coalesce(a.application_name, '') AS application, coalesce(a.state, '') AS state,
       coalesce(a.datname, '')::pg_catalog.text AS database,
       a.xact_start AS began_at, a.state_change AS state_since,
       pg_catalog.age(coalesce(a.backend_xmin, a.backend_xid))::pg_catalog.int8 AS xid_age
  FROM pg_catalog.pg_stat_activity a
 WHERE a.backend_type = 'client backend'
   AND a.xact_start IS NOT NULL
   AND (a.backend_xmin IS NOT NULL OR a.backend_xid IS NOT NULL
        OR a.state LIKE 'idle in transaction%%')
   AND a.pid <> pg_catalog.pg_backend_pid()
   AND a.pid NOT IN (SELECT v.pid FROM pg_catalog.pg_stat_progress_vacuum v)
 ORDER BY a.xact_start
 LIMIT 50
