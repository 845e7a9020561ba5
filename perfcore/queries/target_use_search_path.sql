-- Take the search path that others get in this database. Our role's own is empty.
SELECT pg_catalog.set_config('search_path', coalesce(
         (SELECT pg_catalog.substr(c.entry, 13)
            FROM pg_catalog.pg_db_role_setting r
            JOIN pg_catalog.pg_database d ON d.oid OPERATOR(pg_catalog.=) r.setdatabase,
                 pg_catalog.unnest(r.setconfig) c(entry)
           WHERE r.setrole OPERATOR(pg_catalog.=) 0::oid
             AND d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()
             AND c.entry LIKE 'search\_path=%%'),
         CASE WHEN EXISTS (
                SELECT 1
                  FROM pg_catalog.pg_db_role_setting r
                  JOIN pg_catalog.pg_roles o ON o.oid OPERATOR(pg_catalog.=) r.setrole,
                       pg_catalog.unnest(r.setconfig) c(entry)
                 WHERE o.rolname OPERATOR(pg_catalog.=) session_user
                   AND c.entry LIKE 'search\_path=%%')
              THEN s.boot_val ELSE s.reset_val END), %(is_local)s)
  FROM pg_catalog.pg_settings s
 WHERE s.name OPERATOR(pg_catalog.=) 'search_path'
