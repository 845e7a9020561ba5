-- What decides the planner's costs and choices, and where others look for names: the search path
-- of our own role is empty.
SELECT s.name,
       CASE WHEN s.name = 'search_path' THEN coalesce(
         (SELECT pg_catalog.substr(c.entry, 13)
            FROM pg_catalog.pg_db_role_setting AS r
            JOIN pg_catalog.pg_database AS d ON d.oid = r.setdatabase,
                 pg_catalog.unnest(r.setconfig) AS c(entry)
           WHERE r.setrole = 0::oid AND d.datname = pg_catalog.current_database()
             AND c.entry LIKE 'search\_path=%%'),
         CASE WHEN EXISTS (
                SELECT 1
                  FROM pg_catalog.pg_db_role_setting AS r
                  JOIN pg_catalog.pg_roles AS o ON o.oid = r.setrole,
                       pg_catalog.unnest(r.setconfig) AS c(entry)
                 WHERE o.rolname = session_user AND c.entry LIKE 'search\_path=%%')
              THEN s.boot_val ELSE s.setting END)
       ELSE s.setting END AS setting
FROM pg_catalog.pg_settings AS s
WHERE (s.category LIKE 'Query Tuning%%'
        OR s.name IN ('work_mem', 'hash_mem_multiplier', 'search_path', 'effective_io_concurrency',
                      'max_parallel_workers_per_gather', 'DateStyle', 'IntervalStyle'))
    AND s.name NOT IN ('jit', 'plan_cache_mode', 'default_statistics_target')
ORDER BY s.name
