-- What decides the planner's costs and choices, and where it looks for names.
SELECT s.name, s.setting
FROM pg_catalog.pg_settings AS s
WHERE (s.category LIKE 'Query Tuning%%'
        OR s.name IN ('work_mem', 'hash_mem_multiplier', 'search_path', 'effective_io_concurrency',
                      'max_parallel_workers_per_gather', 'DateStyle', 'IntervalStyle'))
    AND s.name NOT IN ('jit', 'plan_cache_mode', 'default_statistics_target')
ORDER BY s.name
