-- The server and this database: counters with the time they count from, and what the role may read.
SELECT pg_catalog.current_setting('server_version_num')::pg_catalog.int4 AS version,
       pg_catalog.current_database()::pg_catalog.text AS database,
       current_user::pg_catalog.text AS role,
       pg_catalog.now() AS read_at,
       pg_catalog.pg_postmaster_start_time() AS started_at,
       pg_catalog.pg_is_in_recovery() AS is_standby,
       pg_catalog.pg_has_role(
           (SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname = 'pg_read_all_stats'), 'USAGE')
           AS reads_all_stats,
       pg_catalog.pg_has_role(
           (SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname = 'pg_read_all_settings'), 'USAGE')
           AS reads_all_settings,
       (SELECT n.nspname::pg_catalog.text
          FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
         WHERE e.extname = 'pg_stat_statements') AS statements_schema,
       coalesce(d.stats_reset, pg_catalog.pg_postmaster_start_time()) AS stats_since,
       d.blks_hit, d.blks_read, d.blk_read_time AS read_ms, d.temp_files, d.temp_bytes,
       pg_catalog.pg_database_size(d.datid) AS database_bytes,
       pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())
           ::pg_catalog.text::pg_catalog.int8 AS next_xid
  FROM pg_catalog.pg_stat_database d
 WHERE d.datname = pg_catalog.current_database()
