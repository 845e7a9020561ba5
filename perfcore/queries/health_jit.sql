-- What compiling cost in short statements, against their whole time.
SELECT count(*) AS statements, coalesce(sum(s.calls), 0)::pg_catalog.int8 AS calls,
       coalesce(sum(s.total_exec_time), 0)::pg_catalog.float8 AS exec_ms,
       coalesce(sum(s.jit_generation_time + s.jit_inlining_time + s.jit_optimization_time
                    + s.jit_emission_time), 0)::pg_catalog.float8 AS jit_ms
  FROM {schema}.pg_stat_statements s
 WHERE s.dbid = (SELECT d.oid FROM pg_catalog.pg_database d
                  WHERE d.datname = pg_catalog.current_database())
   AND s.jit_functions > 0 AND s.mean_exec_time < 1000
