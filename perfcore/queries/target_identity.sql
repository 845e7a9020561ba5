-- Which server answers, since when, and its clock. What changes here starts a new epoch.
SELECT (SELECT system_identifier FROM pg_catalog.pg_control_system())::text AS system_identifier,
       (SELECT timeline_id FROM pg_catalog.pg_control_checkpoint()) AS timeline,
       pg_catalog.pg_postmaster_start_time() AS started_at,
       pg_catalog.current_setting('server_version_num')::integer AS server_version,
       pg_catalog.current_database()::text AS database,
       (SELECT d.stats_reset
          FROM pg_catalog.pg_stat_database d
         WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()) AS stats_reset,
       pg_catalog.clock_timestamp() AS now
