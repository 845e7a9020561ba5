-- The clients' connections to the whole server by state, against how many there may be.
SELECT coalesce(a.state, 'unknown') AS state, count(*) AS connections,
       pg_catalog.current_setting('max_connections')::integer AS most
  FROM pg_catalog.pg_stat_activity a
 WHERE a.backend_type OPERATOR(pg_catalog.=) 'client backend'
 GROUP BY 1
 ORDER BY 2 DESC, 1
