-- Which server answers, as whom, and what that role is a member of.
SELECT pg_catalog.current_setting('server_version_num')::integer AS server_version,
       pg_catalog.current_setting('server_version')::text AS server_version_text,
       pg_catalog.current_database()::text AS database,
       current_user::text AS role,
       pg_catalog.quote_ident(current_user) AS role_identifier,
       pg_catalog.pg_is_in_recovery() AS is_standby,
       (SELECT pg_catalog.pg_has_role(r.oid, 'USAGE')
          FROM pg_catalog.pg_roles r
         WHERE r.rolname OPERATOR(pg_catalog.=) 'pg_read_all_stats') AS reads_all_stats,
       (SELECT pg_catalog.pg_has_role(r.oid, 'USAGE')
          FROM pg_catalog.pg_roles r
         WHERE r.rolname OPERATOR(pg_catalog.=) 'pg_monitor') AS is_monitor,
       coalesce((SELECT s.ssl
                   FROM pg_catalog.pg_stat_ssl s
                  WHERE s.pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()), false)
         AS is_encrypted,
       pg_catalog.clock_timestamp() AS now
