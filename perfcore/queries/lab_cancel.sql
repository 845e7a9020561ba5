-- On the target: cancel a session's statement, if it is still the one that was looked at.
SELECT pg_catalog.pg_cancel_backend(a.pid) AS sent
  FROM pg_catalog.pg_stat_activity a
 WHERE a.pid OPERATOR(pg_catalog.=) %(pid)s
   AND a.query_start OPERATOR(pg_catalog.=) %(query_start)s
   AND a.state OPERATOR(pg_catalog.=) 'active'
   AND a.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()
   AND a.backend_type OPERATOR(pg_catalog.=) 'client backend'
