-- Which server answers, since when, and its clock; up to 13 none counts the time it was active.
-- The checkpointer outlives everything but a crash: then the postmaster, which stays, begins anew.
SELECT (SELECT system_identifier FROM pg_catalog.pg_control_system())::text AS system_identifier,
       (SELECT timeline_id FROM pg_catalog.pg_control_checkpoint()) AS timeline,
       pg_catalog.pg_postmaster_start_time() AS started_at,
       (SELECT a.backend_start
          FROM pg_catalog.pg_stat_activity a
         WHERE a.backend_type OPERATOR(pg_catalog.=) 'checkpointer') AS launched_at,
       pg_catalog.pg_is_in_recovery() AS is_standby,
       pg_catalog.current_setting('server_version_num')::integer AS server_version,
       pg_catalog.current_database()::text AS database,
       d.oid::bigint AS database_oid,
       s.stats_reset,
       NULL::double precision AS active_ms,
       pg_catalog.clock_timestamp() AS now
  FROM pg_catalog.pg_database d
  LEFT JOIN pg_catalog.pg_stat_database s ON s.datid OPERATOR(pg_catalog.=) d.oid
 WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()
