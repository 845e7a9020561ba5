-- What this role may beyond watching: being superuser, or a member of roles that may nearly all.
SELECT ARRAY(
  SELECT 'superuser'
    FROM pg_catalog.pg_roles o
   WHERE o.rolname OPERATOR(pg_catalog.=) current_user AND o.rolsuper
  UNION ALL
  SELECT CASE WHEN g.rolsuper THEN 'superuser (through ' || g.rolname || ')'
              ELSE g.rolname::text END
    FROM pg_catalog.pg_roles o, pg_catalog.pg_roles g
   WHERE o.rolname OPERATOR(pg_catalog.=) current_user AND NOT o.rolsuper
     AND g.oid OPERATOR(pg_catalog.<>) o.oid
     AND (g.rolsuper OR g.rolname OPERATOR(pg_catalog.=) ANY (ARRAY[
          'pg_read_all_data', 'pg_write_all_data', 'pg_signal_backend', 'pg_read_server_files',
          'pg_write_server_files', 'pg_execute_server_program']::name[]))
     AND pg_catalog.pg_has_role(o.oid, g.oid, 'MEMBER')
   ORDER BY 1)::text[] AS rights
